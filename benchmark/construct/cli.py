"""The commands `instructedit instructions ...`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instructedit.editors.errors import InputError

from ..commands import clear, quiet_libraries

if TYPE_CHECKING:
    from .loop import Loop
    from .proposal import Proposer

app = typer.Typer(help="Make instructions for a task: propose, try, improve.", no_args_is_help=True)

Task = Annotated[str, typer.Option(help="Task that descriptions are made for: a built-in one or your own.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the loop; the same command goes on in it.")]
Kind = Annotated[str, typer.Option(metavar="offline|openai|local", help="Who writes.")]
Preset = Annotated[
    str, typer.Option(metavar="PRESET_OR_TOML", help="Base model, data and options of the editor 'instructedit'.")
]
Model = Annotated[str | None, typer.Option(metavar="DIR_OR_HUB_ID", help="Base model, instead of the preset's.")]
Data = Annotated[str | None, typer.Option(metavar="DIR", help="Data, instead of the preset's.")]
Bank = Annotated[str | None, typer.Option(metavar="FILE", help="Bank to start from, or 'default'.")]
Writer = Annotated[str | None, typer.Option(metavar="DIR_OR_HUB_ID", help="Chat model of the proposer 'local'.")]
Budget = Annotated[int | None, typer.Option(help="Most tokens that 'openai' may cost, prompts and answers.")]
Candidates = Annotated[int, typer.Option(help="Descriptions in each round.")]
Rounds = Annotated[int, typer.Option(help="Most rounds.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is drawn.")]
Cases = Annotated[int, typer.Option(help="Most training cases that candidates are tried on.")]
Tests = Annotated[int, typer.Option("--test-cases", help="Most test cases that the result is tested on.")]
Anew = Annotated[
    int | None,
    typer.Option(metavar="STEPS", help="Train an editor for each candidate, so many steps, not one for all."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options that all commands share."""

    task: str
    out: Path
    proposer: str
    preset: str
    model: str | None
    data: str | None
    instructions: str | None
    writer: str | None
    budget: int | None
    device: str | None


@app.command()
@clear
def propose(
    task: Task,
    out: Out,
    proposer: Kind = "offline",
    preset: Preset = "quickstart",
    model: Model = None,
    data: Data = None,
    instructions: Bank = None,
    writer: Writer = None,
    budget: Budget = None,
    candidates: Candidates = 10,
    rounds: Rounds = 5,
    cases: Cases = 100,
    test_cases: Tests = 100,
    seed: Seed = 0,
    anew: Anew = None,
    device: Device = None,
) -> None:
    """Have the next round's descriptions written and checked, and print them; nothing is tried."""
    asked = _Asked(task, out, proposer, preset, model, data, instructions, writer, budget, device)
    loop = _loop(asked, rounds=rounds, candidates=candidates, cases=cases, test_cases=test_cases, seed=seed, anew=anew)
    loop.begin()
    number = len(loop.journal.rounds())
    for candidate in loop.propose(number).candidates:
        typer.echo(f"{'refused' if candidate.complaint else 'admitted':9} {candidate.text}")
        if candidate.complaint:
            typer.echo(f"{'':9} {candidate.complaint}")
    typer.echo(f"Round {number} of {out}; 'instructedit instructions optimize' with the same options tries them.")


@app.command("try")
@clear
def try_(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Descriptions to try.")],
    task: Task,
    out: Out,
    preset: Preset = "quickstart",
    model: Model = None,
    data: Data = None,
    instructions: Bank = None,
    rounds: Rounds = 5,
    cases: Cases = 100,
    test_cases: Tests = 100,
    seed: Seed = 0,
    anew: Anew = None,
    device: Device = None,
) -> None:
    """Try descriptions of your own on the cases for trials, and print what they came to."""
    from instructedit.reports.construct import draw_trials

    asked = _Asked(task, out, "offline", preset, model, data, instructions, None, None, device)
    loop = _loop(asked, rounds=rounds, candidates=10, cases=cases, test_cases=test_cases, seed=seed, anew=anew)
    for text in texts:
        if complaint := loop.material.rules.complaint(text):
            raise InputError(f"'{text}': {complaint}.")
    draw_trials(loop.trials(tuple(dict.fromkeys(texts)), "trial").trials)


@app.command()
@clear
def optimize(
    task: Task,
    out: Out,
    proposer: Kind = "offline",
    preset: Preset = "quickstart",
    model: Model = None,
    data: Data = None,
    instructions: Bank = None,
    writer: Writer = None,
    budget: Budget = None,
    candidates: Candidates = 10,
    rounds: Rounds = 5,
    cases: Cases = 100,
    test_cases: Tests = 100,
    seed: Seed = 0,
    anew: Anew = None,
    device: Device = None,
) -> None:
    """Propose and try until trials no longer improve, then test once and write the bank."""
    from instructedit.reports.construct import draw_loop

    asked = _Asked(task, out, proposer, preset, model, data, instructions, writer, budget, device)
    loop = _loop(asked, rounds=rounds, candidates=candidates, cases=cases, test_cases=test_cases, seed=seed, anew=anew)
    loop.run()
    draw_loop(out)
    typer.echo(f"Bank: {out / 'bank.json'}, for instructedit run --instructions")


@app.command()
@clear
def show(directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a loop.")]) -> None:
    """Show a loop: its rounds, its best descriptions, and what they came to on the test split."""
    from instructedit.reports.construct import draw_loop

    draw_loop(directory)


def _loop(asked: _Asked, **options: Any) -> "Loop":
    """Read the data, load the base model and return the loop."""
    from pydantic import ValidationError

    from instructedit.editors import make
    from instructedit.editors.instructedit import InstructEdit

    from ..config import read_suite
    from ..runner import load_model
    from .journal import Journal
    from .loop import Loop
    from .material import gather
    from .records import LoopConfig

    quiet_libraries()
    given = {"model": asked.model, "data": asked.data, "instructions": asked.instructions}
    given = {key: value for key, value in given.items() if value is not None}
    if asked.model is not None:
        given["revision"] = None
    _, config = read_suite(asked.preset, given)[0]
    try:
        loop = LoopConfig(task=asked.task, proposer=asked.proposer, **options)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}, found {first['input']!r}."
        ) from error
    row = config.editors.get("instructedit", {})
    material = gather(config, loop)
    for note in material.notes:
        typer.echo(note, err=True)
    return Loop(
        config=loop,
        material=material,
        model=load_model(config, device=asked.device),
        options=make(InstructEdit, {key: value for key, value in row.items() if key != "method"}).config.model_dump(),
        proposer=_proposer(asked),
        journal=Journal(asked.out),
        chunk=config.chunk,
        report=lambda text: typer.echo(text, err=True),
        progress=True,
    )


def _proposer(asked: _Asked) -> "Proposer":
    from instructedit.editors.errors import did_you_mean

    from .journal import Journal
    from .offline import OfflineProposer

    match asked.proposer:
        case "offline":
            return OfflineProposer()
        case "openai":
            from .chat import ChatProposer

            spent = Journal(asked.out).tokens()  # a loop that goes on has paid for what is on disk
            return ChatProposer(budget=None if asked.budget is None else max(0, asked.budget - spent))
        case "local":
            from .local import LocalProposer

            if asked.writer is None:
                raise InputError("--proposer local: --writer was expected, a folder or hub id of a chat model.")
            return LocalProposer(asked.writer, device=asked.device)
    known = ["offline", "openai", "local"]
    raise InputError(f"Unknown proposer '{asked.proposer}'.{did_you_mean(asked.proposer, known)}")
