"""The tokens of all requests to a server, on disk, so that no kill or failure makes a budget forget them."""

import json
import os
from pathlib import Path

from instructedit.editors import InputError
from instructedit.editors.files.atomic import write_whole

from ..results.run_folder import StorageError


class Ledger:
    """Counts tokens, request by request, in a file of one JSON object a line; `InputError` if it has other content.

    A request is entered at its highest possible cost before it is sent, and at its actual cost afterwards. A request
    that was cut short, together with its process or not, therefore counts in full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: dict[int, int] = {}
        if not path.is_file():
            return
        try:
            *lines, rest = path.read_bytes().split(b"\n")
            if rest:  # a kill cut the last line
                write_whole(path, b"".join(line + b"\n" for line in lines))
        except OSError as error:
            raise StorageError(f"{path}: cannot be read and repaired ({error.strerror}).") from error
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                self._tokens[int(entry["request"])] = int(entry["tokens"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: expected a request and its tokens.") from error

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
        entry = {"request": number, "tokens": tokens, "text": text}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written ({error.strerror}).") from error
