"""The scores as `evaluate.Metric` classes, for users who compose them with other metrics of that library.

Importing `evaluate` takes seconds, so no other module imports this one: the runner calls the pure functions. Make an
instance directly, `TeacherForced().compute(...)`; `evaluate.load` would look on the network. Each class checks its
input before the library sees it, because the library casts 1.5 to 1 under an integer feature and answers NaN to empty
input.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import datasets
import evaluate

from instructedit.editors.errors import InputError

from . import matching, metrics

_INTEGERS = datasets.Sequence(datasets.Value("int64"))
_FLOATS = datasets.Sequence(datasets.Value("float64"))
_TEXT = datasets.Value("string")
_TEXTS = datasets.Sequence(_TEXT)


class _Checked(evaluate.Metric):  # type: ignore[misc]  # the library carries no types
    """A metric over named columns of equal length that are checked before they are stored."""

    columns: ClassVar[Mapping[str, Any]]
    description: ClassVar[str]
    citation: ClassVar[str]

    def __init__(self) -> None:
        # In memory: the default writes every input into a cache folder under the home directory.
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description, citation=self.citation, features=datasets.Features(dict(self.columns))
        )

    def add_batch(self, **columns: Any) -> None:
        """Check and store rows, one list per column.

        Raises:
            InputError: If a column is missing, unknown or empty, lengths differ, or a row cannot be scored.
        """
        given = {name: rows for name, rows in columns.items() if rows is not None}
        name, expected = type(self).__name__, ", ".join(self.columns)
        if set(given) != set(self.columns):
            raise InputError(f"{name} reads the columns {expected}, not {', '.join(sorted(given)) or 'none'}.")
        lengths = {column: len(rows) for column, rows in given.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            found = ", ".join(f"{column} has {length} rows" for column, length in lengths.items())
            raise InputError(f"{name} needs at least one row and equally many in each column: {found}.")
        for number, row in enumerate(zip(*(given[column] for column in self.columns), strict=True)):
            trouble = self.check(*row)
            if trouble:
                raise InputError(f"{name}, row {number}: {trouble}.")
        super().add_batch(**given)

    def add(self, **row: Any) -> None:
        """Check and store one row."""
        self.add_batch(**{column: [value] for column, value in row.items()})

    def compute(self, **columns: Any) -> dict[str, float | int | None]:
        """Return the scores over all rows stored and given.

        Raises:
            InputError: If there are no rows at all, or as `add_batch`.
        """
        if not columns and self.writer is None:
            raise InputError(f"{type(self).__name__} has no rows; give it {', '.join(self.columns)}.")
        result: dict[str, float | int | None] = super().compute(**columns)
        return result

    @abstractmethod
    def check(self, *row: Any) -> str | None:
        """Return what is wrong with one row, or None."""


class TeacherForced(_Checked):
    """Token share and exact match of teacher-forced predictions (lists of token ids)."""

    columns: ClassVar = {"predictions": _INTEGERS, "references": _INTEGERS}
    description = "Most likely tokens after the right ones: mean share of right tokens, and share of rows all right."
    citation = "arXiv 2202.05262 (token share), arXiv 2110.11309 (exact match)"

    def check(self, predicted: Any, reference: Any) -> str | None:
        """Return what is wrong with one row, or None."""
        if not (_is_list_of(predicted, int) and _is_list_of(reference, int)):
            return "token ids must be lists of whole numbers"
        if not predicted or len(predicted) != len(reference):
            found = f"{len(predicted)} predicted and {len(reference)} reference tokens"
            return f"{found}; equally many, and at least one, were expected"
        return None

    def _compute(self, predictions: list[list[int]], references: list[list[int]]) -> dict[str, float]:
        rows = list(zip(predictions, references, strict=True))
        return {
            "teacher_forced_token": _mean(metrics.teacher_forced_token(p, r) for p, r in rows),
            "teacher_forced_exact": _mean(metrics.teacher_forced_exact(p, r) for p, r in rows),
        }


class FreeGenerationMatch(_Checked):
    """Share of free generations (texts) whose first answer equals one of their accepted answers (lists of texts)."""

    columns: ClassVar = {"predictions": _TEXT, "references": _TEXTS}
    description = "Greedy text up to its natural stop, normalised, against every accepted answer."
    citation = "arXiv 2502.11177, arXiv 1606.05250"

    def check(self, text: Any, aliases: Any) -> str | None:
        """Return what is wrong with one row, or None."""
        if not isinstance(text, str):
            return "a prediction must be a text"
        if not _is_list_of(aliases, str) or not any(alias.strip() for alias in aliases):
            return "references must be a list with at least one accepted answer"
        return None

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return {"free_generation": _mean(map(matching.matches, predictions, references))}


class EditSuccess(_Checked):
    """SERAC's edit success; a row holds the log-probabilities of all reply tokens of one case."""

    columns: ClassVar = {"plus_post": _FLOATS, "minus_post": _FLOATS, "plus_pre": _FLOATS}
    description = "Sentiment changed (z_sent) and topic kept (z_topic), and their product, each as mean over rows."
    citation = "arXiv 2206.06520"

    def check(self, plus_post: Any, minus_post: Any, plus_pre: Any) -> str | None:
        """Return what is wrong with one row, or None."""
        for values in (plus_post, minus_post, plus_pre):
            if not _is_list_of(values, int | float) or not values or not all(value <= 0 for value in values):
                return "log-probabilities must be non-empty lists of numbers not above 0"
        if len(plus_post) != len(plus_pre):
            return f"{len(plus_post)} tokens after the edit and {len(plus_pre)} before; the same replies were expected"
        return None

    def _compute(
        self, plus_post: list[list[float]], minus_post: list[list[float]], plus_pre: list[list[float]]
    ) -> dict[str, float]:
        scores = [metrics.edit_success(*row) for row in zip(plus_post, minus_post, plus_pre, strict=True)]
        return {name: _mean(getattr(score, name) for score in scores) for name in metrics.Sentiment._fields}


class NgramEntropy(_Checked):
    """Fluency of texts; those under three words have none and are counted."""

    columns: ClassVar = {"predictions": _TEXT}
    description = "Weighted entropy of bigrams and trigrams, times 100."
    citation = "arXiv 2202.05262"

    def check(self, text: Any) -> str | None:
        """Return what is wrong with one row, or None."""
        return None if isinstance(text, str) else "a prediction must be a text"

    def _compute(self, predictions: list[str]) -> dict[str, float | int | None]:
        scores = [score for text in predictions if (score := metrics.ngram_entropy(text)) is not None]
        return {"ngram_entropy": _mean(scores) if scores else None, "too_short": len(predictions) - len(scores)}


def _is_list_of(values: Any, kind: Any) -> bool:
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and all(isinstance(value, kind) and not isinstance(value, bool) for value in values)
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
