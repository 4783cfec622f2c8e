"""The tokens of all requests to a server, on disk, so that no kill or failure makes a budget forget them."""

import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from instructedit.editors import InputError
from instructedit.editors.files.atomic import write_whole

from ..results.run_folder import StorageError


class Entry(BaseModel):
    """One line of the ledger; the last one of a request has its cost."""

    request: int
    tokens: int
    text: str | None = None


class Ledger:
    """Counts tokens, request by request, in a file of one `Entry` a line; `InputError` if it has other content.

    A request is entered at its highest possible cost before it is sent, and at its actual cost afterwards. A request
    that was cut short, together with its process or not, therefore counts in full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: dict[int, int] = {}
        try:
            lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
            if lines and not lines[-1].endswith(b"\n"):  # a kill cut it
                write_whole(path, b"".join(lines[:-1]))
                del lines[-1]
        except OSError as error:
            raise StorageError(f"{path}: cannot be read and repaired ({error.strerror}).") from error
        for number, line in enumerate(lines, 1):
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError as error:
                raise InputError(f"{path}, line {number}: expected a request and its tokens.") from error
            self._tokens[entry.request] = entry.tokens

    @property
    def tokens(self) -> int:
        """Tokens of all requests, prompts and answers together."""
        return sum(self._tokens.values())

    def sent(self, tokens: int) -> int:
        """Enter a request before it is sent, at the most tokens it may cost, and return its number."""
        number = len(self._tokens)
        self.came(number, tokens, None)
        return number

    def came(self, number: int, tokens: int, text: str | None) -> None:
        """Enter the actual cost of a request and its answer, if there is one."""
        self._tokens[number] = tokens
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(Entry(request=number, tokens=tokens, text=text).model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written ({error.strerror}).") from error
