"""A seeded random search over the ranges that an editor declares, on training or validation cases only.

Every trial is an ordinary run of one row, kept in a folder of its own. So a search that was stopped resumes, a longer
one begins with the trials of a shorter one, and nothing is computed twice. Trial 0 is the row as it stands.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructedit.editors import InputError, LanguageModel
from instructedit.editors.files.atomic import write_whole
from instructedit.editors.search import replaced

from ..results.checkpoint import RECORD
from ..results.records import RunSummary, read_record
from ..results.run_folder import StorageError, Store, write_record
from ..results.tuning_trail import DEFINITION, Trail, Trial
from ..run.runner import load_model, prepare, run
from ..setup.config import RunConfig, read_document
from ..setup.toml_text import dumps
from .plan import Search, Wanted
from .score import Scored, gain, read, total


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a search keeps its files, and how it reports.

    Attributes:
        out: Folder of all runs; checkpoints are shared with them.
        name: Stem of the preset, which names the search's files.
        command: The command line.
        report: Takes sentences for the user.
        progress: Whether to show progress bars.
    """

    out: Path
    name: str
    command: Sequence[str] = ()
    report: Callable[[str], None] = lambda _: None
    progress: bool = False

    @property
    def file(self) -> Path:
        """The TOML file with the winning options."""
        return self.out / "tune" / f"{self.name}.toml"

    @property
    def runs(self) -> Path:
        """Folder of the trials' runs."""
        return self.out / "tune" / self.name / "runs"

    def trail(self, row: str) -> Path:
        """Return the record of a row's search."""
        return self.out / "tune" / self.name / row / "trail.json"


def tune(
    searches: Sequence[Search],
    wanted: Wanted,
    place: Workplace,
    *,
    device: str | None = None,
    device_map: str | None = None,
    finished: Callable[[Path], None] = lambda _: None,
) -> tuple[Trail, ...]:
    """Search the options of every row and write the preset with the winners in it.

    Args:
        searches: What `tune_plan.searches` returned.
        wanted: What was asked for.
        place: Where the files go.
        device: See `load_model`.
        device_map: See `load_model`.
        finished: Takes the path of each finished `trail.json`.

    Returns:
        The record of each row's search.

    Raises:
        InputError: If the model or a file of the search cannot be used.
        StorageError: If a file cannot be written.
    """
    trails = []
    loaded: tuple[tuple[str, str | None, str, bool], LanguageModel] | None = None
    for one in searches:
        key = (one.config.model, one.config.revision, one.config.dtype, one.config.trust_remote_code)
        if loaded is None or loaded[0] != key:
            loaded = None  # releases the one before: two large models would not fit
            loaded = (key, load_model(one.config, device=device, device_map=device_map))
        trails.append(search(one, loaded[1], place))
        finished(write_record(place.trail(one.row), trails[-1]))
    try:
        write_whole(place.file, written(wanted, trails))
    except OSError as error:
        raise StorageError(f"{place.file}: cannot be written ({error.strerror}).") from error
    return tuple(trails)


def search(asked: Search, model: LanguageModel, place: Workplace) -> Trail:
    """Run the trials of one row, or read those that are there."""
    wanted, row = asked.wanted, asked.row
    for note in asked.notes:
        place.report(f"note: {note}")
    trials: list[Trial] = []
    found: list[tuple[Scored, ...]] = []
    best = 0
    for number in range(wanted.budget):
        trial, scored = _trial(asked, number, model, place)
        trials.append(trial)
        found.append(scored)
        if trial.rank > trials[best].rank:
            best = number
        place.report(
            f"{row}, trial {number} of 0 to {wanted.budget - 1}: {100 * trial.score:.1f}; "
            f"best {100 * trials[best].score:.1f} in trial {best}" + (f". {trial.reason}" if trial.reason else "")
        )
    _, unedited = _run(asked.config.model_copy(update={"editors": {"none": {}}}), asked, model, place)
    return Trail(
        name=wanted.preset,
        row=row,
        method=asked.editor.name,
        version=asked.editor.version,
        seed=wanted.seed,
        budget=wanted.budget,
        ranges={name: str(own) for name, own in asked.editor.search.items()},
        setting=asked.config.setting,
        split=asked.config.split,
        train=asked.train,
        cases=dict(asked.counts),
        data={task: dict(own) for task, own in asked.data.items()},
        model=asked.config.model,
        model_fingerprint=model.fingerprint(),
        unedited=tuple(task.record() for task in unedited),
        trials=tuple(trials),
        best=best,
        gain=gain(found[best], found[0], f"tune|{row}") if best and found[0] else None,
    )


def _trial(asked: Search, number: int, model: LanguageModel, place: Workplace) -> tuple[Trial, tuple[Scored, ...]]:
    """Run one trial; options that the model or the editor refuses score 0."""
    options = asked.drawn(number)
    try:
        options = asked.options(number, model)
        digest, scored = _run(asked.with_options(options if number else {}), asked, model, place)
    except InputError as error:
        # what is wrong with a file of the search is not the options' fault
        if isinstance(error, StorageError) or str(error).startswith(str(place.runs)) or RECORD in str(error):
            raise
        reason = str(error).replace(f"{place.out}/", "")
        return Trial(number=number, options=options, run=None, score=0.0, reason=reason), ()
    reasons = [text for task in scored for text in task.reasons]
    count = sum(asked.counts.values())
    return (
        Trial(
            number=number,
            options=options,
            run=digest,
            tasks=tuple(task.record() for task in scored),
            score=total(scored),
            reason=f"{len(reasons)} of {count} edits failed; the first: {reasons[0]}" if reasons else None,
        ),
        scored,
    )


def _run(config: RunConfig, asked: Search, model: LanguageModel, place: Workplace) -> tuple[str, tuple[Scored, ...]]:
    """Return a run's digest and its cases; what is on disk is not computed again."""
    prepared = prepare(config, asked.wanted.preset, place.command, model=model)
    folder = run(prepared, place.runs, checkpoints=place.out / "checkpoints", progress=place.progress)
    if reason := read_record(folder / "summary.json", RunSummary).invalid_reason:
        raise InputError(f"{folder}: the run is invalid. {reason}")
    return prepared.file.digest, read(Store(folder).records(prepared.file), config.tasks)


def written(wanted: Wanted, trails: Sequence[Trail]) -> str:
    """Return the preset as a TOML document, with the winning options of each row in it."""
    document = read_document(wanted.preset)
    tables: list[dict[str, Any]] = [document, *document.get("runs", [])]
    stale = {*wanted.given, *(["revision"] if "model" in wanted.given else [])}
    for table in tables:
        for key in stale & table.keys():
            del table[key]
    document |= wanted.given
    document.setdefault("editors", {"none": {}})
    comments = [f"{wanted.preset} with options found by `instructedit tune`, on no test case.", f"Score: {DEFINITION}."]
    for trail in trails:
        own = [table["editors"] for table in tables if trail.row in table.get("editors", {})]
        for rows in own or [document["editors"]]:
            rows[trail.row] = _with_winner(rows, trail)
        comments.append(_told(trail))
    return dumps(document, comments)


def _with_winner(rows: Mapping[str, Mapping[str, Any]], trail: Trail) -> dict[str, Any]:
    """Return the options of a searched row with the winning ones in them.

    A row that extends another takes over a group such as `training` as a whole, where it gives none: a group of which
    one option was found is written with all options that the trial had.
    """
    found = dict(rows.get(trail.row, {}))
    values = trail.winner.options if trail.best else {}
    taken_over = rows.get(str(found.get("extends")), {})
    for group in {name.partition(".")[0] for name in values if "." in name} & (taken_over.keys() - found.keys()):
        found[group] = taken_over[group]
    return replaced(found, values)


def _told(trail: Trail) -> str:
    """Return one line on a row's search."""
    found = f"{100 * trail.trials[0].score:.1f} before"
    if trail.best:
        found = f"{100 * trail.winner.score:.1f} in trial {trail.best}, {found}"
    cases = ", ".join(f"{task} {count}" for task, count in trail.cases.items())
    return (
        f"{trail.row}: score {found}; {trail.budget} trials, seed {trail.seed}, split {trail.split} ({cases}), model "
        f"{trail.model_fingerprint[:16]}; see {trail.row}/trail.json."
    )
