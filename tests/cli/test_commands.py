"""What commands have in common: options from a dataclass, and one sentence for an error of the input."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from instructedit.cli.commands import clear, takes
from instructedit.editors import InputError


@dataclass(frozen=True, kw_only=True)
class Shared:
    name: Annotated[str, typer.Option()]
    times: Annotated[int, typer.Option(help="How often.")] = 2


@dataclass(frozen=True, kw_only=True)
class More(Shared):
    loud: bool = False


@pytest.fixture
def app():
    app = typer.Typer()

    @app.command()
    @clear
    @takes(More)
    def say(asked: More, words: Annotated[list[str], typer.Argument()]) -> None:
        """Say it."""
        if asked.times > 9:
            raise InputError("too often.")
        typer.echo(f"{asked!r} {words}")

    @app.command()
    def other() -> None:
        """Do nothing."""

    return app


def test_the_fields_of_a_dataclass_are_options_of_the_command(app):
    found = CliRunner().invoke(app, ["say", "--name", "a", "--loud", "--times", "3", "one", "two"])
    assert found.exit_code == 0, found.output
    assert found.stdout.strip().endswith("More(name='a', times=3, loud=True) ['one', 'two']")
    assert "times=2, loud=False" in CliRunner().invoke(app, ["say", "--name", "a", "one"]).stdout
    helped = CliRunner().invoke(app, ["say", "--help"], env={"COLUMNS": "120"}).stdout
    assert "How often." in helped and "Say it." in helped and "asked" not in helped


def test_what_is_required_stays_so_and_errors_are_one_sentence(app):
    assert CliRunner().invoke(app, ["say", "one"]).exit_code == 2
    found = CliRunner().invoke(app, ["say", "--name", "a", "--times", "10", "one"])
    assert found.exit_code == 2 and found.stderr == "instructedit: too often.\n"
