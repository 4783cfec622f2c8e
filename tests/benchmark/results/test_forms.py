"""Which form a row is of, and that the shipped presets hold the published form beside its controls."""

from pathlib import Path

import pytest

from instructedit.benchmark.results import forms
from instructedit.benchmark.results.records import EditorSpec
from instructedit.benchmark.setup.checks import make_editor
from instructedit.benchmark.setup.config import presets, read_suite

from ...reports.conftest import run_file
from ...reports.suites import trained

RUNS = sorted(map(str, (Path(__file__).resolve().parents[3] / "docs" / "runs").glob("*.toml")))


def row(method, probes="none", **config):
    return EditorSpec(name="any", method=method, config=config, instructed_probes=probes)


@pytest.mark.parametrize(
    ("spec", "words", "published"),
    [
        (row("instructedit", "all but locality", instruct="edit and queries"), "instruction on edit and probes", True),
        (row("instructedit", instruct="edit only"), "instruction on the edit only", False),
        (
            row("instructedit", instruct="edit and queries"),
            "instruction on the edit only, trained with the instruction on edit and probes",
            False,
        ),
        (
            row("instructedit", "all but locality", instruct="edit only"),
            "instruction on edit and probes, trained with the instruction on the edit only",
            False,
        ),
        (
            row("instructedit", "all", instruct="all"),
            "instruction on edit and probes, locality included",
            False,
        ),
        (row("mend"), "bare probes", True),
        (row("mend", "all but locality"), "instruction on the probes", False),
        (row("none", "all"), "instruction on the probes, locality included", False),
        (row("in-context"), "bare probes", True),
    ],
)
def test_the_form_of_a_row_and_whether_it_is_the_published_one(spec, words, published):
    assert forms.form(spec) == words
    assert forms.departures(run_file().spec, spec, "zsre") == (() if published else (words,))


@pytest.mark.parametrize(
    ("told", "departed"), [("seen", ()), ("seen-3", ()), ("unseen", ()), ("none", ("instruction 'none'",))]
)
def test_a_control_instruction_is_no_published_form(told, departed):
    spec = row("instructedit", "all but locality", instruct="edit and queries")
    assert forms.departures(run_file().spec, spec.model_copy(update={"instruction": told}), "zsre") == departed


def test_reasons_are_one_list_that_grows(monkeypatch):
    """A reason sees run, row and task; what a row departs in is said in the order of the list."""

    def short(run, row, task):
        return f"{task} cut to {run.limit}" if task == "recent" else None

    monkeypatch.setattr(forms, "REASONS", (*forms.REASONS, short))
    told = row("mend", "all but locality")
    assert forms.departures(run_file().spec, told, "recent") == ("instruction on the probes", "recent cut to 20")
    assert forms.departures(run_file().spec, told, "zsre") == ("instruction on the probes",)


@pytest.mark.parametrize("name", [*presets(), *RUNS], ids=lambda name: Path(name).stem)
def test_the_row_instructedit_is_the_published_form_and_its_controls_stand_beside_it(name):
    configs = [config for _, config in read_suite(name)]
    rows = {row: config for config in configs for row in config.editors}
    made = {row: make_editor(config, row) for row, config in rows.items()}
    carry = {
        row: config.editors[row].get("instructed_probes") or made[row].instructed_probes for row, config in rows.items()
    }
    if "instructedit" in made:
        assert made["instructedit"].config.instruct == "edit and queries"
        assert carry["instructedit"] == "all but locality"
    if not {"mend", "instructedit"} <= set(made):
        return
    assert carry["mend"] == carry["instructedit-edit-only"] == "none"
    assert carry["mend-instructed"] == "all but locality"
    assert (made["mend-instructed"].name, made["mend-instructed"].config) == ("mend", made["mend"].config)
    other = made["instructedit-edit-only"].config
    assert other == made["instructedit"].config.model_copy(update={"instruct": "edit only"})
    assert any({"mend", "mend-instructed", "instructedit", "instructedit-edit-only"} <= set(c.editors) for c in configs)


@pytest.mark.parametrize(
    ("changes", "together", "departed"),
    [
        ({}, 1, ()),
        ({}, 12, ("trained for edits of 12, tested with 1",)),
        ({"schedule": "batch", "batch_size": 12}, 12, ()),
        ({"schedule": "batch", "batch_size": 5}, 1, ("trained for edits of 1, tested with 5",)),
        ({"schedule": "batch"}, 1, ("trained for edits of 1, tested with one edit of all",)),
        ({"schedule": "sequential"}, 1, ()),
    ],
)
def test_a_network_trained_for_edits_of_another_size_is_no_published_form(changes, together, departed):
    spec = trained("mend", "recent").model_copy(update={"config": {"training": {"together": together}}})
    assert forms.departures(run_file().spec.model_copy(update=changes), spec, "recent") == departed
    untrained = spec.model_copy(update={"training": None})
    assert forms.departures(run_file().spec.model_copy(update=changes), untrained, "recent") == ()


def test_declared_texts_and_files_are_written_where_there_are_any():
    """Rows of editors that declare none keep the digests of older versions."""
    assert "materials" not in row("none").model_dump()
    declared = EditorSpec(name="any", method="rome", materials={"template": "0" * 64})
    assert EditorSpec.model_validate(declared.model_dump(mode="json")) == declared
