"""The overview: all methods under one model on several tasks, with mean ranks and their critical difference.

A method's mean rank in a measure is the mean of its ranks over the tasks, 1 for the best mean, ties at their mean rank.
Of k methods on n tasks, two mean ranks differ at the level 0.05 where they are apart by more than

    CD = q sqrt(k (k + 1) / (6 n)),    q the 95 % quantile of the studentized range of k, divided by sqrt(2)

That test knows the order of the methods on each task alone, and n is small here. Which methods differ on a task is
decided case by case, by the one decision of all reports (`ranks.py`).

Source: Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006; Nemenyi, 1963.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from instructedit.benchmark.results.decision import ALPHA
from instructedit.benchmark.results.records import LOWER_IS_BETTER, Measure

from ..tables.overview import main_columns
from .entries import Board, Entry
from .names import is_embedded_data, task_name
from .ranks import Line

MEASURES: tuple[Measure, ...] = ("reliability", "generalization", "portability", "locality")
FEW = 10
"""Tasks below which the test is coarse: Demsar gives its approximation for more than 10 data sets."""
MethodKey = tuple[str, str, str]
"""`Entry.method`."""
Page = tuple[Board, Mapping[Board, Sequence[Line]]]
"""What the tables of a task have in common, and these tables."""


class Ranking(NamedTuple):
    """Mean ranks in one measure."""

    ranks: Mapping[MethodKey, float]
    """By method; only those that have a number on all tasks."""
    boards: Sequence[Board]
    """The table of each task."""
    difference: float | None
    """The critical difference; None for fewer than two methods or tasks."""

    @property
    def words(self) -> str:
        """What the ranks can show."""
        k, n = len(self.ranks), len(self.boards)
        what = f"k = {k} methods on n = {n} task{'' if n == 1 else 's'}"
        if self.difference is None:
            return f"no critical difference, {what} are too few"
        if not self.shows:
            return f"critical difference {self.difference:.1f}, more than any two of {what} can be apart: too few tasks"
        few = f"; n < {FEW} is few" if n < FEW else ""
        none = "" if self._tell_apart else "; more than half are not shown to differ from the best: none is bold"
        return f"critical difference {self.difference:.1f} for {what}{few}{none}"

    @property
    def shows(self) -> bool:
        """Whether any two methods can differ."""
        return self.difference is not None and self.difference < len(self.ranks) - 1

    @property
    def _tell_apart(self) -> bool:
        return self.shows and 2 * sum(map(self._near, self.ranks)) <= len(self.ranks)

    def _near(self, key: MethodKey) -> bool:
        return self.difference is not None and self.ranks[key] - min(self.ranks.values()) <= self.difference

    def leads(self, key: MethodKey) -> bool:
        """Tell whether a method is not shown to differ from the one with the best mean rank, and most others are."""
        return self._tell_apart and self._near(key)


class Method(NamedTuple):
    """A row of the overview."""

    entry: Entry
    """One of its entries, for its name, options and submission."""
    lines: Mapping[Board, Line]
    """By main table of a task."""

    @property
    def flag(self) -> str:
        """Warnings about its edits on any task in a few words; empty if there are none."""
        flags = (flag for line in self.lines.values() for flag in line.entry.flag.split(", ") if flag)
        return ", ".join(dict.fromkeys(flags))

    @property
    def flag_sentence(self) -> str:
        """The same as sentences, task by task."""
        found = {board.task: line.entry.flag_sentence for board, line in self.lines.items()}
        return " ".join(f"{task_name(task)}: {sentence}" for task, sentence in found.items() if sentence)


class Group(NamedTuple):
    """All tasks under one model and schedule, of the embedded data or of others."""

    pages: Sequence[Page]
    columns: Sequence[Board]
    """The main table of each task and measure."""
    methods: Sequence[Method]
    rankings: Mapping[Measure, Ranking]
    ranked: Mapping[Board, int]
    """Number of ranked entries of each table."""

    def compared(self, method: Method) -> tuple[int, int, int]:
        """Return in how many paired comparisons with another method it is better, worse, and how many there are."""
        found = [(line.rank, self.ranked[board]) for board, line in method.lines.items() if line.rank]
        better = sum(count - rank[1] for rank, count in found)
        return better, sum(rank[0] - 1 for rank, _ in found), sum(count - 1 for _, count in found)

    @property
    def several(self) -> bool:
        """Whether the methods are of several submissions."""
        return len({method.entry.submission.id for method in self.methods}) > 1

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What the mean ranks can show: measures and words, those with the same words together."""
        found: dict[str, list[str]] = defaultdict(list)
        for measure, ranking in self.rankings.items():
            found[ranking.words].append(measure)
        return [(", ".join(measures).capitalize(), words) for words, measures in found.items()]


def groups_of(pages: Sequence[Page]) -> list[Group]:
    """Return the groups of pages, those with most methods first."""
    found: dict[tuple[Board, bool], list[Page]] = defaultdict(list)
    for place, tables in pages:
        embedded = is_embedded_data(place.task, json.loads(place.data).values())
        found[place._replace(task="", data="", reader=""), embedded].append((place, tables))
    return sorted(map(_group, found.values()), key=lambda group: -len(group.methods))


def _group(pages: Sequence[Page]) -> Group:
    columns: dict[Board, int] = {}
    lines: dict[MethodKey, dict[Board, Line]] = defaultdict(dict)
    for _, tables in pages:
        main = main_columns([board.column for board in tables])
        for board in (board for board in tables if board.column in main):
            columns[board] = sum(line.rank is not None for line in tables[board])
            for line in tables[board]:
                if line.kind != "earlier":
                    # The same method in two settings has the same numbers.
                    lines[line.entry.method].setdefault(board, line)
    rankings = {measure: _ranking([b for b in columns if b.measure == measure], lines) for measure in MEASURES}
    rankings = {measure: ranking for measure, ranking in rankings.items() if ranking.boards}
    methods = [Method(next(iter(own.values())).entry, own) for own in lines.values()]

    def order(method: Method) -> tuple[object, ...]:
        own = [ranking.ranks.get(method.entry.method, math.inf) for ranking in rankings.values()]
        return method.entry.control, bool(method.entry.submission.contradictions), sum(own), method.entry.row.name

    return Group(pages, tuple(columns), sorted(methods, key=order), rankings, columns)


def _ranking(columns: Sequence[Board], lines: Mapping[MethodKey, Mapping[Board, Line]]) -> Ranking:
    """Return the mean ranks over the tasks on which at least half as many methods have a number as on any."""
    from scipy.stats import rankdata

    # The first of a task: prompts of the data set before derived ones.
    firsts = {place_of(board): board for board in reversed(columns)}.values()
    counts = {board: sum(_ranked(own, board) for own in lines.values()) for board in columns if board in firsts}
    boards = [board for board, count in counts.items() if count and 2 * count >= max(counts.values())]
    keys = [key for key, own in lines.items() if all(_ranked(own, board) for board in boards)]
    sums = dict.fromkeys(keys, 0.0)
    for board in boards:
        sign = 1 if board.protocol in LOWER_IS_BETTER else -1
        values = [sign * round(lines[key][board].interval.mean, 12) for key in keys]
        for key, rank in zip(keys, rankdata(values), strict=True):
            sums[key] += float(rank)
    ranks = {key: total / len(boards) for key, total in sums.items()} if boards else {}
    return Ranking(ranks, boards, critical_difference(len(keys), len(boards)))


def _ranked(own: Mapping[Board, Line], board: Board) -> bool:
    return board in own and own[board].rank is not None


@cache
def critical_difference(methods: int, tasks: int) -> float | None:
    """Return Nemenyi's critical difference of mean ranks at the level 0.05; None for fewer than two of either."""
    from scipy.stats import studentized_range

    if min(methods, tasks) < 2:
        return None
    quantile = float(studentized_range.ppf(1 - ALPHA, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * tasks))


def place_of(board: Board) -> Board:
    """Return what the tables of a page have in common, as the table of one measure."""
    return board._replace(measure="reliability", derived=False, protocol="teacher_forced_exact", decoding="")


def pages_of(tables: Mapping[Board, Sequence[Line]]) -> list[Page]:
    """Return the tables by task and all else that a page has in common, in order."""
    found: dict[Board, dict[Board, Sequence[Line]]] = defaultdict(dict)
    for board, lines in tables.items():
        found[place_of(board)][board] = lines
    return [
        (place, dict(sorted(found[place].items(), key=lambda pair: (pair[0].column.order(), pair[0].decoding))))
        for place in sorted(found, key=_order)
    ]


def _order(place: Board) -> tuple[object, ...]:
    return place.schedule != "single", *map(str, place._replace(task="", data="", reader="")), place.task, place.data
