"""One edit that carries many requests, and the files in which a run keeps it between two starts."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self
from urllib.parse import quote

import torch
from pydantic import BaseModel, Field

from instructedit.editors import CaseError, DamagedError, Editor, EditRequest, Edits, InputError, LanguageModel, Patch
from instructedit.editors.files.state import parsed, read_object
from instructedit.editors.models.experts import device_of

from ..results.run_folder import StorageError, write_record
from ..scoring.scoring import NOT_FINITE, Made, is_finite


class _Index(BaseModel):
    """`edits/ROW.json`: the valid safetensors file beside it, and what that file does not hold."""

    file: str
    first: int = Field(default=0, ge=0)
    requests: int = Field(ge=0)
    failures: dict[str, str]


@dataclass(slots=True)
class AccumulatedEdit:
    """All edits of one row so far, as one edit."""

    edits: Edits = field(default_factory=lambda: Edits.none(1))
    requests: int = 0
    """Includes those that could not be edited in."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why a request could not be edited in, by case id."""
    first: int = 0
    """Position in the stream of the first request, where the stream is edited in several batches."""

    @classmethod
    def together(
        cls, model: LanguageModel, editor: Editor[Any], requests: Sequence[EditRequest], seed: int, first: int = 0
    ) -> Self:
        """Make one joint edit. Requests that the editor refuses even alone are left out of it.

        If the editor has no joint form, or its edit is not finite, all requests have failed.
        """
        failures: dict[str, str] = {}
        left = list(requests)
        while left:
            try:
                edits = editor.edit_together(model, left, seed)
                if not is_finite(edits):
                    raise InputError(NOT_FINITE)
                return cls(edits, len(requests), failures, first)
            except InputError as error:
                found = {} if failures or not isinstance(error, CaseError) else _refused(model, editor, left, seed)
                failures |= found or {request.case_id: str(error) for request in left}
                left = [request for request in left if request.case_id not in failures]
        return cls(requests=len(requests), failures=failures, first=first)

    def add(self, model: LanguageModel, editor: Editor[Any], request: EditRequest, seed: int) -> Made:
        """Make one more edit and return it for its case; if that fails, only the counts change."""
        started = perf_counter()
        failures: dict[int, str] = {}
        try:
            edits = editor.edit_next(model, request, self.edits, seed)
            _check(model, edits, request)
            self.edits = replace(edits, facts=({},))  # the facts belong to this request alone
        except InputError as error:
            edits = Edits.none(1)
            failures[0] = self.failures[request.case_id] = str(error)
        self.requests += 1
        return Made([request], edits, failures, perf_counter() - started)

    def made(self, requests: Sequence[EditRequest]) -> Made:
        """Return the edit for each of some cases, edited or not; requests that could not be edited in stay failed.

        If no request could be edited in, all have failed: the unedited model is no editor's result.
        """
        none = len(self.failures) == self.requests
        reason = next(iter(self.failures.values()), "")
        failures = {
            number: self.failures.get(request.case_id, reason)
            for number, request in enumerate(requests)
            if none or request.case_id in self.failures
        }
        return Made(requests, self.edits.select([0] * len(requests)), failures, 0.0)

    def save(self, folder: Path, row: str) -> None:
        """Write the edit of a row, whole or not at all, and continue from what was written.

        Raises:
            StorageError: If it cannot be written.
        """
        # Another memory layout rounds differently: a resumed run must not differ from an uninterrupted one.
        self.edits = _contiguous(self.edits)
        index = _index_path(folder, row)
        path = _edits_path(index, self.first + self.requests)
        content = _Index(file=path.name, first=self.first, requests=self.requests, failures=self.failures)
        try:
            index.parent.mkdir(exist_ok=True)
            self.edits.save(path)
            write_record(index, content)  # last, so that it never names a missing file
            for old in index.parent.glob("*.safetensors") if path.is_file() else ():
                if old != path and old.name.rpartition("-")[0] == index.stem:
                    old.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(
                f"{path}: the edit cannot be written ({reason}); all finished cases are safe, and the same command "
                "resumes from them."
            ) from error

    @classmethod
    def load(
        cls, folder: Path, row: str, model: LanguageModel, report: Callable[[str], None] = lambda _: None
    ) -> Self | None:
        """Read what `save` wrote; None if nothing was written, or it is damaged, which is reported.

        Raises:
            InputError: If the system does not let it be read.
        """
        path = _index_path(folder, row)
        if not path.exists():
            return None
        try:
            content = read_object(path)
            with parsed(path):
                index = _Index.model_validate(content)
                tensors = _edits_path(path, index.first + index.requests)
                if index.file != tensors.name:
                    raise ValueError(f"'file' is {index.file}, {tensors.name} was expected")
            edits = Edits.load(tensors)
            with parsed(tensors):
                if len(edits) != 1:
                    raise ValueError(f"{len(edits)} edits, one was expected")
                return cls(_contiguous(edits, model), index.requests, index.failures, index.first)
        except DamagedError as error:
            report(f"note: {error} The edits of row '{row}' are made again.")
            return None


def is_damaged(folder: Path, row: str, model: LanguageModel) -> bool:
    """Tell whether a row has a saved edit that can no longer be read."""
    return _index_path(folder, row).exists() and AccumulatedEdit.load(folder, row, model) is None


def remove_orphans(folder: Path) -> None:
    """Remove edits in a run's folder that no index names, left by a kill between writing one and removing the last.

    The caller holds the run's lock. If an index cannot be read, nothing is removed.
    """
    with suppress(InputError, OSError):
        named = {read_object(index).get("file") for index in (folder / "edits").glob("*.json")}
        for path in (folder / "edits").glob("*.safetensors"):
            if path.name not in named:
                path.unlink()


def _refused(model: LanguageModel, editor: Editor[Any], requests: Sequence[EditRequest], seed: int) -> dict[str, str]:
    """Return why an editor refuses requests even alone, by case id."""
    found = {}
    for request in requests:
        try:
            editor.edit(model, [request], seed)
        except CaseError as error:
            found[request.case_id] = str(error)
    return found


def _check(model: LanguageModel, edits: Edits, request: EditRequest) -> None:
    """Refuse an edit that is not finite, or whose prefix leaves no room for the request's own prompt."""
    if not is_finite(edits):
        raise CaseError(NOT_FINITE)
    context = edits.contexts[0]
    if context is not None:
        try:
            model.encode(context.prompt_prefix("reliability") + request.prompt, request.target, request.joint)
        except CaseError as error:
            raise CaseError("The text of all edits so far leaves no room for this one's question.") from error


def _contiguous(edits: Edits, model: LanguageModel | None = None) -> Edits:
    """Return a copy of an edit in contiguous memory of its own, on the model's devices if one is given."""

    def copied(patch: Patch) -> Patch:
        tensors = patch.tensors()
        if model is not None:
            device = device_of(model.model, patch.site)  # AttributeError: no such module
            tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        own = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        return replace(patch, **own)  # type: ignore[arg-type]

    return Edits(tuple(tuple(map(copied, patches)) for patches in edits.patches), edits.facts, edits.contexts)


def _edits_path(index: Path, requests: int) -> Path:
    return index.with_name(f"{index.stem}-{requests}.safetensors")


def _index_path(folder: Path, row: str) -> Path:
    # Users name rows; `/` and `.` have a meaning in paths.
    return folder / "edits" / f"{quote(row, safe='@#+').replace('.', '%2E')}.json"
