"""Editors that `fit` trains, and the loop: sampling, clipping, validation, early stopping and exact resume.

Everything a step draws follows from the seed and the number of the step, and everything a step changes is in one file.
A training that is killed and started again ends with the same weights, bit for bit on a CPU with the same number of
threads.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from tqdm import tqdm

from ..cases import EditCase, EditRequest
from ..editor import EDITOR
from ..engine.model import LanguageModel
from ..errors import CaseError, DamagedError, InputError
from ..files.state import fill, read_tensors, write_tensors
from ..models.structure import Site
from ..seeds import seed_of
from .network_editor import TOGETHER, C, NetworkEditor, Shape
from .objective import Losses, Outer, outer_loss, outer_rows
from .saves import BEST, SAVED, MetricsLog, Progress, drop_saves, read_state, trim_metrics, write_state
from .training_config import TaskSampler, TrainingConfig, TrainingSet, spread

SKIPS_IN_A_ROW = 100


class Trainer:
    """One training, resumed from its saved state or started.

    Raises:
        InputError: If there is no training or validation case that the editor can use.
    """

    def __init__(
        self,
        editor: NetworkEditor[Any],
        model: LanguageModel,
        training: TrainingSet,
        folder: Path,
        seed: int,
        steps: int | None,
        report: Callable[[str], None],
    ) -> None:
        assert editor.network is not None
        self.editor, self.model, self.training, self.folder = editor, model, training, folder
        self.seed = seed
        self.config: TrainingConfig = editor.config.training
        self.steps = steps or self.config.steps
        self.identity = identity(editor, model, training, seed, steps)
        self.network = editor.network
        self.report = report
        cases = self._usable(training.train)
        if not cases:
            raise InputError(f"There is no training case that the editor '{editor.name}' could learn from.")
        self.sampler = TaskSampler(cases, training.weights, seed)
        self.validation = spread(self._usable(training.validation), self.config.validation_cases)
        if not self.validation:
            raise InputError(f"There is no validation case for the editor '{editor.name}'; expected at least one.")
        self.optimiser = torch.optim.Adam(editor.parameter_groups(), fused=True)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.state = Progress()
        self.batch = self.config.batch * self.config.together  # cases that share one pass

    def _usable(self, cases: Sequence[EditCase]) -> list[EditCase]:
        """Return the cases whose edit fits the model's context, under four draws of the instruction."""
        found = []
        for case in cases:
            try:
                for seed in range(4):
                    self.editor.texts(self.model, self.training.request(case, seed))
            except CaseError:
                continue
            found.append(case)
        if len(found) < len(cases):
            self.report(f"{len(cases) - len(found)} training cases do not fit the model's context and are left out.")
        return found

    def run(self, track: str | None, progress: bool) -> None:
        """Train to the end; the result is in the editor."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._resumed():
            (self.folder / BEST).unlink(missing_ok=True)
            trim_metrics(self.folder, 0, self.report)
            self._warm_up()
            self._save()
        log = MetricsLog(self.folder, track, self.editor.config.model_dump(mode="json"))
        with tqdm(
            total=self.steps, initial=self.state.step, unit="step", disable=None if progress else True, leave=False
        ) as bar:
            bar.set_description(f"training {self.editor.name}")
            while self.state.step < self.steps and not self.state.stopped:
                line = self._step()
                bar.update()
                if self.state.step % self.config.validate_every == 0 or self.state.step == self.steps:
                    line["validation"] = self._validate()
                    bar.set_postfix(validation=f"{line['validation']['loss']:.3f}", refresh=False)
                log.write(line)
                if "validation" in line or self.state.step % self.config.save_every == 0:
                    self._save()
        log.finish()
        self._finish()

    def _warm_up(self) -> None:
        for number in range(self.config.warmup):
            cases = [self.sampler.draw() for _ in range(self.batch)]
            seeds = [seed_of(self.seed, "warm-up", number, slot) for slot in range(len(cases))]
            requests = [self.training.request(case, s) for case, s in zip(cases, seeds, strict=True)]
            size = self.config.together
            groups = [requests[first : first + size] for first in range(0, len(requests), size)]
            self.editor.observe(self.model, groups)

    def _step(self) -> dict[str, Any]:
        config, state = self.config, self.state
        self.optimiser.zero_grad()
        self.network.train()
        cases = [self.sampler.draw() for _ in range(config.accumulate * self.batch)]
        slots = [(number, slot) for number in range(config.accumulate) for slot in range(self.batch)]
        seeds = [seed_of(self.seed, "step", state.step, *slot) for slot in slots]
        sums = step_losses(self.editor, self.model, cases, self.training, seeds)
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip))
        state.step += 1
        if config.decay == "linear":
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 - (state.step - 1) / self.steps)
        if math.isfinite(norm):
            state.skipped_in_a_row = 0
            self.editor.before_step(sums)
            self.optimiser.step()
        else:
            state.skipped += 1
            state.skipped_in_a_row += 1
            if state.skipped_in_a_row == SKIPS_IN_A_ROW:
                raise InputError(
                    f"{self.folder}: the last {SKIPS_IN_A_ROW} steps had gradients that are not finite; a smaller lr, "
                    "a smaller edit_lr or another dtype is needed."
                )
        means = sums.mean(*self.editor.loss_weights())
        return {"step": state.step, **means, "gradient_norm": norm, "skipped": state.skipped}

    def _validate(self) -> dict[str, float]:
        """Return the mean losses of the validation cases; keep the weights if they are the best so far."""
        self.network.eval()
        sums = Losses()
        for first in range(0, len(self.validation), self.batch):  # the last batch, and its last edit, may be smaller
            cases = self.validation[first : first + self.batch]
            seeds = [seed_of("validation", case.request.case_id) for case in cases]
            sums.add(case_losses(self.editor, self.model, cases, self.training, seeds, 0.0))
        if not sums.cases:
            raise InputError(f"{self.folder}: no validation case fits the model's context; expected at least one.")
        # the configured weights, because KE's change during training and validations must be comparable
        objective, state = self.editor.config.objective, self.state
        means = sums.mean(objective.c_edit, objective.c_loc)
        if means["loss"] < (math.inf if state.best is None else state.best):
            state.best, state.best_step = means["loss"], state.step
            write_tensors(self.folder / BEST, self.network.state_dict(), {})
        state.stopped = state.step - state.best_step >= self.config.patience
        self.editor.after_validation(means)
        return means

    def _save(self) -> None:
        self.state.drawn = dict(self.sampler.drawn)
        write_state(self.folder, self.network, self.optimiser, self.state, self.identity)

    def _resumed(self) -> bool:
        """Resume from the saved state; return False if there is none, or it is damaged."""
        if not (self.folder / SAVED).exists():
            return False
        try:
            best = self.config.keep == "best"
            state = read_state(self.folder, self.network, self.optimiser, self.identity, best)
        except DamagedError as error:
            self.report(f"note: {error} The training of {self.editor.name} starts again.")
            return False
        self.state = state
        self.sampler.drawn = Counter(state.drawn)
        trim_metrics(self.folder, state.step, self.report)
        self.report(f"training {self.editor.name}: resumes at step {state.step}.")
        return True

    def _finish(self) -> None:
        """Leave the chosen weights in the network; gradients and moments are dropped."""
        self.optimiser.zero_grad()
        self.optimiser.state.clear()
        if self.config.keep == "best":
            if not (self.folder / BEST).is_file():
                raise InputError(
                    f"{self.folder}: no validation had a finite loss, so no network is best; a smaller lr "
                    "or a smaller edit_lr is needed."
                )
            fill(self.network, read_tensors(self.folder / BEST)[0])
        self.network.eval()


def identity(
    editor: NetworkEditor[Any], model: LanguageModel, training: TrainingSet, seed: int, steps: int | None
) -> str:
    """Return what must be equal for a training to resume, or for its result to be reused."""
    config, steps = editor.config.model_dump(mode="json"), steps or editor.config.training.steps
    chat = [model.chat.model_dump()] if model.chat else []
    return json.dumps([editor.name, config, training.digest, seed, steps, model.identity, *chat])


def step_losses(
    editor: NetworkEditor[Any],
    model: LanguageModel,
    cases: Sequence[EditCase],
    training: TrainingSet,
    seeds: Sequence[int],
) -> Losses:
    """Add the gradient of the mean outer loss of a step's cases, and return the sums of its terms.

    The batches of a step run together, as many as are about eight cases: within a step only the running statistics
    change, and they take in the batches one after another (`NetworkEditor.patches`).
    """
    config = editor.config.training
    batch = config.batch * config.together
    at_once = batch * min(config.accumulate, max(1, TOGETHER // batch))
    sums = Losses()
    for first in range(0, len(cases), at_once):
        part = slice(first, first + at_once)
        sums.add(case_losses(editor, model, cases[part], training, seeds[part], 1 / len(cases), config.batch))
    return sums


def case_losses(
    editor: NetworkEditor[Any],
    model: LanguageModel,
    cases: Sequence[EditCase],
    training: TrainingSet,
    seeds: Sequence[int],
    scale: float,
    batch: int | None = None,
) -> Losses:
    """Return the outer loss of some training cases and, if `scale` is not 0, add its gradient times `scale`.

    Each `training.together` neighbouring cases share one edit; the last edit may have fewer. A case whose texts do not
    fit the model's context is left out. Running statistics take in `batch` edits at a time; None for all.
    """
    groups: dict[int, list[EditRequest]] = {}  # requests by edit
    edit_of: list[int] = []
    outers: list[Outer] = []
    for number, (case, seed) in enumerate(zip(cases, seeds, strict=True)):
        request = training.request(case, seed)
        rng = random.Random(seed_of(seed, "outer"))
        try:  # a long instruction or rephrase may not fit where others did
            editor.texts(model, request)
            context, objective = editor.context(request), editor.config.objective
            ends = editor.config.end_of_turn
            found = outer_rows(model, case, request, len(edit_of), context, objective, rng, end=ends)
        except CaseError:
            continue
        groups.setdefault(number // editor.config.training.together, []).append(request)
        edit_of.append(len(groups) - 1)
        outers += found
    if not groups:
        return Losses()
    batches = Counter(edit // (batch or len(cases)) for edit in groups)
    with torch.set_grad_enabled(scale != 0):
        edits = editor.patches(model, [*groups.values()], [*batches.values()])
    return outer_loss(model, edits, outers, *editor.loss_weights(), scale=scale, edit_of=edit_of)


class TrainedEditor(NetworkEditor[C]):
    """An editor with a network that `fit` trains."""

    origin: str | None = None
    """Identity of its training; None until it is trained."""

    def fit(
        self,
        model: LanguageModel,
        training: TrainingSet,
        folder: Path,
        *,
        seed: int = 0,
        steps: int | None = None,
        track: str | None = None,
        report: Callable[[str], None] = lambda _: None,
        progress: bool = False,
    ) -> None:
        """Train the network and save the editor in a folder.

        The same call resumes a training that was stopped, and reads a finished one. Damaged files are reported and
        made again. `steps` is a maximum instead of the configured one; `track`, `wandb` or `trackio`, logs the metrics
        there too; `report` receives sentences for the user.

        Raises:
            InputError: If there is nothing to train on, or the folder holds another training.
        """
        wanted = identity(self, model, training, seed, steps)
        if (found := self._finished(folder, report)) is not None:
            if found.config != self.config:
                raise InputError(f"{folder}: holds a '{self.name}' of another configuration; choose another folder.")
            self.network, self.shape, self.origin = found.network, found.shape, found.origin
            self._check(model)
            if self.origin != wanted:
                raise InputError(
                    f"{folder}: holds a '{self.name}' of another training (cases, seed or steps); "
                    "choose another folder."
                )
            return
        if model.model.dtype == torch.float16:
            raise InputError(
                f"The editor '{self.name}' cannot be trained in float16, where small gradients underflow; use dtype "
                "'bfloat16' or 'float32'."
            )
        self.build(model, seed)
        Trainer(self, model, training, folder, seed, steps, report).run(track, progress)
        self.origin = wanted
        self.save(folder)
        drop_saves(folder)

    def _finished(self, folder: Path, report: Callable[[str], None]) -> Self | None:
        """Return the finished editor of a folder; None if there is none, or it is damaged and will be trained again."""
        if not self.saved(folder):
            return None
        try:
            return type(self).load(folder)
        except DamagedError as error:
            report(f"note: {error} It is trained again.")
            (folder / EDITOR).unlink()
            return None

    def state(self) -> dict[str, Tensor]:
        """Return weights and statistics of the network."""
        return {} if self.network is None else dict(self.network.state_dict())

    def about(self) -> dict[str, Any]:
        """Return the shape the network was built for, and the identity of its training."""
        return {} if self.shape is None else {"shape": asdict(self.shape), "origin": self.origin}

    def load_state(self, state: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Build the network for the saved shape and load its weights.

        Raises:
            InputError: If the weights do not fit the shape and the configuration.
        """
        if "shape" not in about and not state:
            return
        sites = tuple(Site(**site) for site in about["shape"]["sites"])
        self.shape = Shape(**{**about["shape"], "sites": sites})
        self.origin = about.get("origin")
        self.network = self.make_network(self.shape, 0)
        fill(self.network, state)
        self.network.eval()
