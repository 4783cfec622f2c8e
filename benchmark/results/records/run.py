"""`run.json`: the specification of a run, whose digest is its id, the data it reads, and its provenance."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from instructedit.editors import ChatFormat, InstructedProbes

from .base import FileRecord, Named, Record, Schedule, SparseRecord, Split, digest_of


class TrainingSpec(Record):
    """The training of an editor."""

    label: str
    """Name within the run: its tasks joined by +, or as the setting names it."""
    tasks: tuple[str, ...]
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    """Sampling weight of each task."""
    limits: dict[str, int] = {}
    """Maximum number of cases of a task, those for validation included."""
    cases: dict[str, PositiveInt]
    """Number of training cases of each task."""
    validation: dict[str, NonNegativeInt]
    """Number of validation cases of each task."""
    digest: str
    """Of these cases and the weights."""
    instructions: str | None = None
    """Digest of the instruction bank; None for editors that read no instructions."""
    checkpoint: str
    """Name of the checkpoint's folder."""


class EditorSpec(SparseRecord):
    """One row of a run: a method with version and complete configuration, its training and its instructions."""

    sparse = frozenset({"materials"})

    name: str
    method: str
    version: str = "1"
    config: dict[str, Any] = {}
    materials: dict[str, str] | None = None
    """sha256 of each text and file that the editor declares (`Editor.materials`); None and omitted without any."""
    training: TrainingSpec | None = None
    """None for editors that are not trained."""
    instruction: str | None = None
    """Condition of its instructions; None if neither its editor nor its probes have any."""
    instructed_probes: InstructedProbes = "none"
    """Which probes of the edited model carry the instruction as a prefix; the reference of locality never has one."""
    tasks: tuple[str, ...] | None = None
    """Tasks that the row is evaluated on; None: all of the run."""

    def evaluates(self, task: str) -> bool:
        """Return whether the row is evaluated on a task of the run."""
        return self.tasks is None or task in self.tasks

    @property
    def is_base(self) -> bool:
        """Whether the row is the unedited model itself: nothing is edited, and no probe carries an instruction."""
        return self.method == "none" and self.instructed_probes == "none"


class TaskData(Record):
    """The source of one split of a task, and how many cases its rows gave."""

    task: str
    version: str
    """Version of the reader; a change of the reader that changes cases changes it."""
    source: str
    """`embedded`, `folder`, `file` (own facts) or the hub data set's id."""
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
    """Rows and probes that were left out or derived, counted by reason."""
    options: dict[str, Any] = {}
    """All options of the task."""

    @property
    def left_out(self) -> dict[str, int]:
        """Rows, probes and replies that were left out of the whole file, before any limit, counted by reason."""
        return {reason: count for reason, count in self.skipped.items() if "left out" in reason}


class GenerationSpec(Record):
    """How answers and texts are generated, the same for all editors."""

    max_new_tokens: int = Field(default=32, ge=0)
    """Maximum number of new tokens of an answer (greedy, natural stop); 0: answers are not generated."""
    fluency_tokens: int = Field(default=64, ge=1)
    """Number of new tokens of a fluency text; it cannot end earlier."""
    fluency_top_k: int = Field(default=5, ge=1)
    """Fluency texts are sampled from the k most likely tokens, each case with its own seed."""


class Rescoring(Record):
    """Where rescored answers come from, and the rule that decides free generation (`scoring/rules.py`)."""

    run: str
    """Digest of the run that holds the answers."""
    rule: str
    """Name of a rule with its version, or `module:function`."""
    code: str | None = None
    """sha256 of that module's file."""


ADDED = ("batch_size", "joints", "old_answers", "references", "chat", "rescored")
"""Fields of `RunSpec` that were added later and are part of the digest only where they are set."""


class RunSpec(FileRecord):
    """Everything that decides a run's numbers. Its digest is the run's id.

    Model and data are identified by content (fingerprint, sha256), not by path, so the same run on another machine has
    the same id.
    """

    setting: str
    split: Split = "test"
    """Evaluated split. Hyper-parameters are chosen on `train` or `validation`, never on `test`."""
    schedule: Schedule = "single"
    edited: tuple[str, ...] | None = None
    """Tasks whose cases `batch` and `sequential` edit; None where each case is edited by itself."""
    batch_size: int | None = None
    """Requests of one joint edit of `batch`; the last may have fewer. None: all in one, or another schedule."""
    at: tuple[int, ...] = ()
    """Numbers of edits after which `sequential` scores all cases edited so far."""
    editors: tuple[EditorSpec, ...]
    tasks: tuple[str, ...]
    data: dict[str, dict[str, str]]
    """Per task: sha256 by file."""
    readers: dict[str, str]
    """Per task: version of its reader."""
    task_options: dict[str, dict[str, Any]] = {}
    """All options of each task that has any, training tasks included."""
    model_fingerprint: str
    """sha256 over the model's configuration and over names, shapes, types and bytes of all weights."""
    tokenizer_fingerprint: str
    dtype: str
    instructions: str | None = None
    """Digest of the instruction bank; None where no editor of the run reads instructions."""
    limit: PositiveInt | None = None
    """Maximum number of cases of a task; a smaller limit takes a subset of a larger one's."""
    seed: int = 0
    """Of training and of all sampling."""
    chunk: int = 8
    """Cases that are edited and scored together."""
    generation: GenerationSpec = GenerationSpec()
    fluency: bool = True
    joints: str | None = None
    """Name of the rule that joins prompts and answers (`editors.scripts`); None if one space joins all texts."""
    old_answers: str | None = None
    """Name of the rule by which old answers are scored; None where no case has one."""
    references: str | None = None
    """Name of the rule by which locality probes without an answer are read; None where every one has an answer."""
    chat: ChatFormat | None = None
    """Text around every prompt; None for bare prompts."""
    rescored: Rescoring | None = None
    """How saved answers of another run were scored again; None for a run of a model."""

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name the run; fields of `ADDED` are left out where they are None."""
        return digest_of(self, {name for name in ADDED if getattr(self, name) is None})


class ModelTrial(Record):
    """Result of the trial of a model at load; see `editors/engine/trial.py`.

    Every code path that is kept gives the logits of plain forward passes, so none of it is part of the digest.
    """

    packing: str
    generation: str
    starts: tuple[int, ...]
    partial: bool = False
    fronts: bool = False
    """Kept for runs of older versions: the last block ran some tokens only, outputs in blocks were cached."""
    late: bool
    sites: dict[str, int]
    """Number of sites by part."""
    notes: tuple[str, ...] = ()
    """A sentence on each code path that cannot be used, and on its replacement."""


class Provenance(Record):
    """Where, when and with what a run was made. None of it is part of the digest."""

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
    """Whether the model's own code was allowed to run."""
    code: str | None = None
    """sha256 of the model's own code that ran; None for an architecture of transformers."""
    model_type: str
    parameters: int
    trial: ModelTrial | None = None
    """None in files of older versions."""
    rules: dict[str, str] = {}
    """Names of the rules for texts: `joint` of prompt and answer, `normalisation` of answers, `words` of fluency."""
    taken_from: tuple[str, ...] = ()
    """Digests of finished runs some of whose lines were taken over (`results/earlier.py`)."""


class Defaults(Record):
    """Options of a row that have their defaults, which were published for another model than the run's."""

    model: str
    """The model they were published for."""
    options: tuple[str, ...]
    """Their names, with dots for nested ones."""


class RunFile(FileRecord):
    """`run.json`: written before the first case."""

    digest: str
    name: Named
    """Preset or file the run was started from."""
    label: Named | None = None
    """Which of its runs this is; None if it was not started as one of a suite."""
    spec: RunSpec
    data: tuple[TaskData, ...]
    """The evaluated splits."""
    training: tuple[TaskData, ...] = ()
    """The training splits; test subjects are left out of them."""
    notes: dict[str, str] = {}
    """How the schedule changes a row's method, by the row's name; see `Editor.schedule_notes`."""
    defaults: dict[str, Defaults] = {}
    """By row the options with defaults of another model."""
    titles: dict[str, str] = {}
    """Titles of methods and tasks by their registered names, e.g. `ft-m`: `FT-M`; empty in files of older versions."""
    provenance: Provenance

    @property
    def counts(self) -> dict[str, int]:
        """Number of evaluated cases of each task."""
        return {data.task: min(data.cases, self.spec.limit or data.cases) for data in self.data}
