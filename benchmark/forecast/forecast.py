"""What a run will train, edit and test, and the memory and disk space that it cannot do without.

Everything follows from shapes on the meta device: weights, trained networks, optimisers. Activations, caches and edits
come on top; a chunk that exceeds the memory is computed in halves (`run.out_of_memory`). Time is not forecast: the run
measures its first chunks (`run.progress`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from instructedit.editors import ChatFormat, DamagedError, InputError, MetaModel, Site, TrainedEditor
from instructedit.editors.files.state import read_object
from instructedit.editors.models.loading import DTYPES

from ..results.checkpoint import RECORD, Checkpoint
from ..results.records import read_record
from ..setup.config import EMBEDDED_MODEL, RunConfig
from ..setup.data import PUBLISHED
from ..setup.model_checks import (
    cannot_edit,
    cannot_edit_notes,
    chat_of,
    check_generation,
    foreign_defaults,
    foreign_defaults_note,
)
from ..setup.resolve import ResolvedRun
from ..setup.training_sets import Training

FLOAT = 4
"""Bytes of a network's parameter: networks are float32 whatever the model is."""
ADAM = 4
"""Tensors per parameter while a network is trained: value, gradient and Adam's two moments."""
SAVES = 6
"""Further copies of a network on disk while it is trained: the state twice while it is replaced, the best weights."""


@dataclass(frozen=True, slots=True)
class EditorForecast:
    """The rows of one editor."""

    editor: str
    """Key of the editor in the configuration."""
    rows: int
    sites: tuple[Site, ...]
    parameters: int
    """Trainable parameters of its network; 0 for editors that are not trained."""
    networks: int
    """Its trained networks, which stay in memory during the run."""
    trainings: int
    """Its trainings that no earlier run of the suite has."""
    missing: int
    """How many of them have no checkpoint."""
    results: int
    """Scored cases over all rows."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take, with sentences on model and editors, and on the data."""

    label: str
    run: ResolvedRun
    meta: MetaModel
    editors: tuple[EditorForecast, ...]
    notes: tuple[str, ...]
    data_notes: tuple[str, ...]

    @property
    def weights(self) -> int:
        """Bytes of the model's weights."""
        return self.meta.parameters * DTYPES[self.run.config.dtype].itemsize

    @property
    def published(self) -> bool:
        """Whether placeholders stand for data that are not on this machine."""
        return any(data.source == PUBLISHED for data in (*self.run.data, *self.run.training_data))

    @property
    def peak(self) -> tuple[int, str]:
        """Bytes that the run holds at least when it holds most, and when that is."""
        held, phases = self.weights, [(self.weights, "the model")]
        for own in self.editors:
            if own.missing:
                phases.append((held + ADAM * FLOAT * own.parameters, f"training {own.editor}"))
            held += FLOAT * own.parameters * own.networks
        return max([*phases, (held, "editing")], key=lambda phase: phase[0])

    @property
    def disk(self) -> int:
        """Bytes that the checkpoints take at most."""
        missing = [own for own in self.editors if own.missing]
        saves = max((SAVES * own.parameters for own in missing), default=0)
        return FLOAT * (sum(own.parameters * own.missing for own in missing) + saves)


def meta_model_of(config: RunConfig) -> MetaModel:
    """Return the model of a configuration with shapes instead of weights; `InputError` if it could not be loaded."""
    path = EMBEDDED_MODEL if config.model == "embedded" else config.model
    with config.origin.at("model"):
        return MetaModel.load(path, config.revision, trust_remote_code=config.trust_remote_code)


def forecast(label: str, run: ResolvedRun, meta: MetaModel, checkpoints: Path, known: set[tuple[str, ...]]) -> Forecast:
    """Work out what a run will take.

    Trainings that are `known` from earlier runs of the suite are not counted; those of this run are added to them.

    Raises:
        InputError: If the model cannot generate such texts, or lacks a block that an option names.
    """
    check_generation(run.config, run.name, meta.context, len(meta.tokenizer) if meta.tokenizer else meta.vocabulary)
    chat = chat_of(run, meta.tokenizer) if meta.tokenizer else None
    notes = (
        *meta.notes,
        *foreign_defaults_note(run.rows, foreign_defaults(run.rows, run.editors, meta)),
        *cannot_edit_notes(run, meta),
    )
    editors = tuple(_editor(run, key, meta, chat, checkpoints, known) for key in run.config.editors)
    return Forecast(label, run, meta, editors, notes, tuple(_data_notes(run)))


def _editor(
    run: ResolvedRun, key: str, meta: MetaModel, chat: ChatFormat | None, checkpoints: Path, known: set[tuple[str, ...]]
) -> EditorForecast:
    rows = [row for row in run.rows if row.editor == key]
    editor = run.editors[rows[0].name]
    able = cannot_edit(editor, meta) is None
    names = {row.name for row in rows}
    own = [training for training in run.trainings if able and training.rows[0] in names]
    new = [training for training in own if _key(training, chat) not in known]
    known |= {_key(training, chat) for training in new}
    return EditorForecast(
        editor=key,
        rows=len(rows),
        sites=tuple(editor.sites(meta)) if able else (),
        parameters=editor.parameters(meta) if able and isinstance(editor, TrainedEditor) else 0,
        networks=len(own),
        trainings=len(new),
        missing=sum(not _has_checkpoint(checkpoints, training, meta, chat, run.config.seed) for training in new),
        results=sum(len(run.cases[task]) for row in rows for task in row.tasks),
    )


def _key(training: Training, chat: ChatFormat | None) -> tuple[str, ...]:
    """Return what identifies a training within a suite, apart from model and seed."""
    return training.editor.name, training.editor.config.model_dump_json(), training.cases.digest, repr(chat)


def _has_checkpoint(root: Path, training: Training, meta: MetaModel, chat: ChatFormat | None, seed: int) -> bool:
    """Tell whether a training is finished, as far as that can be known without the model's weights."""
    editor, digest = training.editor, training.cases.digest
    shape = {"vocabulary": meta.vocabulary, "width": meta.width}
    for path in root.glob(f"{editor.name}-*-{digest[:8]}-*/{RECORD}"):
        try:
            found = read_record(path, Checkpoint)
            built_for = read_object(path.parent / "editor.json").get("shape") if editor.saved(path.parent) else None
        except (InputError, DamagedError):  # the training reports what is wrong
            continue
        wanted = editor.config.model_dump(mode="json"), seed, digest, chat
        same = (found.config, found.seed, found.training, found.chat) == wanted
        if same and isinstance(built_for, dict) and shape.items() <= built_for.items():
            return True
    return False


def _data_notes(run: ResolvedRun) -> Iterator[str]:
    """Yield sentences on the data: what differs from the published files, and what was left out of each file."""
    yield from run.notes
    for split, entries in ((run.config.split, run.data), ("train", run.training_data)):
        for entry in entries:
            if entry.skipped:
                reasons = ", ".join(f"{reason} ({count:,})" for reason, count in entry.skipped.items())
                files = ", ".join(entry.sha256)
                yield f"{entry.task}, {split} ({files}), {entry.rows:,} rows, {entry.cases:,} cases: {reasons}."
