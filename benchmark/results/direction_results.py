"""`directions.npz`: the edits of a run and the cosines between their directions.

A direction is an edit's change of all weights as one vector, divided by its length. The file holds the inner
products of directions, which are their cosines, and never the vectors: principal components and every distance
follow from them. It is a zip of arrays without pickled objects, and the same edits leave the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import whole_file

from .records import FileRecord, Record, parse_record

FILE = "directions.npz"
_ABOUT = "about"


class DirectionSet(Record):
    """A set of edits whose directions are compared; all fields of edits are in the order of the matrix."""

    name: str
    """The row that made them; or the common name of several rows, each of which edited the task it was trained on."""
    own_task: bool
    """Whether each task was edited by the row that was trained on it alone."""
    rows: tuple[str, ...]
    """The row that made each edit."""
    tasks: tuple[str, ...]
    cases: tuple[str, ...]
    left_out: dict[str, int]
    """Edits without a direction, counted by reason."""


class DirectionsAbout(FileRecord):
    """Description of the matrices of the file."""

    run: str
    """Digest of the run whose editors made the edits."""
    limit: int
    """Maximum number of cases of a task."""
    sets: tuple[DirectionSet, ...]


class Directions(NamedTuple):
    """Directions of one set, and their inner products [edits, edits] in float64."""

    about: DirectionSet
    cosines: NDArray[np.float64]


def write_directions(path: Path, run: str, limit: int, found: Sequence[Directions]) -> Path:
    """Write the file atomically; `InputError` if it cannot be written."""
    about = DirectionsAbout(run=run, limit=limit, sets=tuple(one.about for one in found))
    arrays = {f"cosines_{number}": one.cosines for number, one in enumerate(found)}
    try:
        with whole_file(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_ABOUT: np.array(about.model_dump_json())}, **arrays)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
    return path


def read_directions(path: Path, run: str) -> tuple[DirectionsAbout, tuple[Directions, ...]]:
    """Read the file of a run; `InputError` if it is of another run, or a matrix is not one of cosines."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason}); a file of directions was expected.") from error
    if _ABOUT not in arrays or arrays[_ABOUT].dtype.kind != "U" or arrays[_ABOUT].shape:
        raise InputError(f"{path}: holds no text '{_ABOUT}'; a file of directions was expected.")
    about = parse_record(str(arrays[_ABOUT]), DirectionsAbout, f"{path}, '{_ABOUT}'")
    if about.run != run:
        raise InputError(f"{path}: holds directions of run {about.run}, but {run} was expected.")
    found = []
    for number, one in enumerate(about.sets):
        cosines = arrays.get(f"cosines_{number}", np.empty(0))
        _check(path, f"cosines_{number}", one, cosines)
        found.append(Directions(one, cosines))
    return about, tuple(found)


def _check(path: Path, name: str, about: DirectionSet, cosines: NDArray[np.float64]) -> None:
    n = len(about.cases)
    right = n == len(about.rows) == len(about.tasks) and cosines.shape == (n, n) and cosines.dtype == np.float64
    # A comparison with NaN is false.
    if right and n:
        right = bool(np.abs(cosines - cosines.T).max() < 1e-9 and np.abs(cosines.diagonal() - 1).max() < 1e-9)
    if not right:
        raise InputError(
            f"{path}, array '{name}': found {cosines.dtype} {list(cosines.shape)}; a symmetric matrix float64 {[n, n]} "
            f"with ones on its diagonal was expected, and a row and a task for each of the {n} cases."
        )
