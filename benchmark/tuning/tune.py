"""A seeded random search over the ranges that an editor declares, on training or validation cases only.

Every trial is an ordinary run of one row, kept in a folder of its own. So a search that was stopped resumes, a longer
one begins with the trials of a shorter one, and nothing is computed twice. Trial 0 is the row as the preset has it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from instructedit.editors import InputError, LanguageModel
from instructedit.editors.files.atomic import write_whole
from instructedit.editors.search import replaced

from ..results.checkpoint import RECORD
from ..results.records import RunSummary, read_record
from ..results.run_folder import RunFolder, StorageError, write_record
from ..results.tuning_trail import DEFINITION, Trail, Trial
from ..run.prepare import ModelLoader, prepare
from ..run.runner import run
from ..setup.config import RunConfig, read_document
from ..setup.resolve import resolve
from .plan import Search, TuneOptions
from .score import Scored, gain, read_scores, total


@dataclass(frozen=True, slots=True)
class TuneFolder:
    """Where a search keeps its files, and how it reports."""

    out: Path
    """Folder of all runs; checkpoints are shared with them."""
    name: str
    """Stem of the preset, which names the search's files."""
    command: Sequence[str] = ()
    report: Callable[[str], None] = lambda _: None
    progress: bool = False

    @property
    def file(self) -> Path:
        """The TOML file with the best options."""
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
    options: TuneOptions,
    folder: TuneFolder,
    *,
    device: str | None = None,
    device_map: str | None = None,
    finished: Callable[[Path], None] = lambda _: None,
) -> tuple[Trail, ...]:
    """Search the options of every row and write the preset with the best options.

    `finished` receives the path of each row's finished `trail.json`.

    Raises:
        InputError: If the model or a file of the search cannot be used.
        StorageError: If a file cannot be written.
    """
    trails = []
    loader = ModelLoader(device, device_map)
    for search in searches:
        trails.append(_search(search, loader.load(search.base.config), folder))
        finished(write_record(folder.trail(search.row), trails[-1]))
    try:
        write_whole(folder.file, tuned_preset(options, trails))
    except OSError as error:
        raise StorageError(f"{folder.file}: cannot be written ({error.strerror}).") from error
    return tuple(trails)


def _search(search: Search, model: LanguageModel, folder: TuneFolder) -> Trail:
    options, row, config = search.options, search.row, search.base.config
    for note in search.notes:
        folder.report(f"note: {note}")
    trials: list[Trial] = []
    scores: list[tuple[Scored, ...]] = []
    best = 0
    for number in range(options.budget):
        trial, scored = _trial(search, number, model, folder)
        trials.append(trial)
        scores.append(scored)
        if trial.rank > trials[best].rank:
            best = number
        folder.report(
            f"{row}, trial {number} of 0 to {options.budget - 1}: {100 * trial.score:.1f}; "
            f"best {100 * trials[best].score:.1f} in trial {best}" + (f". {trial.reason}" if trial.reason else "")
        )
    _, unedited = _run(search, config.model_copy(update={"editors": {"none": {}}}), model, folder)
    return Trail(
        name=options.preset,
        row=row,
        method=search.editor.name,
        version=search.editor.version,
        seed=options.seed,
        budget=options.budget,
        ranges={name: str(own) for name, own in search.editor.search.items()},
        setting=config.setting,
        split=config.split,
        train=search.train,
        cases=search.counts,
        data={entry.task: dict(entry.sha256) for entry in search.base.data},
        model=config.model,
        model_fingerprint=model.fingerprint(),
        unedited=tuple(task.record() for task in unedited),
        trials=tuple(trials),
        best=best,
        gain=gain(scores[best], scores[0], f"tune|{row}") if best and scores[0] else None,
    )


def _trial(search: Search, number: int, model: LanguageModel, folder: TuneFolder) -> tuple[Trial, tuple[Scored, ...]]:
    """Run one trial; options that the model or the editor refuses score 0."""
    options = search.drawn(number)
    try:
        options = search.measured(number, model)
        digest, scored = _run(search, search.with_options(options if number else {}), model, folder)
    except InputError as error:
        # a file of the search that cannot be used is not the options' fault
        if isinstance(error, StorageError) or str(error).startswith(str(folder.runs)) or RECORD in str(error):
            raise
        reason = str(error).replace(f"{folder.out}/", "")
        return Trial(number=number, options=options, run=None, score=0.0, reason=reason), ()
    reasons = [text for task in scored for text in task.reasons]
    count = sum(search.counts.values())
    trial = Trial(
        number=number,
        options=options,
        run=digest,
        tasks=tuple(task.record() for task in scored),
        score=total(scored),
        reason=f"{len(reasons)} of {count} edits failed; the first: {reasons[0]}" if reasons else None,
    )
    return trial, scored


def _run(search: Search, config: RunConfig, model: LanguageModel, folder: TuneFolder) -> tuple[str, tuple[Scored, ...]]:
    """Return a run's digest and its cases; what is on disk is not computed again."""
    resolved = resolve(config, search.options.preset, search.reader)
    prepared = prepare(resolved, folder.command, model=model)
    path = run(prepared, folder.runs, checkpoints=folder.out / "checkpoints", progress=folder.progress)
    if reason := read_record(path / "summary.json", RunSummary).invalid_reason:
        raise InputError(f"{path}: the run is invalid. {reason}")
    return prepared.file.digest, read_scores(RunFolder(path).records(prepared.file), config.tasks)


def tuned_preset(options: TuneOptions, trails: Sequence[Trail]) -> str:
    """Return the preset as a TOML document with the best options of each row."""
    document = read_document(options.preset)
    tables: list[dict[str, Any]] = [document, *document.get("runs", [])]
    replaced_keys = {*options.given, *(["revision"] if "model" in options.given else [])}
    for table in tables:
        for key in replaced_keys & table.keys():
            del table[key]
    document |= options.given
    document.setdefault("editors", {"none": {}})
    comments = [f"{options.preset} with options found by `instructedit tune`, on no test case."]
    comments.append(f"Score: {DEFINITION}.")
    for trail in trails:
        own = [table["editors"] for table in tables if trail.row in table.get("editors", {})]
        for rows in own or [document["editors"]]:
            rows[trail.row] = _with_best(rows, trail)
        comments.append(_comment(trail))
    head = "".join(f"# {line}\n" for line in comments)
    return f"{head}\n{tomli_w.dumps(document)}"


def _with_best(rows: Mapping[str, Mapping[str, Any]], trail: Trail) -> dict[str, Any]:
    """Return the options of a searched row with the best ones in them.

    A row that extends another inherits a group such as `training` as a whole if it has none itself: such a group is
    written with all options that the trial had.
    """
    found = dict(rows.get(trail.row, {}))
    values = trail.winner.options if trail.best else {}
    inherited = rows.get(str(found.get("extends")), {})
    for group in {name.partition(".")[0] for name in values if "." in name} & (inherited.keys() - found.keys()):
        found[group] = inherited[group]
    return replaced(found, values)


def _comment(trail: Trail) -> str:
    found = f"{100 * trail.trials[0].score:.1f} before"
    if trail.best:
        found = f"{100 * trail.winner.score:.1f} in trial {trail.best}, {found}"
    cases = ", ".join(f"{task} {count}" for task, count in trail.cases.items())
    return (
        f"{trail.row}: score {found}; {trail.budget} trials, seed {trail.seed}, split {trail.split} ({cases}), model "
        f"{trail.model_fingerprint[:16]}; see {trail.row}/trail.json."
    )
