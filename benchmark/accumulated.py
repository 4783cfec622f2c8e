"""One edit that carries many requests, and the files in which a run keeps it between two starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self
from urllib.parse import quote

import torch
from pydantic import BaseModel
from safetensors import SafetensorError

from instructedit.editors import CaseError, Editor, EditRequest, Edits, InputError, LanguageModel, Patch
from instructedit.editors.structure import execution_device

from .scoring import NOT_FINITE, Made, is_finite
from .store import StorageError, write_record


class _Index(BaseModel):
    """`edits/ROW.json`: which safetensors file beside it counts, and what does not stand in that."""

    file: str
    first: int = 0
    requests: int
    failures: dict[str, str]


@dataclass(slots=True)
class Accumulated:
    """What the model was edited with so far under one row.

    Attributes:
        edits: One edit.
        requests: Requests taken, those that could not be edited in included.
        failures: Why a request could not be edited in, by case id.
        first: Requests of the stream before these, where it is edited in by several joint edits.
    """

    edits: Edits = field(default_factory=lambda: Edits.none(1))
    requests: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    first: int = 0

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

    def take(self, model: LanguageModel, editor: Editor[Any], request: EditRequest, seed: int) -> Made:
        """Make one more edit and return it for its case; if that fails, all stays as it is but for the count."""
        begun = perf_counter()
        failures: dict[int, str] = {}
        try:
            edits = editor.edit_next(model, request, self.edits, seed)
            _check(model, edits, request)
            self.edits = replace(edits, facts=({},))  # they are of this request alone, not of those before it
        except InputError as error:
            edits = Edits.none(1)
            failures[0] = self.failures[request.case_id] = str(error)
        self.requests += 1
        return Made([request], edits, failures, perf_counter() - begun)

    def made(self, requests: Sequence[EditRequest]) -> Made:
        """Return the edit for each of some cases, edited ones or not; those that could not be edited in stay failed.

        If nothing could be edited in, all have failed: the unedited model stands for no editor.
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
        """Write this state of a row, whole or not at all, and go on from what was written.

        Raises:
            StorageError: If it cannot be written.
        """
        # Memory laid out otherwise rounds otherwise: a run that goes on must not differ from one that was stopped.
        self.edits = _laid_out(self.edits)
        index = _index(folder, row)
        path = index.with_name(f"{index.stem}-{self.first + self.requests}.safetensors")
        part = path.with_suffix(".part")
        try:
            index.parent.mkdir(exist_ok=True)
            self.edits.save(part)
            part.replace(path)
            # The index is written last, so that it never names a file that is not there.
            write_record(
                index, _Index(file=path.name, first=self.first, requests=self.requests, failures=self.failures)
            )
            for old in index.parent.glob("*.safetensors"):
                if old != path and old.name.rpartition("-")[0] == index.stem:
                    old.unlink()
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{path}: the edit cannot be written ({error}).") from error

    @classmethod
    def load(cls, folder: Path, row: str, model: LanguageModel) -> Self | None:
        """Read what `save` wrote; None where nothing was written.

        Raises:
            InputError: If the file holds no edits of this version.
        """
        path = _index(folder, row)
        if not path.is_file():
            return None
        index = _Index.model_validate_json(path.read_text(encoding="utf-8"))
        edits = Edits.load(path.with_name(index.file))
        return cls(_laid_out(edits, model), index.requests, index.failures, index.first)


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
    """Refuse an edit that is not finite, or whose text leaves no room for the request's own question."""
    if not is_finite(edits):
        raise CaseError(NOT_FINITE)
    context = edits.contexts[0]
    if context is not None:
        try:
            model.encode(context.front("reliability") + request.prompt, request.target)
        except CaseError as error:
            raise CaseError("The text of all edits so far leaves no room for this one's question.") from error


def _laid_out(edits: Edits, model: LanguageModel | None = None) -> Edits:
    """Return an edit in memory of its own, row by row, on the model's devices if one is given."""

    def copied(patch: Patch) -> Patch:
        tensors = patch.tensors()
        if model is not None:
            device = execution_device(model.model.get_submodule(patch.site))
            tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        own = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        return replace(patch, **own)  # type: ignore[arg-type]

    return Edits(tuple(tuple(map(copied, patches)) for patches in edits.patches), edits.facts, edits.contexts)


def _index(folder: Path, row: str) -> Path:
    # rows are named by users; `/` and `.` would say something to a path
    return folder / "edits" / f"{quote(row, safe='@#+').replace('.', '%2E')}.json"


def sweep_edits(folder: Path) -> None:
    """Remove edits that no index names: a kill came between a new state and the removal of the one before it.

    The caller holds the run's lock. Where an index cannot be read, nothing is removed.
    """
    try:
        named = {
            _Index.model_validate_json(index.read_text(encoding="utf-8")).file
            for index in (folder / "edits").glob("*.json")
        }
        for path in (folder / "edits").glob("*.safetensors"):
            if path.name not in named:
                path.unlink()
    except (OSError, ValueError):
        return
