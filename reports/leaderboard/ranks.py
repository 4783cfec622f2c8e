"""Ranks that respect ties: an entry is behind those that are significantly better, and behind no other.

Of N ranked entries, one has the rank interval

    first = 1 + entries that are significantly better,    last = N - entries that are significantly worse

Two entries tie unless the 95 % interval of their paired difference over the cases that both have is clear of zero and
at least six of these cases differ. Intervals are not corrected for the number of pairs, of which one in twenty would
be clear of zero without any difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instructedit.benchmark.statistics import resampled, resampled_over, two_level

from .entries import Board, Entry

LEAST = 6
"""Cases that have to differ: with fewer, even if all speak for one entry, a sign-flip test gives p > 0.05."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table.

    Attributes:
        entry: What it is about.
        mean: Mean over seeds and cases.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Cases that were scored under every seed.
        kind: `current`; `earlier` if a newer submission of the same name and authors has this row; `control` if it
            edits nothing. Only current lines are ranked.
        rank: First and last rank it may have among the current lines; None if it is not ranked.
        rank_untrained: The same among those that were not trained on the task, as far as is known.
    """

    entry: Entry
    mean: float
    low: float
    high: float
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
    beats = _beats(list(ranked.values()), better) if better else set()
    free = {key for key, (entry, _) in ranked.items() if entry.exposure == "no"}
    lines = []
    for entry, cases in usable:
        key = id(entry)
        mean, low, high = _mean(entry, cases)
        lines.append(
            Line(
                entry=entry,
                mean=mean,
                low=low,
                high=high,
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


def _mean(entry: Entry, cases: Sequence[str]) -> tuple[float, float, float]:
    """Return mean and interval: with one seed those of the run's own summary, else over seeds and cases."""
    if len(entry.values) == 1:
        return next(iter(entry.summary.values()))
    found = two_level(_values(entry, cases), cases)
    return found.mean, found.low, found.high


def _beats(ranked: Sequence[tuple[Entry, Sequence[str]]], better: int) -> set[tuple[int, int]]:
    """Return the pairs of which the first is significantly better."""
    whole = {id(entry): resampled(_values(entry, cases)[None], cases)[:, 0] for entry, cases in ranked}
    union = sorted(set[str]().union(*(cases for _, cases in ranked)))
    filled = {
        id(entry): np.array([[own.get(case, 0.0) for case in union] for _, own in sorted(entry.values.items())])
        for entry, _ in ranked
    }
    found = set()
    for number, (first, cases) in enumerate(ranked):
        for second, others in ranked[:number]:
            both = cases if cases == others else sorted(set(cases) & set(others))
            if not both or _differing(first, second, both) < LEAST:
                continue
            if cases == others:
                ours, theirs = whole[id(first)], whole[id(second)]
            else:
                # One drawing of all cases serves every pair: to draw the cases of each pair takes seconds for each.
                counted = np.isin(union, both)
                ours, theirs = resampled_over([filled[id(first)], filled[id(second)]], counted, union)
            low, high = np.nanquantile(better * (ours - theirs), [0.025, 0.975]).round(12)
            if low > 0:
                found.add((id(first), id(second)))
            elif high < 0:
                found.add((id(second), id(first)))
    return found


def _differing(first: Entry, second: Entry, cases: Sequence[str]) -> int:
    """Return the number of cases whose values, averaged over seeds, differ."""
    difference = _values(first, cases).mean(axis=0) - _values(second, cases).mean(axis=0)
    return int((np.abs(difference) > 1e-12).sum())
