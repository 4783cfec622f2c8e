"""Ranks that respect ties: an entry ranks below those that are shown to be better, and below no other.

Of N ranked entries, one has the rank interval

    first = 1 + entries that are shown to be better,    last = N - entries that are shown to be worse

The decision is that of all reports (`benchmark.results.decision`): from the paired difference over the cases that both
have, with p adjusted by Holm over all pairs of the table's current lines and controls.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instructedit.benchmark.results.crossed import crossed_difference, unpaired_seeds
from instructedit.benchmark.results.decision import Decision, decide, holm
from instructedit.benchmark.results.records import LOWER_IS_BETTER
from instructedit.benchmark.results.statistics import Interval, Paired, bounds_of
from instructedit.benchmark.results.summary import Column, row_mean

from .entries import Board, Entry

Kind = Literal["current", "earlier", "control", "contradicted"]
"""`earlier` if a newer submission of the same name and authors has this row; `control` if it edits nothing;
`contradicted` if another submission has other answers of the same run."""


class Line(NamedTuple):
    """One line of a table."""

    entry: Entry
    interval: Interval
    """Mean over seeds and cases."""
    cases: Sequence[str]
    """Cases that were scored under every seed."""
    kind: Kind
    """Only current lines are ranked."""
    rank: tuple[int, int] | None
    """First and last rank it may have among the current lines; None if it is not ranked."""
    rank_untrained: tuple[int, int] | None
    """The same among those that are known not to be trained on the task."""


def table_of(board: Board, entries: Sequence[Entry]) -> list[Line]:
    """Return the lines of a table: ranked ones first, by rank and mean, then the others."""
    scored = [(entry, cases, _kind(entry, entries)) for entry in entries if (cases := entry.cases())]
    compared = [number for number, (_, _, kind) in enumerate(scored) if kind in ("current", "control")]
    shown = decisions(board, [scored[number][:2] for number in compared])
    beats = {(compared[one], compared[two]) for (one, two), decision in shown.items() if decision == "better"}
    # Fluency has no better direction.
    ranks = board.protocol != "ngram_entropy"
    ranked = [number for number in compared if ranks and scored[number][2] == "current"]
    untrained = [number for number in ranked if scored[number][0].exposure == "no"]
    found = [
        Line(
            entry,
            _mean(board, entry, cases),
            cases,
            kind,
            _rank(number, ranked, beats),
            _rank(number, untrained, beats),
        )
        for number, (entry, cases, kind) in enumerate(scored)
    ]
    sign = 1 if board.protocol in LOWER_IS_BETTER else -1
    return sorted(
        found,
        key=lambda line: (
            line.kind != "current",
            line.kind == "contradicted",
            line.rank or (0, 0),
            sign * line.interval.mean,
            line.entry.submission.id,
            line.entry.row.name,
        ),
    )


def _rank(own: int, among: Collection[int], beats: Collection[tuple[int, int]]) -> tuple[int, int] | None:
    if own not in among:
        return None
    better = sum((other, own) in beats for other in among)
    worse = sum((own, other) in beats for other in among)
    return 1 + better, len(among) - worse


def _kind(entry: Entry, entries: Sequence[Entry]) -> Kind:
    own = entry.submission
    if own.contradictions:
        return "contradicted"
    if entry.control:
        return "control"
    newer = any(
        other.submission.author == own.author
        and not other.submission.contradictions
        and other.row.name == entry.row.name
        and (other.submission.date, other.submission.id) > (own.date, own.id)
        for other in entries
    )
    return "earlier" if newer else "current"


def _values(entry: Entry, cases: Sequence[str]) -> NDArray[np.float64]:
    """Return the values by seed and case `[S, N]`."""
    return np.array([[entry.seeds[seed].values[case] for case in cases] for seed in sorted(entry.seeds)])


def _mean(board: Board, entry: Entry, cases: Sequence[str]) -> Interval:
    """Return mean and interval: with one seed those of the run's own summary, else over seeds and cases."""
    if len(entry.seeds) == 1:
        return next(iter(entry.seeds.values())).mean
    column = Column(board.stage, board.measure, board.derived, board.protocol, None)
    return row_mean(entry.row, board.task, column, _values(entry, cases))


def decisions(board: Board, entries: Sequence[tuple[Entry, Sequence[str]]]) -> Mapping[tuple[int, int], Decision]:
    """Return the decision for each ordered pair of entries with their cases; the p-values of all are one family."""
    pairs, found = [], []
    for (one, (first, cases)), (two, (second, others)) in combinations(enumerate(entries), 2):
        if both := cases if cases == others else sorted(set(cases) & set(others)):
            pairs.append((one, two))
            found.append(_difference(board, first, second, both))
    shown: dict[tuple[int, int], Decision] = {}
    for (one, two), difference, p in zip(pairs, found, holm([each.p for each in found]), strict=True):
        shown[one, two] = decide(difference.difference, p, board.protocol)
        shown[two, one] = decide(-difference.difference, p, board.protocol)
    return shown


def _difference(board: Board, first: Entry, second: Entry, cases: Sequence[str]) -> Paired:
    """Return the paired difference; seeds are paired where both entries have the same ones."""
    ours, theirs, bounds = _values(first, cases), _values(second, cases), bounds_of(board.protocol)
    if len(ours) == len(theirs) == 1 or sorted(first.seeds) == sorted(second.seeds):
        return crossed_difference(ours - theirs, bounds)
    return unpaired_seeds(ours, theirs, bounds)
