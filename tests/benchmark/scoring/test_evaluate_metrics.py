"""The scores inside the evaluate library, and the input it would have bent or taken for NaN."""

import subprocess
import sys
from typing import Any

import pytest

from instructedit.editors import InputError

evaluate_metrics = pytest.importorskip("instructedit.benchmark.scoring.evaluate_metrics")


def test_teacher_forced() -> None:
    metric = evaluate_metrics.TeacherForced()
    # Rows 3/4 and 1: mean 0.875, one of two exact.
    found = metric.compute(predictions=[[1, 2, 3, 4], [7]], references=[[1, 2, 3, 5], [7]])
    assert found == {"teacher_forced_token": 0.875, "teacher_forced_exact": 0.5}


def test_rows_can_be_added_one_by_one() -> None:
    metric = evaluate_metrics.TeacherForced()
    metric.add(predictions=[1], references=[1])
    metric.add(predictions=[1], references=[2])
    assert metric.compute() == {"teacher_forced_token": 0.5, "teacher_forced_exact": 0.5}


def test_free_generation() -> None:
    found = evaluate_metrics.FreeGenerationMatch().compute(
        predictions=["St. Louis. He", "Rome", "👍"], references=[["Paris", "St. Louis"], ["Paris"], ["👍"]]
    )
    assert found == {"free_generation": pytest.approx(2 / 3)}


def test_edit_success() -> None:
    found = evaluate_metrics.EditSuccess().compute(
        plus_post=[[-1.0, -2.0], [-1.0]], minus_post=[[-2.0], [-1.0]], plus_pre=[[-1.0, -1.0], [-1.0]]
    )
    # First row as worked in test_metrics, second (1/2, 1/2, 1).
    assert found == pytest.approx({"edit_success": 0.4387703, "z_sent": 0.5612297, "z_topic": 0.8032653})


def test_probability_order() -> None:
    found = evaluate_metrics.ProbabilityOrder().compute(new=[[-1.0, -0.5], [-2.0]], old=[[-0.5, -1.5], [-1.0, -1.0]])
    assert found == {"probability_order": 0.5}


def test_ngram_entropy() -> None:
    metric = evaluate_metrics.NgramEntropy()
    assert metric.compute(predictions=["a b c", "x"]) == {"ngram_entropy": pytest.approx(100 / 3), "too_short": 1}
    assert metric.compute(predictions=["x"]) == {"ngram_entropy": None, "too_short": 1}


@pytest.mark.parametrize(
    ("name", "columns", "sentence"),
    [
        ("TeacherForced", {}, "has no rows"),
        ("TeacherForced", {"predictions": [], "references": []}, "at least one row"),
        ("TeacherForced", {"predictions": [[1]], "references": [[1], [2]]}, "references has 2 rows"),
        ("TeacherForced", {"predictions": [[1]]}, "reads the columns predictions, references, not predictions"),
        (
            "TeacherForced",
            {"predictions": [[1.5]], "references": [[1]]},
            "row 0, predictions: expected a non-empty list of token ids",
        ),
        ("TeacherForced", {"predictions": [[True]], "references": [[1]]}, "whole numbers"),
        (
            "TeacherForced",
            {"predictions": [[1], []], "references": [[1], []]},
            "row 1, predictions: expected a non-empty",
        ),
        (
            "TeacherForced",
            {"predictions": [[1, 2]], "references": [[1]]},
            "row 0: predictions and references must be equally long",
        ),
        ("FreeGenerationMatch", {"predictions": [3], "references": [["3"]]}, "expected a text"),
        ("FreeGenerationMatch", {"predictions": ["a"], "references": ["a"]}, "expected a list"),
        ("FreeGenerationMatch", {"predictions": ["a"], "references": [[" "]]}, "at least one accepted"),
        ("EditSuccess", {"plus_post": [[0.5]], "minus_post": [[-1.0]], "plus_pre": [[-1.0]]}, "not above 0"),
        ("EditSuccess", {"plus_post": [[float("nan")]], "minus_post": [[-1.0]], "plus_pre": [[-1.0]]}, "not above 0"),
        ("EditSuccess", {"plus_post": [[]], "minus_post": [[-1.0]], "plus_pre": [[]]}, "non-empty"),
        (
            "EditSuccess",
            {"plus_post": [[-1.0]], "minus_post": [[-1.0]], "plus_pre": [[-1.0] * 2]},
            "plus_post and plus_pre must be equally long",
        ),
        ("NgramEntropy", {"predictions": [None]}, "expected a text"),
    ],
)
def test_bad_input_is_a_sentence(name: str, columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        getattr(evaluate_metrics, name)().compute(**columns)


def test_nothing_of_ours_pays_for_the_library() -> None:
    code = (
        "import sys, instructedit.benchmark.scoring.metrics, instructedit.benchmark.scoring.matching\n"
        "import instructedit.benchmark.results.summary\n"
        "sys.exit('evaluate' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
