"""`summary.json`: means, comparisons and checks of a run, computed from `cases.jsonl` alone."""

from .base import FileRecord, Measure, Method, Protocol, Record


class Mean(Record):
    """One cell of a table: a mean over cases with its protocol, n and 95 % interval."""

    editor: str
    task: str
    stage: str = "single"
    measure: Measure
    subset: str | None
    """None: mean over the subsets a case has, then over cases (KnowEdit's aggregation)."""
    derived: bool
    protocol: Protocol
    mean: float
    n: int
    """Cases that have at least one such probe."""
    low: float | None
    high: float | None
    """None where there is no interval: see `method`."""
    method: Method = "bootstrap"


class Comparison(Record):
    """Two editors on the same cases: mean of the paired differences (`editor` minus `other`)."""

    editor: str
    other: str
    task: str
    stage: str = "single"
    measure: Measure
    derived: bool
    protocol: Protocol
    difference: float
    n: int
    low: float | None
    high: float | None
    method: Method = "bootstrap"
    p: float
    """Two-sided sign-flip permutation test."""
    p_holm: float | None = None
    """p adjusted over the pairs of its column, `decision.py`; None in older files."""


class Health(Record):
    """Facts of single edits aggregated over the cases of a row, a task and a stage; see `health.py`."""

    editor: str
    task: str
    stage: str = "single"
    edits: int
    """Edits that were scored; of several seeds all of them."""
    failed: int
    """Edits that failed."""
    asked: int
    """Edits of which the probability of their target is known."""
    missed: int
    """Those of them with a probability below one half."""
    missed_cases: tuple[str, ...]
    """The first of their cases by id."""
    optimised: int
    """Edits that say whether they converged."""
    converged: int
    """Those of them that did."""
    unchanged: bool | None
    """Whether every reliability score is that of the unedited model; None where the run has no row of it."""
    medians: dict[str, float]
    """Of `final_loss`, `target_probability`, `steps`, `delta_norm`, `relative_norm`, `cosine` and `at_bound` over the
    edits that have such a fact."""


class Consistency(Record):
    """Agreement of free generation and teacher forcing under the unedited model; see `consistency.py`."""

    editor: str
    task: str
    probes: int
    """Probes with one accepted answer that were read both ways; locality is not among them."""
    free: int
    """Those of them that free generation answers rightly."""
    otherwise: int
    """Those of these whose exact match under teacher forcing is 0."""
    case_id: str | None = None
    """The first case of such a probe."""
    prompt: str | None = None
    accepted: str | None = None
    generated: str | None = None
    """What the unedited model wrote to it."""


class RunSummary(FileRecord):
    """`summary.json`: everything a table needs, computed from `cases.jsonl` alone."""

    digest: str
    valid: bool
    """False when the base model's weights were not the same after the run as before."""
    invalid_reason: str | None = None
    complete: bool
    cases_sha256: str | None = None
    """Of the `cases.jsonl` that it was computed from; None in older files."""
    lines: int | None = None
    """Of that file; None as above."""
    content: str | None = None
    """Digest of all other fields; None as above."""
    counts: dict[str, dict[str, int]]
    """Per task: cases done, skipped and failed, and unscored probes by reason."""
    means: tuple[Mean, ...]
    comparisons: tuple[Comparison, ...]
    health: tuple[Health, ...] = ()
    """For each row that edits, task and stage; none in older files."""
    consistency: tuple[Consistency, ...] = ()
    """For each row without any edit and each task; none in older files."""
