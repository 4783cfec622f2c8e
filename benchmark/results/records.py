"""The files a run leaves behind, as typed records: `run.json`, `cases.jsonl`, `summary.json`.

Reports read these and nothing else. Every record carries `schema_version`; a reader refuses a version it does not know.
Scores are `float | None`, never NaN, because JSON cannot carry NaN back. Nothing that differs between two equal runs
(times, paths, machine) stands in `cases.jsonl` or `summary.json`, so equal runs leave equal bytes there.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from instructedit.editors import InputError, InstructedProbes, Role
from instructedit.editors.files.jsonfile import parse_json, read_text

SCHEMA_VERSION: Literal[2] = 2


def readable(text: str) -> str:
    r"""Return a text that every file can hold: bytes of a file name that are not UTF-8 are written as \udcXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


Named = Annotated[str, AfterValidator(readable)]
"""What a user typed: words of a command line, names of files."""

SUITES = "suites"
"""Folder beside the runs that says which of them belong together."""

Measure = Literal["reliability", "generalization", "portability", "locality", "fluency"]
"""What is measured: the four probe roles and the fluency of free text."""

Protocol = Literal[
    "teacher_forced_token",
    "teacher_forced_exact",
    "free_generation",
    "edit_success",
    "z_sent",
    "z_topic",
    "kl_divergence",
    "ngram_entropy",
]
"""How an answer is read; `docs/metrics.md` explains each with a worked example."""

Method = Literal[
    "clopper_pearson",
    "bootstrap",
    "rule_of_three",
    "sign_flip",
    "bonett_price",
    "crossed_wilson",
    "crossed_t",
    "two_level",
    "definition",
    "none",
]
"""How a 95 % interval was made: `statistics.py` and `crossed.py`. `two_level` is the bootstrap of older suites, `none`
that the values say nothing of their spread, `definition` that the number could not have been another one."""


Split = Literal["test", "train", "validation"]
"""Which cases are evaluated; `validation` is the share of the training split that trained editors do not learn from."""

Schedule = Literal["single", "batch", "sequential"]
"""`single`: edit, score, discard; `batch`: joint edits of many cases; `sequential`: edits accumulate."""


class Record(BaseModel):
    """Base of all records: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingSpec(Record):
    """What a trained editor learns from."""

    label: str
    """Names the training among those of the run: its tasks joined by +, or what the setting calls it."""
    tasks: tuple[str, ...]
    weights: dict[str, float]
    """Share of each task in what is drawn."""
    limits: dict[str, int] = {}
    """Most cases of a task, those for validation included."""
    cases: dict[str, int]
    """Cases of each task that are trained on."""
    validation: dict[str, int]
    """Cases of each task that are kept for validation."""
    digest: str
    """Of all these cases and the weights."""
    instructions: str | None = None
    """Digest of the bank that their instructions are from; None for editors that read none."""
    checkpoint: str
    """Name of the trained editor's folder."""


class EditorSpec(Record):
    """One row of a run: its name, its registered method with version and complete configuration, what it is told."""

    name: str
    method: str
    version: str = "1"
    config: dict[str, Any] = {}
    materials: dict[str, str] | None = None
    """sha256 of each text and file that the editor declares (`Editor.materials`); without any None, and not written."""
    training: TrainingSpec | None = None
    """None for editors that are not trained."""
    instruction: str | None = None
    """Condition of the row's instructions; None where neither its editor nor its probes have any."""
    instructed_probes: InstructedProbes = "none"
    """Which probes of the edited model carry the instruction as a prefix. The unedited model that locality is held
    against is asked without one."""
    tasks: tuple[str, ...] | None = None
    """Tasks the row is evaluated on; None: all of the run."""

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = write(self)
        if self.materials is None:
            found.pop("materials", None)
        return found

    def evaluates(self, task: str) -> bool:
        """Tell whether the row is evaluated on a task of the run."""
        return self.tasks is None or task in self.tasks

    @property
    def is_base(self) -> bool:
        """Whether the row is the unedited model itself: nothing is edited, and no probe carries an instruction."""
        return self.method == "none" and self.instructed_probes == "none"


class TaskData(Record):
    """What one split of a task was read from and what became of every row."""

    task: str
    version: str
    """Version of the reader; a change of the reader that changes cases changes it."""
    source: str
    """`embedded`, `folder` or the hub data set's id."""
    revision: str | None
    """Resolved commit of a hub data set."""
    sha256: dict[str, str]
    """Digest of each file read, by its name within the data set."""
    licence: str
    citation: str
    rows: int
    """Rows of the split's file."""
    cases: int
    """Cases read from them, before any limit."""
    skipped: dict[str, int] = {}
    """What was left out or derived, counted by reason."""
    options: dict[str, Any] = {}
    """All options of the task."""


class GenerationSpec(Record):
    """The one decoder that all editors are read with."""

    max_new_tokens: int = Field(default=32, ge=0)
    """Most new tokens of an answer (greedy, natural stop); 0: answers are not generated."""
    fluency_tokens: int = Field(default=64, ge=1)
    """New tokens of a fluency text: fixed, end of text is not allowed before."""
    fluency_top_k: int = Field(default=5, ge=1)
    """Fluency texts are sampled from the k most likely tokens, each case with its own seed."""


class RunSpec(Record):
    """Everything that decides a run's numbers. Its digest is the run's id.

    Model and data stand in it by content (fingerprint, sha256), not by path, so that the same run on another machine
    has the same id.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    setting: str
    split: Split = "test"
    """Evaluated split. Hyper-parameters are chosen on `train` or `validation`, never on `test`."""
    schedule: Schedule = "single"
    edited: tuple[str, ...] | None = None
    """Tasks whose cases `batch` and `sequential` edit; None where each case is edited by itself."""
    batch_size: int | None = None
    """Edits of one joint edit of `batch`; the last may have fewer. None: all in one, or another schedule."""
    at: tuple[int, ...] = ()
    """Numbers of edits after which `sequential` scores all cases edited so far."""
    editors: tuple[EditorSpec, ...]
    tasks: tuple[str, ...]
    data: dict[str, dict[str, str]]
    """Per task: sha256 by file."""
    readers: dict[str, str]
    """Per task: version of its reader."""
    task_options: dict[str, dict[str, Any]] = {}
    """Per task that has any: all its options, those of tasks that are trained on among them."""
    model_fingerprint: str
    """sha256 over the model's configuration and over names, shapes, types and bytes of all weights."""
    tokenizer_fingerprint: str
    dtype: str
    instructions: str | None = None
    """Digest of the instruction bank; None where no editor of the run reads instructions."""
    limit: int | None = None
    """Most cases of a task; a smaller limit takes a subset of a larger one's."""
    seed: int = 0
    """Of the training and of all that is drawn afterwards."""
    chunk: int = 8
    """Cases that are edited and scored together."""
    generation: GenerationSpec = GenerationSpec()
    fluency: bool = True
    joints: str | None = None
    """Name of the rule that joins prompts and answers (`editors.scripts`); None where every text of the run is joined
    by one space, as in older versions."""

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name the run; see `digest_of`.

        Without `batch_size` and `joints` where they are None: runs from before these fields keep their names.
        """
        return digest_of(self, {name for name in ("batch_size", "joints") if getattr(self, name) is None})


class ModelTrial(Record):
    """What a short trial of the model found when it was loaded; see `editors/engine/trial.py`.

    Every way of computing that was kept gives the logits of plain forward passes, so that none of it enters the digest.
    """

    packing: str
    partial: bool
    generation: str
    starts: tuple[int, ...]
    fronts: bool = False
    """Of runs before version 1: whether outputs within the first patched block were cached."""
    late: bool
    sites: dict[str, int]
    """Number of sites by part."""
    notes: tuple[str, ...] = ()
    """A sentence on each way that cannot be used, and what is done instead."""


class Provenance(Record):
    """Where, when and with what a run was made. None of it enters the digest."""

    started: str
    command: list[Named]
    version: str
    git_revision: str | None
    python: str
    platform: str
    device: str
    threads: int
    packages: dict[str, str]
    model: Named
    """Folder or hub id as the user gave it."""
    model_revision: str | None
    trust_remote_code: bool = False
    """Whether code of the model's own was allowed to run."""
    code: str | None = None
    """sha256 of the code that the model brought along and that ran; None for an architecture of transformers."""
    model_type: str
    parameters: int
    trial: ModelTrial | None = None
    """None in files of older versions."""
    rules: dict[str, str] = {}
    """Names of the rules for texts: `joint` of prompt and answer, `normalisation` of answers, `words` of fluency. Empty
    in files of older versions."""


class Defaults(Record):
    """Options of a row that were left at defaults published for another model than the run's."""

    model: str
    """The model they were published for."""
    options: tuple[str, ...]
    """Their names, with dots for nested ones."""


class RunFile(Record):
    """`run.json`: written before the first case."""

    schema_version: Literal[2] = SCHEMA_VERSION
    digest: str
    name: Named
    """Preset or file the run was started from."""
    spec: RunSpec
    data: tuple[TaskData, ...]
    """The evaluated splits."""
    training: tuple[TaskData, ...] = ()
    """The training splits that editors learn from; test subjects are left out of them."""
    notes: dict[str, str] = {}
    """What the run's schedule makes of a row's method, by the row's name; see `Editor.schedule_notes`."""
    defaults: dict[str, Defaults] = {}
    """By row the options left at defaults of another model; they follow from configuration and model. None in files of
    older versions."""
    provenance: Provenance


class Score(Record):
    """One number of one probe (or of the whole case, for fluency)."""

    measure: Measure
    subset: str
    derived: bool = False
    protocol: Protocol
    value: FiniteFloat
    probe: int | None = None
    """Index into `CaseRecord.answers`; None for fluency."""


class Answer(Record):
    """What the edited model said to one probe, beside what was accepted."""

    role: Role
    subset: str
    derived: bool = False
    prompt: str
    accepted: tuple[str, ...]
    opposed: tuple[str, ...] = ()
    before: str | None = None
    """Greedy continuation of the unedited model."""
    generated: str | None = None
    """Greedy continuation as it came; the metrics cut it at its natural stop. None where the probe is not generated."""


class CaseRecord(Record):
    """One line of `cases.jsonl`: one case under one editor at one stage."""

    schema_version: Literal[2] = SCHEMA_VERSION
    run: str
    task: str
    case_id: str
    editor: str
    stage: str = "single"
    """When it was scored: `single`, after an edit of this case alone; `batch`, under a joint edit; `after-edit`,
    `after-K` and `after-all`, right after its own edit, after K and after all edits of a sequence."""
    prompt: str
    target: str
    subject: str
    instruction: str | None = None
    """Instruction of the edit, or of the probes alone."""
    status: Literal["done", "skipped", "failed"] = "done"
    reason: str | None = None
    """Why the case was skipped or failed, one sentence."""
    scores: tuple[Score, ...] = ()
    answers: tuple[Answer, ...] = ()
    text: str | None = None
    """The fluency text."""
    unscored: dict[str, int] = {}
    """Probes that could not be scored, counted by reason."""
    remarks: dict[str, int] = {}
    """What has to be known of probes that are scored, counted by sentence; not written where there is nothing."""
    edit: dict[str, float] = {}
    """Facts about the edit itself, e.g. `delta_norm`; `docs/metrics.md` explains each."""

    @model_serializer(mode="wrap")
    def _without_empty_remarks(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `remarks` out where empty, so that runs without any have the bytes of older versions."""
        fields: dict[str, Any] = handler(self)
        if not self.remarks:
            del fields["remarks"]
        return fields


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
    """p adjusted over the pairs of its column, `decide.py`; None in files of older versions."""


class Health(Record):
    """What the facts of single edits come to over the cases of a row, a task and a stage; see `health.py`."""

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
    """Those of them that did not reach it: a probability below a half."""
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
    """A check of the unedited model, see `consistency.py`: what free generation has right, teacher forcing has too."""

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


class RunSummary(Record):
    """`summary.json`: everything a table needs, computed from `cases.jsonl` alone."""

    schema_version: Literal[2] = SCHEMA_VERSION
    digest: str
    valid: bool
    """False when the base model's weights were not the same after the run as before."""
    invalid_reason: str | None = None
    complete: bool
    cases_sha256: str | None = None
    """Of the `cases.jsonl` that it was computed from; None in files of older versions, which did not record it."""
    lines: int | None = None
    """Of that file; None as above."""
    content: str | None = None
    """Digest of all other fields; None as above."""
    counts: dict[str, dict[str, int]]
    """Per task: cases done, skipped and failed, and unscored probes by reason."""
    means: tuple[Mean, ...]
    comparisons: tuple[Comparison, ...]
    health: tuple[Health, ...] = ()
    """For each row that edits, task and stage; none in files of older versions."""
    consistency: tuple[Consistency, ...] = ()
    """For each row without any edit and each task; none in files of older versions."""


R = TypeVar("R", bound=Record)


def digest_of(record: Record, left_out: Collection[str] = ()) -> str:
    """Return sixteen hexadecimal digits of the sha256 over the canonical JSON of a record, some fields left out."""
    content = record.model_dump(mode="json", exclude=set(left_out))
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_record(path: Path, kind: type[R]) -> R:
    """Read a file that holds one record.

    Raises:
        InputError: If there is no such file, or it holds something else or another schema version.
    """
    return parse_record(read_text(path, f"a {kind.__name__}"), kind, str(path))


def unlike(found: Record, expected: Record) -> str | None:
    """Return the first field in which a record on disk differs from the one that was expected, None if none does."""
    for field in type(expected).model_fields:
        if (value := getattr(found, field)) != (wanted := getattr(expected, field)):
            if isinstance(value, Record) and isinstance(wanted, Record):
                return f"{field}.{unlike(value, wanted)}"
            return f"{field}: {value}, {wanted} was expected"
    return None


def parse_record(text: str | bytes, kind: type[R], place: str) -> R:
    """Read a record from its JSON; `place` says where it stands.

    Raises:
        InputError: If it is not valid JSON, has another schema version, or a field is missing, mistyped or unknown.
    """
    fields = parse_json(text, place, f"a {kind.__name__}")
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    # Before anything else: an unknown version may have any fields, and their errors would hide the reason.
    if version != SCHEMA_VERSION:
        raise InputError(f"{place}: schema version {version}, but this program reads version {SCHEMA_VERSION}.")
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place}: field '{key}': {first['msg']}.") from error


def find_run(directory: Path) -> Path:
    """Return the folder of a run: the given one, or the only one in it.

    Raises:
        InputError: If there is none, or more than one.
    """
    if (directory / "run.json").is_file():
        return directory
    found = sorted(path.parent for path in directory.glob("*/run.json") if path.parent.name != SUITES)
    if not found:
        raise InputError(f"{directory}: no run in it; a folder with a run.json was expected.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{directory}: holds {len(found)} runs ({names}); name one of them.")
    return found[0]
