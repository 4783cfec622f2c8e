"""Units of work of a run, and what a worker returns for one.

A unit depends on the run and on files of finished units alone, so any worker can compute it, twice if need be, and the
result is the same. Units and results travel as JSON.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..results.records import CaseRecord, Provenance, Record, RunFile, digest_of
from ..results.resources import ChunkTime

Kind = Literal["training", "single", "joint", "sequence", "score"]


class Unit(Record):
    """Some rows of a run, and some of its cases.

    | kind | what it does | needs | gives |
    | --- | --- | --- | --- |
    | `training` | trains an editor | | its checkpoint |
    | `single` | edits and scores each case alone | checkpoints | |
    | `joint` | makes one edit of all cases, for each row | checkpoints | saved edits |
    | `sequence` | adds an edit of each case, scores it | checkpoints, the saved edits before | saved edits |
    | `score` | scores cases under saved edits | saved edits | |
    """

    kind: Kind
    rows: tuple[str, ...]
    cases: tuple[str, ...] = ()
    """Ids; in `joint` and `sequence` of the cases that are edited, in their order."""
    stage: str = ""
    """Of its lines; empty if it has none."""
    first: int = 0
    """Position in the stream of edits of the first edited case."""
    after: int = 0
    """Number of edits of the saved edits that cases are scored under."""
    needs: tuple[str, ...] = ()
    """Names of checkpoints and saved edits."""
    gives: tuple[str, ...] = ()

    @property
    def reads(self) -> int | None:
        """Number of edits of the saved edits that it starts from; None if it starts from the clean model."""
        return {"score": self.after, "sequence": self.first}.get(self.kind) or None

    @property
    def name(self) -> str:
        """Digest of the unit, unique within its run."""
        return digest_of(self)

    def __str__(self) -> str:
        """Return what it is, for messages."""
        what = {"training": "the training of", "joint": "the joint edit of"}.get(self.kind, "")
        rows = f"{what} {', '.join(self.rows)}".strip()
        if not self.cases:
            return rows
        last = f" to {self.cases[-1]}" if len(self.cases) > 1 else ""
        return f"{len(self.cases)} cases ({self.cases[0]}{last}) under {rows}"


class Result(BaseModel):
    """What a worker returns for a unit."""

    records: tuple[CaseRecord, ...] = ()
    times: tuple[ChunkTime, ...] = ()
    failures: dict[str, dict[str, str]] = {}
    """Why requests could not be edited in, by row and case."""
    requests: dict[str, int] = {}
    """Number of requests by row, of units that make saved edits."""
    unchanged: bool = True
    """Whether the base model's weights were the same after the unit as when they were loaded."""
    worker: str = ""
    """Machine and process; empty if the unit was computed in the process of the run itself."""
    memory: int = 0
    """Largest resident memory of that process so far, in bytes."""


class Job(BaseModel):
    """What a worker has to know to compute units of a run: paths as on the machine where the run was started."""

    model_config = ConfigDict(frozen=True)

    preset: str
    """Preset or file that the configuration comes from, for messages."""
    config: str
    """The `RunConfig`, as JSON."""
    place: str
    """Folder that relative paths start from."""
    folder: str
    """Folder of all runs."""
    checkpoints: str
    device: str | None = None
    device_map: str | None = None
    track: str | None = None
    base_passes: str | None = None
    """Folder of base passes."""
    digest: str | None = None
    """Of the run; None as long as it is not known."""
    provenance: Provenance | None = None
    """Of `run.json`: a worker with another version of the code or of a package refuses."""


class Call(BaseModel):
    """A unit of a job; without a unit, the worker returns the job's `run.json`."""

    job: Job | None
    """None in the process of the run itself."""
    unit: Unit | None


class Reply(BaseModel):
    """What `perform` returns for a call; `refused` is the sentence of an `InputError`."""

    result: Result | None = None
    run: RunFile | None = None
    notes: tuple[str, ...] = ()
    refused: str | None = None
