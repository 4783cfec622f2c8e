"""The files of a suite, as typed records: `suites/NAME.json` names its runs, `suite.json` sums them up."""

from pathlib import Path
from typing import Literal

from instructedit.editors import InputError

from .records import (
    SUITES,
    FileRecord,
    Health,
    Measure,
    Method,
    Named,
    Protocol,
    Record,
    RunFile,
    Schedule,
    read_record,
)


class SuiteEntry(Record):
    """One run of a suite."""

    label: str
    setting: str
    schedule: Schedule
    seed: int
    digest: str
    """Names the run's folder."""


class SuiteFile(FileRecord):
    """`suites/NAME.json` beside the runs: which of them belong together."""

    name: Named
    """Preset or file the suite was read from."""
    runs: tuple[SuiteEntry, ...]


Question = Literal["mend", "unseen", "control", "drop"]
"""What two rows of a suite are compared for: InstructEdit against MEND, an unseen description against the seen ones, an
an uninformative instruction against the seen ones, training on one task against training on the tested one."""


class SeedMean(Record):
    """One cell over seeds: a mean over seeds and cases with its 95 % interval; of one seed that of its run."""

    row: str
    task: str
    stage: str = "single"
    measure: Measure
    derived: bool
    protocol: Protocol
    mean: float
    low: float | None
    high: float | None
    method: Method = "two_level"
    n: int
    """Cases that were scored under every seed."""
    per_seed: tuple[float, ...]
    """Mean over these cases under each seed of the group."""


class SideMean(Record):
    """One side of a comparison: its mean over the same cases, with its 95 % interval."""

    mean: float
    low: float | None
    high: float | None
    method: Method = "two_level"
    per_seed: tuple[float, ...] = ()


class SeedPair(Record):
    """Two rows of a group on the same cases and seeds: mean of the paired differences (`row` minus `other`)."""

    row: str
    other: str
    task: str
    stage: str = "single"
    measure: Measure
    derived: bool
    protocol: Protocol
    difference: float
    low: float | None
    high: float | None
    method: Method = "two_level"
    n: int
    """Cases that were scored in both rows under every seed."""
    p: float | None = None
    """Test of the difference: over seeds and cases, of one seed that of its run; None in older files."""
    p_holm: float | None = None
    """p adjusted over the pairs of its column: `decision.py`."""


class SeedComparison(Record):
    """Two rows of a suite on the same cases and seeds: mean of the paired differences (`first` minus `second`)."""

    question: Question
    first: str
    """A row, or what several rows have in common."""
    second: str
    rows: tuple[str, ...]
    """Rows of `first`; a case's value is the mean over them."""
    others: tuple[str, ...]
    """Rows of `second`."""
    task: str
    stage: str = "single"
    measure: Measure
    derived: bool
    protocol: Protocol
    difference: float
    low: float | None
    high: float | None
    method: Method = "two_level"
    n: int
    """Cases that were scored in all these rows under every seed."""
    p: float | None = None
    """As `SeedPair.p`."""
    p_holm: float | None = None
    """That of the pair where each side is one row; else adjusted over the column's comparisons of several rows."""
    per_seed: tuple[float, ...]
    sides: tuple[SideMean, SideMean] | None = None
    """Means of `first` and `second` over these cases; None in older files."""


class SuiteGroup(Record):
    """Runs of a suite that differ in the seed alone."""

    label: str
    run: RunFile
    """The run of the first seed."""
    seeds: tuple[int, ...]
    digests: tuple[str, ...]
    """The run of each seed."""
    failed: dict[str, dict[str, int]]
    """Per task and row: cases that failed or were skipped, over all seeds."""
    means: tuple[SeedMean, ...]
    comparisons: tuple[SeedComparison, ...]
    pairs: tuple[SeedPair, ...] = ()
    """The pairs of rows that `summary.json` compares too, over all seeds; none in older files. Without
    fluency, of which more is not always better."""
    health: tuple[Health, ...] = ()
    """As in `summary.json`, over the edits of all seeds; none in older files."""


class SuiteSummary(FileRecord):
    """`suite.json`: everything the tables of a suite need, computed from the lines of its runs."""

    name: str
    warnings: tuple[str, ...]
    """What makes the numbers unfit for use, or is missing from them."""
    groups: tuple[SuiteGroup, ...]


def find_suite(path: Path) -> tuple[Path, SuiteFile] | None:
    """Return the folder of a suite's runs and its index; None where there is at most one run.

    The path is the folder of all runs, or the index of a suite, `suites/NAME.json`, with or without `.json`.
    `InputError` if the folder holds several suites, or the index cannot be read.
    """
    if path.parent.name != SUITES and len(found := _indices(path)) > 1:
        names = ", ".join(str(index) for index in found)
        raise InputError(f"{path}: holds {len(found)} suites; name one of them, or the folder of a run: {names}.")
    suites = find_suites(path)
    several = path.parent.name == SUITES or (bool(suites) and len(suites[0][1].runs) > 1)
    return suites[0] if several else None


def find_suites(path: Path) -> list[tuple[Path, SuiteFile]]:
    """Return the folder of runs and the index of each suite, by name; arguments and errors as `find_suite`."""
    if path.parent.name == SUITES:
        return [(path.parent.parent, read_record(path.with_name(f"{path.name.removesuffix('.json')}.json"), SuiteFile))]
    return [(path, read_record(index, SuiteFile)) for index in _indices(path)]


def each_suite(path: Path) -> dict[str, Path]:
    """Return each suite of a folder of all runs by its name; any other path as it is, without a name."""
    found = _indices(path) if path.parent.name != SUITES else []
    return {index.stem: index for index in found} if len(found) > 1 else {"": path}


def _indices(path: Path) -> list[Path]:
    return [] if (path / "run.json").is_file() else sorted((path / SUITES).glob("*.json"))
