"""The old answer in tables, in the terminal and on the site; which rows are better; and the context of a run."""

import io

from rich.console import Console

from instructedit.benchmark.results.records import Answer, CaseRecord, RunFile, Score
from instructedit.benchmark.results.summary import summarise
from instructedit.editors import ChatFormat
from instructedit.reports.site.cases import Texts, _numbered, _probe
from instructedit.reports.tables.case import Case, draw_case
from instructedit.reports.tables.run_facts import header
from instructedit.reports.tables.scores import task_block
from instructedit.reports.tables.sources import group_of

from ..conftest import CASES, EDITORS, records

RIGHT = {"none": (1, 16), "ft-l": (10, 12), "grace": (20, 0)}
"""By row the cases of 20 with P(new) > P(old), and those that give the old answer again."""


def with_old(run: RunFile) -> list[CaseRecord]:
    """Return the lines of counterfact with an old answer; the unedited model knows 15 of 20."""
    found = []
    for line in records(run):
        record = line
        if record.task == "counterfact" and record.status == "done":
            index = int(record.case_id.rsplit("/", 1)[1])
            values = (*(index < count for count in RIGHT[record.editor]), index < 15)
            protocols = ("probability_order", "reversion", "known_before")
            old = [
                Score(measure="reliability", subset="edit", protocol=protocol, value=float(value), probe=0)
                for protocol, value in zip(protocols, values, strict=True)
            ]
            answer = Answer(role="reliability", subset="edit", prompt=record.prompt, accepted=("B",))
            record = record.model_copy(update={"scores": (*record.scores, *old), "old": "C", "answers": (answer,)})
        found.append(record)
    return found


def test_the_table_of_a_task(run: RunFile) -> None:
    summary = summarise(run, with_old(run))
    block = task_block("counterfact", group_of(run, summary), "counterfact")
    (table,) = [table for table in block.tables if table.title.startswith("Old answer")]
    assert [head.partition(" (n")[0] for head in table.heads] == [
        "Reliability P(new) > P(old)",
        "Reliability reversion (lower is better)",
    ]
    assert table.rows == EDITORS
    values = [[cell.value for cell in line] for line in table.cells]
    assert values == [["5.0", "80.0"], ["50.0", "60.0"], ["100.0", "0.0"]]
    assert "Known before the edit: the unedited model has the old answer, teacher forced, in 75.0 %" in table.note
    assert f"of {CASES} cases." in table.note
    marks = [[cell.mark.word for cell in line] for line in table.cells]
    assert marks == [["", ""], ["second", ""], ["best", "best"]], "less reversion is better"
    assert not any("known" in note.lower() for note in block.notes)
    assert "Old answer" not in str(task_block("convsent", group_of(run, summary), "convsent"))


def test_rows_are_not_compared_by_what_the_unedited_model_knows(run: RunFile) -> None:
    summary = summarise(run, with_old(run))
    assert {mean.mean for mean in summary.means if mean.protocol == "known_before"} == {0.75, 15 / 19}
    compared = {pair.protocol for pair in summary.comparisons}
    assert "known_before" not in compared and {"probability_order", "reversion"} <= compared
    (pair,) = [
        p for p in summary.comparisons if (p.editor, p.other, p.protocol) == ("ft-l", "grace", "probability_order")
    ]
    assert pair.n == 19 and round(pair.difference, 9) == round(-9 / 19, 9)


def test_a_case_in_the_terminal_and_on_the_site(run: RunFile) -> None:
    own = Answer(role="locality", subset="other", prompt="D is", accepted=(), before=" E. F", reference=" E")
    first = with_old(run)[0]
    record = first.model_copy(update={"answers": (*first.answers, own)})
    console = Console(width=120, file=io.StringIO(), record=True)
    draw_case(Case((record,), frozenset()), console)
    text = console.export_text()
    assert "old     C (known before the edit)" in text
    assert "accepted: none; read along: 'E', the unedited model's own" in text
    texts = Texts()
    *_, reference = _numbered(_probe(own), texts)
    assert list(texts)[reference] == " E"
    assert len(_numbered(_probe(first.answers[0]), texts)) == 7, "nothing is added where there is none"


def test_the_context_stands_above_the_tables(run: RunFile) -> None:
    assert "Context" not in dict(header(run))
    chat = ChatFormat(name="wild", prefix="Q: ", suffix="\nA:")
    facts = dict(header(run.model_copy(update={"spec": run.spec.model_copy(update={"chat": chat})})))
    assert facts["Context"] == r"wild: every prompt is written as 'Q: {prompt}\nA:'"
