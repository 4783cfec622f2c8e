"""What a run will take: memory, time and disk, worked out from shapes, options and a sample of the cases."""

import json
from dataclasses import dataclass
from pathlib import Path

from instructedit.editors import Cost, DamagedError, InputError, Sketch
from instructedit.editors.cost import FLOAT
from instructedit.editors.files.state import read_object

from ..results.checkpoint import RECORD, Checkpoint
from ..results.records import read_record
from ..run.trainings import Training
from ..run.unserved import unserved
from ..setup.published_cases import PUBLISHED
from ..setup.resolve import Outline
from . import memory
from .estimate import Estimate
from .machine import Machine
from .memory import Need
from .workload import training_load


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
    """Memory that is held at some time of a run: all of it, and how much of what is exact grows with the chunk."""

    name: str
    need: Need
    chunk: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take.

    Attributes:
        sketch: The model.
        machine: Where it runs.
        dtype: Type of its weights.
        weights: Memory of them.
        rows: The editors.
        base: Seconds of reading the unedited model.
        phases: Memory over time.
        disk: Most disk space that checkpoints take.
        published: Whether published sizes stand for the data.
    """

    sketch: Sketch
    machine: Machine
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
    run = Estimate(found, sketch, machine)
    published = any(data.source == PUBLISHED for data in found.data)
    groups = [[row for row in found.rows if row.editor == key] for key in found.config.editors]
    rows, phases, disk, file = [], [], 0.0, 0.0
    fixed = Need(run.weights + memory.LIBRARIES[machine.kind])
    phases.append(Phase("loading the model", fixed))
    for group in groups:
        name = group[0].editor
        with found.config.origin.at(f"editors.{name}", name):
            cost = run.cost(group[0])
        rest = {row.name for row in group if not unserved(found.editors[row.name], sketch)}
        own = [training for training in found.trainings if training.rows[0] in rest]
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
        fixed += Need((FLOAT * cost.parameters + cost.network_bytes) * len(own))  # trained networks stay
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
    for row, group in zip(rows, groups, strict=True):
        phases.append(Phase(f"editing with {row.editor}", fixed + Need(patches) + row.edits, patches + row.edits.exact))
        patches += row.rows * run.patch_memory(group[0], row.cost)
    read = run.reading_memory([row.cost for row in rows])
    phases.append(Phase("scoring", fixed + Need(patches) + read, patches))
    return Forecast(
        sketch=sketch,
        machine=machine,
        dtype=found.config.dtype,
        weights=run.weights,
        rows=tuple(rows),
        base=run.unedited().seconds(machine),
        phases=tuple(phases),
        disk=disk + file,
        published=published,
    )


def _key(training: Training, seed: int) -> str:
    """Return what tells the trainings of a suite from one another, its model aside."""
    arm, editor = training.arm, training.editor
    parts = [editor.name, editor.config.model_dump(mode="json"), sorted(arm.train), sorted(arm.limits.items())]
    return json.dumps([*parts, arm.sampling, seed], sort_keys=True)


def _saved(root: Path, training: Training, sketch: Sketch, seed: int) -> bool:
    """Tell whether a folder of checkpoints has a training, as far as can be told without the model's weights."""
    editor = training.editor
    for path in root.glob(f"{editor.name}-*-{training.cases.digest[:8]}-*/{RECORD}"):
        try:
            found = read_record(path, Checkpoint)
        except InputError:  # whoever trains says what is wrong
            continue
        same = (found.config, found.seed) == (editor.config.model_dump(mode="json"), seed)
        if same and found.training == training.cases.digest and editor.saved(path.parent):
            try:
                shape = read_object(path.parent / "editor.json").get("shape")
            except DamagedError:  # it will be trained again
                return False
            fits = {"vocabulary": sketch.vocabulary, "width": sketch.width}
            return isinstance(shape, dict) and {key: shape.get(key) for key in fits} == fits
    return False
