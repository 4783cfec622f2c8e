"""The loop that trains an editor: sampling, accumulation, clipping, validation, early stopping, exact resume.

Everything a step draws comes from the seed and the number of the step, and everything a step changes stands in one file
that is replaced as a whole. A training that is killed at any moment and started again ends with the same weights, bit
for bit on a CPU with the same number of threads.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..cases import EditCase
from ..editor import EDITOR
from ..engine.model import LanguageModel
from ..errors import CaseError, DamagedError, InputError
from ..files.atomic import write_whole
from ..files.state import check_fit, fill, parsed, read_tensors, unreadable, write_tensors
from ..seeds import seed_of
from .objective import Losses
from .training import TaskSampler, TrainingConfig, TrainingSet, spread

if TYPE_CHECKING:
    from .trained import TrainedEditor

SAVED = "last.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
SKIPS_IN_A_ROW = 100


@dataclass
class Progress:
    """What a training has reached; stands in the metadata of the saved state."""

    step: int = 0
    best: float = math.inf
    best_step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    stopped: bool = False
    drawn: dict[str, int] = field(default_factory=dict)


class Trainer:
    """One training, from its saved state or from the start."""

    def __init__(
        self,
        editor: "TrainedEditor[Any]",
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
            raise InputError(f"There is no validation case for the editor '{editor.name}'; one at least was expected.")
        self.optimiser = torch.optim.Adam(editor.groups(), lr=self.config.lr, fused=True)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.state = Progress()
        self.began = time.monotonic()

    @property
    def batch(self) -> int:
        """Cases that share one pass: those of `batch` edits."""
        return self.config.batch * self.config.together

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
        """Train to the end and save the result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._resumed():
            (self.folder / BEST).unlink(missing_ok=True)
            self._trim()
            self._warm_up()
            self._save()
        tracker = _tracker(track, self.folder.name, self.editor.config.model_dump(mode="json"))
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
                self._write(line)
                if tracker is not None:
                    tracker.log(_flat(line), step=self.state.step)
                if "validation" in line or self.state.step % self.config.save_every == 0:
                    self._save()
        if tracker is not None:
            tracker.finish()
        self._finish()

    def _warm_up(self) -> None:
        for number in range(self.config.warmup):
            cases = [self.sampler.draw() for _ in range(self.batch)]
            seeds = [seed_of(self.seed, "warm-up", number, slot) for slot in range(len(cases))]
            requests = [self.training.request(case, s) for case, s in zip(cases, seeds, strict=True)]
            together = self.config.together
            self.editor.observe(self.model, requests, None if together == 1 else [together] * self.config.batch)

    def _step(self) -> dict[str, Any]:
        config, state = self.config, self.state
        self.optimiser.zero_grad()
        self.network.train()
        cases = [self.sampler.draw() for _ in range(config.accumulate * self.batch)]
        slots = [(number, slot) for number in range(config.accumulate) for slot in range(self.batch)]
        seeds = [seed_of(self.seed, "step", state.step, *slot) for slot in slots]
        sums = self.editor.step_losses(self.model, cases, self.training, seeds)
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip))
        state.step += 1
        if config.decay == "linear":
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 - (state.step - 1) / self.steps)
        if math.isfinite(norm):
            state.skipped_in_a_row = 0
            self.editor.settle(sums)
            self.optimiser.step()
        else:
            state.skipped += 1
            state.skipped_in_a_row += 1
            if state.skipped_in_a_row == SKIPS_IN_A_ROW:
                raise InputError(
                    f"{self.folder}: the last {SKIPS_IN_A_ROW} steps had gradients that are not finite; a smaller lr, "
                    "a smaller edit_lr or another dtype is needed."
                )
        means = sums.mean(*self.editor.weights())
        return {
            "step": state.step,
            **means,
            "gradient_norm": norm if math.isfinite(norm) else None,
            "skipped": state.skipped,
        }

    def _validate(self) -> dict[str, float]:
        self.network.eval()
        sums = Losses()
        for first in range(0, len(self.validation), self.batch):  # the last may be smaller, and its last edit
            cases = self.validation[first : first + self.batch]
            seeds = [seed_of("validation", case.request.case_id) for case in cases]
            sums.add(self.editor.losses(self.model, cases, self.training, seeds, 0.0))
        if not sums.cases:
            raise InputError(f"{self.folder}: no validation case fits the model's context; one at least was expected.")
        # the configured weights, not those of the moment: losses of two validations must be comparable
        means = sums.mean(self.editor.config.objective.c_edit, self.editor.config.objective.c_loc)
        state = self.state
        if means["loss"] < state.best:
            state.best, state.best_step = means["loss"], state.step
            write_tensors(self.folder / BEST, self.network.state_dict(), {})
        state.stopped = state.step - state.best_step >= self.config.patience
        self.editor.validated(means)
        return means

    def _save(self) -> None:
        """Write all that the next step depends on to one file."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimiser.{index}.{name}"] = value
        self.state.drawn = dict(self.sampler.drawn)
        content = {**asdict(self.state), "best": self.state.best if self.state.best < math.inf else None}
        write_tensors(self.folder / SAVED, tensors, {"progress": json.dumps(content), "identity": self.identity})

    def _resumed(self) -> bool:
        """Go on from the saved state if there is one; what is damaged of it is left, and said."""
        path = self.folder / SAVED
        if not path.exists():
            return False
        try:
            tensors, metadata = read_tensors(path)
            with parsed(path):
                whose, state = metadata["identity"], _progress(json.loads(metadata["progress"]))
            if whose != self.identity:
                raise InputError(
                    f"{path}: belongs to a training with another configuration, data, seed or base model; "
                    "remove the folder or choose another."
                )
            if state.best_step and self.config.keep == "best":
                self._read_best()
            with parsed(path):
                moments = self._moments(tensors)
                if state.step > state.skipped and not moments:
                    raise InputError("the optimiser's state is missing.")
                fill(self.network, {name[8:]: own for name, own in tensors.items() if name.startswith("network.")})
        except DamagedError as error:  # nothing was taken over yet
            self.report(f"note: {error} The training of {self.editor.name} starts again.")
            return False
        outline = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": moments, "param_groups": outline["param_groups"]})
        self.state = state
        self.sampler.drawn = Counter(self.state.drawn)
        self._trim()
        self.report(f"training {self.editor.name}: goes on from step {self.state.step}.")
        return True

    def _moments(self, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """Return what the optimiser remembers of each weight that had a gradient."""
        weights = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".", 2)
                if tensor.shape not in (weights[int(index)].shape, torch.Size([])):
                    raise InputError(f"'{name}' is of another shape: {list(tensor.shape)}.")
                moments.setdefault(int(index), {})[key] = tensor
        if wrong := [index for index, own in moments.items() if own.keys() != {"step", "exp_avg", "exp_avg_sq"}]:
            raise InputError(f"the optimiser's state of weight {wrong[0]} is not complete.")
        return moments

    def _read_best(self) -> dict[str, Tensor]:
        """Return the weights of the lowest validation loss.

        Raises:
            DamagedError: If their file is not what was written.
        """
        path = self.folder / BEST
        tensors, _ = read_tensors(path)
        with parsed(path):
            check_fit(self.network, tensors)
        return tensors

    def _trim(self) -> None:
        """Drop the lines of steps that are taken again, and what is damaged; the numbers do not depend on them."""
        path = self.folder / METRICS
        if not path.exists():
            kept: list[bytes] = []
        else:
            try:
                lines = path.read_bytes().splitlines(keepends=True)
            except OSError as error:
                raise unreadable(path, error) from error
            kept, last = [], 0
            for line in lines:
                step = _step_of(line)
                if step is None or not line.endswith(b"\n") or not last < step <= self.state.step:
                    break
                kept.append(line)
                last = step
            if kept != lines:
                write_whole(path, b"".join(kept))
        if len(kept) < self.state.step:
            self.report(
                f"note: {path}: damaged ({len(kept)} of the lines of {self.state.step} steps can be read); the "
                "training does not depend on them."
            )

    def _write(self, line: dict[str, Any]) -> None:
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain({**line, "seconds": round(time.monotonic() - self.began, 3)})) + "\n")

    def _finish(self) -> None:
        self.optimiser.zero_grad()  # neither gradients nor moments are needed beside the network any more
        self.optimiser.state.clear()
        best = self.folder / BEST
        if self.config.keep == "best":
            if not best.is_file():
                raise InputError(
                    f"{self.folder}: no validation had a finite loss, so no network is best; a smaller lr "
                    "or a smaller edit_lr is needed."
                )
            fill(self.network, self._read_best())
        self.network.eval()
        self.editor.origin = self.identity
        self.editor.save(self.folder)
        drop_saves(self.folder)


def drop_saves(folder: Path) -> None:
    """Remove the saves of a training whose editor is finished; a kill may have come between the two."""
    if (folder / EDITOR).is_file():
        for name in (SAVED, BEST):
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)


def identity(
    editor: "TrainedEditor[Any]", model: LanguageModel, training: TrainingSet, seed: int, steps: int | None
) -> str:
    """Return what must be the same for a training to go on, and for its result to be read instead."""
    return json.dumps(
        [
            editor.name,
            editor.config.model_dump(mode="json"),
            training.digest,
            seed,
            steps or editor.config.training.steps,
            model.identity,
        ]
    )


def _progress(content: Any) -> Progress:
    """Return what a training has reached from its JSON.

    Raises:
        KeyError, TypeError, ValueError: If it is something else.
    """
    best = math.inf if content["best"] is None else float(content["best"])
    state = Progress(**{**content, "best": best, "drawn": {str(task): int(n) for task, n in content["drawn"].items()}})
    counts = [state.step, state.best_step, state.skipped, state.skipped_in_a_row, *state.drawn.values()]
    if not all(type(count) is int and count >= 0 for count in counts) or type(state.stopped) is not bool:
        raise ValueError("a count is no whole number")
    return state


def _step_of(line: bytes) -> int | None:
    """Return the step that a line of the metrics is of; None if it is damaged."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _plain(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line that JSON can carry: numbers that are not finite become null."""
    return {
        key: _plain(value)
        if isinstance(value, Mapping)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in line.items()
    }


def _flat(line: Mapping[str, Any]) -> dict[str, float]:
    flat = {key: value for key, value in line.items() if isinstance(value, int | float) and key != "step"}
    return flat | {f"validation/{key}": value for key, value in line.get("validation", {}).items()}


def _tracker(name: str | None, run: str, config: dict[str, Any]) -> Any:
    """Start a run with wandb or trackio, which share these three functions; None for none.

    Raises:
        InputError: If it is neither, or not installed.
    """
    if name is None:
        return None
    if name not in ("wandb", "trackio"):
        raise InputError(f"Unknown tracker '{name}'; wandb or trackio was expected.")
    try:
        module = import_module(name)
    except ImportError as error:
        raise InputError(f"The tracker '{name}' is not installed; pip install {name} adds it.") from error
    module.init(project="instructedit", name=run, config=config)
    return module
