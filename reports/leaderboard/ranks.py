"""Ranks that respect ties: an entry is behind those that are shown to be better, and behind no other.

Of N ranked entries, one has the rank interval

    first = 1 + entries that are shown to be better,    last = N - entries that are shown to be worse

Who is better is decided as everywhere (`benchmark.decide`): from the paired difference over the cases that both have,
with p adjusted by Holm over all pairs of the table's current lines and controls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instructedit.benchmark.results.crossed import crossed_difference, unpaired_seeds
from instructedit.benchmark.results.decision import Decision, decide, holm
from instructedit.benchmark.results.statistics import Interval, Paired, bounds_of
from instructedit.benchmark.results.summary import Column, row_mean

from .entries import Board, Entry


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table.

    Attributes:
        entry: What it is about.
        mean: Mean over seeds and cases.
        interval: Its 95 % interval.
        n: Cases that were scored under every seed.
        kind: `current`; `earlier` if a newer submission of the same name and authors has this row; `control` if it
            edits nothing. Only current lines are ranked.
        rank: First and last rank it may have among the current lines; None if it is not ranked.
        rank_untrained: The same among those that were not trained on the task, as far as is known.
    """

    entry: Entry
    mean: float
    interval: Interval
    n: int
    kind: Literal["current", "earlier", "control"]
    rank: tuple[int, int] | None = None
    rank_untrained: tuple[int, int] | None = None


def table_of(board: Board, entries: Sequence[Entry]) -> list[Line]:
    """Return the lines of a table: ranked ones first, by rank and mean, then the others."""
    usable = [(entry, cases) for entry in entries if (cases := _cases(entry))]
    kinds = {id(entry): _kind(entry, entries) for entry, _ in usable}
    ranked = {id(entry): (entry, cases) for entry, cases in usable if kinds[id(entry)] == "current"}
    better = 0 if board.protocol == "ngram_entropy" else -1 if board.protocol == "kl_divergence" else 1
    shown = decisions(board, [(entry, cases) for entry, cases in usable if kinds[id(entry)] != "earlier"])
    beats = {pair for pair, decision in shown.items() if decision == "better"}
    free = {key for key, (entry, _) in ranked.items() if entry.exposure == "no"}
    lines = []
    for entry, cases in usable:
        key = id(entry)
        found = _mean(board, entry, cases)
        lines.append(
            Line(
                entry=entry,
                mean=found.mean,
                interval=found,
                n=len(cases),
                kind=kinds[key],
                rank=_rank(key, set(ranked), beats) if better and key in ranked else None,
                rank_untrained=_rank(key, free, beats) if better and key in free else None,
            )
        )
    return sorted(lines, key=lambda line: _order(line, better or 1))


def _order(line: Line, better: int) -> tuple[bool, tuple[int, int], float, str, str]:
    entry = line.entry
    rank = line.rank or (0, 0)
    return line.kind != "current", rank, -better * line.mean, entry.submission.id, entry.row.name


def _rank(key: int, among: set[int], beats: set[tuple[int, int]]) -> tuple[int, int]:
    ahead = sum((other, key) in beats for other in among)
    behind = sum((key, other) in beats for other in among)
    return 1 + ahead, len(among) - behind


def _kind(entry: Entry, entries: Sequence[Entry]) -> Literal["current", "earlier", "control"]:
    if entry.control:
        return "control"
    own = entry.submission
    newer = any(
        other.submission.author == own.author
        and other.row.name == entry.row.name
        and (other.submission.date, other.submission.id) > (own.date, own.id)
        for other in entries
    )
    return "earlier" if newer else "current"


def _cases(entry: Entry) -> tuple[str, ...]:
    """Return the cases that were scored under every seed, sorted."""
    return tuple(sorted(set[str].intersection(*(set(values) for values in entry.values.values()))))


def _values(entry: Entry, cases: Sequence[str]) -> NDArray[np.float64]:
    """Return the values by seed and case `[S, N]`."""
    return np.array([[entry.values[seed][case] for case in cases] for seed in sorted(entry.values)])


def _mean(board: Board, entry: Entry, cases: Sequence[str]) -> Interval:
    """Return mean and interval: with one seed those of the run's own summary, else over seeds and cases."""
    if len(entry.values) == 1:
        return next(iter(entry.summary.values()))
    column = Column(board.stage, board.measure, board.derived, board.protocol, None)
    return row_mean(entry.row, board.task, column, _values(entry, cases))


def decisions(board: Board, entries: Sequence[tuple[Entry, Sequence[str]]]) -> Mapping[tuple[int, int], Decision]:
    """Return what is shown of the first of two entries, by the `id` of both, either way round.

    Args:
        board: Their table.
        entries: What is compared, each with its cases; the p-values of all pairs are one family.
    """
    pairs, found = [], []
    for (first, cases), (second, others) in combinations(entries, 2):
        if both := cases if cases == others else sorted(set(cases) & set(others)):
            pairs.append((id(first), id(second)))
            found.append(_difference(board, first, second, both))
    shown: dict[tuple[int, int], Decision] = {}
    for (one, other), difference, p in zip(pairs, found, holm([each.p for each in found]), strict=True):
        shown[one, other] = decide(difference.difference, p, board.protocol)
        shown[other, one] = decide(-difference.difference, p, board.protocol)
    return shown


def _difference(board: Board, first: Entry, second: Entry, cases: Sequence[str]) -> Paired:
    """Return the paired difference; seeds are paired where both entries have the same ones."""
    ours, theirs, bounds = _values(first, cases), _values(second, cases), bounds_of(board.protocol)
    if len(ours) == len(theirs) == 1 or sorted(first.values) == sorted(second.values):
        return crossed_difference(ours - theirs, bounds)
    return unpaired_seeds(ours, theirs, bounds)
