"""The command `instructedit`: all commands, in the order and groups of `--help`."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

from typer import Exit, Option, Typer, echo

from .directions import directions
from .doctor import doctor
from .edit import edit
from .embedded import embedded
from .errors import Commands
from .export import export
from .facts import app as facts
from .figures import figures
from .instructions import app as instructions
from .leaderboard import app as leaderboard
from .list import list_
from .paper import paper
from .report import report
from .reproduce import reproduce
from .rescore import rescore
from .run import run
from .show import show
from .speed import speed
from .table import table
from .tune import tune
from .view import view

PANELS: dict[str, dict[str, Callable[..., Any] | Typer]] = {
    "Evaluate": {"run": run, "facts": facts, "list": list_, "doctor": doctor, "tune": tune},
    "Edit": {"edit": edit, "export": export},
    "Read results": {
        "report": report,
        "table": table,
        "show": show,
        "view": view,
        "figures": figures,
        "paper": paper,
        "rescore": rescore,
        "directions": directions,
        "reproduce": reproduce,
        "leaderboard": leaderboard,
    },
    "Make and measure": {"instructions": instructions, "speed": speed, "embedded": embedded},
}
"""Commands, and groups of commands, by panel of `--help`."""


class Ordered(Commands):
    """The commands in the order of `PANELS`; typer alone would list groups of commands first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of `--help`."""
        return [name for commands in PANELS.values() for name in commands]


app = Typer(
    cls=Ordered,
    help="Reproducible evaluation of knowledge editing of language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"instructedit-bench {version('instructedit-bench')}")
        raise Exit


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)
