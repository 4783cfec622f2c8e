"""How edits fared, from lines alone; and which options a run leaves at defaults of another model."""

import statistics

import pytest

from instructedit.benchmark.results.health import NAMED, HealthTally
from instructedit.benchmark.results.records import CaseRecord, EditorSpec, RunSpec, RunSummary, Score
from instructedit.benchmark.results.summary import summarise
from instructedit.benchmark.setup.config import RunConfig
from instructedit.benchmark.setup.model_checks import foreign_defaults, foreign_defaults_note
from instructedit.benchmark.setup.resolve import resolve
from instructedit.benchmark.setup.settings import RowSpec
from instructedit.editors import EditorConfig, InputError, MetaModel, Published, make
from instructedit.editors.registry import EDITORS

from ...reports.conftest import records, run_file

ROWS = ("none", "ft-m", "mend")


def spec(**fields) -> RunSpec:
    return run_file().spec.model_copy(
        update={"tasks": ("t",), "editors": tuple(EditorSpec(name=name, method=name) for name in ROWS), **fields}
    )


def line(editor: str, case: int, value: float = 0.0, run: str = "r", status: str = "done", **edit: float) -> CaseRecord:
    scores = (
        Score(measure="reliability", subset="edit", protocol="teacher_forced_token", value=value, probe=0),
        Score(measure="locality", subset="x", protocol="teacher_forced_token", value=case / 10, probe=1),
    )
    fact = {"prompt": "p", "target": "t", "subject": "s", "scores": scores if status == "done" else ()}
    place = {"run": run, "task": "t", "case_id": f"t/test/{case:03}", "editor": editor}
    return CaseRecord(**place, **fact, status=status, edit=edit)


def tally(lines, of=None):
    found = HealthTally(of or spec())
    for record in lines:
        found.take(record)
    return {(h.editor, h.stage): h for h in found.summed()}


def test_counts_and_medians_are_those_of_the_edits_that_have_a_fact():
    lines = [
        line("ft-m", 0, 1.0, target_probability=0.9, steps=3, final_loss=0.1, converged=1, at_bound=0.2),
        line("ft-m", 1, 0.5, target_probability=0.5, steps=25, final_loss=0.7, converged=0, at_bound=1.0),
        line("ft-m", 2, 0.5, target_probability=0.499, steps=25, final_loss=5.0, converged=0, at_bound=0.6),
        line("ft-m", 3, status="failed"),
        line("ft-m", 4, 0.5, cosine=0.25),  # nothing is known of its target
        *(line("none", n, 0.0, target_probability=0.1) for n in range(5)),
    ]
    found = tally(lines)
    assert set(found) == {("ft-m", "single")}, "the control edits nothing"
    health = found["ft-m", "single"]
    assert (health.edits, health.failed, health.asked, health.missed) == (4, 1, 3, 1)
    assert health.missed_cases == ("t/test/002",)
    assert (health.optimised, health.converged) == (3, 1)
    assert health.unchanged is False
    assert health.medians == {
        "target_probability": 0.5,
        "steps": 25,
        "final_loss": 0.7,
        "at_bound": 0.6,
        "cosine": 0.25,
    }
    assert tally(lines[::-1]) == found


def test_a_row_is_unchanged_if_every_reliability_score_is_that_of_the_unedited_model():
    plain = [line("none", n, n / 10) for n in range(4)]
    same = [line("mend", n, n / 10) for n in (3, 1, 0)]
    assert tally([*same, *plain])["mend", "single"].unchanged is True, "in any order, over the cases that both have"
    # means that agree are not enough
    swapped = [line("mend", 0, 0.1), line("mend", 1, 0.0)]
    assert tally([*plain, *swapped])["mend", "single"].unchanged is False
    assert tally(same)["mend", "single"].unchanged is None, "nothing to compare with"


def test_seeds_are_put_together_and_compared_each_with_its_own():
    lines = [
        *(line("none", n, 0.0, run=run) for n in range(2) for run in ("a", "b")),
        *(line("mend", n, 0.0, run="a", target_probability=0.2) for n in range(2)),
        *(line("mend", n, 0.0, run="b", target_probability=0.8) for n in range(2)),
    ]
    health = tally(lines)["mend", "single"]
    assert (health.edits, health.missed, health.medians) == (4, 2, {"target_probability": 0.5})
    assert health.missed_cases == ("t/test/000", "t/test/001")
    assert health.unchanged is True
    assert tally([*lines[:-1], line("mend", 1, 1.0, run="b")])["mend", "single"].unchanged is False


def test_cases_that_are_scored_and_never_edited_say_nothing_of_edits():
    lines = [line("mend", 0, target_probability=0.1)]
    assert tally(lines, spec(schedule="batch", edited=("other",))) == {}
    assert tally(lines, spec(schedule="batch", edited=("t",)))["mend", "single"].missed == 1


def test_a_summary_names_the_first_cases_only():
    health = tally(line("mend", n, target_probability=0.0) for n in range(NAMED + 7))["mend", "single"]
    assert health.missed == NAMED + 7
    assert health.missed_cases == tuple(f"t/test/{n:03}" for n in range(NAMED))


def test_the_summary_has_it_and_older_ones_are_read():
    run = run_file()
    lines = [
        record.model_copy(update={"edit": {"target_probability": index / 100, "relative_norm": float(index)}})
        for index, record in enumerate(records(run))
    ]
    summary = summarise(run, lines)
    assert RunSummary.model_validate_json(summary.model_dump_json()) == summary
    health = {(h.editor, h.task): h for h in summary.health}
    assert set(health) == {(editor, task) for editor in ("ft-l", "grace") for task in run.spec.tasks}
    own = [r.edit["relative_norm"] for r in lines if (r.editor, r.task, r.status) == ("grace", "counterfact", "done")]
    assert health["grace", "counterfact"].medians["relative_norm"] == statistics.median(own)
    assert health["grace", "counterfact"].failed == 1
    older = summary.model_dump(mode="json")
    del older["health"]
    assert RunSummary.model_validate(older).health == ()


class Inner(EditorConfig):
    rate: float = 1.0


class Outside(EditorConfig):
    published = Published("Tiny", "gpt2", 4, 32, ("lr", "inner.rate"))

    lr: float = 0.5
    inner: Inner = Inner()
    other: int = 1


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, ("lr", "inner.rate")),
        ({"lr": 0.5}, ("inner.rate",)),  # set is chosen, whatever the value
        ({"inner": {}, "other": 2}, ("lr", "inner.rate")),
        ({"inner": {"rate": 2.0}}, ("lr",)),
        ({"inner": {"rate": 1.0}, "lr": 1.0}, None),
    ],
)
def test_options_left_at_defaults_of_another_model_are_told(options, left, make_language_model):
    class Editor:
        config = Outside(**options)

    row = [RowSpec("a@b", "a", None, None, ("t",))]
    other = foreign_defaults(row, {"a@b": Editor()}, make_language_model("llama"))
    assert {name: own.options for name, own in other.items()} == ({} if left is None else {"a@b": left})
    assert foreign_defaults(row, {"a@b": Editor()}, make_language_model("gpt2")) == {}, "this is the model"
    text = " ".join(foreign_defaults_note(row, other))
    assert text == "" if left is None else f"a: {', '.join(left)} (Tiny)" in text


def test_the_shipped_editors_know_gpt2_xl_by_its_shape():
    from transformers import GPT2Config

    names = ("ft-l", "ft-m", "grace", "mend", "instructedit")
    rows = [RowSpec(name, name, None, None, ("t",)) for name in (*names, "none", "in-context")]
    editors = {row.name: make(EDITORS.get(row.name)) for row in rows}
    assert foreign_defaults(rows, editors, MetaModel.of(GPT2Config(n_layer=48, n_embd=1600, n_head=25))) == {}
    found = foreign_defaults(rows, editors, MetaModel.of(GPT2Config(n_layer=24, n_embd=1024, n_head=16)))
    assert set(found) == set(names)
    assert found["ft-m"].options == ("lr", "steps", "clamp")
    assert found["mend"].options == ("edit_lr", "training.lr")


def test_every_option_that_is_named_is_one():
    for name in EDITORS:
        config = EDITORS.get(name).Config
        for option in config.published.options if config.published else ():
            value = config()
            for part in option.split("."):
                value = getattr(value, part)


def test_the_editors_of_a_run_are_looked_at_as_they_were_configured():
    config = RunConfig(
        setting="multi-task",
        tasks=("recent",),
        train=("recent",),
        limit=1,
        editors={"none": {}, "mine": {"method": "ft-m", "lr": 0.1, "steps": 3}, "mend": {"training": {"lr": 1e-3}}},
    )
    found = resolve(config, "x")
    from instructedit.benchmark.setup.config import EMBEDDED_MODEL

    left = foreign_defaults(found.rows, found.editors, MetaModel.load(EMBEDDED_MODEL))
    assert {name: own.options for name, own in left.items()} == {"mine": ("clamp",), "mend": ("edit_lr",)}


def test_an_unknown_option_is_still_an_error():
    with pytest.raises(InputError, match="Did you mean 'clamp'"):
        make(EDITORS.get("ft-m"), {"clmp": 1})
