"""One edit that carries many requests, and the files in which a run keeps it between two starts."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self
from urllib.parse import quote, unquote

import torch
from pydantic import BaseModel, Field

from instructedit.editors import CaseError, DamagedError, Editor, EditRequest, Edits, InputError, LanguageModel, Patch
from instructedit.editors.files.state import parsed, read_object
from instructedit.editors.models.experts import device_of

from ..results.run_folder import StorageError, write_record
from ..scoring.scoring import NOT_FINITE, Made, is_finite


class _Index(BaseModel):
    """`edits/ROW-N.json`: what the safetensors file of the same name does not hold."""

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
        """Write the edit of a row, whole or not at all, to `edit_file` of all its requests so far.

        Raises:
            StorageError: If it cannot be written.
        """
        index = folder / f"{edit_file(row, self.first + self.requests)}.json"
        content = _Index(first=self.first, requests=self.requests, failures=self.failures)
        try:
            index.parent.mkdir(exist_ok=True)
            _contiguous(self.edits).save(index.with_suffix(".safetensors"))
            write_record(index, content)  # last, so that it never names a missing file
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(
                f"{index}: the edit cannot be written ({reason}); all finished cases are safe, and the same command "
                "resumes from them."
            ) from error

    @classmethod
    def load(
        cls,
        folder: Path,
        row: str,
        model: LanguageModel | None,
        report: Callable[[str], None] = lambda _: None,
        *,
        after: int | None = None,
    ) -> Self | None:
        """Read what `save` wrote after a number of edits, by default the last.

        None if nothing was written, or it is damaged, which is reported. Without a model the tensors stay on the CPU.

        Raises:
            InputError: If the system does not let it be read.
        """
        if after is None:
            after = max((edits for own, edits in saved_edits(folder) if own == row), default=0)
        path = folder / f"{edit_file(row, after)}.json"
        if not path.exists():
            return None
        try:
            content = read_object(path)
            with parsed(path):
                index = _Index.model_validate(content)
                if index.first + index.requests != after:
                    raise ValueError(f"it is of {index.first + index.requests} edits, {after} were expected")
            tensors = path.with_suffix(".safetensors")
            edits = Edits.load(tensors)
            with parsed(tensors):
                if len(edits) != 1:
                    raise ValueError(f"{len(edits)} edits, one was expected")
                return cls(_contiguous(edits, model), index.requests, index.failures, index.first)
        except DamagedError as error:
            report(f"note: {error} The edits of row '{row}' are made again.")
            return None


def edit_file(row: str, edits: int) -> str:
    """Return the file of a row's edit after a number of edits, in the run's folder, without its ending."""
    # Users name rows; `/` and `.` have a meaning in paths.
    return f"edits/{quote(row, safe='@#+').replace('.', '%2E')}-{edits}"


def saved_edits(folder: Path) -> list[tuple[str, int]]:
    """Return row and number of edits of all saved edits in a run's folder."""
    found = []
    for path in (folder / "edits").glob("*.json"):
        row, _, edits = path.stem.rpartition("-")
        if edits.isdecimal():
            found.append((unquote(row), int(edits)))
    return found


def remove_edit(folder: Path, name: str) -> None:
    """Remove the saved edit of an `edit_file`, its index first, so that a kill leaves nothing that is incomplete."""
    for ending in (".json", ".safetensors"):
        (folder / f"{name}{ending}").unlink(missing_ok=True)


def remove_orphans(folder: Path) -> None:
    """Remove edits in a run's folder that have no index, left by a kill; the caller holds the run's lock."""
    for path in (folder / "edits").glob("*.safetensors"):
        if not path.with_suffix(".json").exists():
            with suppress(OSError):
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
