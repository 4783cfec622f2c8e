"""The edit of a run, from its files: made again for one case, or read as a schedule has left it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from instructedit.benchmark.results.integrity import read_run
from instructedit.benchmark.results.records import CaseRecord, EditorSpec, RunFile, find_run
from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.benchmark.results.stages import AFTER_ALL, BATCH, SINGLE, stream_key
from instructedit.benchmark.run.accumulated import AccumulatedEdit
from instructedit.benchmark.run.training import editor_of_row
from instructedit.benchmark.scoring.scoring import edit_each
from instructedit.benchmark.tasks.base import make_task
from instructedit.benchmark.tasks.sources import open_source
from instructedit.editors import EDITORS, Editor, EditRequest, InputError, LanguageModel, did_you_mean, make
from instructedit.editors.changes import change_facts
from instructedit.editors.models.loading import Origin

from .edited import Edited
from .models import Model, load

LAST = {"batch": BATCH, "sequential": AFTER_ALL}
"""The stage whose edit a run of a schedule keeps."""


def edit_of_run(
    run: str | Path,
    case: str | None = None,
    *,
    editor: str,
    stage: str | None = None,
    model: str | Path | Model | None = None,
    data: str | None = None,
    checkpoints: str | Path | None = None,
    device: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Edited:
    """Return the edited model of a run.

    Args:
        run: Folder of the run, or of a single run in it.
        case: Id of the case, in a run that edits each case alone; its edit is made again from the run's model, options,
            request and seed.
        editor: Name of the row.
        stage: `after-all` or `batch`, in a run of these schedules: the edit that the run has saved.
        model: The run's model, if it is elsewhere now; its weights must be the run's.
        data: The run's data, for attitude edits of a folder's data, whose replies the run's files do not hold.
        checkpoints: Folder of trained editors; by default `checkpoints` beside the run.
        device: As of `load`.
        report: Receives sentences for the user.

    Raises:
        InputError: If the run has no such case, row or stage, or the model or the editor is not the run's.
        DamagedError: If a file is not what was written.
    """
    folder = find_run(Path(run))
    file = read_run(folder / "run.json")
    spec, path = file.spec, folder / "run.json"
    rows = {row.name: row for row in spec.editors}
    if editor not in rows:
        raise InputError(f"{path}: no row '{editor}'.{did_you_mean(editor, list(rows))}")
    wanted = LAST.get(spec.schedule)
    if wanted is None and (case is None or stage not in (None, SINGLE)):
        raise InputError(f"{path}: the run edits each case alone; the id of a case was expected, and no other stage.")
    if wanted is not None and (case is not None or stage not in (None, wanted)):
        raise InputError(
            f"{path}: of the schedule '{spec.schedule}' one edit is kept; no case and --stage {wanted} "
            f"were expected, found {case or stage}."
        )
    lines = [own for own in RunFolder(folder).records(file) if own.stage == (wanted or SINGLE)]
    records = {own.case_id: own for own in lines if own.editor == editor}
    if wanted is None and case not in records:
        raise InputError(f"{folder}: the row '{editor}' has no case '{case}'.{_some(list(records))}")
    own_model = model if isinstance(model, Model) else _model(file, model, device)
    if own_model.language_model.identity != spec.model_fingerprint:
        raise InputError(
            f"{path}: the run's model has the fingerprint {spec.model_fingerprint[:12]}, but {own_model.origin.place} "
            f"has {own_model.language_model.identity[:12]} in {spec.dtype}; name the run's model."
        )
    loaded = own_model.language_model.in_chat(spec.chat)
    own_editor = _editor(rows[editor], Path(checkpoints) if checkpoints else folder.parent / "checkpoints", path)
    if case is not None:
        record = records[case]
        if record.status != "done":
            raise InputError(f"{folder}: the case '{case}' has no edit under '{editor}': {record.reason}")
        made = _again(loaded, own_model.origin, own_editor, _requests(file, [record], data), spec.seed)
        _compare(made, record, report)
    else:
        state = _state(folder, editor, own_model)
        order = sorted(
            {own.case_id for own in lines if own.task in (spec.edited or ())},
            key=lambda id_: stream_key(id_, spec.seed),
        )
        carried = order[state.first : state.first + state.requests]
        own = [records[id_] for id_ in carried if id_ in records and records[id_].status == "done"]
        if not own:
            raise InputError(f"{folder}: the row '{editor}' has no finished case of its edit; run it to its end first.")
        made = Edited(loaded, own_model.origin, own_editor, _requests(file, own, data), state.edits, state.failures)
    return replace(made, instructed_probes=rows[editor].instructed_probes)


def _some(known: Sequence[str]) -> str:
    more = f" and {len(known) - 5} more" if len(known) > 5 else ""
    return f" It has {', '.join(known[:5])}{more}." if known else " It has none."


def _model(file: RunFile, name: str | Path | None, device: str | None) -> Model:
    made = file.provenance
    return load(
        made.model if name is None else name,
        revision=made.model_revision if name is None else None,
        dtype=file.spec.dtype,
        device=device,
        trust_remote_code=made.trust_remote_code,
    )


def _editor(row: EditorSpec, checkpoints: Path, path: Path) -> Editor[Any]:
    kind = EDITORS.get(row.method)
    if kind.version != row.version:
        raise InputError(
            f"{path}: the row '{row.name}' has version {row.version} of '{row.method}', this is {kind.version}."
        )
    if row.training is not None:
        return editor_of_row(row, checkpoints)
    return make(kind, row.config)


def _requests(file: RunFile, records: Sequence[CaseRecord], data: str | None) -> tuple[EditRequest, ...]:
    """Return the requests of records as their row's editor received them; the replies of attitudes are in the data."""
    fields = ("case_id", "task", "prompt", "target", "subject", "instruction")
    found = {own.case_id: EditRequest(**{name: getattr(own, name) for name in fields}) for own in records}
    attitudes = {own.task for own in records if any(answer.opposed for answer in own.answers)}
    for task in sorted(attitudes):
        (source,) = {own.source for own in file.data if own.task == task}
        if data is None and source == "folder":
            raise InputError(f"The edits of '{task}' need the replies of its data; name the folder with --data.")
        home = data or {"embedded": None}.get(source, f"hub:{source}")
        split = make_task(task, file.spec.task_options).load(
            open_source(home), "test" if file.spec.split == "test" else "train"
        )
        for other in split.cases:
            if (known := found.get(other.request.case_id)) is not None:
                found[known.case_id] = replace(other.request, instruction=known.instruction)
    return tuple(found.values())


def _again(
    model: LanguageModel, origin: Origin, editor: Editor[Any], requests: tuple[EditRequest, ...], seed: int
) -> Edited:
    started = perf_counter()
    edits, failures = edit_each(model, requests, editor, seed)
    if failures:
        raise InputError(failures[0])
    return Edited(model, origin, editor, requests, edits, {}, perf_counter() - started)


def _compare(made: Edited, record: CaseRecord, report: Callable[[str], None]) -> None:
    now = change_facts(made.model, made.edits)[0].get("delta_norm")
    then = record.edit.get("delta_norm")
    if now is not None and then is not None and abs(now - then) > 1e-3 * then:
        report(
            f"note: |dW| of this edit is {now:.4g}, in the run it was {then:.4g}: it is not exactly the run's edit, "
            "which was made beside the other cases of its chunk."
        )


def _state(folder: Path, row: str, model: Model) -> AccumulatedEdit:
    notes: list[str] = []
    state = AccumulatedEdit.load(folder, row, model.language_model, notes.append)
    if state is None:
        raise InputError(
            notes[0] if notes else f"{folder}: no edit of '{row}' is saved there; run it to its end first."
        )
    return state
