"""Geometry of edit directions: principal components, t-SNE, and statistics of the separation of tasks.

Everything follows from the matrix of cosines. Double centring gives the inner products around the mean (Schoelkopf et
al. 1998), whose eigenvectors are the exact principal components of the directions.

Intervals are percentile bootstraps over cases, drawn with replacement within each task. Two copies of a case make no
pair, because the cosine of an edit with itself is always 1. The probe is right or wrong on a case, so its interval is
that of Clopper and Pearson.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instructedit.benchmark.results.statistics import RESAMPLES, clopper_pearson, seeded

from .results import NoDataError

Array = NDArray[np.float64]
COMPONENTS = 50
FOLDS = 5
SEED = 0
ALL, BETWEEN = "all", " / "
_BLOCK = 1000
"""Resamples computed at a time: 1.6 MB for each array of 200 edits."""
_TINY = 1e-12


class Statistic(NamedTuple):
    """A number about directions with its 95 % interval, over `n` edits."""

    name: str
    tasks: str
    value: float
    low: float
    high: float
    n: int


def components(cosines: Array, most: int | None = None) -> tuple[Array, Array]:
    """Return the principal components of directions and the share of variance of each.

    Args:
        cosines: Inner products of the directions [n, n].
        most: Components to return, largest first; None: all with any variance.

    Returns:
        Coordinates [n, k], the sign of each column such that its largest entry is positive, and shares [k].
    """
    centred = cosines - cosines.mean(0) - cosines.mean(1)[:, None] + cosines.mean()
    values, vectors = np.linalg.eigh((centred + centred.T) / 2)
    order = [k for k in np.argsort(-values, kind="stable") if values[k] > 1e-10 * max(1e-300, values.max())]
    kept = order[:most]
    vectors = vectors[:, kept]
    # The sign of an eigenvector is arbitrary; without a convention the picture would flip between machines.
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(len(kept))])
    return vectors * signs * np.sqrt(values[kept]), values[kept] / values[order].sum()


def perplexity(n: int) -> float:
    """Return the perplexity of t-SNE for n points: 30, or a third of the others where that is less."""
    return min(30.0, (n - 1) / 3)


def tsne(cosines: Array) -> Array:
    """Return the t-SNE of the first principal components of directions [n, 2].

    Exact t-SNE, initialised with the first two components, on one thread: the same matrix gives the same points.
    """
    # Imported here: the import sets environment variables, and no other report needs it.
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        points, _ = components(cosines, COMPONENTS)
        model = TSNE(
            n_components=2,
            perplexity=perplexity(len(points)),
            init="pca",
            learning_rate="auto",
            method="exact",
            random_state=SEED,
        )
        return np.asarray(model.fit_transform(points), dtype=np.float64)


def check_installed() -> None:
    """Check that scikit-learn is installed.

    Raises:
        NoDataError: If it is not.
    """
    if find_spec("sklearn") is None:
        raise NoDataError(
            "Figures of directions need scikit-learn; install it with: pip install 'instructedit-bench[figures]'."
        )


def statistics(cosines: Array, tasks: Sequence[str], key: str) -> list[Statistic]:
    """Return silhouette, accuracy of a linear probe, and cosines within and between tasks, with intervals.

    - silhouette: mean over edits of (b - a) / max(a, b), a the mean cosine distance to the other edits of its task,
      b to those of the nearest other task; 1 is apart, 0 is mixed.
    - probe: accuracy of a logistic regression (L2, C = 1) that predicts the task from all principal components, in
      stratified 5-fold cross-validation. Its interval is over the predictions; no probe is retrained.
    - within, between: mean cosine of pairs of edits of one task, and of two tasks; each task and pair of tasks alike.

    Args:
        cosines: Inner products of the directions [n, n].
        tasks: Task of each [n]; two or more tasks, each with at least `FOLDS` edits.
        key: Name of the set; seeds the bootstrap.
    """
    names = list(dict.fromkeys(tasks))
    own = np.array([[float(task == name) for name in names] for task in tasks])  # [n, tasks]
    right = _probed(cosines, own.argmax(1))
    values = dict(_measured(cosines, own, np.ones((len(tasks), 1)), right, names))
    drawn: dict[tuple[str, str], list[Array]] = {key: [] for key in values}
    for weights in _draws(own, key):
        for name, found in _measured(cosines, own, weights, right, names):
            drawn[name].append(found)
    counts = dict(zip(names, own.sum(0).astype(int).tolist(), strict=True)) | {ALL: len(tasks)}
    ends = {column: _ends(own) for column, own in drawn.items()}
    ends["probe accuracy", ALL] = clopper_pearson(int(right.sum()), len(right))
    return [
        Statistic(name, of, float(value[0]), *ends[name, of], sum(counts[part] for part in of.split(BETWEEN)))
        for (name, of), value in values.items()
    ]


def _ends(drawn: Sequence[Array]) -> tuple[float, float]:
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return float(low), float(high)


def _draws(own: Array, key: str) -> Iterator[Array]:
    """Yield how often each edit is drawn, [n, resamples], each task's edits among themselves."""
    generator = seeded(f"directions|{key}")
    for _ in range(0, RESAMPLES, _BLOCK):
        weights = np.zeros((len(own), _BLOCK))
        for task in own.T:
            places = np.flatnonzero(task)
            weights[places] = generator.multinomial(len(places), np.full(len(places), 1 / len(places)), _BLOCK).T
        yield weights


def _measured(
    cosines: Array, own: Array, weights: Array, right: Array, names: Sequence[str]
) -> Iterator[tuple[tuple[str, str], Array]]:
    """Yield each statistic of each resample [resamples], with its name and tasks."""
    mine, each = own.argmax(1), range(len(names))
    sizes, squares = own.T @ weights, own.T @ weights**2  # [tasks, resamples]
    near = np.stack([cosines @ (weights * own[:, [t]]) for t in each])  # cosines with the drawn of a task, summed
    sums = np.stack([own.T @ (weights * near[t]) for t in each])  # [tasks, tasks, resamples]
    far = sizes[:, None] - near
    # Copies of the edit itself have distance 0: they do not change the sum, but must not be counted.
    a = far[mine, np.arange(len(mine))] / np.maximum(sizes[mine] - weights, _TINY)
    means = far / sizes[:, None]
    means[mine, np.arange(len(mine))] = np.inf
    b = means.min(0)
    silhouette = (b - a) / np.maximum(np.maximum(a, b), _TINY)
    yield ("silhouette", ALL), (weights * silhouette).sum(0) / weights.sum(0)
    yield ("probe accuracy", ALL), (weights * right[:, None]).sum(0) / weights.sum(0)
    within = [(sums[t, t] - squares[t]) / np.maximum(sizes[t] ** 2 - squares[t], _TINY) for t in each]
    between = {(s, t): sums[s, t] / (sizes[s] * sizes[t]) for s in each for t in each if s < t}
    yield ("cosine within", ALL), np.mean(within, axis=0)
    yield ("cosine between", ALL), np.mean(list(between.values()), axis=0)
    yield from ((("cosine within", names[t]), within[t]) for t in each)
    yield from ((("cosine between", f"{names[s]}{BETWEEN}{names[t]}"), values) for (s, t), values in between.items())


def _probed(cosines: Array, labels: NDArray[np.intp]) -> Array:
    """Return for each edit whether the cross-validated probe predicts its task, 1 or 0."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        points, _ = components(cosines)
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
        said = cross_val_predict(LogisticRegression(C=1.0, max_iter=10_000), points, labels, cv=folds)
    found: Array = (said == labels).astype(np.float64)
    return found
