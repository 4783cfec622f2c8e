"""Where the keys of a run's configuration were written, for the error sentences about them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from instructedit.editors.errors import InputError

_OPTIONS = {key: key for key in ("data", "model", "limit", "schedule", "setting", "seed", "instructions", "dtype")}
_OPTIONS |= {"trust_remote_code": "trust-remote-code", "tasks": "task", "editors": "editor", "batch_size": "batch-size"}
_OPTIONS |= {"revision": "model", "facts": "facts", "train": "train"}
"""Options of the command line by the key that they give."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a configuration was written. All origins compare equal, so that they have no effect on configurations."""

    file: str = field(default="", compare=False)
    """Preset, file, or whatever else it came from."""
    run: str | None = field(default=None, compare=False)
    """Label of the run where the file has several."""
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """Keys that the command line gave."""
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    """Options of all rows of editors, those included that the run leaves out."""

    @property
    def place(self) -> str:
        """File and run."""
        return f"{self.file}, run '{self.run}'" if self.run is not None else self.file

    def of(self, key: str, row: str | None = None) -> str:
        """Return the place of a key, or of an option of a row."""
        top = key.partition(".")[0]
        if top in self.given:
            return f"command line, --{_OPTIONS[top]}" if top in _OPTIONS else f"command line: key '{key}'"
        return f"{self.place}, row '{row}'" if row is not None else f"{self.place}: key '{key}'"

    @contextmanager
    def at(self, key: str, row: str | None = None) -> Iterator[None]:
        """Prefix an error that a key causes with the place of the key, or of an option of a row."""
        try:
            yield
        except InputError as error:
            text, place = str(error), self.of(key, row)
            if not text.startswith((place, self.place)):
                error.args = (f"{place}: {text}",)
            raise
