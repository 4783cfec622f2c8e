"""What is checked before a run starts: that it can be resolved, what it will take, and whether that is there."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from instructedit.editors import InputError, Site, Sketch
from instructedit.editors.engine.model import PACK_TOKENS
from instructedit.editors.models.devices import check_device
from instructedit.editors.models.loading import DTYPES
from instructedit.editors.models.structure import described

from ..run.unserved import unable_notes
from ..setup.config import EMBEDDED_MODEL, RunConfig
from ..setup.defaults import foreign_defaults, said
from ..setup.resolve import Outline, check_generation, outline
from .forecast import Forecast, RowForecast, forecast
from .machine import measure

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs will run.

    Attributes:
        out: Folder of all runs.
        checkpoints: Folder of all trained editors; by default in `out`.
        device: See `LanguageModel.load`.
        device_map: See there.

    Raises:
        InputError: If there is no such device.
    """

    out: Path = Path("results")
    checkpoints: Path | None = None
    device: str | None = None
    device_map: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device, self.device_map)

    @property
    def root(self) -> Path:
        """Folder of checkpoints."""
        return self.checkpoints or self.out / "checkpoints"

    @property
    def kind(self) -> str:
        """Device that computes, as torch writes it."""
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class Room:
    """What a machine has free, in bytes.

    Attributes:
        memory: Where the model runs; of all cards, and the computer's, under a device map.
        host: Memory of the computer.
        disk: Disk space where checkpoints are kept.
        name: What `memory` is of, for messages.
    """

    memory: int
    host: int
    disk: int
    name: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A run that can be resolved.

    Attributes:
        label: Its label.
        config: Its configuration.
        tasks: Evaluated cases of each task.
        forecast: What it will take.
        notes: Sentences for the user.
        data: Sentences on the data, and on what was left out of them.
        lacks: Sentence on why the model cannot be loaded though its shapes are known; None where it can be.
    """

    label: str
    config: RunConfig
    tasks: dict[str, int]
    forecast: Forecast
    notes: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    lacks: str | None = None


def room(place: Place) -> Room:
    """Return what is free."""
    host = int(psutil.virtual_memory().available)
    folder = next(path for path in (place.root.absolute(), *place.root.absolute().parents) if path.exists())
    disk = shutil.disk_usage(folder).free
    if not place.kind.startswith("cuda") or not torch.cuda.is_available():
        return Room(host, host, disk, "this computer")
    if place.device_map is not None:
        cards = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
        return Room(sum(cards) + host, host, disk, f"{len(cards)} cards and this computer")
    return Room(torch.cuda.mem_get_info(torch.device(place.kind))[0], host, disk, f"the card {place.kind}")


def check(label: str, config: RunConfig, name: str, place: Place, seen: set[str], *, local: bool = False) -> Checked:
    """Check a run without loading its model, and work out what it will take.

    Args:
        label: Label of the run.
        config: What is asked for.
        name: Preset or file it came from.
        place: Where it will run.
        seen: Trainings of the runs before; those of this run are added.
        local: Whether nothing may be fetched; see `outline`.

    Raises:
        InputError: If anything of it cannot be used.
    """
    found = outline(config, name, local=local)
    with config.origin.at("model"):
        sketch = sketch_of(config)
    if sketch.lacks is not None and not local:
        raise InputError(sketch.lacks)
    check_generation(config, name, sketch.context, len(sketch.tokenizer) if sketch.tokenizer else sketch.vocabulary)
    kind = place.kind.partition(":")[0]
    machine = measure(sketch.width, place.kind, DTYPES[config.dtype], PACK_TOKENS.get(kind, PACK_TOKENS["cuda"]))
    counts = {task: len(cases) for task, cases in found.cases.items()}
    notes = (*sketch.notes, *said(found.rows, foreign_defaults(found.rows, found.editors, sketch)))
    notes = (*notes, *unable_notes(found, sketch))
    weights = forecast(found, sketch, machine, place.root, seen)
    return Checked(label, config, counts, weights, notes, tuple(_data(found)), sketch.lacks)


def _data(found: Outline) -> Iterator[str]:
    """Yield what is to be said of the data, and what was left out of each file or derived."""
    yield from found.notes
    for split, entries in ((found.config.split, found.data), ("train", found.training_data)):
        for entry in entries:
            if entry.skipped:
                reasons = ", ".join(f"{reason} ({count:,})" for reason, count in entry.skipped.items())
                files = ", ".join(entry.sha256)
                yield f"{entry.task}, {split} ({files}), {entry.rows:,} rows, {entry.cases:,} cases: {reasons}."


def sketch_of(config: RunConfig) -> Sketch:
    """Return the model of a configuration with shapes instead of weights.

    Raises:
        InputError: If it could not be loaded.
    """
    path = EMBEDDED_MODEL if config.model == "embedded" else config.model
    return Sketch.load(path, config.revision, trust_remote_code=config.trust_remote_code)


def refuse(checked: Sequence[Checked], place: Place, there: Room) -> None:
    """Refuse runs that cannot fit, by what is known exactly of them.

    Raises:
        InputError: If memory or disk space is too small; it says what is needed, what is there, what would help.
    """
    for run in checked:
        found, need = run.forecast, run.forecast.least
        if need.need.exact > there.memory:
            raise InputError(
                f"The run '{run.label}' needs {size(need.need.exact)} of memory for {need.name} (weights "
                f"{size(found.weights)}), but {there.name} has {size(there.memory)} free; {_help(run, place, there)}."
            )
        if place.kind.startswith("cuda") and place.device_map is None and found.weights > there.host:
            raise InputError(
                f"The run '{run.label}' loads weights of {size(found.weights)} through the computer's memory, of which "
                f"{size(there.host)} are free; device_map = 'auto' loads them piece by piece."
            )
    disk = sum(run.forecast.disk for run in checked)
    if disk > there.disk:
        raise InputError(
            f"The checkpoints take {size(disk)} on disk, but {place.root} has {size(there.disk)} free; --checkpoints "
            "names another folder."
        )


def _help(run: Checked, place: Place, there: Room) -> str:
    """Return what would make a run fit, as far as options do."""
    need = run.forecast.least
    excess = need.need.exact - there.memory
    savings = {}
    if run.config.chunk > 1:
        savings[f"a smaller chunk than {run.config.chunk}"] = need.chunk * (1 - 1 / run.config.chunk)
    if run.config.dtype == "float32":
        savings["dtype = 'bfloat16'"] = run.forecast.weights / 2
    ways = [way for way, saved in savings.items() if saved > excess]
    if not ways and sum(savings.values()) > excess:
        ways = [" together with ".join(savings)]
    if place.device_map is None and place.kind.startswith("cuda"):
        ways.append("--device-map auto")
    return f"{' or '.join(ways)} would help" if ways else "a smaller model or a larger machine is needed"


def verdict(found: Forecast, there: Room) -> str:
    """Return whether a run fits."""
    if found.least.need.exact > there.memory:
        return "does not fit"
    return "fits" if found.peak.need.total <= there.memory else "tight: what is estimated on top may not fit"


def lines(checked: Sequence[Checked], runs: int, there: Room) -> tuple[str, ...]:
    """Return three lines on parameters, memory and time.

    Args:
        checked: The runs, each once.
        runs: Their number with all seeds.
        there: What is free.
    """
    most = max((run.forecast for run in checked), key=lambda found: found.peak.need.total)
    seconds = sum(run.forecast.seconds for run in checked) * runs / len(checked)
    sure = "within a factor of two" if most.machine.kind == "cpu" else "a rough guess on a card"
    return (
        f"model: {most.sketch.parameters / 1e6:,.1f} M parameters, {size(most.weights)} in {most.dtype}",
        f"memory: about {size(most.peak.need.total)} at most ({most.peak.name}), {size(there.memory)} free: "
        f"{verdict(most, there)}",
        f"time: about {duration(seconds)}, {sure}",
    )


def size(count: float) -> str:
    """Return bytes as a person reads them."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def duration(seconds: float) -> str:
    """Return a time as a person reads it."""
    unit, length = next((u for u in (("d", 86_400), ("h", 3_600), ("min", 60)) if seconds >= 1.5 * u[1]), ("s", 1))
    count = seconds / length
    return f"{count:,.1f} {unit}" if 0 < count < 10 else f"{count:,.0f} {unit}"


def draw(run: Checked, seeds: int, there: Room, console: "Console") -> None:
    """Print what a run will take as a table, at most 100 columns wide."""
    from rich.table import Table

    found = run.forecast
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("editor", no_wrap=True)
    table.add_column("edited maps", no_wrap=True)
    for name in ("network", "to train", "a chunk", "missing", "results", "train", "edit", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        cost = row.cost
        cells = (
            f"{cost.parameters / 1e6:,.1f} M" if cost.parameters else "",
            size(cost.training_bytes) if cost.parameters else "",
            size(row.edits.total) if row.edits.total else "",
            _missing(row),
            f"{row.results:,}",
            duration(row.train) if row.train else "",
            duration(row.edit) if row.edit else "",
            duration(row.score) if row.score else "",
        )
        table.add_row(row.editor + (f" x {row.rows}" if row.rows > 1 else ""), _maps(row.cost.sites), *cells)
    tasks = ", ".join(f"{task} {count:,}" for task, count in run.tasks.items())
    title = f"{run.label} ({run.config.schedule})" + (f", {seeds} seeds, each of which takes this" if seeds > 1 else "")
    source = " (published sizes)" if found.published else ""
    whole = f"unedited model {duration(found.base)}; in all {duration(found.seconds)}"
    held = f"memory {size(found.peak.need.total)} ({found.peak.name}), {size(there.memory)} free"
    console.print(f"\n[bold]{title}[/bold]\ncases: {tasks}{source}", highlight=False)
    console.print(table)
    console.print(f"{whole}; {held}: {verdict(found, there)}", highlight=False)
    for row in found.rows:
        if row.cost.sites:
            console.print(f"{row.editor}: {described(row.cost.sites)}", highlight=False)


def _missing(row: RowForecast) -> str:
    """Return how many trainings have to be made."""
    if not row.cost.parameters:
        return ""
    return f"{row.trainings - row.ready} of {row.trainings}" if row.trainings else "shared"


def _maps(sites: Sequence[Site]) -> str:
    """Return the edited maps in short: first and last block, and parts."""
    blocks = sorted({site.block for site in sites})
    parts = sorted({site.part for site in sites}, reverse=True)
    where = f"{blocks[0]}-{blocks[-1]}" if len(blocks) > 1 else "".join(map(str, blocks))
    return f"{where} {'+'.join(parts)}"
