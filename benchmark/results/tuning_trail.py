"""`trail.json`: the record of a search over an editor's options. Equal searches write equal bytes."""

from typing import Any

from .records import FileRecord, Record, Split

DEFINITION = (
    "mean over tasks of 3 / (1 / reliability + 1 / generalization + 1 / locality), each the mean over the task's cases "
    "(exact match under teacher forcing); 0 where one of the three is 0; a case whose edit fails counts as 0 in each; "
    "equal scores are told apart by the same without generalization"
)
"""The score of a trial."""


class Share(Record):
    """A mean over the cases of a task that have a probe of the kind."""

    mean: float
    n: int


class TaskScore(Record):
    """The scores of a trial on one task."""

    task: str
    reliability: Share
    generalization: Share
    locality: Share
    score: float
    """Harmonic mean of the three."""
    failed: int = 0
    """Cases whose edit failed; they count as 0."""


class Trial(Record):
    """One set of options and its scores."""

    number: int
    """0 for the options that the row had before the search."""
    options: dict[str, Any]
    """Values of the searched options."""
    run: str | None
    """Digest of the run, which names its folder; None where there could be none."""
    tasks: tuple[TaskScore, ...] = ()
    score: float
    reason: str | None = None
    """Why edits failed, or why there is no run; one sentence."""

    @property
    def rank(self) -> tuple[float, float]:
        """The score and, for trials of equal scores, the same mean without generalization.

        An editor that no rephrase follows, such as GRACE with a small radius, scores 0 in every trial.
        """
        pairs = [(task.reliability.mean, task.locality.mean) for task in self.tasks]
        both = [2 * r * v / (r + v) if r + v else 0.0 for r, v in pairs]
        return self.score, sum(both) / max(1, len(both))


class Gain(Record):
    """Score of the best trial minus that of trial 0, with its 95 % bootstrap interval over the same cases."""

    difference: float
    low: float
    high: float


class Trail(FileRecord):
    """`trail.json`: a whole search for one row."""

    name: str
    """Preset or file that the row is of."""
    row: str
    method: str
    version: str
    """Of the editor."""
    seed: int
    """Of the drawn options, and of the runs."""
    budget: int
    """Number of trials, trial 0 included."""
    ranges: dict[str, str]
    definition: str = DEFINITION
    """Of the score."""
    setting: str
    split: Split
    """Scored split."""
    train: tuple[str, ...]
    """Tasks that each trial trains the editor on; empty for editors that are not trained."""
    cases: dict[str, int]
    """Scored cases of each task."""
    data: dict[str, dict[str, str]]
    """Per task: sha256 by file."""
    model: str
    """Folder or hub id as the user gave it."""
    model_fingerprint: str
    unedited: tuple[TaskScore, ...]
    """Scores of the unedited model on the same cases."""
    trials: tuple[Trial, ...]
    best: int
    """Number of the trial with the highest score (`Trial.rank`), the first of several."""
    gain: Gain | None = None
    """None where no trial is better than trial 0."""

    @property
    def winner(self) -> Trial:
        """The best trial."""
        return self.trials[self.best]
