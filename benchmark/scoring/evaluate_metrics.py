"""The metrics as `evaluate.Metric` classes, for users who combine them with other metrics of that library.

Importing `evaluate` takes seconds, so no other module imports this one. Make an instance directly,
`TeacherForced().compute(...)`; `evaluate.load` would use the network. Input is checked first, because the library casts
1.5 to 1 under an integer feature and returns NaN for empty input.
"""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

import datasets
import evaluate

from instructedit.editors.errors import InputError

from . import metrics
from .matching import matches
from .old_answer import probability_order


class _Column(NamedTuple):
    """An input column: its feature, what a row must be, and the check of a row."""

    feature: Any
    expected: str
    fits: Callable[[Any], bool]


def _is_list(value: Any, kind: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)
    )


_STRING = datasets.Value("string")
_IDS = _Column(
    datasets.Sequence(datasets.Value("int64")),
    "a non-empty list of token ids, whole numbers",
    lambda value: _is_list(value, int),
)
_LOG_P = _Column(
    datasets.Sequence(datasets.Value("float64")),
    "a non-empty list of log-probabilities, numbers not above 0",
    lambda value: _is_list(value, int | float) and all(item <= 0 for item in value),
)
_TEXT = _Column(_STRING, "a text", lambda value: isinstance(value, str))
_ANSWERS = _Column(
    datasets.Sequence(_STRING),
    "a list with at least one accepted answer",
    lambda value: _is_list(value, str) and any(item.strip() for item in value),
)


class _Checked(evaluate.Metric):  # type: ignore[misc]  # the library carries no types
    """A metric over named columns that are checked before they are stored.

    The lists of the two `paired` columns must be equally long in each row.
    """

    columns: ClassVar[dict[str, _Column]]
    paired: ClassVar[tuple[str, ...]] = ()
    citation: ClassVar[str]

    def __init__(self) -> None:
        # In memory: the default writes every input into a cache folder under the home directory.
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({name: column.feature for name, column in self.columns.items()})
        return evaluate.MetricInfo(description=self.__doc__, citation=self.citation, features=features)

    def add_batch(self, **columns: Any) -> None:
        """Check and store rows, one list per column; `InputError` if columns do not fit, or a row cannot be scored."""
        given = {name: rows for name, rows in columns.items() if rows is not None}
        metric = type(self).__name__
        if set(given) != set(self.columns):
            found = ", ".join(sorted(given)) or "none"
            raise InputError(f"{metric} reads the columns {', '.join(self.columns)}, not {found}.")
        lengths = {name: len(rows) for name, rows in given.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            found = ", ".join(f"{name} has {length} rows" for name, length in lengths.items())
            raise InputError(f"{metric} needs at least one row and equally many in each column: {found}.")
        for name, rows in given.items():
            for number, value in enumerate(rows):
                if not self.columns[name].fits(value):
                    raise InputError(f"{metric}, row {number}, {name}: expected {self.columns[name].expected}.")
        for number, pair in enumerate(zip(*(given[name] for name in self.paired), strict=True)):
            if len(pair[0]) != len(pair[1]):
                raise InputError(f"{metric}, row {number}: {' and '.join(self.paired)} must be equally long.")
        super().add_batch(**given)

    def add(self, **row: Any) -> None:
        """Check and store one row."""  # the library appends to it
        self.add_batch(**{name: [value] for name, value in row.items()})

    def compute(self, **columns: Any) -> dict[str, float | int | None]:
        """Return the scores over all rows stored and given; `InputError` without any, or as `add_batch`."""
        if not columns and self.writer is None:
            raise InputError(f"{type(self).__name__} has no rows; give it {', '.join(self.columns)}.")
        result: dict[str, float | int | None] = super().compute(**columns)
        return result


class TeacherForced(_Checked):
    """Token share and exact match of teacher-forced predictions (lists of token ids), means over rows."""

    columns: ClassVar = {"predictions": _IDS, "references": _IDS}
    paired = ("predictions", "references")
    citation = "arXiv 2202.05262 (token share), arXiv 2110.11309 (exact match)"

    def _compute(self, predictions: list[list[int]], references: list[list[int]]) -> dict[str, float]:
        rows = list(zip(predictions, references, strict=True))
        return {
            "teacher_forced_token": fmean(metrics.teacher_forced_token(p, r) for p, r in rows),
            "teacher_forced_exact": fmean(metrics.teacher_forced_exact(p, r) for p, r in rows),
        }


class FreeGenerationMatch(_Checked):
    """Share of free generations (texts) whose first answer equals one of their accepted answers (lists of texts)."""

    columns: ClassVar = {"predictions": _TEXT, "references": _ANSWERS}
    citation = "arXiv 2502.11177, arXiv 1606.05250"

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return {"free_generation": fmean(map(matches, predictions, references))}


class EditSuccess(_Checked):
    """SERAC's edit success with its factors, means over rows of the log-probabilities of all reply tokens of a case."""

    columns: ClassVar = {"plus_post": _LOG_P, "minus_post": _LOG_P, "plus_pre": _LOG_P}
    paired = ("plus_post", "plus_pre")
    citation = "arXiv 2206.06520"

    def _compute(
        self, plus_post: list[list[float]], minus_post: list[list[float]], plus_pre: list[list[float]]
    ) -> dict[str, float]:
        scores = [metrics.edit_success(*row) for row in zip(plus_post, minus_post, plus_pre, strict=True)]
        return {name: fmean(getattr(score, name) for score in scores) for name in metrics.Sentiment._fields}


class ProbabilityOrder(_Checked):
    """Share of rows whose new answer is likelier than the old one, by the log-probabilities of their tokens."""

    columns: ClassVar = {"new": _LOG_P, "old": _LOG_P}
    citation = "arXiv 2202.05262"

    def _compute(self, new: list[list[float]], old: list[list[float]]) -> dict[str, float]:
        return {"probability_order": fmean(map(probability_order, new, old))}


class NgramEntropy(_Checked):
    """Fluency of texts, mean over rows; texts under three words have none and are counted."""

    columns: ClassVar = {"predictions": _TEXT}
    citation = "arXiv 2202.05262"

    def _compute(self, predictions: list[str]) -> dict[str, float | int | None]:
        scores = [score for text in predictions if (score := metrics.ngram_entropy(text)) is not None]
        return {"ngram_entropy": fmean(scores) if scores else None, "too_short": len(predictions) - len(scores)}
