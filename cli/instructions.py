"""The commands `instructions ...`: the construction loop for instructions of a task."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Context, Option, Typer, echo

from instructedit.editors.errors import InputError

from .options import Data, Device, Dtype, Model, Threads, TrustRemoteCode, given, quiet_libraries, say

if TYPE_CHECKING:
    from instructedit.benchmark.instructions.loop import Loop
    from instructedit.benchmark.instructions.proposer import Proposer
    from instructedit.benchmark.setup.config import RunConfig

app = Typer(help="Make instructions for a task: propose, try, optimize.", no_args_is_help=True)

Task = Annotated[str, Option(help="Task that descriptions are made for: built-in or your own.")]
Out = Annotated[Path, Option(metavar="DIR", help="Folder of the loop; re-running the same command resumes.")]
Preset = Annotated[
    str, Option(metavar="PRESET_OR_TOML", help="Base model, data and options of the editor 'instructedit'.")
]
Bank = Annotated[str | None, Option(metavar="FILE", help="Instruction bank to start from, or 'default'.")]
Cases = Annotated[int, Option(min=2, help="Maximum number of training cases that candidates are tried on.")]
TestCases = Annotated[int, Option(min=2, help="Maximum number of test cases that the result is tested on.")]
Anew = Annotated[
    int | None,
    Option(metavar="STEPS", min=1, help="Train an editor for each candidate, for STEPS steps."),
]
Seed = Annotated[int, Option(help="Seed of all sampling.")]


def _write(
    context: Context,
    task: Task,
    out: Out,
    preset: Preset = "quickstart",
    model: Model = None,
    data: Data = None,
    instructions: Bank = None,
    cases: Cases = 100,
    test_cases: TestCases = 100,
    anew: Anew = None,
    seed: Seed = 0,
    dtype: Dtype = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = None,
    threads: Threads = None,
    proposer: Annotated[str, Option(metavar="offline|openai|local", help="Who writes descriptions.")] = "offline",
    candidates: Annotated[int, Option(min=1, help="Descriptions per round.")] = 10,
    rounds: Annotated[int, Option(min=1, help="Maximum number of rounds.")] = 5,
    patience: Annotated[int, Option(min=1, help="Rounds without a better candidate after which the loop ends.")] = 2,
    examples: Annotated[int, Option(min=1, help="Training cases shown to the writer.")] = 4,
    shown: Annotated[int, Option(min=2, help="Earlier candidates shown to the writer, the best and the worst.")] = 6,
    writer: Annotated[str | None, Option(metavar="DIR_OR_HUB_ID", help="Chat model of the proposer 'local'.")] = None,
    budget: Annotated[int | None, Option(min=0, help="Maximum number of tokens for 'openai', in and out.")] = None,
    timeout: Annotated[float, Option(min=0.1, help="Seconds without a byte after which 'openai' retries.")] = 120.0,
    retries: Annotated[int, Option(min=0, help="Maximum number of retries of 'openai' per request.")] = 5,
    requests_per_minute: Annotated[
        float | None, Option(min=0.1, help="Maximum number of requests of 'openai' per minute.")
    ] = None,
) -> None:
    """Run `propose` or `optimize`: they share all options, whose values are read from the context."""
    from instructedit.benchmark.instructions.loop import alone
    from instructedit.reports.tables.instructions import draw_loop

    loop = _loop(context.params)
    if context.info_name == "optimize":
        loop.run()
        draw_loop(out)
        echo(f"Bank: {out / 'bank.json'}, for instructedit run --instructions")
        return
    with alone(out):
        loop.begin()
        number = loop.next_round()
        proposal = loop.propose(number)
    for candidate in proposal.candidates:
        echo(f"{'refused' if candidate.complaint else 'admitted':9} {candidate.text}")
        if candidate.complaint:
            echo(f"{'':9} {candidate.complaint}")
    echo(f"Round {number} of {out}; 'instructedit instructions optimize' with the same options tries them.")


app.command("propose", help="Write, check and print the descriptions of the next round; nothing is tried.")(_write)


@app.command("try")
def try_(
    context: Context,
    texts: Annotated[list[str], Argument(metavar="TEXT...")],
    task: Task,
    out: Out,
    preset: Preset = "quickstart",
    model: Model = None,
    data: Data = None,
    instructions: Bank = None,
    cases: Cases = 100,
    test_cases: TestCases = 100,
    anew: Anew = None,
    seed: Seed = 0,
    dtype: Dtype = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Try your own descriptions on the cases for trials, and print their scores."""
    from instructedit.benchmark.instructions.loop import alone
    from instructedit.reports.tables.instructions import draw_trials

    loop = _loop(context.params)
    for text in texts:
        if complaint := loop.material.rules.complaint(text):
            raise InputError(f"'{text}': {complaint}.")
    with alone(out):
        draw_trials(loop.try_texts(tuple(dict.fromkeys(texts)), "trial").trials)


app.command("optimize", help="Propose and try until trials no longer improve, then test once and write the bank.")(
    _write
)


@app.command()
def show(directory: Annotated[Path, Argument(metavar="DIR", help="Folder of a loop.")]) -> None:
    """Show a loop: its rounds, its best descriptions, and their scores on the test split."""
    from instructedit.reports.tables.instructions import draw_loop

    draw_loop(directory)


def _loop(options: dict[str, Any]) -> "Loop":
    """Read the data, load the base model and return the loop of a command's options."""
    from instructedit.benchmark.instructions.loop import Loop
    from instructedit.benchmark.instructions.material import gather
    from instructedit.benchmark.results.loop_results import LoopConfig
    from instructedit.benchmark.run.prepare import load_model
    from instructedit.benchmark.setup.config import PROBES
    from instructedit.editors import make
    from instructedit.editors.instructedit import InstructEdit
    from instructedit.editors.models.devices import check_device

    quiet_libraries()
    changes = given(**{name: options[name] for name in ("model", "data", "instructions", "dtype", "trust_remote_code")})
    if options["model"] is not None:
        changes["revision"] = None
    check_device(options["device"])
    proposer = _proposer(options)
    config, row = _trial_row(options["preset"], changes)
    loop = LoopConfig(**{name: options[name] for name in LoopConfig.model_fields if name in options})
    material = gather(config, loop)
    for note in material.notes:
        say(note)
    return Loop(
        config=loop,
        material=material,
        model=load_model(config, device=options["device"]),
        options=make(InstructEdit, {k: v for k, v in row.items() if k not in ("method", PROBES)}).config.model_dump(),
        proposer=proposer,
        folder=options["out"],
        chunk=config.chunk,
        report=say,
        progress=True,
    )


def _trial_row(preset: str, changes: dict[str, Any]) -> tuple["RunConfig", dict[str, Any]]:
    """Return the first run of a preset that has a row of the editor 'instructedit', and that row."""
    from instructedit.benchmark.setup.config import read_suite

    for _, config in read_suite(preset, changes):
        for name, row in config.editors.items():
            if row.get("method", name) == "instructedit":
                return config, row
    raise InputError(f"{preset}: expected a run with a row of the editor 'instructedit', found none.")


def _proposer(options: dict[str, Any]) -> "Proposer":
    from instructedit.benchmark.instructions.ledger import Ledger
    from instructedit.benchmark.instructions.offline import OfflineProposer
    from instructedit.benchmark.results.loop_results import REQUESTS
    from instructedit.editors.errors import did_you_mean

    name = options.get("proposer", "offline")
    if name == "offline":
        return OfflineProposer()
    if name == "openai":
        from instructedit.benchmark.instructions.chat import ChatProposer

        chosen = {key: options[key] for key in ("timeout", "retries", "requests_per_minute", "budget")}
        return ChatProposer(**chosen, ledger=Ledger(options["out"] / REQUESTS))
    if name == "local":
        from instructedit.benchmark.instructions.local import LocalProposer

        if options["writer"] is None:
            raise InputError("--proposer local: expected --writer, a folder or hub id of a chat model.")
        return LocalProposer(
            options["writer"], device=options["device"], trust_remote_code=options["trust_remote_code"]
        )
    raise InputError(f"Unknown proposer '{name}'.{did_you_mean(name, ['offline', 'openai', 'local'])}")
