"""What one page says of two rows every page says: run tables, suite tables, sentences, reproduce, leaderboard."""

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instructedit.benchmark.results.decision import Decision
from instructedit.benchmark.results.integrity import read_finished
from instructedit.benchmark.results.records import EditorSpec
from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.benchmark.results.suite_results import SuiteFile
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.benchmark.results.summary import case_values
from instructedit.reports.leaderboard.entries import Entry, SeedResult, board_of
from instructedit.reports.leaderboard.ranks import decisions
from instructedit.reports.render.report import Report
from instructedit.reports.reproduction.reproduce import reproduce
from instructedit.reports.tables.build import make_table
from instructedit.reports.tables.columns import Column, column_of
from instructedit.reports.tables.run_tables import run_report
from instructedit.reports.tables.scores import Scores
from instructedit.reports.tables.suite_comparisons import verdict
from instructedit.reports.tables.suite_report import suite_report

from ..papers import READS
from ..suites import trained, write_index, write_run

Shown = dict[tuple[Any, ...], Decision]
"""By task, column and two rows what is shown of the first; of fluency nothing."""
ROWS = [
    *(EditorSpec(name=name, method=name) for name in ("none", "ft-l", "grace")),
    trained("mend", "recent"),
    trained("instructedit", "recent", instruction="seen"),
]
LEVEL = {"none": 0.05, "ft-l": 0.45, "grace": 0.6, "mend": 0.75, "instructedit": 0.9}
TASKS = ("recent", "counterfact", "convsent")
CASES = 24
DATA = {"data": {task: {f"{task}.json": "ab" * 32} for task in TASKS}, "readers": dict.fromkeys(TASKS, "1")}


def value(row: str, task: str, seed: int, case: int) -> float:
    """Right or wrong by chance, at levels whose differences now are shown and now are not."""
    return float(random.Random(f"{row}|{task}|{seed}|{case}").random() < LEVEL[row])


def write(out: Path, seeds: int) -> SuiteFile:
    entries = (
        write_run(out, "multi-task", ROWS, seed, value, cases=CASES, tasks=TASKS, reads=READS, changes=DATA)
        for seed in range(seeds)
    )
    return write_index(out, *entries)


@pytest.fixture(scope="module", params=[1, 4])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, SuiteFile]:
    out = tmp_path_factory.mktemp("decisions")
    return out, request.param, write(out, request.param)


def both_ways(found: dict[tuple[Any, ...], Decision]) -> Shown:
    """The same from both sides, without fluency."""
    every = dict(found)
    turned: dict[Decision, Decision] = {"better": "worse", "tie": "tie", "worse": "better"}
    for (task, column, first, second), shown in found.items():
        every[task, column, second, first] = turned[shown]
    return {key: shown for key, shown in every.items() if key[1].protocol != "ngram_entropy"}


def by_run(out: Path, suite: SuiteFile) -> Shown:
    """Run tables: the pairs of `summary.json`."""
    _, summary = read_finished(out / suite.runs[0].digest)
    found = {}
    for pair in summary.comparisons:
        lead = Scores((), (), {}, {(column_of(pair), pair.editor, pair.other): pair}).decision
        found[pair.task, column_of(pair), pair.editor, pair.other] = lead(column_of(pair), pair.editor, pair.other)
    return both_ways(found)


def by_suite(out: Path, suite: SuiteFile) -> Shown:
    """Suite tables: the pairs of a group."""
    (group,) = summarise_suite(out, suite).groups
    found = {}
    for pair in group.pairs:
        lead = Scores((), (), {}, {(column_of(pair), pair.row, pair.other): pair}).decision
        found[pair.task, column_of(pair), pair.row, pair.other] = lead(column_of(pair), pair.row, pair.other)
    return both_ways(found)


def by_sentences(out: Path, suite: SuiteFile) -> Shown:
    """'Does InstructEdit beat MEND?'"""
    words: dict[str, Decision] = {"better": "better", "worse": "worse", "no difference shown": "tie", "": "tie"}
    (group,) = summarise_suite(out, suite).groups
    return both_ways({(c.task, column_of(c), c.first, c.second): words[verdict(c)] for c in group.comparisons})


def by_reproduce(out: Path) -> Shown:
    """Directions against the paper, told back from what they say of the published one."""
    found = {}
    for record in reproduce("paper:table3", [out], protocol="teacher_forced_exact").records:
        if record["verdict"] != "no published difference":
            agrees = (record["verdict"] == "agrees") == (record["paper"] > 0)
            shown = "tie" if record["verdict"] == "no difference shown" else "better" if agrees else "worse"
            column = Column(record["measure"], record["derived"], record["protocol"])
            found[record["task"], column, record["editor"], record["minus_editor"]] = shown
    return both_ways(found)


def by_leaderboard(out: Path, suite: SuiteFile) -> Shown:
    """Every pair of the tables of a leaderboard that has these runs alone."""
    boards: dict[Any, dict[str, Entry]] = {}
    for run in suite.runs:
        file, _ = read_finished(out / run.digest)
        rows = {row.name: row for row in file.spec.editors}
        for record in RunFolder(out / run.digest).records(file):
            for key, number in case_values(record):
                if key.subset is None:
                    board = board_of(file, record.task, key)
                    own = boards.setdefault(board, {})
                    entry = own.setdefault(record.editor, Entry(SimpleNamespace(id="s"), rows[record.editor], "no"))
                    result = entry.seeds.setdefault(run.seed, SeedResult(run.digest, {}, 0, (0.0, None, None)))
                    result.values[record.case_id] = number
    found = {}
    for board, own in boards.items():
        cases = {name: tuple(sorted(next(iter(entry.seeds.values())).values)) for name, entry in own.items()}
        names = list(own)
        shown = decisions(board, [(entry, cases[name]) for name, entry in own.items()])
        for (first, second), decision in shown.items():
            found[board.task, board.column, names[first], names[second]] = decision
    return both_ways(found)


def test_every_page_says_the_same_of_every_pair(place: tuple[Path, int, SuiteFile]) -> None:
    out, seeds, suite = place
    of_suite = by_suite(out, suite)
    pages = {"sentences": by_sentences(out, suite), "reproduce": by_reproduce(out)}
    pages["leaderboard"] = by_leaderboard(out, suite)
    if seeds == 1:
        pages["run"] = by_run(out, suite)
    for page, shown in pages.items():
        assert shown, page
        assert shown == {key: of_suite[key] for key in shown}, page
    # All rows are compared on all of these pages, those that ask about pairs of their own aside.
    assert pages["leaderboard"].keys() == of_suite.keys()
    assert {"better", "tie", "worse"} == set(of_suite.values())


def test_some_pairs_are_told_apart_by_p_alone_and_not_by_holm(place: tuple[Path, int, SuiteFile]) -> None:
    """So the test above would fail if a page left the adjustment out."""
    out, _, suite = place
    (group,) = summarise_suite(out, suite).groups
    assert any(pair.p < 0.05 <= pair.p_holm for pair in group.pairs if pair.p is not None and pair.p_holm is not None)


def marked(report: Report) -> Iterator[tuple[str, ...]]:
    for block in report.blocks:
        for table in block.tables:
            for row, cells in zip(table.rows, table.cells, strict=True):
                for head, cell in zip(table.heads, cells, strict=True):
                    if cell is not None and row in LEVEL:
                        yield block.heading.rpartition(": ")[2], head, row, cell.value, cell.interval, cell.mark.word


def test_one_seed_is_its_run_on_every_page(tmp_path: Path) -> None:
    """Numbers, intervals and marks of the suite's page are those of the run's page, and of `table tasks`."""
    suite = write(tmp_path, 1)
    run, summary = read_finished(tmp_path / suite.runs[0].digest)
    of_run = set(marked(run_report(run, summary)))
    assert of_run == set(marked(suite_report(summarise_suite(tmp_path, suite))))
    assert set(marked(make_table("tasks", [tmp_path]).report)) <= of_run
    (group,) = summarise_suite(tmp_path, suite).groups
    own = {
        (c.task, column_of(c), c.editor, c.other): (c.difference, c.low, c.high, c.p, c.p_holm, c.method)
        for c in summary.comparisons
    }
    assert group.pairs
    for pair in group.pairs:
        numbers = (pair.difference, pair.low, pair.high, pair.p, pair.p_holm, pair.method)
        assert numbers == own[pair.task, column_of(pair), pair.row, pair.other]
