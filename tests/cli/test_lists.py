"""Lists as text and as JSON, names of tables and figures, the version, short help and completion."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from instructedit.benchmark.results.records import Measure, Protocol
from instructedit.cli.main import app
from instructedit.reports.catalogue import FIGURES, LISTS, MEASURES, TABLES
from instructedit.reports.figures.write import FIGURES as DRAWN
from instructedit.reports.tables.captions import PROTOCOLS
from instructedit.reports.tables.paper_numbers import SETTINGS

METRICS = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def call(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_the_catalogue_has_what_there_is():
    assert {name for name in TABLES if name.startswith("paper:")} == set(SETTINGS)
    assert set(FIGURES) == set(DRAWN)
    assert set(MEASURES) == set(get_args(Measure)) and set(PROTOCOLS) == set(get_args(Protocol))


def test_definitions_are_those_of_the_page():
    for name, text in MEASURES.items():
        assert f"| {name.capitalize()}: {text} |" in METRICS
    headings = [line for line in METRICS.splitlines() if line.startswith("## ")]
    for protocol in PROTOCOLS:
        assert any(f"`{protocol}`" in line for line in headings), protocol


@pytest.mark.parametrize("what", ["editors", "tasks", "presets", "settings", *LISTS])
def test_a_list_as_json_has_the_lines_of_the_text(what):
    rows = json.loads(call("list", what, "--json"))
    lines = call("list", what).splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [[row["name"], row["about"]] for row in rows]


def test_options_and_everything_as_json():
    found = json.loads(call("list", "options", "grace", "--json"))
    assert found["title"] == "GRACE" and found["published"]["model"] == "GPT2-XL"
    (radius,) = (own for own in found["options"] if own["name"] == "radius")
    assert set(radius) == {"name", "kind", "default", "meaning"}
    assert set(json.loads(call("list", "--json"))) == {"editors", "tasks", "presets", "settings", *LISTS}


def test_the_version_and_a_short_help_of_every_command():
    assert call("--version").startswith("instructedit-bench ")

    def commands(group, *before):
        for name, command in group.commands.items():
            yield (*before, name)
            yield from commands(command, *before, name) if hasattr(command, "commands") else ()

    for words in ((), *commands(typer.main.get_command(app))):
        assert "Usage: instructedit" in call(*words, "-h").replace("root", "instructedit"), words


def test_a_shell_completes_commands():
    environment = os.environ | {
        "_INSTRUCTEDIT_COMPLETE": "complete_bash",
        "COMP_WORDS": "instructedit re",
        "COMP_CWORD": "1",
    }
    code = "from instructedit.cli.start import main; main()"
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["report", "rescore", "reproduce"], found.stderr
