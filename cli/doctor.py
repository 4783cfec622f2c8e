"""The command `doctor`: what of this machine and of a model is understood, on one screen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option, echo

from . import options
from .options import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from instructedit.benchmark.forecast.doctor import Machine, ModelReport

WIDTH = 80


def doctor(
    model: options.Model = None,
    out: options.Out = Path("results"),
    dtype: Annotated[str, Option(help="dtype of the weights: float32, bfloat16 or float16.")] = "float32",
    revision: Annotated[str | None, Option(help="Commit, branch or tag of a hub model.")] = None,
    load: Annotated[
        bool, Option("--load/--no-load", help="Load the weights, if they fit, and try the model as each run does.")
    ] = True,
    json: options.Json = False,
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    threads: options.Threads = None,
) -> None:
    """Check versions, devices and folders, and with --model how a model is understood.

    The exit code is 0 without a problem, 1 with one, and 2 if there is no such model.
    """
    from rich.console import Console
    from rich.table import Table

    from instructedit.benchmark.forecast.doctor import check_machine, check_model
    from instructedit.benchmark.forecast.machine import Place

    quiet_libraries()
    place = Place(out, None, device, device_map)
    machine = check_machine(place)
    found = None
    if model is not None:
        found = check_model(
            model, place, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code, load=load
        )
    problems = [*machine.problems, *(found.problems if found else ())]
    if json:
        import json as text

        content = {"machine": machine.model_dump(), "model": found and found.model_dump(), "problems": problems}
        echo(text.dumps(content, indent=1, ensure_ascii=False))
    else:
        console = Console()
        console.width = min(console.width, WIDTH)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, words in (*_machine(machine), *(_model(found) if found else ())):
            table.add_row(name, words)
        console.print(table, highlight=False, markup=False)
        for problem in problems:
            console.print(f"problem: {problem}", highlight=False, markup=False)
        if not problems:
            console.print("no problem found")
    if problems:
        raise Exit(1)


def _machine(found: "Machine") -> "Iterator[tuple[str, str]]":
    from instructedit.benchmark.forecast.doctor import SHOWN
    from instructedit.benchmark.forecast.report import size

    fitting = [own for own in found.packages if own.fits]
    yield "version", f"instructedit-bench {found.version}, Python {found.python}, {found.platform}"
    shown = ", ".join(f"{own.name} {own.version}" for own in fitting if own.name in SHOWN)
    yield "packages", f"{shown}; {len(fitting)} of {len(found.packages)} within their tested ranges"
    yield "devices", f"{'; '.join(found.devices)} ({found.cores} cores, {found.threads} thread(s) used)"
    yield "memory", f"{size(found.free)} free of {size(found.memory)}"
    yield "hub", "offline (HF_HUB_OFFLINE)" if found.offline else "online"
    writable = "can be written" if found.writable else "CANNOT BE WRITTEN"
    yield "results", f"{found.results}: {writable}, {size(found.disk)} free"


def _model(found: "ModelReport") -> "Iterator[tuple[str, str]]":
    from instructedit.benchmark.forecast.report import size

    yield "", ""
    yield "model", f"{found.name}: {found.architecture}, {found.parameters / 1e6:,.1f} M parameters"
    parts = ", ".join(f"{part} {count}" for part, count in found.parts.items())
    yield "structure", f"{found.blocks} blocks of width {found.width:,}; layers: {parts}"
    stored = f", stored as {found.stored}" if found.stored and found.stored != found.dtype else ""
    yield "memory", f"{size(found.memory)} in {found.dtype}{stored}"
    template = "a chat template" if found.chat_template else "no chat template"
    first = f"begins texts with {found.bos}" if found.bos else "no token before a text"
    yield "tokenizer", f"{found.tokenizer}, {found.tokens:,} tokens (logits: {found.vocabulary:,}), {first}, {template}"
    yield "texts", f"at most {found.context:,} tokens; prompt and answer joined by the rule {found.joint}"
    yield "trial", found.trial
    for note in found.notes:
        yield "note", note
    yield "", ""
    for own in found.editors:
        needs = "; ".join([*own.needs, *([f"{size(own.training)} to train"] if own.training else [])])
        words = own.edits if own.works else f"does not work: {own.edits}"
        yield own.name, words + (f". Needs {needs}" if needs else "")
