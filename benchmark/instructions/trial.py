"""Trials: how well a trained editor edits under a description.

All candidates are tried on the same cases. For each chunk of cases the probes are run through the unedited model once,
the edits of all candidates are made in one packed batch, and each candidate's edits are replayed from the first edited
layer. Which probes carry the description is the editor's option `instruct`, as in a run.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from instructedit.editors import EditCase, EditRequest, LanguageModel
from instructedit.editors.files.atomic import sweep
from instructedit.editors.instructedit import InstructEdit

from ..results.loop_results import MEASURES, LoopConfig, Trial, Trials
from ..results.records import CaseRecord, GenerationSpec
from ..results.summary import case_values
from ..run.training import naming_storage_errors
from ..scoring.scoring import Made, edit_each, score_chunk
from .material import Material
from .proposer import Report

READ = ("edit_success", "teacher_forced_exact")
"""Protocols in order of preference: attitudes are read by edit success, facts by exact match."""
TOGETHER = 80
"""Edits in one batch, of all candidates together."""
FORCED = GenerationSpec(max_new_tokens=0)
FAILED = {"reliability": 0.0, "score": 0.0}
"""Values of a case that could not be edited: a description must not gain by the cases that it breaks."""


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """Trains the trial editor and tries descriptions with it.

    Attributes:
        config: The loop's configuration.
        material: Its data.
        model: The base model.
        options: The trial editor's configuration.
        folder: Folder of the trained editors.
        chunk: Cases in one pass.
        report: Receives messages for the user.
        progress: Whether to show progress bars of trainings.
    """

    config: LoopConfig
    material: Material
    model: LanguageModel
    options: Mapping[str, Any]
    folder: Path
    chunk: int
    report: Report
    progress: bool = False

    def run(self, texts: Sequence[str], name: str, *, test: bool = False) -> Trials:
        """Try descriptions on the cases for trials, or on the test split; `name` appears in the message to the user."""
        cases = self.material.test if test else self.material.trial
        self.report(f"{name}: {len(texts)} descriptions on {len(cases)} {'test' if test else 'trial'} cases")
        begun = perf_counter()
        found: list[Trial] = []
        # with an editor for each description, one after the other, so that only one is in memory
        for group in [tuple(texts)] if self.config.anew is None else [(text,) for text in texts]:
            editor = self.editor(None if self.config.anew is None else group)
            found.extend(
                try_all(
                    self.model,
                    editor,
                    group,
                    cases,
                    self.material.instructed,
                    seed=self.config.seed,
                    chunk=self.chunk,
                )
            )
        return Trials(trials=tuple(found), seconds=round(perf_counter() - begun, 3))

    def editor(self, texts: Sequence[str] | None = None) -> InstructEdit:
        """Return the trial editor, trained or loaded: one for all descriptions, or one trained under the given ones."""
        texts = tuple(texts or self.material.training_descriptions(self.config.seed))
        # the checkpoint records everything else that the training depends on
        key = json.dumps([texts, self.material.brief.title, self.material.bank.digest])
        folder = self.folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        editor = InstructEdit(InstructEdit.Config(**self.options))
        if folder.is_dir():
            sweep(folder)
        with naming_storage_errors(folder):
            editor.fit(
                self.model,
                self.material.training_under(texts),
                folder,
                seed=self.config.seed,
                steps=self.config.anew,
                report=self.report,
                progress=self.progress,
            )
        return editor


def try_all(
    model: LanguageModel,
    editor: InstructEdit,
    texts: Sequence[str],
    cases: Sequence[EditCase],
    instructed: Callable[[EditRequest, str], EditRequest],
    *,
    seed: int,
    chunk: int,
    together: int = TOGETHER,
) -> tuple[Trial, ...]:
    """Try descriptions with one editor.

    Args:
        model: The base model.
        editor: The editor.
        texts: The descriptions.
        cases: The cases that are edited.
        instructed: Returns a request with a description.
        seed: Seed of the edits.
        chunk: Cases in one pass.
        together: Edits in one batch.

    Returns:
        A trial for each description, in their order.
    """
    values: dict[str, dict[str, dict[str, float]]] = {text: {} for text in texts}
    failed = dict.fromkeys(texts, 0)
    probes = dict.fromkeys(texts, editor.instructed_probes)
    for first in range(0, len(cases), chunk):
        part = cases[first : first + chunk]
        made: dict[str, Made] = {}
        size = max(1, together // len(part))
        for start in range(0, len(texts), size):
            group = texts[start : start + size]
            made |= _edits(
                model, editor, {text: [instructed(case.request, text) for case in part] for text in group}, seed
            )
        records, _ = score_chunk(model, part, made, probes=probes, run="", seed=seed, generation=FORCED, fluency=False)
        for record in records:
            failed[record.editor] += record.status != "done"
            if found := _values(record) if record.status == "done" else FAILED:
                values[record.editor][record.case_id] = found
    return tuple(Trial(text=text, cases=values[text], failed=failed[text]) for text in texts)


def _edits(
    model: LanguageModel, editor: InstructEdit, requests: Mapping[str, Sequence[EditRequest]], seed: int
) -> dict[str, Made]:
    """Make the edits of some descriptions in one batch."""
    edits, failures = edit_each(model, [request for own in requests.values() for request in own], editor, seed)
    made, first = {}, 0
    for text, own in requests.items():
        places = range(first, first + len(own))
        lost = {place - first: failures[place] for place in places if place in failures}
        made[text] = Made(own, edits.select(list(places)), lost, 0.0)
        first += len(own)
    return made


def _values(record: CaseRecord) -> dict[str, float]:
    """Return the measures of a case, given and derived prompts in one mean, and their mean as `score`."""
    by_measure: dict[str, dict[str, list[float]]] = {}
    for column, value in case_values(record):
        if column.subset is None and column.measure in MEASURES and column.protocol in READ:
            by_measure.setdefault(column.measure, {}).setdefault(column.protocol, []).append(value)
    found = {}
    for measure in MEASURES:
        protocols = by_measure.get(measure, {})
        if protocol := next((name for name in READ if name in protocols), None):
            found[measure] = sum(protocols[protocol]) / len(protocols[protocol])
    return found | {"score": sum(found.values()) / len(found)} if found else {}
