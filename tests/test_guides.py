"""The guides are walked through as a user would, command by command, and the cheap commands of all pages are run."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from instructedit.benchmark.setup.config import EMBEDDED_MODEL
from instructedit.cli.main import app

from .project.files import DOCUMENTS, ROOT, blocks

GUIDES = ROOT / "docs" / "guides"


def lines(document: Path) -> list[list[str]]:
    """Return the words of every instructedit command of a page."""
    texts = "\n".join(blocks(document, "bash")).splitlines()
    found = (re.search(r"(?:^|/bin/)instructedit (.+)", text) for text in texts)
    return [shlex.split(own[1], comments=True) for own in found if own]


def call(words: list[str]) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{' '.join(words)}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    return result.stdout


@pytest.mark.skipif(not EMBEDDED_MODEL.is_dir(), reason="needs the shipped model")
@pytest.mark.parametrize("name", ["own-model", "from-run-to-paper"])
def test_a_guide_can_be_followed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = GUIDES / f"{name}.md"
    shutil.copytree(EMBEDDED_MODEL, "my-model")
    for named, text in zip(("paper.toml",), blocks(page, "toml"), strict=False):
        Path(named).write_text(text, encoding="utf-8")
    said = [call(words) for words in lines(page)]
    assert len(said) > 4
    if name == "from-run-to-paper":
        assert "\\begin{tabular}" in Path("table.tex").read_text(encoding="utf-8")
        assert list(Path("figures").glob("*.pdf"))
        assert (tmp_path / "site" / "index.html").is_file()
        # 16 cases: 3 rows of 2 chunks, of which 2 rows are there; limit 8 is there in whole
        times = [path.read_text(encoding="utf-8") for path in Path().glob("results/*/timings.jsonl")]
        assert sorted((text.count('"run":null'), text.count("\n")) for text in times) == [(2, 2), (2, 4), (2, 6)]


CHEAP = ("list", "doctor", "--version")
SEEN: set[tuple[str, ...]] = set()
"""Commands that were run for a page before, without the page's own facts."""


@pytest.mark.skipif(not EMBEDDED_MODEL.is_dir(), reason="needs the shipped model")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_cheap_commands_of_a_page_run(document, tmp_path, monkeypatch):
    """Lists are printed; runs of shipped presets with shipped data and model are checked by a dry run."""
    monkeypatch.chdir(tmp_path)
    for text in blocks(document, "csv"):  # the page's own facts
        Path("facts.csv").write_text(text, encoding="utf-8")
    run = typer.main.get_command(app).commands["run"]
    for words in lines(document):
        if "one-step" in words or "./my-model" in words or tuple(words) in SEEN:
            continue  # the package of the guide, which test_outside_editor.py installs, and the guide above
        if not any(word.endswith(".csv") for word in words):
            SEEN.add(tuple(words))
        if words[0] in CHEAP:
            call(words)
        elif words[0] == "run":
            given = run.make_context("run", words[1:]).params
            own = given["model"] or given["data"] or given["instructions"] or given["preset"].endswith(".toml")
            if not own and given["preset"] == "quickstart":
                assert "memory" in call([*words, *(["--dry-run"] if not given["dry_run"] else [])])
