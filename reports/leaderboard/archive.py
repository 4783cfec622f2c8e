"""A submission as a zip file or a folder. Files are read as untrusted input, without unpacking them to disk.

Only names that a submission may have are opened. Links, duplicate names and oversized files are findings. Streams
are read with limits on bytes and on the length of a line, so that neither a zip bomb nor an endless line exhausts
memory.
"""

import gzip
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import whole_file, whole_folder

from .findings import Findings

MANIFEST = "manifest.json"
NAME = re.compile(r"manifest\.json|runs/[0-9a-f]{16}/(?:run\.json|summary\.json|(?:cases|timings|usage)\.jsonl\.gz)")
"""All names that a submission may have."""
FILES = 5_001
"""Maximum number of files: 1,000 runs and the manifest."""
PACKED = 2 * 2**30
"""Maximum size of a packed file, in bytes."""
DOCUMENT = 64 * 2**20
"""Maximum size of a JSON document, in bytes; the largest `summary.json` of the embedded world has 2 MB."""
LINE = 16 * 2**20
"""Maximum length of a line, in bytes; those of KnowEdit have 30 kB."""
STREAM = 8 * 2**30
"""Maximum size of an unpacked file of lines, in bytes; 20,000 cases with nine editors have 1.3 GB."""
# ValueError: names that are not in the encoding they claim; OverflowError: offsets beyond the end of any file.
_DAMAGED = (
    *(OSError, EOFError, zlib.error, zipfile.BadZipFile),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)


class UnreadableError(InputError):
    """A file of a submission cannot be read to its end; the message says why."""


class Archive(NamedTuple):
    """The files of a submission."""

    sizes: dict[str, int]
    """Size of each file by name, known before it is opened."""
    open: Callable[[str], IO[bytes]]

    @property
    def runs(self) -> list[str]:
        """Digests of the runs that have a folder."""
        return sorted({name.split("/")[1] for name in self.sizes if name.startswith("runs/")})


NOTHING = Archive({}, lambda _: io.BytesIO())
"""Of a submission that could not be opened."""


def open_archive(path: Path, findings: Findings) -> Archive | None:
    """Open a submission; None if it is neither a zip file nor a folder, which is a finding.

    Raises:
        InputError: If there is no such file or folder, or it cannot be read.
    """
    try:
        if path.is_dir():
            return _open_folder(path, findings)
        if not path.is_file():
            raise InputError(f"{path}: no such file or folder; a submission was expected.")
        if (size := path.stat().st_size) > PACKED:
            findings.add(path.name, "size", f"at most {PACKED:,} bytes", f"{size:,}")
            return None
        return _open_zip(path, findings)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a submission was expected.") from error
    except _DAMAGED as error:
        findings.add(path.name, "format", "a zip file or a folder", str(error))
        return None


def _open_folder(path: Path, findings: Findings) -> Archive:
    sizes: dict[str, int] = {}
    for file in sorted(path.rglob("*")):
        name, status = file.relative_to(path).as_posix(), file.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            findings.add(name, "kind", "a plain file", "a link or a special file")
        elif _admitted(name, status.st_size, len(sizes), findings):
            sizes[name] = status.st_size
    return Archive(sizes, lambda name: (path / name).open("rb"))


def _open_zip(path: Path, findings: Findings) -> Archive:
    file, sizes = zipfile.ZipFile(path), dict[str, int]()
    for entry in file.infolist():
        # As written in the file: `filename` ends at a null byte and has other separators replaced.
        name = entry.orig_filename
        if name in sizes:
            findings.add(name, "name", "each name once", "a second file of this name")
        elif entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            findings.add(name, "compression", "stored or deflated, without a password", entry.compress_type)
        elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            findings.add(name, "kind", "a plain file", "a folder, a link or a special file")
        elif _admitted(name, entry.file_size, len(sizes), findings):
            sizes[name] = entry.file_size
    return Archive(sizes, file.open)


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


@contextmanager
def _open(archive: Archive, name: str) -> Iterator[IO[bytes]]:
    try:
        with archive.open(name) as file:
            yield file
    except _DAMAGED as error:
        raise UnreadableError(str(error) or type(error).__name__) from error


def document(archive: Archive, name: str) -> bytes:
    """Return a whole JSON document.

    Raises:
        UnreadableError: If it cannot be read, or is larger than its recorded size.
    """
    with _open(archive, name) as file:
        content = file.read(DOCUMENT + 1)
        if len(content) > DOCUMENT:
            raise UnreadableError(f"more than {DOCUMENT:,} bytes")
    return content


def digest(archive: Archive, name: str) -> str:
    """Return the sha256 of a packed file.

    Raises:
        UnreadableError: If it cannot be read.
    """
    with _open(archive, name) as file:
        return hashlib.file_digest(cast("io.BufferedReader", file), "sha256").hexdigest()


def lines(archive: Archive, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a compressed file, numbered from 1.

    Raises:
        UnreadableError: If it is damaged or truncated, its last line has no end, or a limit is exceeded.
    """
    read = number = 0
    with _open(archive, name) as packed, gzip.GzipFile(fileobj=packed) as file:
        while line := file.readline(LINE + 1):
            read, number = read + len(line), number + 1
            if len(line) > LINE or read > STREAM:
                raise UnreadableError(f"line {number}: more than {LINE:,} bytes, or {STREAM:,} in all")
            if not line.endswith(b"\n"):
                raise UnreadableError(f"line {number} has no end")
            yield number, line


def compress(content: bytes) -> bytes:
    """Return the content as gzip, without name and time: the same content gives the same bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as file:
        file.write(content)
    return out.getvalue()


def write(files: Mapping[str, bytes], out: Path) -> None:
    """Write a submission: a zip file if the name ends in `.zip`, else a new folder. No times are written.

    Raises:
        InputError: If the file or folder exists or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: is there already; a submission is written to a new file or folder.")
    try:
        if out.suffix != ".zip":
            write_folder(files, out)
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as part, zipfile.ZipFile(part, "w") as file:
            for name, content in sorted(files.items()):
                entry = zipfile.ZipInfo(name)  # dated 1980, the first year of the format
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                entry.create_system = 3
                # Files of lines are compressed already.
                how = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
                file.writestr(entry, content, how)
    except OSError as error:
        raise InputError(f"{error.filename or out}: cannot be written ({error.strerror}).") from error


def write_folder(files: Mapping[str, bytes], out: Path) -> None:
    """Write files by name into a new folder, all or none.

    Raises:
        OSError: If a file cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out.resolve()) as part:
        for name, content in sorted(files.items()):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)
