"""Ranks: who is ahead of whom, on which cases, and by what right."""

import numpy as np
import pytest

from instructedit.benchmark.results.records import EditorSpec
from instructedit.benchmark.results.statistics import Interval
from instructedit.reports.leaderboard.entries import Board, Entry, SeedResult
from instructedit.reports.leaderboard.ranks import decisions, table_of
from instructedit.reports.leaderboard.validate import Verdict

BOARD = Board(
    task="t",
    data="{}",
    reader="1",
    model="m",
    tokenizer="k",
    dtype="float32",
    split="test",
    limit=None,
    schedule="single",
    edited="",
    stage="single",
    decoding="",
    measure="reliability",
    derived=False,
    protocol="teacher_forced_exact",
)


class Made(Verdict):
    """A submission with name, authors and date only."""

    def __init__(self, name: str, day: int = 1) -> None:
        object.__setattr__(self, "id", f"{name}-{day}")
        object.__setattr__(self, "_made", (name, day))

    @property
    def author(self):
        return self._made[0], ("Ada",)

    @property
    def date(self):
        return self._made[1]


def entry(
    name: str, right: float, *, n: int = 100, exposure="no", method="ft-l", day: int = 1, seeds: int = 1
) -> Entry:
    """An entry that has the first cases right, as large a share of them as is said."""
    values = {seed: {f"c{i:03}": float(i < round(right * n)) for i in range(n)} for seed in range(seeds)}
    made = Entry(Made(name, day), EditorSpec(name="row", method=method), exposure)
    interval = Interval(right, right - 0.1, right + 0.1, n, "bootstrap")
    made.seeds = {seed: SeedResult(f"{seed}", of_seed, 0, interval) for seed, of_seed in values.items()}
    return made


def ranks(entries, board: Board = BOARD) -> dict[str, tuple[int, int] | None]:
    return {line.entry.submission.author[0]: line.rank for line in table_of(board, entries)}


def test_entries_tie_unless_the_difference_is_clear_of_zero():
    """80 and 78 differ in two cases, which proves nothing; 50 is far below both."""
    found = ranks([entry("a", 0.80), entry("b", 0.78), entry("c", 0.50)])
    assert found == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}


def test_fewer_than_six_differing_cases_never_separate():
    """All five speak for a, but five signs alone come up so in 2 of 32 cases: p = 0.0625. Six would: 0.03125."""
    assert ranks([entry("a", 1.0, n=20), entry("b", 0.75, n=20)]) == {"a": (1, 2), "b": (1, 2)}
    assert ranks([entry("a", 1.0, n=20), entry("b", 0.70, n=20)]) == {"a": (1, 1), "b": (2, 2)}
    assert ranks([entry("a", 1.0, n=1), entry("b", 0.0, n=1)]) == {"a": (1, 2), "b": (1, 2)}


def test_an_interval_of_ranks_counts_who_is_better_and_who_is_worse():
    """a beats c; b ties with both: 1 + 0 .. 3 - 1, 1 + 0 .. 3 - 0, 1 + 1 .. 3 - 0."""
    first, second, third = entry("a", 0.60), entry("b", 0.5), entry("c", 0.50)
    # b is right on the first 50 cases with 7 less and 3 more elsewhere than c: ten differ, in both directions
    own = second.seeds[0].values
    own.update({f"c{i:03}": 0.0 for i in range(43, 50)} | {f"c{i:03}": 1.0 for i in range(60, 70)})
    assert np.isclose(sum(own.values()), 53)
    assert ranks([first, second, third]) == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}


def test_less_divergence_is_better_and_fluency_has_no_winner():
    entries = [entry("a", 0.2), entry("b", 0.8)]
    assert ranks(entries, BOARD._replace(protocol="kl_divergence")) == {"a": (1, 1), "b": (2, 2)}
    assert ranks(entries, BOARD._replace(protocol="ngram_entropy", measure="fluency")) == {"a": None, "b": None}


def test_entries_are_compared_on_the_cases_that_both_have():
    """b failed on the cases that a has wrong, so its mean is 1; on the 50 cases of both the two are equal."""
    first, second = entry("a", 0.5), entry("b", 0.5)
    second.seeds[0].values = {case: value for case, value in second.seeds[0].values.items() if value}
    assert {len(line.cases) for line in table_of(BOARD, [first, second])} == {50, 100}
    assert ranks([first, second]) == {"a": (1, 2), "b": (1, 2)}


def test_the_more_pairs_the_more_it_takes():
    """Seven cases of twenty that all speak for a are p = 0.016: enough for a pair, and not for one of ten."""
    first, second = entry("a", 1.0, n=20), entry("b", 0.65, n=20)
    assert ranks([first, second]) == {"a": (1, 1), "b": (2, 2)}
    others = [entry(name, 0.65, n=20) for name in "cde"]
    assert set(ranks([first, second, *others]).values()) == {(1, 5)}


def test_a_control_is_compared_and_not_ranked():
    """Its pairs belong to the family of the run's own summary, and it has no rank."""
    entries = [entry("a", 1.0, n=20), entry("b", 0.70, n=20), entry("c", 0.70, n=20, method="none")]
    shown = decisions(BOARD, [(made, tuple(sorted(made.seeds[0].values))) for made in entries])
    assert len(shown) == 6
    assert ranks(entries) == {"a": (1, 2), "b": (1, 2), "c": None}  # 0.031 * 3


def test_seeds_that_two_entries_do_not_share_count_for_each():
    """Means of the seeds 100 and 0: two such seeds do not predict the next."""
    first, second = entry("a", 0.5, seeds=2), entry("b", 0.2, seeds=1)
    first.seeds[0].values = dict.fromkeys(first.seeds[0].values, 1.0)
    first.seeds[1].values = dict.fromkeys(first.seeds[0].values, 0.0)
    assert ranks([first, second]) == {"a": (1, 2), "b": (1, 2)}
    assert ranks([entry("a", 0.5, seeds=2), second]) == {"a": (1, 1), "b": (2, 2)}


def test_ranks_among_untrained_rows_leave_the_others_out():
    lines = table_of(BOARD, [entry("a", 0.9, exposure="yes"), entry("b", 0.6), entry("c", 0.3, exposure="unknown")])
    found = {line.entry.submission.author[0]: (line.rank, line.rank_untrained) for line in lines}
    assert found == {"a": ((1, 1), None), "b": ((2, 2), (1, 1)), "c": ((3, 3), None)}


def test_controls_and_earlier_versions_stay_visible_without_a_rank():
    lines = table_of(BOARD, [entry("a", 0.9, day=1), entry("a", 0.5, day=2), entry("b", 0.0, method="none")])
    assert [(line.kind, line.interval.mean, line.rank) for line in lines] == [
        ("current", 0.5, (1, 1)),
        ("earlier", 0.9, None),
        ("control", 0.0, None),
    ]


def test_with_one_seed_the_interval_is_that_of_the_run_and_with_several_over_both():
    (one,) = table_of(BOARD, [entry("a", 0.5)])
    assert (one.interval.low, one.interval.high) == (0.4, 0.6)
    several = entry("a", 0.5, seeds=3)
    several.seeds[2].values = dict.fromkeys(several.seeds[2].values, 1.0)
    (line,) = table_of(BOARD, [several])
    assert line.interval.mean == pytest.approx((0.5 + 0.5 + 1.0) / 3)
    assert line.interval.low < 0.6 < line.interval.high
