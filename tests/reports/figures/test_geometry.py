"""Principal components from cosines alone, and the statistics of directions, against loops and scikit-learn."""

import itertools

import numpy as np
import pytest

from instructedit.reports.figures import geometry

from .figure_results import cosines

sklearn_metrics = pytest.importorskip("sklearn.metrics")

TASKS = ["a"] * 6 + ["b"] * 5 + ["c"] * 7


@pytest.fixture
def vectors():
    generator = np.random.default_rng(0)
    centres = {task: generator.normal(size=40) for task in "abc"}
    found = np.array([centres[task] + generator.normal(size=40) for task in TASKS])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_components_are_those_of_the_vectors(vectors):
    points, shares = geometry.components(vectors @ vectors.T)
    centred = vectors - vectors.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    count = len(TASKS) - 1  # centring takes one
    assert points.shape == (len(TASKS), count)
    np.testing.assert_allclose(np.abs(points), np.abs(left * values)[:, :count], atol=1e-8)
    np.testing.assert_allclose(shares, values[:count] ** 2 / (values**2).sum(), atol=1e-10)
    assert all(column[np.abs(column).argmax()] > 0 for column in points.T)
    few, some = geometry.components(vectors @ vectors.T, 2)
    assert few.shape == (len(TASKS), 2)
    np.testing.assert_allclose(some, shares[:2])


def test_statistics_by_loops(vectors):
    matrix = vectors @ vectors.T
    found = {(one.name, one.tasks): one for one in geometry.statistics(matrix, TASKS, "key")}
    distances = np.clip(1 - matrix, 0, None)
    np.fill_diagonal(distances, 0)
    expected = sklearn_metrics.silhouette_score(distances, TASKS, metric="precomputed")
    assert found["silhouette", "all"].value == pytest.approx(expected)

    def pairs(one, other):
        return np.mean(
            [
                matrix[i, j]
                for i, j in itertools.combinations(range(len(TASKS)), 2)
                if {TASKS[i], TASKS[j]} == {one, other}
            ]
        )

    within = {task: pairs(task, task) for task in "abc"}
    between = {f"{s} / {t}": pairs(s, t) for s, t in itertools.combinations("abc", 2)}
    for name, values in (("cosine within", within), ("cosine between", between)):
        for tasks, value in values.items():
            assert found[name, tasks].value == pytest.approx(value)
        assert found[name, "all"].value == pytest.approx(np.mean(list(values.values())))
    assert found["cosine between", "a / c"].n == 13
    assert found["silhouette", "all"].n == len(TASKS)
    probe = found["probe accuracy", "all"]
    assert (probe.value, probe.high) == (1.0, 1.0)
    assert probe.low == pytest.approx(0.025 ** (1 / len(TASKS)))  # all right, which is no proof of 100 %


def test_a_resample_is_that_of_the_drawn_edits_without_pairs_of_copies(vectors):
    matrix = vectors @ vectors.T
    own = np.array([[float(task == name) for name in "abc"] for task in TASKS])
    weights = np.zeros(len(TASKS))
    drawn = [0, 0, 3, 5, 5, 5, *(6, 7, 8, 8, 9), *(11, 12, 13, 14, 14, 16, 17)]
    np.add.at(weights, drawn, 1)
    right = np.arange(len(TASKS)) % 2.0
    found = {key: float(value[0]) for key, value in geometry._measured(matrix, own, weights[:, None], right, "abc")}

    def average(i, task):
        return np.mean([1 - matrix[i, j] for j in drawn if TASKS[j] == task and j != i])

    silhouettes = []
    for i in drawn:
        a, b = average(i, TASKS[i]), min(average(i, task) for task in "abc" if task != TASKS[i])
        silhouettes.append((b - a) / max(a, b))
    assert found["silhouette", "all"] == pytest.approx(np.mean(silhouettes))
    assert found["probe accuracy", "all"] == pytest.approx(np.mean([right[i] for i in drawn]))
    within = [matrix[i, j] for i in drawn for j in drawn if TASKS[i] == TASKS[j] == "a" and i != j]
    assert found["cosine within", "a"] == pytest.approx(np.mean(within))
    between = [matrix[i, j] for i in drawn for j in drawn if (TASKS[i], TASKS[j]) == ("a", "c")]
    assert found["cosine between", "a / c"] == pytest.approx(np.mean(between))


def test_tasks_at_right_angles():
    n = 6
    matrix = np.kron(np.eye(2), np.full((n, n), 0.5)) + 0.5 * np.eye(2 * n)  # 0.5 within, 0 between
    found = {(one.name, one.tasks): one for one in geometry.statistics(matrix, ["a"] * n + ["b"] * n, "key")}
    assert found["silhouette", "all"].value == pytest.approx(0.5)  # (1 - 0.5) / 1
    for name, value in (("cosine within", 0.5), ("cosine between", 0.0)):
        assert tuple(found[name, "all"])[2:5] == pytest.approx((value, value, value))


def test_a_probe_of_nothing_is_near_chance_and_its_interval_holds_it():
    tasks = ["a", "b"] * 30
    found = {one.name: one for one in geometry.statistics(cosines(60, "key"), tasks, "key") if one.tasks == "all"}
    accuracy = found["probe accuracy"]
    assert 0.3 < accuracy.low < 0.5 < accuracy.high < 0.7
    assert found["silhouette"].low < found["silhouette"].value < found["silhouette"].high < 0.05


def test_the_picture_is_the_same_every_time():
    matrix = cosines(40, "key")
    first = geometry.tsne(matrix)
    assert first.shape == (40, 2)
    assert np.array_equal(first, geometry.tsne(matrix))


@pytest.mark.parametrize(("n", "expected"), [(10, 3.0), (91, 30.0), (400, 30.0)])
def test_perplexity(n, expected):
    assert geometry.perplexity(n) == expected
