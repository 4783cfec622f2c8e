"""What the documents say: links, commands, settings, code, citation and licences."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import typer
import yaml

from instructedit.benchmark.setup.checks import make_editor
from instructedit.benchmark.setup.config import presets, read_suite
from instructedit.benchmark.tasks.facts import SUFFIXES
from instructedit.cli.main import app
from instructedit.editors import EDITORS, EditRequest, make

from .files import DOCUMENTS, PROJECT, ROOT, blocks


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_made(name):
    for _, config in read_suite(name):
        assert config.description.endswith(".")
        for row in config.editors:
            make_editor(config, row)


def test_citation_is_complete():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert "2402.16123" in paper["url"]


def test_continuous_integration_runs_the_test_command_of_the_readme():
    lines = [line for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    (tests,) = (line for line in lines if line.endswith("pytest -n 2"))
    command = tests.rpartition("&& ")[2].replace(".venv/bin/", "")
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_exist(document):
    commands = typer.main.get_command(app).commands
    for line in "\n".join(blocks(document, "bash")).splitlines():
        found = re.search(r"(?:^|/bin/)instructedit (.+)", line)
        if found is None:
            continue
        name, *words = shlex.split(found[1], comments=True)
        if name.startswith("-"):
            continue
        command = commands[name]
        while hasattr(command, "commands"):  # a group: its own commands
            name, *words = words
            command = command.commands[name]
        context = command.make_context(name, words)  # refuses unknown options and missing arguments
        if name == "run" and Path(context.params["preset"]).suffix not in (".toml", *SUFFIXES):
            assert context.params["preset"] in presets()
        editors = context.params.get("editor") or ()
        named = {editors} if isinstance(editors, str) else {*editors, *(context.params.get("add_editor") or ())}
        assert named - {"one-step"} <= set(EDITORS.names())  # the example of docs/guides/own-editor.md


def test_settings_in_the_readme_are_valid(tmp_path):
    (example,) = blocks(ROOT / "README.md", "toml")
    (tmp_path / "own.toml").write_text(example, encoding="utf-8")
    ((_, config),) = read_suite(str(tmp_path / "own.toml"))
    for name, options in config.editors.items():
        make(EDITORS.get(name), options)


def test_example_editor_of_the_readme_edits(make_language_model):
    (example,) = (block for block in blocks(ROOT / "README.md", "python") if "EDITORS.register" in block)
    spaces: dict[str, object] = {"__name__": "readme"}
    known = set(EDITORS.names())
    try:
        exec(compile(example, "README.md", "exec"), spaces)
        (name,) = set(EDITORS.names()) - known
        model = make_language_model("gpt2", torch.float64)
        requests = [
            EditRequest("t/test/0", "t", "Ada Lovelace is married to", "Grace Hopper", "Ada Lovelace"),
            EditRequest("t/test/1", "t", "Alan Turing was born in", "Vale", "Alan Turing"),
        ]
        edits = make(EDITORS.get(name)).edit(model, requests)
        rows = [model.encode(request.prompt, request.target) for request in requests]

        def losses(edits, owners):
            return [
                torch.nn.functional.cross_entropy(logits, torch.tensor(rows[i].labels))
                for i, logits in model.forward(rows, edits, owners)
            ]

        before, after = losses(None, None), losses(edits, [0, 1])
        assert all(new < old for old, new in zip(before, after, strict=True))
    finally:
        for name in set(EDITORS.names()) - known:
            EDITORS.unregister(name)


def test_shipped_data_name_their_licence():
    provenance = json.loads((ROOT / "benchmark" / "embedded" / "PROVENANCE.json").read_text(encoding="utf-8"))
    assert provenance["licence"]
