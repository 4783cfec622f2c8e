"""The commands `instructedit instructions ...`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instructedit.editors.errors import InputError

from .commands import Threads, clear, quiet_libraries, takes

if TYPE_CHECKING:
    from instructedit.benchmark.instructions.loop import Loop
    from instructedit.benchmark.instructions.proposer import Proposer
    from instructedit.benchmark.setup.config import RunConfig

app = typer.Typer(help="Make instructions for a task: propose, try, improve.", no_args_is_help=True)
Option = typer.Option


@dataclass(frozen=True, slots=True, kw_only=True)
class Trying:
    """What descriptions are tried on."""

    task: Annotated[str, Option(help="Task that descriptions are made for: a built-in one or your own.")]
    out: Annotated[Path, Option(metavar="DIR", help="Folder of the loop; the same command goes on in it.")]
    preset: Annotated[
        str, Option(metavar="PRESET_OR_TOML", help="Base model, data and options of the editor 'instructedit'.")
    ] = "quickstart"
    model: Annotated[str | None, Option(metavar="DIR_OR_HUB_ID", help="Base model, instead of the preset's.")] = None
    data: Annotated[str | None, Option(metavar="DIR", help="Data, instead of the preset's.")] = None
    instructions: Annotated[str | None, Option(metavar="FILE", help="Bank to start from, or 'default'.")] = None
    cases: Annotated[int, Option(help="Most training cases that candidates are tried on.")] = 100
    test_cases: Annotated[int, Option(help="Most test cases that the result is tested on.")] = 100
    anew: Annotated[
        int | None, Option(metavar="STEPS", help="Train an editor for each candidate, so many steps, not one for all.")
    ] = None
    seed: Annotated[int, Option(help="Seed of all that is drawn.")] = 0
    dtype: Annotated[
        str | None, Option(help="Type of the weights: float32, bfloat16 or float16; by default the preset's.")
    ] = None
    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", help="Let code in the folders or repositories of models run.")
    ] = False
    device: Annotated[str | None, Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")] = None
    threads: Threads = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing(Trying):
    """Who writes descriptions besides, and how many."""

    proposer: Annotated[str, Option(metavar="offline|openai|local", help="Who writes.")] = "offline"
    candidates: Annotated[int, Option(help="Descriptions in each round.")] = 10
    rounds: Annotated[int, Option(help="Most rounds.")] = 5
    patience: Annotated[int, Option(help="Rounds without a better candidate after which the loop ends.")] = 2
    examples: Annotated[int, Option(help="Training cases that the writer is shown.")] = 4
    shown: Annotated[int, Option(help="Earlier candidates that it is shown, the best and the worst ones.")] = 6
    writer: Annotated[str | None, Option(metavar="DIR_OR_HUB_ID", help="Chat model of the proposer 'local'.")] = None
    budget: Annotated[int | None, Option(help="Most tokens that 'openai' may cost, prompts and answers.")] = None
    timeout: Annotated[float, Option(help="Seconds without a byte after which 'openai' tries again.")] = 120.0
    retries: Annotated[int, Option(help="Further attempts of 'openai' at one request.")] = 5
    requests_per_minute: Annotated[float | None, Option(help="Most requests of 'openai' in a minute.")] = None


@app.command()
@clear
@takes(Writing)
def propose(asked: Writing) -> None:
    """Have the next round's descriptions written and checked, and print them; nothing is tried."""
    loop = _loop(asked)
    with loop.journal.alone():
        loop.begin()
        number = loop.next_round()
        proposal = loop.propose(number)
    for candidate in proposal.candidates:
        typer.echo(f"{'refused' if candidate.complaint else 'admitted':9} {candidate.text}")
        if candidate.complaint:
            typer.echo(f"{'':9} {candidate.complaint}")
    typer.echo(f"Round {number} of {asked.out}; 'instructedit instructions optimize' with the same options tries them.")


@app.command("try")
@clear
@takes(Trying)
def try_(asked: Trying, texts: Annotated[list[str], typer.Argument(metavar="TEXT...")]) -> None:
    """Try descriptions of your own on the cases for trials, and print what they came to."""
    from instructedit.reports.tables.instructions import draw_trials

    loop = _loop(asked)
    for text in texts:
        if complaint := loop.material.rules.complaint(text):
            raise InputError(f"'{text}': {complaint}.")
    with loop.journal.alone():
        draw_trials(loop.trials.run(tuple(dict.fromkeys(texts)), "trial").trials)


@app.command()
@clear
@takes(Writing)
def optimize(asked: Writing) -> None:
    """Propose and try until trials no longer improve, then test once and write the bank."""
    from instructedit.reports.tables.instructions import draw_loop

    _loop(asked).run()
    draw_loop(asked.out)
    typer.echo(f"Bank: {asked.out / 'bank.json'}, for instructedit run --instructions")


@app.command()
@clear
def show(directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a loop.")]) -> None:
    """Show a loop: its rounds, its best descriptions, and what they came to on the test split."""
    from instructedit.reports.tables.instructions import draw_loop

    draw_loop(directory)


def _loop(asked: Trying) -> "Loop":
    """Read the data, load the base model and return the loop."""
    from pydantic import ValidationError

    from instructedit.benchmark.instructions.journal import Journal
    from instructedit.benchmark.instructions.loop import Loop
    from instructedit.benchmark.instructions.material import gather
    from instructedit.benchmark.results.loop_results import LoopConfig
    from instructedit.benchmark.run.runner import load_model
    from instructedit.benchmark.setup.config import PROBES
    from instructedit.editors import make
    from instructedit.editors.instructedit import InstructEdit
    from instructedit.editors.models.devices import check_device

    quiet_libraries()
    given = {
        key: value for key in ("model", "data", "instructions", "dtype") if (value := getattr(asked, key)) is not None
    }
    if asked.model is not None:
        given["revision"] = None
    if asked.trust_remote_code:
        given["trust_remote_code"] = True
    check_device(asked.device)
    proposer = _proposer(asked)
    config, row = _trial_row(asked.preset, given)
    decides = {field: getattr(asked, field) for field in LoopConfig.model_fields if hasattr(asked, field)}
    try:
        loop = LoopConfig(**decides)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}, found {first['input']!r}."
        ) from error
    material = gather(config, loop)
    for note in material.notes:
        typer.echo(note, err=True)
    return Loop(
        config=loop,
        material=material,
        model=load_model(config, device=asked.device),
        options=make(InstructEdit, {k: v for k, v in row.items() if k not in ("method", PROBES)}).config.model_dump(),
        proposer=proposer,
        journal=Journal(asked.out),
        chunk=config.chunk,
        report=lambda text: typer.echo(text, err=True),
        progress=True,
    )


def _trial_row(preset: str, given: dict[str, Any]) -> tuple["RunConfig", dict[str, Any]]:
    """Return the first run of a preset that has a row of the editor 'instructedit', and that row."""
    from instructedit.benchmark.setup.config import read_suite

    for _, config in read_suite(preset, given):
        for name, row in config.editors.items():
            if row.get("method", name) == "instructedit":
                return config, row
    raise InputError(f"{preset}: no run has a row of the editor 'instructedit', whose options were expected.")


def _proposer(asked: Trying) -> "Proposer":
    from instructedit.benchmark.instructions.ledger import Ledger
    from instructedit.benchmark.instructions.offline import OfflineProposer
    from instructedit.benchmark.results.loop_results import REQUESTS
    from instructedit.editors.errors import did_you_mean

    if not isinstance(asked, Writing) or asked.proposer == OfflineProposer.name:
        return OfflineProposer()
    match asked.proposer:
        case "openai":
            from instructedit.benchmark.instructions.chat import ChatProposer

            return ChatProposer(
                timeout=asked.timeout,
                retries=asked.retries,
                requests_per_minute=asked.requests_per_minute,
                budget=asked.budget,
                ledger=Ledger(asked.out / REQUESTS),
            )
        case "local":
            from instructedit.benchmark.instructions.local import LocalProposer

            if asked.writer is None:
                raise InputError("--proposer local: --writer was expected, a folder or hub id of a chat model.")
            return LocalProposer(asked.writer, device=asked.device, trust_remote_code=asked.trust_remote_code)
    known = ["offline", "openai", "local"]
    raise InputError(f"Unknown proposer '{asked.proposer}'.{did_you_mean(asked.proposer, known)}")
