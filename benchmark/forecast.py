"""What a run will take: memory, time and disk, worked out from shapes, options and a sample of the cases."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from instructedit.editors import Context, Cost, EditRequest, Sketch, TrainingConfig
from instructedit.editors.cost import FLOAT
from instructedit.editors.model import DTYPES

from . import memory
from .memory import Need
from .outline import Outline, requests_of
from .published import PUBLISHED
from .results import read_record
from .selection import choose
from .settings import RowSpec
from .speed import Machine, Work, forward, scoring, within
from .training import RECORD, Checkpoint, Training
from .workload import (
    SAMPLE,
    EditLoad,
    ScoreLoad,
    TrainingLoad,
    edit_load,
    mean_load,
    score_load,
    training_load,
)

MOVED = 16
"""Times that a step of training reads or writes each number of a network: gradient, its norm, Adam."""


@dataclass(frozen=True, slots=True)
class RowForecast:
    """The rows of one editor.

    Attributes:
        editor: Key of the editor in the configuration.
        rows: Number of its rows.
        cost: What one edit takes.
        edits: Memory of the edits that are made together.
        trainings: Trainings that no other run of the suite makes.
        ready: How many of them are on disk.
        results: Cases scored, over all rows.
        train: Seconds of the trainings that are missing.
        edit: Seconds of editing.
        score: Seconds of scoring.
    """

    editor: str
    rows: int
    cost: Cost
    edits: Need
    trainings: int
    ready: int
    results: int
    train: float
    edit: float
    score: float


@dataclass(frozen=True, slots=True)
class Phase:
    """Memory that is held at some time of a run: all of it, and what of it grows with the chunk."""

    name: str
    need: Need
    chunk: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take.

    Attributes:
        sketch: The model.
        dtype: Type of its weights.
        weights: Memory of them.
        rows: The editors.
        base: Seconds of reading the unedited model.
        phases: Memory over time.
        disk: Most disk space that checkpoints take.
        published: Whether published sizes stand for the data.
    """

    sketch: Sketch
    dtype: str
    weights: int
    rows: tuple[RowForecast, ...]
    base: float
    phases: tuple[Phase, ...]
    disk: float
    published: bool

    @property
    def seconds(self) -> float:
        """Time of one run."""
        return self.base + sum(row.train + row.edit + row.score for row in self.rows)

    @property
    def peak(self) -> Phase:
        """When most memory is held."""
        return max(self.phases, key=lambda phase: phase.need.total)

    @property
    def least(self) -> Phase:
        """When most of what is known exactly is held: the run cannot do with less."""
        return max(self.phases, key=lambda phase: phase.need.exact)


def forecast(found: Outline, sketch: Sketch, machine: Machine, root: Path, seen: set[str]) -> Forecast:
    """Work out what a run will take.

    Args:
        found: The run.
        sketch: Its model.
        machine: Where it will run.
        root: Folder of checkpoints.
        seen: Trainings of the runs before; those of this run are added.

    Raises:
        InputError: If the model has no such blocks or maps as an editor asks for.
    """
    run = _Run(found, sketch, machine)
    published = any(data.source == PUBLISHED for data in found.data)
    groups = [[row for row in found.rows if row.editor == key] for key in found.config.editors]
    rows, phases, disk, file = [], [], 0.0, 0.0
    fixed = Need(run.weights + memory.LIBRARIES[machine.kind])
    for group in groups:
        name, cost = group[0].editor, run.cost(group[0])
        own = [training for training in found.trainings if training.rows[0] in {row.name for row in group}]
        new = [training for training in own if _key(training, found.config.seed) not in seen]
        seen |= {_key(training, found.config.seed) for training in new}
        missing = [t for t in new if published or not _saved(root, t, sketch, found.config.seed)]
        train = 0.0
        for training in missing:
            load = training_load(sketch, training, found.config.seed)
            train += run.training(cost, training, load).seconds(machine)
            phases.append(Phase(f"training {name}", fixed + run.training_memory(cost, training, load)))
            file = max(file, (memory.FILE - 1) * FLOAT * cost.parameters)
        disk += FLOAT * cost.parameters * len(missing)
        fixed += Need(memory.TRAINED * FLOAT * cost.parameters * len(own))  # trained networks stay
        rows.append(
            RowForecast(
                editor=name,
                rows=len(group),
                cost=cost,
                edits=run.edit_memory(group[0], cost),
                trainings=len(new),
                ready=len(new) - len(missing),
                results=sum(len(found.cases[task]) for row in group for task in row.tasks),
                train=train,
                edit=sum(run.editing(row, cost).seconds(machine) for row in group),
                score=sum(run.scored(row, cost).seconds(machine) for row in group),
            )
        )
    patches = 0.0
    for row in rows:
        phases.append(Phase(f"editing with {row.editor}", fixed + Need(patches) + row.edits, patches + row.edits.total))
        patches += row.rows * row.cost.patch_bytes * run.edits
    read = run.reading_memory({row.cost.first_block for row in rows} - {None})
    phases.append(Phase("scoring", fixed + Need(patches) + read, patches + read.total))
    return Forecast(
        sketch=sketch,
        dtype=found.config.dtype,
        weights=run.weights,
        rows=tuple(rows),
        base=run.unedited().seconds(machine),
        phases=tuple(phases),
        disk=disk + file,
        published=published,
    )


class _Run:
    """A run's loads, and what they come to.

    Attributes:
        weights: Memory of the model's weights.
        edits: Edits that are made together.
    """

    def __init__(self, found: Outline, sketch: Sketch, machine: Machine) -> None:
        self.found, self.config, self.sketch, self.machine = found, found.config, sketch, machine
        self.itemsize = DTYPES[self.config.dtype].itemsize
        self.weights = sketch.parameters * self.itemsize
        self.counts = {task: len(cases) for task, cases in found.cases.items()}
        self.samples = {task: choose(cases, SAMPLE) for task, cases in found.cases.items()}
        self.chunk = min(self.config.chunk, max(self.counts.values(), default=1))
        self.joint = sum(self.counts[task] for task in found.edited) if self.config.schedule == "batch" else 1
        self.edits = self.chunk if self.config.schedule == "single" else 1

    def cost(self, row: RowSpec) -> Cost:
        """Return what one edit of a row takes."""
        return self.found.editors[row.name].cost(self.sketch, self.joint)

    def _asked(self, row: RowSpec, task: str) -> list[EditRequest]:
        return requests_of(row.instruction, self.found.bank, self.samples[task], self.config.seed)

    def _edit_load(self, row: RowSpec) -> tuple[float, EditLoad]:
        """Return how many requests are edited in, and the mean of one."""
        tasks = self.found.edited or row.tasks
        editor = self.found.editors[row.name]
        loads = [(self.counts[task], edit_load(self.sketch, editor, self._asked(row, task))) for task in tasks]
        return sum(count for count, _ in loads), mean_load(loads, EditLoad)

    def _score_load(self, task: str, contexts: Sequence[Context | None] = ()) -> ScoreLoad:
        config = self.config
        return score_load(self.sketch, self.samples[task], contexts, config.generation, config.fluency)

    def editing(self, row: RowSpec, cost: Cost) -> Work:
        """Return the work of a row's edits: all that are made together in one pass, or one request after the other."""
        count, load = self._edit_load(row)
        piece = min(count, self.edits * cost.together)
        own = Work(flops=count * (cost.token_flops * load.tokens + cost.edit_flops))
        moved = Work(moved=cost.moved_bytes * count / self.joint)
        if not piece:
            return Work()
        return (
            forward(self.sketch, self.machine, load * piece, cost.passes, cost.head_passes) * (count / piece)
            + own
            + moved
        )

    def edit_memory(self, row: RowSpec, cost: Cost) -> Need:
        """Return the memory of the edits that are made together."""
        _, load = self._edit_load(row)
        if cost.first_block is None:
            return Need()
        passing = memory.passing(
            self.sketch, load * (self.edits * cost.together), self.sketch.share(cost.first_block), self.itemsize
        )
        return Need(cost.edit_bytes * self.edits) + passing

    def _chunks(self, task: str) -> list[tuple[int, float]]:
        """Return how cases are scored: so many together, so many times."""
        count = self.counts[task]
        chunked = [(min(self.chunk, count), count / min(self.chunk, count))] if count else []
        if self.config.schedule != "sequential" or task not in self.found.edited:
            return chunked
        # right after each edit, at each checkpoint, and at the end
        rounds = 1 + sum(min(1.0, at / self.joint_edits) for at in self.config.at)
        return [(1, float(count)), *((cases, times * rounds) for cases, times in chunked)]

    @property
    def joint_edits(self) -> int:
        """Edits of a stream."""
        return max(sum(self.counts[task] for task in self.found.edited), 1)

    def _reading(self, task: str, load: ScoreLoad, share: float) -> Work:
        generation = self.config.generation
        new = (generation.max_new_tokens, generation.fluency_tokens)
        return sum(
            (
                scoring(self.sketch, self.machine, load, cases, new, share, self.itemsize) * times
                for cases, times in self._chunks(task)
            ),
            Work(),
        )

    def scored(self, row: RowSpec, cost: Cost) -> Work:
        """Return the work of scoring a row; one that neither edits nor puts a text in front costs nothing more."""
        total = Work()
        for task in row.tasks:
            contexts = [self.found.editors[row.name].context(request) for request in self._asked(row, task)]
            if cost.first_block is not None or any(contexts):
                share = 1.0 if any(contexts) or cost.first_block is None else self.sketch.share(cost.first_block)
                total += self._reading(task, self._score_load(task, contexts), share)
        return total

    def unedited(self) -> Work:
        """Return the work of reading the unedited model, once for all rows."""
        return sum((self._reading(task, self._score_load(task), 1.0) for task in self.counts), Work())

    def reading_memory(self, cuts: Collection[object]) -> Need:
        """Return the memory of scoring a chunk of the task that takes most."""
        generation = self.config.generation
        new = (generation.max_new_tokens, generation.fluency_tokens)
        needs = [
            memory.reading(self.sketch, self._score_load(task), self.chunk, len(cuts), new, self.itemsize)
            for task in self.counts
        ]
        return max(needs, key=lambda need: need.total, default=Need())

    def training(self, cost: Cost, training: Training, load: TrainingLoad) -> Work:
        """Return the work of a training: no step is saved by stopping early."""
        config: TrainingConfig = training.editor.config.training
        judged = load.outer * config.batch
        share = 0.0 if cost.first_block is None else self.sketch.share(cost.first_block)
        network = config.batch * (cost.token_flops * load.edit.tokens + cost.edit_flops)
        capture = forward(self.sketch, self.machine, load.edit * config.batch, 1 + share, 2)
        passed = capture + forward(self.sketch, self.machine, judged, 1 + 2 * share, 3)
        weights = FLOAT * cost.parameters
        step = (passed + Work(flops=3 * network, moved=2 * weights)) * config.accumulate + Work(
            moved=MOVED * weights
        )
        validated = capture + forward(self.sketch, self.machine, judged, 1 + share, 2) + Work(flops=network)
        cases = min(config.validation_cases, len(training.cases.validation))
        return step * config.steps + validated * (config.steps / config.validate_every * cases / config.batch)

    def training_memory(self, cost: Cost, training: Training, load: TrainingLoad) -> Need:
        """Return the memory of a training: texts go through pack by pack; a save copies the state."""
        judged = within(load.outer * training.editor.config.training.batch, self.machine.pack_tokens)
        share = 0.0 if cost.first_block is None else self.sketch.share(cost.first_block)
        edits = training.editor.config.training.batch * cost.edit_bytes
        passing = memory.passing(self.sketch, judged, share, self.itemsize)
        saving = memory.SAVED * FLOAT * cost.parameters if self.machine.kind == "cpu" else 0
        return Need(cost.training_bytes + edits, max(passing.total, saving))


def _key(training: Training, seed: int) -> str:
    """Return what tells the trainings of a suite from one another, its model aside."""
    arm, editor = training.arm, training.editor
    parts = [editor.name, editor.config.model_dump(mode="json"), sorted(arm.train), sorted(arm.limits.items())]
    return json.dumps([*parts, arm.sampling, seed], sort_keys=True)


def _saved(root: Path, training: Training, sketch: Sketch, seed: int) -> bool:
    """Tell whether a folder of checkpoints has a training, as far as can be told without the model's weights."""
    editor = training.editor
    for path in root.glob(f"{editor.name}-*-{training.cases.digest[:8]}-*/{RECORD}"):
        found = read_record(path, Checkpoint)
        same = (found.config, found.seed) == (editor.config.model_dump(mode="json"), seed)
        if same and found.training == training.cases.digest and editor.saved(path.parent):
            shape = json.loads((path.parent / "editor.json").read_text(encoding="utf-8"))["shape"]
            return bool(shape["vocabulary"] == sketch.vocabulary and shape["width"] == sketch.width)
    return False
