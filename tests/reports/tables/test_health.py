"""What is said of edits that did not take, and of columns that tell no row from the unedited model."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from instructedit.benchmark.results.records import Comparison, Defaults, EditorSpec, Health, RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SuiteGroup, SuiteSummary
from instructedit.benchmark.results.summary import summarise
from instructedit.reports.render import html, latex, markdown
from instructedit.reports.site.write import write_site
from instructedit.reports.tables.build import make_table
from instructedit.reports.tables.columns import Column
from instructedit.reports.tables.health import findings, health_lines
from instructedit.reports.tables.run_tables import run_report
from instructedit.reports.tables.scores import Scores
from instructedit.reports.tables.suite_report import suite_report

from ..conftest import records
from ..render.test_table import text_of

FT = EditorSpec(name="ft-m", method="ft-m", config={"clamp": 5e-4})
XL = Defaults(model="GPT2-XL", options=("lr", "clamp"))


def health(missed: int = 0, asked: int = 20, unchanged: bool | None = False, optimised: int = 20, **medians: float):
    return Health(
        editor="ft-m",
        task="counterfact",
        edits=asked,
        failed=0,
        asked=asked,
        missed=missed,
        missed_cases=(),
        optimised=optimised,
        converged=0,
        unchanged=unchanged,
        medians=medians,
    )


def told(found: Health, defaults: Defaults | None = XL, attitude: bool = False) -> str:
    return "; ".join(f.sentence for f in findings(FT, found, defaults, attitude=attitude))


def flags(found: Health) -> list[str]:
    return [f.flag for f in findings(FT, found, XL, attitude=False) if f.flag]


def test_the_example():
    found = health(19, at_bound=1.0, final_loss=8.023, steps=25.0, relative_norm=0.01, cosine=0.1)
    assert told(found) == (
        "19 of 20 edits did not reach the target (p < 0.5); every weight at its bound 0.0005; loss 8.02 after "
        "25 steps; options are those published for GPT2-XL: lr, clamp"
    )
    assert flags(found) == ["target missed"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (health(10, at_bound=1.0), []),  # half of them is not more than half
        (health(11), ["target missed"]),
        (health(20, optimised=0), ["target missed"]),
        (health(unchanged=True), ["no edit"]),
        (health(unchanged=None), []),
        (health(relative_norm=0.3, cosine=0.5), []),
        (health(relative_norm=0.31), ["large change"]),
        (health(cosine=0.51), ["one direction"]),
        (
            health(20, unchanged=True, relative_norm=0.48, cosine=0.93),
            ["no edit", "target missed", "large change", "one direction"],
        ),
    ],
)
def test_only_what_is_beyond_a_threshold_is_said(found, words):
    assert flags(found) == words
    assert bool(told(found)) == bool(words)


def test_reasons_stand_behind_edits_that_did_not_take_alone():
    assert told(health(0, at_bound=1.0, final_loss=0.1, steps=3.0)) == ""
    assert "bound" not in told(health(20, at_bound=0.4))
    assert "63 % of the changed weights at their bound 0.0005" in told(health(20, at_bound=0.63))
    assert "published" not in told(health(20), defaults=None)


def test_an_attitude_is_not_the_one_reply():
    """A trained editor makes replies of a sentiment likely; one that descends on the reply itself has to reach it."""
    assert told(health(20, optimised=0), attitude=True) == ""
    assert "20 of 20" in told(health(20, optimised=20), attitude=True)


def test_the_constant_edits_of_ke():
    assert told(health(relative_norm=131 / 271, cosine=0.93)) == (
        "|dW| is 48 % of |W|; edits of different cases point the same way (mean cosine 0.93)"
    )


def test_rows_of_which_the_same_is_said_share_a_line(run: RunFile):
    """A network that is asked in two ways makes the same edits twice."""
    rows = tuple(EditorSpec(name=name, method="mend") for name in ("mend", "mend-instructed", "ke"))
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"editors": rows})})
    cosines = {"mend": 0.97, "mend-instructed": 0.97, "ke": 0.99}
    found = [health(cosine=cosine).model_copy(update={"editor": name}) for name, cosine in cosines.items()]
    whole = {"seeds": (0,), "digests": ("r",), "failed": {}, "means": (), "comparisons": ()}
    group = SuiteGroup(label="single-task", run=run, health=tuple(found), **whole)
    assert list(health_lines(group, "counterfact")) == [
        "mend, mend-instructed: edits of different cases point the same way (mean cosine 0.97).",
        "ke: edits of different cases point the same way (mean cosine 0.99).",
    ]


def test_where_n_is_too_small_it_is_said_so_and_not_that_nothing_differs():
    """Twelve cases of 12 against none, p = 2 / 2^12, are no difference over 105 pairs; equal rows are none at all."""

    def pair(column: Column, p: float, p_holm: float, difference: float) -> Comparison:
        facts = {"editor": "none", "other": "ft-m", "task": "recent", "n": 12, "low": -1.0, "high": 1.0}
        kind = {"measure": column.measure, "derived": column.derived, "protocol": column.protocol}
        return Comparison(**facts, **kind, difference=difference, p=p, p_holm=p_holm, method="sign_flip")

    least = 2 / 2**12
    exact = Column("reliability", False, "teacher_forced_exact")
    token = Column("reliability", False, "teacher_forced_token")
    derived = Column("generalization", True, "teacher_forced_token")
    share = Column("portability", False, "teacher_forced_token")
    free = Column("portability", False, "free_generation")
    means = {
        (column, row): SimpleNamespace(mean=0.0)
        for column in (exact, token, derived, share, free)
        for row in ("none", "ft-m")
    }
    pairs = {
        (exact, "none", "ft-m"): pair(exact, least, 105 * least, -1.0),
        (token, "none", "ft-m"): pair(token, least, 105 * least, -1.0),
        (derived, "none", "ft-m"): pair(derived, 0.5, 1.0, -0.1),
        (share, "none", "ft-m"): pair(share, 1.0, 1.0, 0.0),
        (free, "none", "ft-m"): pair(free, least, 102 * least, -1.0),
    }
    assert list(Scores(("none", "ft-m"), ("none",), means, pairs).without_difference("")) == [
        "n is too small to show, adjusted for all pairs of rows, which rows differ from 'none': Reliability (token "
        "share, exact match).",
        "No row is shown to differ from 'none': Generalization†, Portability (token share).",
    ]


@pytest.fixture
def missed(run: RunFile) -> tuple[RunFile, RunSummary]:
    """GRACE misses 12 of its 19 targets of counterfact; FT-L is the unedited model on convsent."""
    lines = []
    for made in records(run):
        record = made
        number = int(record.case_id.rpartition("/")[2])
        if (record.editor, record.task) == ("grace", "counterfact"):
            record = made.model_copy(update={"edit": {"target_probability": 0.1 if number < 12 else 0.9}})
        if (record.editor, record.task) == ("ft-l", "convsent"):
            plain = next(r for r in records(run) if (r.editor, r.case_id) == ("none", record.case_id))
            record = made.model_copy(update={"scores": plain.scores})
        lines.append(record)
    run = run.model_copy(update={"defaults": {"grace": Defaults(model="GPT2-XL", options=("radius",))}})
    return run, summarise(run, lines)


LINES = {
    "counterfact": [
        "grace: 12 of 19 edits did not reach the target (p < 0.5); options are those published for GPT2-XL: radius."
    ],
    "convsent": [
        "ft-l: made no edit: equal to the unedited model in every reliability score.",
        "No row is shown to differ from 'none': Reliability z_sent.",
    ],
}


def test_the_same_lines_stand_under_the_tables_of_every_page(missed, tmp_path: Path):
    run, summary = missed
    report = run_report(run, summary)
    assert {block.heading: list(block.notes) for block in report.blocks} == LINES
    folder = tmp_path / run.digest
    folder.mkdir()
    (folder / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    (folder / "summary.json").write_text(summary.model_dump_json(), encoding="utf-8")
    (folder / "cases.jsonl").write_text("", encoding="utf-8")
    table = make_table("tasks", [folder]).report
    assert {block.heading: list(block.notes) for block in table.blocks} == LINES
    write_site(folder, tmp_path / "site")
    pages = [
        text_of(report, 300),
        text_of(table, 300),
        markdown.render(report).replace("\\|", "|").replace("\\<", "<"),
        html.render(report).replace("&lt;", "<").replace("&#39;", "'"),
        latex.render(report).replace("\\textless{}", "<").replace("\\_", "_").replace("`", "'"),
        *(
            (tmp_path / "site" / page).read_text(encoding="utf-8").replace("&lt;", "<").replace("&#39;", "'")
            for page in ("index.html", f"run-{run.digest}.html")
        ),
    ]
    for page in pages:
        for line in (line for lines in LINES.values() for line in lines):
            assert page.count(line) == 1, line
    text = text_of(report, 300)
    assert text.index("Drift and fluency") < text.index(LINES["counterfact"][0]) < text.index("Paired differences")
    assert "Their numbers are medians over cases" in text, "and how to read them"


def test_rows_of_which_nothing_is_to_be_said_have_no_line(run: RunFile, summary: RunSummary):
    report = run_report(run, summary)
    assert [block.notes for block in report.blocks] == [(), (LINES["convsent"][1],)]
    assert not any("medians" in note for note in report.footer)


def test_a_table_of_subsets_says_nothing_of_columns_that_it_does_not_show(missed, tmp_path: Path):
    run, summary = missed
    (tmp_path / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    (tmp_path / "summary.json").write_text(summary.model_dump_json(), encoding="utf-8")
    sheet = make_table("tasks", [tmp_path], "free_generation")
    assert [list(block.notes) for block in sheet.report.blocks] == list(LINES.values())


def test_without_comparisons_equal_means_are_no_difference(run: RunFile, summary: RunSummary):
    bare = summary.model_copy(update={"comparisons": ()})
    notes = {block.heading: block.notes for block in run_report(run, bare).blocks}
    assert notes == {"counterfact": (), "convsent": ("No row is shown to differ from 'none': Reliability z_sent.",)}


def test_without_the_control_nobody_can_say(run: RunFile):
    spec = run.spec.model_copy(update={"editors": run.spec.editors[1:]})
    alone = run.model_copy(update={"spec": spec})
    report = run_report(alone, summarise(alone, [r for r in records(run) if r.editor != "none"]))
    assert not any(block.notes for block in report.blocks)


def test_the_tables_of_a_suite_have_the_lines_over_its_seeds(missed):
    run, summary = missed
    means = tuple(
        {**mean.model_dump(exclude={"editor", "subset"}), "row": mean.editor, "per_seed": (mean.mean, mean.mean)}
        for mean in summary.means
        if mean.subset is None
    )
    pairs = tuple(
        {**pair.model_dump(exclude={"editor", "p"}), "row": pair.editor}
        for pair in summary.comparisons
        if pair.protocol != "ngram_entropy"
    )
    group = SuiteGroup.model_validate(
        {
            "label": "x",
            "run": run,
            "seeds": (0, 1),
            "digests": ("a", "b"),
            "failed": {},
            "means": means,
            "comparisons": (),
            "pairs": pairs,
            "health": summary.health,
        }
    )
    report = suite_report(SuiteSummary(name="s", warnings=(), groups=(group,)))
    found = {block.heading.removeprefix("x: "): list(block.notes) for block in report.blocks}
    assert found == LINES
    assert all(line in text_of(report, 300) for lines in LINES.values() for line in lines)
