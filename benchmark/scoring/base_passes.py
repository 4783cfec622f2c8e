"""Base passes of earlier runs on disk: hidden states, predictions and texts of the unedited model.

A file's name is a digest of everything that decides its bytes: model, tokenizer, device, versions and code
(`run.provenance.base_identity`), and the sequences that share passes. So a run with other editors reads what an earlier
one has written, and one with other data, another model or other code never does.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from instructedit.editors import InputError, TokenSequence
from instructedit.editors.errors import DamagedError
from instructedit.editors.files.state import parsed, read_tensors, write_tensors


class BasePasses:
    """A folder of base passes, which any number of runs and processes may share.

    What is damaged is computed again, and what cannot be written is not kept: no run fails for it.

    Args:
        folder: The folder; None to keep and find nothing.
        identity: Digest of what decides the unedited model's numbers, in addition to the sequences.
        report: Receives sentences for the user.
    """

    def __init__(
        self, folder: Path | None = None, identity: str = "", report: Callable[[str], None] = lambda _: None
    ) -> None:
        self._folder, self._identity, self._report = folder, identity, report
        self._reads = self._writes = folder is not None

    def __bool__(self) -> bool:
        """Return whether there is a folder."""
        return self._folder is not None

    def get(self, key: tuple[tuple[TokenSequence, ...], int], /) -> Tensor | None:
        """See `engine.HiddenStates`."""
        found = self.find("hidden", (sequences(key[0]), key[1]))
        return None if found is None else found[1]["hidden"]

    def __setitem__(self, key: tuple[tuple[TokenSequence, ...], int], hidden: Tensor, /) -> None:
        """See `engine.HiddenStates`."""
        self.keep("hidden", (sequences(key[0]), key[1]), None, {"hidden": hidden})

    def find(self, kind: str, what: object) -> tuple[Any, dict[str, Tensor]] | None:
        """Return the value and the tensors that were kept of a kind for `what`; None if nothing can be used."""
        if not self._reads:
            return None
        path = self._path(kind, what)
        try:
            tensors, texts = read_tensors(path)
            with parsed(path):
                if texts["name"] != path.stem:
                    raise ValueError("it is another base pass")
                return json.loads(texts["value"]), tensors
        except DamagedError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                self._report(f"note: {error} It is computed again.")
        except InputError as error:
            self._reads = False
            self._report(f"note: {error} No base passes are read.")
        return None

    def keep(self, kind: str, what: object, value: object, tensors: Mapping[str, Tensor]) -> None:
        """Write a value and tensors, unless a number is not finite, which readers take for damage.

        `what` and the value consist of what JSON has.
        """
        if not self._writes or not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            return
        path = self._path(kind, what)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, tensors, {"name": path.stem, "value": json.dumps(value)})
        except OSError as error:
            self._writes = False
            self._report(f"note: {path}: cannot be written ({error.strerror}). No more base passes are kept.")

    def _path(self, kind: str, what: object) -> Path:
        """Return the file of what was kept; the files of one identity have a folder of their own."""
        assert self._folder is not None
        digest = sha256(json.dumps([self._identity, what]).encode()).hexdigest()
        return self._folder / self._identity[:16] / f"{kind}-{digest[:32]}.safetensors"


NOT_KEPT = BasePasses()
"""For runs that keep no base passes."""


def sequences(rows: Sequence[TokenSequence]) -> list[object]:
    """Return what decides the numbers of some sequences, for `find` and `keep`."""
    return [(row.ids, row.scored, row.prompt_end) for row in rows]
