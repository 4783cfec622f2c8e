"""The forecast of a suite as lines and tables, and the refusal of runs that cannot fit."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from instructedit.editors import InputError, Site
from instructedit.editors.models.structure import describe_sites

from .forecast import ADAM, FLOAT, EditorForecast, Forecast
from .machine import Free, Place

if TYPE_CHECKING:
    from rich.console import Console


def refuse(forecasts: Sequence[Forecast], place: Place, there: Free) -> None:
    """Refuse runs that cannot fit, by an `InputError` that names what is needed, what is free, and what would help."""
    for found in forecasts:
        need, when = found.peak
        if need > there.memory:
            raise InputError(
                f"The run '{found.label}' needs at least {size(need)} of memory for {when} (weights "
                f"{size(found.weights)}), but {there.name} has {size(there.memory)} free; "
                f"{_help(found, place, there)}."
            )
        if place.torch_device.startswith("cuda") and place.device_map is None and found.weights > there.host:
            raise InputError(
                f"The run '{found.label}' loads weights of {size(found.weights)} through the computer's memory, of "
                f"which {size(there.host)} are free; device_map = 'auto' loads them in parts."
            )
    disk = sum(found.disk for found in forecasts)
    if disk > there.disk:
        raise InputError(
            f"The checkpoints take {size(disk)} on disk, but {place.checkpoint_root} has {size(there.disk)} free; "
            "--checkpoints names another folder."
        )


def lines(forecasts: Sequence[Forecast], there: Free) -> tuple[str, ...]:
    """Return two lines on a suite: its largest model, and its peak of memory."""
    most = max(forecasts, key=lambda found: found.peak[0])
    need, when = most.peak
    return (
        f"model: {most.meta.parameters / 1e6:,.1f} M parameters, {size(most.weights)} in {most.run.config.dtype}",
        f"memory: at least {size(need)} ({when}), {size(there.memory)} free: {verdict(most, there)}",
    )


def verdict(found: Forecast, there: Free) -> str:
    """Return whether a run fits. Activations and edits are taken to need as much as the weights."""
    need, _ = found.peak
    if need > there.memory:
        return "does not fit"
    return "fits" if need + found.weights <= there.memory else "tight: activations and edits may not fit"


def draw(found: Forecast, seeds: int, there: Free, console: "Console") -> None:
    """Print what a run will train, edit and test, at most 100 columns wide."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("editor", no_wrap=True)
    table.add_column("edited layers", no_wrap=True)
    for name in ("network", "to train", "missing", "results"):
        table.add_column(name, justify="right", no_wrap=True)
    for own in found.editors:
        table.add_row(
            own.editor + (f" x {own.rows}" if own.rows > 1 else ""),
            short(own.sites),
            f"{own.parameters / 1e6:,.1f} M" if own.parameters else "",
            size(ADAM * FLOAT * own.parameters) if own.parameters else "",
            _missing(own),
            f"{own.results:,}",
        )
    tasks = ", ".join(f"{task} {len(cases):,}" for task, cases in found.run.cases.items())
    title = f"{found.label} ({found.run.config.schedule})"
    title += f", {seeds} seeds, each of which takes this" if seeds > 1 else ""
    need, when = found.peak
    say = partial(console.print, highlight=False)
    say(f"\n[bold]{title}[/bold]")
    say(f"cases: {tasks}{' (published sizes)' if found.published else ''}")
    for data in found.run.data:
        if data.left_out:
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in data.left_out.items())
            say(f"left out of {data.task}: {reasons}", markup=False)
    console.print(table)
    disk = f"; checkpoints {size(found.disk)} of {size(there.disk)} free" if found.disk else ""
    say(f"memory at least {size(need)} ({when}), {size(there.memory)} free: {verdict(found, there)}{disk}")
    for own in found.editors:
        if own.sites:
            say(f"{own.editor}: {describe_sites(own.sites)}")


def size(count: float) -> str:
    """Return bytes as a person reads them."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def _help(found: Forecast, place: Place, there: Free) -> str:
    ways = []
    if found.run.config.dtype == "float32" and found.peak[0] - found.weights / 2 <= there.memory:
        ways.append("dtype = 'bfloat16'")
    if place.device_map is None and place.torch_device.startswith("cuda"):
        ways.append("--device-map auto")
    return f"{' or '.join(ways)} would help" if ways else "a smaller model or a larger machine is needed"


def _missing(own: EditorForecast) -> str:
    if not own.parameters:
        return ""
    return f"{own.missing} of {own.trainings}" if own.trainings else "shared"


def short(sites: Sequence[Site]) -> str:
    """Return the edited layers in short: first and last block, and parts."""
    if not sites:
        return ""
    blocks = sorted({site.block for site in sites})
    where = f"{blocks[0]}-{blocks[-1]}" if len(blocks) > 1 else str(blocks[0])
    return f"{where} {'+'.join(sorted({site.part for site in sites}, reverse=True))}"
