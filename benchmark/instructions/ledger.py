"""What requests to a server have cost, kept so that no stop, kill or failure makes a budget forget them."""

import json
import os
from pathlib import Path

from instructedit.editors import InputError
from instructedit.editors.files.atomic import write_whole

from ..results.run_folder import StorageError


class Ledger:
    """Counts tokens, request by request.

    A request is written down at the most that it may cost before it is sent, and at what it did cost afterwards. So
    one that was cut short, together with its process or not, counts in full.

    Args:
        path: File with one JSON object a line; None keeps the count in memory alone.

    Raises:
        InputError: If the file holds something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._tokens: list[int] = []
        if path and path.is_file():
            try:
                *lines, rest = path.read_bytes().split(b"\n")
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    self._set(int(entry["request"]), int(entry["tokens"]))
                except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
                    raise InputError(f"{path}, line {number}: a request and its tokens were expected.") from error
            if rest:  # a kill has cut the last line
                try:
                    write_whole(path, b"".join(line + b"\n" for line in lines))
                except OSError as error:
                    raise StorageError(f"{path}: cannot be written ({error.strerror}).") from error

    @property
    def tokens(self) -> int:
        """Tokens of all requests, prompts and answers together."""
        return sum(self._tokens)

    def sent(self, tokens: int) -> int:
        """Write down a request before it is sent, at the most tokens it may cost, and return its number."""
        number = len(self._tokens)
        self._write(number, tokens, None)
        return number

    def came(self, number: int, tokens: int, text: str | None) -> None:
        """Write down what a request did cost, and the answer to it, if there is one."""
        self._write(number, tokens, text)

    def _set(self, number: int, tokens: int) -> None:
        if number == len(self._tokens):
            self._tokens.append(tokens)
        else:
            self._tokens[number] = tokens

    def _write(self, number: int, tokens: int, text: str | None) -> None:
        self._set(number, tokens)
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                entry = {"request": number, "tokens": tokens, "text": text}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written ({error.strerror}).") from error
