"""A submission as a zip file or a folder: written in one way only, and read as if somebody meant harm.

Nothing is ever unpacked to disk. A name that is not one of the few a submission may hold, a link, a file larger than
its kind may be, or a name that stands there twice is a finding; streams are read with limits on bytes and lines, so
neither a bomb of compression nor a file without a line end takes more memory than one line may have.
"""

import gzip
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Protocol

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import whole_file, whole_folder

from .findings import Findings

MANIFEST = "manifest.json"
NAME = re.compile(r"manifest\.json|runs/[0-9a-f]{16}/(?:run\.json|summary\.json|(?:cases|timings|usage)\.jsonl\.gz)")
"""The whole of what may stand in a submission. No other name is ever opened."""
FILES = 5_001
"""Most files: 1,000 runs and the manifest."""
PACKED = 2 * 2**30
"""Largest packed file, in bytes."""
DOCUMENT = 64 * 2**20
"""Largest JSON document, in bytes; the largest `summary.json` of the embedded world has 2 MB."""
LINE = 16 * 2**20
"""Longest line, in bytes; those of KnowEdit have 30 kB."""
STREAM = 8 * 2**30
"""Most bytes of an unpacked file of lines; 20,000 cases under nine editors have 1.3 GB."""
_BLOCK = 1 << 20


class UnreadableError(Exception):
    """A file of a submission cannot be read to its end; the message says why."""


class Archive(Protocol):
    """Files by name, the size of each known before it is opened."""

    sizes: dict[str, int]

    def open(self, name: str) -> IO[bytes]:
        """Open a file of `sizes` for reading."""
        ...


class _Folder:
    def __init__(self, path: Path, findings: Findings) -> None:
        self._path = path
        self.sizes: dict[str, int] = {}
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            kind = file.lstat().st_mode
            if stat.S_ISDIR(kind):
                continue
            if not stat.S_ISREG(kind):
                findings.add(name, "kind", "a plain file", "a link or a special file")
            elif _admitted(name, file.stat().st_size, len(self.sizes), findings):
                self.sizes[name] = file.stat().st_size

    def open(self, name: str) -> IO[bytes]:
        return (self._path / name).open("rb")


class _Zip:
    def __init__(self, path: Path, findings: Findings) -> None:
        self._file = zipfile.ZipFile(path)
        self.sizes: dict[str, int] = {}
        for entry in self._file.infolist():
            # The name as it stands in the file: `filename` ends at a null byte and has other separators replaced.
            name = entry.orig_filename
            if name in self.sizes:
                findings.add(name, "name", "each name once", "a second file of this name")
            elif entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                findings.add(name, "compression", "stored or deflated, without a password", entry.compress_type)
            elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                findings.add(name, "kind", "a plain file", "a folder, a link or a special file")
            elif _admitted(name, entry.file_size, len(self.sizes), findings):
                self.sizes[name] = entry.file_size

    def open(self, name: str) -> IO[bytes]:
        return self._file.open(name)


def _admitted(name: str, size: int, count: int, findings: Findings) -> bool:
    limit = DOCUMENT if name.endswith(".json") else PACKED
    if not NAME.fullmatch(name):
        findings.add(name, "name", f"{MANIFEST} or a file of runs/DIGEST/", "another name")
    elif size > limit:
        findings.add(name, "size", f"at most {limit:,} bytes", f"{size:,}")
    elif count >= FILES:
        findings.add(name, "number of files", f"at most {FILES:,}", "more")
    else:
        return True
    return False


def open_archive(path: Path, findings: Findings) -> Archive | None:
    """Open a submission; None if it is neither a zip file nor a folder, which is a finding.

    Raises:
        InputError: If nothing is there.
    """
    try:
        if path.is_dir():
            return _Folder(path, findings)
        if not path.is_file():
            raise InputError(f"{path}: no such file or folder; a submission was expected.")
        if (size := path.stat().st_size) > PACKED:
            findings.add(path.name, "size", f"at most {PACKED:,} bytes", f"{size:,}")
            return None
        return _Zip(path, findings)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a submission was expected.") from error
    except _BROKEN as error:
        findings.add(path.name, "format", "a zip file or a folder", str(error))
        return None


# ValueError: names that are not of the encoding they claim; OverflowError: places behind any file's end.
_BROKEN = (
    OSError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


def document(archive: Archive, name: str) -> bytes:
    """Return the whole of a JSON document.

    Raises:
        UnreadableError: If it cannot be read, or is larger than it said.
    """
    try:
        with archive.open(name) as file:
            content = file.read(DOCUMENT + 1)
    except _BROKEN as error:
        raise UnreadableError(_reason(error)) from error
    if len(content) > DOCUMENT:
        raise UnreadableError(f"more than {DOCUMENT:,} bytes")
    return content


def digest(archive: Archive, name: str) -> tuple[str, int]:
    """Return the sha256 of a file as it is packed, and its size in bytes.

    Raises:
        UnreadableError: If it cannot be read, or is larger than it may be.
    """
    found, size = hashlib.sha256(), 0
    try:
        with archive.open(name) as file:
            while block := file.read(_BLOCK):
                size += len(block)
                if size > PACKED:
                    raise UnreadableError(f"more than {PACKED:,} bytes")
                found.update(block)
    except _BROKEN as error:
        raise UnreadableError(_reason(error)) from error
    return found.hexdigest(), size


def lines(archive: Archive, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a compressed file, counted from 1.

    Raises:
        UnreadableError: If it is damaged or cut off, its last line has no end, or a limit is passed.
    """
    read = 0
    try:
        with archive.open(name) as packed, gzip.GzipFile(fileobj=packed) as file:
            for number in range(1, STREAM):
                line = file.readline(LINE + 1)
                read += len(line)
                if not line:
                    return
                if len(line) > LINE or read > STREAM:
                    raise UnreadableError(f"line {number}: more than {LINE:,} bytes, or {STREAM:,} in all")
                if not line.endswith(b"\n"):
                    raise UnreadableError(f"line {number} has no end")
                yield number, line
    except _BROKEN as error:
        raise UnreadableError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def compress(content: bytes) -> bytes:
    """Return the content as gzip writes it, without name and time: the same content gives the same bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as file:
        file.write(content)
    return out.getvalue()


def write(files: Mapping[str, bytes], out: Path) -> None:
    """Write a submission: into a zip file if the name ends so, else into a new folder; in fixed order, without times.

    Raises:
        InputError: If it is there already or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: is there already; a submission is written to a new file or folder.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".zip":
            with whole_file(out) as part:
                _write_zip(files, part)
            return
        with whole_folder(out.resolve()) as part:
            for name, content in sorted(files.items()):
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_bytes(content)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}).") from error


def _write_zip(files: Mapping[str, bytes], out: Path) -> None:
    with out.open("wb") as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as file:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)  # of 1980, the format's first year
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.create_system = 3
            file.writestr(entry, content)
