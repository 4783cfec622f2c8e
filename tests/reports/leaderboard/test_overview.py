"""Mean ranks and critical differences of the overview, and which methods and tasks they are of."""

import pytest

from instructedit.benchmark.results.records import EditorSpec
from instructedit.reports.leaderboard.names import method_name
from instructedit.reports.leaderboard.overview import Group, critical_difference, groups_of, pages_of
from instructedit.reports.leaderboard.ranks import table_of
from instructedit.reports.tables.health import Finding

from .test_ranks import BOARD, entry


@pytest.mark.parametrize(
    ("methods", "tasks", "expected"),
    # Demsar 2006: 4 classifiers on 14 data sets with q = 2.569; his q for 2, 3 and 10 are 1.960, 2.343 and 3.164
    [(4, 14, 1.25), (2, 6, 0.8), (3, 4, 1.66), (10, 4, 6.77)],
)
def test_critical_differences_are_the_published_ones(methods: int, tasks: int, expected: float):
    assert critical_difference(methods, tasks) == pytest.approx(expected, abs=0.006)


def test_one_task_or_one_method_has_no_critical_difference():
    assert critical_difference(5, 1) is None
    assert critical_difference(1, 5) is None


def group(shares: dict[str, dict[str, float]]) -> Group:
    """The group of methods with these shares of right cases by task."""
    boards = {}
    for task in dict.fromkeys(task for own in shares.values() for task in own):
        board = BOARD._replace(task=task)
        entries = []
        for name, own in shares.items():
            if task in own:
                made = entry(name, own[task], n=20)
                made.key = made.method = (name, "", "")
                entries.append(made)
        boards[board] = table_of(board, entries)
    (found,) = groups_of(pages_of(boards))
    return found


def ranks(found: Group) -> dict[str, float]:
    return {key[0]: rank for key, rank in found.rankings["reliability"].ranks.items()}


def test_a_mean_rank_is_over_tasks_and_ties_share_their_mean_rank():
    """On t a, b, c have the ranks 1, 2, 3; on u b is first, a and c tie at (2 + 3) / 2."""
    found = group({"a": {"t": 0.9, "u": 0.5}, "b": {"t": 0.8, "u": 0.7}, "c": {"t": 0.1, "u": 0.5}})
    assert ranks(found) == {"a": 1.75, "b": 1.5, "c": 2.75}
    assert [method.entry.submission.author[0] for method in found.methods] == ["b", "a", "c"]


def test_methods_without_a_number_on_every_task_have_no_mean_rank():
    found = group({"a": {"t": 0.9, "u": 0.5}, "b": {"t": 0.8, "u": 0.7}, "c": {"t": 0.1}})
    assert ranks(found) == {"a": 1.5, "b": 1.5}
    assert len(found.methods) == 3


def test_a_task_that_few_methods_have_does_not_take_the_mean_rank_from_the_others():
    both = {"t": 0.5, "u": 0.5}
    found = group({"a": both, "b": both, "c": both, "d": {**both, "new": 1.0}})
    assert set(ranks(found)) == {"a", "b", "c", "d"}
    assert {board.task for board in found.rankings["reliability"].boards} == {"t", "u"}


def test_what_mean_ranks_cannot_show_is_said():
    two = group({"a": {"t": 0.9, "u": 0.9}, "b": {"t": 0.1, "u": 0.1}})
    assert not two.rankings["reliability"].shows
    # q 1.960, k = 2, n = 2: 1.960 sqrt(6 / 12) = 1.386 is more than 2 - 1
    assert [words for _, words in two.notes] == [
        "critical difference 1.4, more than any two of k = 2 methods on n = 2 tasks can be apart: too few tasks"
    ]
    many = group({"a": dict.fromkeys("stuvwx", 0.9), "b": dict.fromkeys("stuvwx", 0.1)})
    ((_, words),) = many.notes
    assert words == "critical difference 0.8 for k = 2 methods on n = 6 tasks; n < 10 is few"
    leads = many.rankings["reliability"].leads
    assert [leads((name, "", "")) for name in "ab"] == [True, False]


def test_paired_comparisons_are_those_of_the_ranks():
    """20 of 20 cases against 2 and 1 of 20 is decided, 2 against 1 is not."""
    found = group({"a": {"t": 1.0}, "b": {"t": 0.1}, "c": {"t": 0.05}})
    compared = {method.entry.submission.author[0]: found.compared(method) for method in found.methods}
    assert compared == {"a": (2, 0, 2), "b": (0, 1, 2), "c": (0, 1, 2)}


@pytest.mark.parametrize(
    ("name", "method", "title"),
    [
        ("ft-l", "ft-l", "FT-L"),
        ("ft-l-long", "ft-l", "FT-L (long)"),
        ("mend@recent#seen-0", "mend", "MEND@recent#seen-0"),
        ("instructedit", "ft-l", "FT-L (instructedit)"),
        ("mine", "one-step", "one-step (mine)"),
    ],
)
def test_a_row_cannot_take_the_title_of_another_method(name: str, method: str, title: str):
    assert method_name(EditorSpec(name=name, method=method)) == title


def test_warnings_of_all_tasks_are_on_the_overview():
    found = group({"a": {"recent": 0.9, "zsre": 0.9}})
    (method,) = found.methods
    assert (method.flag, method.flag_sentence) == ("", "")
    for line, flags in zip(method.lines.values(), (("no edit", "target missed"), ("target missed",)), strict=True):
        line.entry.seeds[0].findings = tuple(Finding(flag, f"its {flag}") for flag in flags)
    assert method.flag == "no edit, target missed"
    assert method.flag_sentence == "Recent: its no edit; its target missed. ZsRE: its target missed."
