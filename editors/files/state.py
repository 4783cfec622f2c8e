"""State that a resumed program reads: tensors and the JSON that belongs to them.

A file that is truncated, corrupted, replaced, or holds values that are not finite, is a `DamagedError`; callers that
can compute it again do. A file that the system does not let us read is an `InputError` and is never replaced.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import DamagedError, InputError
from .atomic import whole_file

TEXTS, CONTENT = "texts", "sha256"
"""Keys of the metadata: the texts as one JSON object, because safetensors writes several in random order, and in it the
digest of the other texts and of the tensors."""
_BLOCK = 1 << 26
_PICKLES = (b"\x80", b"PK\x03\x04")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically, with a digest of texts and tensors unless there is no metadata.

    Raises:
        OSError: If it cannot be written.
    """
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    texts = None
    if metadata is not None:
        texts = {TEXTS: json.dumps({**metadata, CONTENT: _digest(own, metadata)}, sort_keys=True)}
    with whole_file(path) as part:
        try:
            save_file(own, part, metadata=texts)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(*((int(number[1]), os.strerror(int(number[1]))) if number else (None, str(error)))) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        DamagedError: If it is missing or corrupted, or holds numbers that are not finite.
        InputError: If the system does not let it be read.
    """
    head = _head(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise unreadable(path, error) from error
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        pickled = head.startswith(_PICKLES)
        what = "a pickle, which is never opened" if pickled else f"no whole safetensors file: {_line(error)}"
        raise DamagedError(path, what) from error
    if TEXTS in metadata:
        with parsed(path):
            metadata = {key: str(text) for key, text in json.loads(metadata[TEXTS]).items()}
    digest = metadata.pop(CONTENT, None)
    if digest is not None and digest != _digest(tensors, metadata):
        raise DamagedError(path, "its content is not what was written: its sha256 is another")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DamagedError(path, f"'{name}' holds numbers that are not finite")
    return tensors, metadata


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DamagedError: If the file holds anything else.
        InputError: If the system does not let it be read.
    """
    _head(path)
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, f"no JSON: {_line(error)}") from error
    if not isinstance(found, dict):
        raise DamagedError(path, f"a JSON object was expected, found {type(found).__name__}")
    return found


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits.

    Raises:
        InputError: If the system does not let it be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors into a module.

    Raises:
        InputError: If a tensor is missing, unknown, or has another shape.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise InputError(f"{str(error).splitlines()[-1].strip().removesuffix('.')}.") from error


@contextmanager
def parsed(path: Path) -> Iterator[None]:
    """Turn errors in the content of a file into a `DamagedError`."""
    try:
        yield
    except DamagedError:
        raise
    except InputError as error:
        raise DamagedError(path, str(error).removesuffix(".")) from error
    except KeyError as error:
        raise DamagedError(path, f"{error} is missing") from error
    except (ValueError, TypeError, IndexError, AttributeError, RuntimeError, OverflowError, RecursionError) as error:
        raise DamagedError(path, _line(error)) from error


def unreadable(path: Path, error: OSError) -> InputError:
    """Return the error of a file that the system does not let us read."""
    return InputError(f"{path}: cannot be read ({error.strerror or error}).")


def _head(path: Path) -> bytes:
    """Return the first bytes of a file that exists and is not empty."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError as error:
        raise DamagedError(path, "no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, a file was expected; remove it.") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not head:
        raise DamagedError(path, "empty")
    return head


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        for block in tensor.reshape(-1).view(torch.uint8).split(_BLOCK):
            found.update(memoryview(block.numpy()))
    return found.hexdigest()


def _line(error: BaseException) -> str:
    """Return the first line of a message, cut to 200 characters, without its full stop."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return (text if len(text) <= 200 else f"{text[:200]}...").removesuffix(".")
