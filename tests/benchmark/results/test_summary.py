"""A summary computed by hand from six lines."""

import random
from typing import Any

import pytest

from instructedit.benchmark.results.integrity import LineChecks
from instructedit.benchmark.results.records import (
    Answer,
    CaseRecord,
    EditorSpec,
    Mean,
    RunFile,
    RunSummary,
    Score,
    TrainingSpec,
)
from instructedit.benchmark.results.summary import pairs, summarise
from instructedit.editors import InputError

from ...reports.conftest import run_file as made_up_run


def run_file(limit: int | None = None) -> RunFile:
    base, tasks = made_up_run(), ("zsre", "recent")
    editors = tuple(EditorSpec(name=name, method=name) for name in ("mend", "ft-l"))
    spec = base.spec.model_copy(update={"tasks": tasks, "editors": editors, "limit": limit})
    cases = {"zsre": 3, "recent": 0}
    data = tuple(base.data[0].model_copy(update={"task": task, "rows": 3, "cases": cases[task]}) for task in tasks)
    return base.model_copy(update={"digest": "d" * 16, "spec": spec, "data": data})


def score(measure: Any, subset: str, value: float, protocol: Any = "teacher_forced_exact", **fields: Any) -> Score:
    return Score(measure=measure, subset=subset, value=value, protocol=protocol, **fields)


def line(case: str, editor: str, *scores: Score, **fields: Any) -> CaseRecord:
    names = {"task": "zsre", "prompt": "p", "target": "t", "subject": "s"}
    return CaseRecord(run="d" * 16, case_id=case, editor=editor, scores=scores, **(names | fields))


RECORDS = [
    line(
        "a",
        "mend",
        score("reliability", "", 1.0),
        score("reliability", "", 0.5, "teacher_forced_token"),
        score("portability", "Reasoning", 1.0),
        score("portability", "Reasoning", 0.0),
        score("portability", "Aliasing", 1.0),
        score("generalization", "", 1.0),
        score("generalization", "", 0.0, derived=True),
    ),
    line("b", "mend", score("reliability", "", 1.0), score("portability", "Reasoning", 0.0)),
    line("c", "mend", score("reliability", "", 0.0), unscored={"prompt too long": 2}),
    line("a", "ft-l", score("reliability", "", 0.0), score("portability", "Reasoning", 1.0)),
    line("b", "ft-l", score("reliability", "", 0.0), unscored={"prompt too long": 1}),
    # The score of a failed line must not count, whatever it is.
    line("c", "ft-l", score("reliability", "", 1.0), status="failed", reason="No gradient."),
]


def mean_of(summary: RunSummary, editor: str, measure: str, subset: str | None = None, **fields: Any) -> Mean:
    wanted = {"protocol": "teacher_forced_exact", "derived": False} | fields
    (found,) = [
        m
        for m in summary.means
        if (m.editor, m.measure, m.subset) == (editor, measure, subset)
        and all(getattr(m, key) == value for key, value in wanted.items())
    ]
    return found


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return summarise(run_file(), RECORDS)


def test_means_by_hand(summary: RunSummary) -> None:
    # mend: 1, 1, 0
    assert (mean_of(summary, "mend", "reliability").mean, mean_of(summary, "mend", "reliability").n) == (2 / 3, 3)
    # ft-l: 0, 0; the failed line is out
    assert (mean_of(summary, "ft-l", "reliability").mean, mean_of(summary, "ft-l", "reliability").n) == (0.0, 2)


def test_a_case_is_averaged_over_subsets_first(summary: RunSummary) -> None:
    # Case a: Reasoning (1 + 0) / 2, Aliasing 1, so 0.75 and not 2/3; case b has Reasoning 0 alone; mean 0.375.
    portability = mean_of(summary, "mend", "portability")
    assert (portability.mean, portability.n) == (0.375, 2)
    assert mean_of(summary, "mend", "portability", "Reasoning").mean == 0.25  # (0.5 + 0) / 2
    assert mean_of(summary, "mend", "portability", "Reasoning").n == 2
    assert mean_of(summary, "mend", "portability", "Aliasing").mean == 1.0
    assert mean_of(summary, "mend", "portability", "Aliasing").n == 1


def test_protocols_and_derived_prompts_stay_apart(summary: RunSummary) -> None:
    assert mean_of(summary, "mend", "reliability", protocol="teacher_forced_token").mean == 0.5
    assert mean_of(summary, "mend", "reliability", protocol="teacher_forced_token").n == 1
    assert mean_of(summary, "mend", "generalization").mean == 1.0
    assert mean_of(summary, "mend", "generalization", derived=True).mean == 0.0


def test_comparisons_by_hand(summary: RunSummary) -> None:
    reliability, portability = summary.comparisons
    # Shared cases a and b, differences 1 and 1: ++ and -- of four patterns reach the sum, p = 1/2.
    assert (reliability.editor, reliability.other, reliability.measure) == ("mend", "ft-l", "reliability")
    # Two cases that agree leave 84 % to others: 1 - 0.025^(1/2), each of which may be a point less up to two.
    assert (reliability.difference, reliability.low, reliability.high) == pytest.approx((1.0, 1 - 2 * 0.841886, 1.0))
    assert (reliability.n, reliability.p, reliability.p_holm) == (2, 0.5, 0.5)
    # Only case a: 0.75 - 1
    assert (portability.measure, portability.difference, portability.n, portability.p) == ("portability", -0.25, 1, 1.0)


def test_counts_and_completeness(summary: RunSummary) -> None:
    assert summary.counts == {
        "zsre": {"done": 5, "failed": 1, "failed under ft-l": 1, "skipped": 0, "unscored: prompt too long": 3},
        "recent": {"done": 0, "failed": 0, "skipped": 0},
    }
    assert summary.complete  # three cases of zsre and none of recent, two editors
    assert not summarise(run_file(), RECORDS[:-1]).complete
    assert summarise(run_file(), RECORDS[:-1], expected=5).complete
    assert summarise(run_file(limit=2), [r for r in RECORDS if r.case_id != "c"]).complete


def test_validity_is_passed_on() -> None:
    summary = summarise(run_file(), RECORDS, valid=False, invalid_reason="The weights changed.")
    assert (summary.valid, summary.invalid_reason) == (False, "The weights changed.")


def test_order_of_lines_and_scores_leaves_no_trace(summary: RunSummary) -> None:
    expected = summary.model_dump_json()
    for seed in range(5):
        generator = random.Random(seed)
        shuffled = [r.model_copy(update={"scores": tuple(generator.sample(r.scores, len(r.scores)))}) for r in RECORDS]
        generator.shuffle(shuffled)
        assert summarise(run_file(), iter(shuffled)).model_dump_json() == expected


def test_order_of_means(summary: RunSummary) -> None:
    assert [(m.editor, m.measure, m.derived, m.protocol, m.subset) for m in summary.means] == [
        ("mend", "reliability", False, "teacher_forced_token", None),
        ("mend", "reliability", False, "teacher_forced_token", ""),
        ("mend", "reliability", False, "teacher_forced_exact", None),
        ("mend", "reliability", False, "teacher_forced_exact", ""),
        ("mend", "generalization", False, "teacher_forced_exact", None),
        ("mend", "generalization", False, "teacher_forced_exact", ""),
        ("mend", "generalization", True, "teacher_forced_exact", None),
        ("mend", "generalization", True, "teacher_forced_exact", ""),
        ("mend", "portability", False, "teacher_forced_exact", None),
        ("mend", "portability", False, "teacher_forced_exact", "Aliasing"),
        ("mend", "portability", False, "teacher_forced_exact", "Reasoning"),
        ("ft-l", "reliability", False, "teacher_forced_exact", None),
        ("ft-l", "reliability", False, "teacher_forced_exact", ""),
        ("ft-l", "portability", False, "teacher_forced_exact", None),
        ("ft-l", "portability", False, "teacher_forced_exact", "Reasoning"),
    ]


def test_it_survives_a_file(summary: RunSummary) -> None:
    assert RunSummary.model_validate_json(summary.model_dump_json()) == summary


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"run": "e" * 16}, "run: dddddddddddddddd was expected, found eeeeeeeeeeeeeeee"),
        ({"editor": "rome"}, "row: a row and task of run.json was expected, found row 'rome'"),
        ({"task": "other"}, "row: a row and task of run.json was expected, found row 'mend', task 'other'"),
        ({"stage": "batch"}, "stage: one that schedule 'single' has was expected, found 'batch'"),
        ({"case_id": "z"}, "case_id: one of the . cases of the run was expected, found 'z'"),
        ({}, "case: one line for each case, row and stage was expected, found a second one"),
    ],
)
def test_foreign_lines_are_refused(changes: dict[str, str], sentence: str) -> None:
    lines = LineChecks(run_file(), {"recent": {record.case_id for record in RECORDS}})
    for record in RECORDS:
        assert lines.checked(record, "cases.jsonl, line 1") is record
    with pytest.raises(InputError, match=sentence):
        lines.checked(RECORDS[0].model_copy(update=changes), "cases.jsonl, line 9")


def row(name: str, method: str, learnt: str | None = None, instruction: str | None = None) -> EditorSpec:
    training = None
    if learnt is not None:
        training = TrainingSpec(
            label=learnt, tasks=(), weights={}, cases={}, validation={}, digest=learnt, checkpoint=f"{method}-{learnt}"
        )
    return EditorSpec(name=name, method=method, training=training, instruction=instruction)


def compared(*rows: EditorSpec) -> list[str]:
    return [f"{first.name} {second.name}" for first, second in pairs(rows)]


def test_untrained_editors_meet_every_other_row() -> None:
    found = compared(row("none", "none"), row("ft-l", "ft-l"), row("mend@a", "mend", "a"), row("mend@b", "mend", "b"))
    assert found == ["none ft-l", "none mend@a", "none mend@b", "ft-l mend@a", "ft-l mend@b", "mend@a mend@b"]


def test_editors_meet_where_they_learnt_the_same() -> None:
    rows = [row(f"{method}@{learnt}", method, learnt) for method in ("mend", "ke") for learnt in ("a", "b")]
    assert compared(*rows) == ["mend@a mend@b", "mend@a ke@a", "mend@b ke@b", "ke@a ke@b"]


def test_the_unseen_instruction_stands_for_its_editor() -> None:
    told = [row(f"i#{told}", "i", "a", told) for told in ("seen-0", "unseen", "none", "random-text")]
    assert compared(row("mend", "mend", "a"), *told) == [
        "mend i#unseen",
        "i#seen-0 i#unseen",
        "i#unseen i#none",
        "i#unseen i#random-text",
    ]
    # the only instruction of an editor stands for it whatever it is
    assert compared(row("mend", "mend", "a"), row("i", "i", "a", "none")) == ["mend i"]


def test_twenty_rows_are_compared_in_few_pairs() -> None:
    told = [row(f"i#seen-{k}", "i", "a", f"seen-{k}") for k in range(9)]
    told += [row(f"i#{name}", "i", "a", name) for name in ("unseen", "none", "wrong-task", "name-only", "random-text")]
    assert len(compared(*told, row("mend", "mend", "a"), *(row(str(k), str(k)) for k in range(5)))) == 13 + 21


def test_rows_are_counted_on_their_own_tasks() -> None:
    run = run_file()
    mend, ftl = run.spec.editors
    spec = run.spec.model_copy(update={"editors": (mend, ftl.model_copy(update={"tasks": ("recent",)}))})
    run = run.model_copy(update={"spec": spec})
    own = [record for record in RECORDS if record.editor == "mend"]
    assert summarise(run, own).complete
    assert summarise(run, own).comparisons == ()


def test_stages_never_meet_in_one_mean() -> None:
    later = [
        line("a", "mend", score("reliability", "", 0.0), stage="after all"),
        line("a", "ft-l", score("reliability", "", 0.0), stage="after all"),
    ]
    both = summarise(run_file(), [*RECORDS, *later], expected=8)
    assert both.complete
    alone = summarise(run_file(), RECORDS)
    assert [mean for mean in both.means if mean.stage == "single"] == list(alone.means)
    assert [pair for pair in both.comparisons if pair.stage == "single"] == list(alone.comparisons)
    (mend, ftl) = (mean for mean in both.means if mean.stage == "after all" and mean.subset is None)
    assert (mend.editor, mend.mean, mend.n) == ("mend", 0.0, 1)
    assert ftl.editor == "ft-l"


def test_the_check_of_the_unedited_model_by_hand() -> None:
    """Of four probes three count, one has two answers; two are right, of which one is wrong under teacher forcing."""

    def both(probe: int, free: float, exact: float) -> tuple[Score, Score]:
        return (
            score("reliability", "edit", exact, probe=probe),
            score("reliability", "edit", free, "free_generation", probe=probe),
        )

    def said(text: str, *accepted: str) -> Answer:
        return Answer(role="reliability", subset="edit", prompt="p", accepted=accepted, before=text, generated=text)

    answers = (said(" x", "x"), said("x", "x"), said("y", "x"), said("y", "x", "y"))
    scores = (*both(0, 1.0, 1.0), *both(1, 1.0, 0.0), *both(2, 0.0, 0.0), *both(3, 1.0, 0.0))
    run = run_file()
    none = run.spec.editors[0].model_copy(update={"name": "none", "method": "none", "training": None})
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"editors": (none, *run.spec.editors)})})
    records = [
        line("b", "none", *scores, answers=answers, remarks={"reliability: otherwise": 1}),
        line("a", "none", *both(0, 1.0, 0.0), answers=(said("z", "z"),)),
        line("a", "mend", *both(0, 1.0, 0.0), answers=(said("z", "z"),)),
    ]
    found = summarise(run, records)
    (checked,) = found.consistency
    assert (checked.editor, checked.task, checked.probes, checked.free, checked.otherwise) == ("none", "zsre", 4, 3, 2)
    assert (checked.case_id, checked.accepted, checked.generated) == ("a", "z", "z")
    assert found.counts["zsre"]["remark: reliability: otherwise"] == 1


def test_a_line_without_remarks_has_the_bytes_of_older_versions() -> None:
    assert "remarks" not in line("a", "mend").model_dump_json()
    assert line("a", "mend", remarks={"x": 1}).model_dump()["remarks"] == {"x": 1}
