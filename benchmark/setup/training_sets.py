"""What each trained editor of a run learns from, and the checkpoint that this results in.

A training set is identified by its content and a checkpoint by everything that decides its weights: settings, limits
and presets with the same training share it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from instructedit.editors import ChatFormat, EditCase, EditRequest, InputError, TrainedEditor, TrainingSet

from ..results.checkpoint import Checkpoint
from ..results.records import TrainingSpec
from ..tasks.sampling import divide, rank
from .settings import TrainingTasks


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a run: an untrained editor, the rows that use it, and what it learns from."""

    rows: tuple[str, ...]
    editor: TrainedEditor[Any]
    tasks: TrainingTasks
    cases: TrainingSet

    @property
    def name(self) -> str:
        """What is trained on what, for messages."""
        return f"{self.rows[0].partition('@')[0].partition('#')[0]} on {'+'.join(self.tasks.train)}"

    def checkpoint(
        self, base: str, tokenizer: str, seed: int, bank: str | None, chat: ChatFormat | None = None
    ) -> Checkpoint:
        """Return everything that decides the weights; base model, tokenizer and bank are given by their digests."""
        return Checkpoint(
            editor=self.editor.name,
            version=self.editor.version,
            config=self.editor.config.model_dump(mode="json"),
            base=base,
            tokenizer=tokenizer,
            training=self.cases.digest,
            instructions=bank if self.editor.instructed else None,
            seed=seed,
            chat=chat,
        )

    def spec(self, checkpoint: str, bank: str | None) -> TrainingSpec:
        """Return the training as `run.json` records it."""
        return TrainingSpec(
            label=self.tasks.label,
            tasks=self.tasks.train,
            weights=dict(self.cases.weights),
            limits=dict(self.tasks.limits),
            cases=dict(Counter(case.request.task for case in self.cases.train)),
            validation=dict(Counter(case.request.task for case in self.cases.validation)),
            digest=self.cases.digest,
            instructions=bank if self.editor.instructed else None,
            checkpoint=checkpoint,
        )


def training_set(
    tasks: TrainingTasks,
    cases: Mapping[str, Sequence[EditCase]],
    share: float,
    instruct: Callable[[EditRequest, int], EditRequest] | None = None,
) -> TrainingSet:
    """Return the training and validation cases of some tasks, in alphabetical order of the tasks.

    The order of `tasks.train` has no effect, so trainings on the same tasks are shared. A `share` of the subjects is
    kept for validation.

    Raises:
        InputError: If a task has too few cases, or its weight is missing.
    """
    parts = {
        task: divide([_answered(case) for case in cases[task]], tasks.limits.get(task), share)
        for task in sorted(tasks.train)
    }
    for task, (train, validation) in parts.items():
        if not train or not validation:
            raise InputError(
                f"Training on {tasks.label}: '{task}' has {len(train)} cases to train on and {len(validation)} for "
                f"validation, expected at least one of each.{_possible_shares(cases[task], share)}"
            )
    return TrainingSet(
        train=tuple(case for train, _ in parts.values() for case in train),
        validation=tuple(case for _, validation in parts.values() for case in validation),
        weights=_weights(tasks, {task: len(train) for task, (train, _) in parts.items()}),
        instruct=instruct,
    )


def _answered(case: EditCase) -> EditCase:
    """Return a case without the probes that have no answer: training draws texts from the data alone."""
    return replace(case, probes=tuple(probe for probe in case.probes if probe.answers))


def _possible_shares(cases: Sequence[EditCase], share: float) -> str:
    """Return a sentence on the validation shares that divide some cases; empty if this one does, or none can."""
    ranks = sorted(rank(case.request.subject) for case in cases)
    if not ranks or ranks[0] < share <= ranks[-1]:
        return ""
    low, high = math.floor(ranks[0] * 1000 + 1) / 1000, math.floor(ranks[-1] * 1000) / 1000
    if low > high:
        return ""
    return (
        " Which subjects are kept for validation follows from their names and from no limit or setting; for these a "
        f"'validation' from {low:.3f} to {high:.3f} keeps at least one and trains on at least one."
    )


def _weights(tasks: TrainingTasks, counts: Mapping[str, int]) -> dict[str, float]:
    weights: Mapping[str, float] = counts
    if tasks.sampling == "balanced":
        weights = dict.fromkeys(counts, 1.0)
    elif tasks.sampling != "proportional":
        if missing := [task for task in counts if task not in tasks.sampling]:
            raise InputError(f"Option 'sampling' gives no weight to '{missing[0]}', which is trained on.")
        weights = {task: tasks.sampling[task] for task in counts}
    total = math.fsum(weights.values())
    return {task: weight / total for task, weight in weights.items()}
