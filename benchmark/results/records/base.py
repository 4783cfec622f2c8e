"""The strict base class of records, their digest, and reading one with a check of its schema version."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from instructedit.editors import InputError
from instructedit.editors.files.jsonfile import parse_json, read_text

SCHEMA_VERSION: Literal[2] = 2


def readable(text: str) -> str:
    r"""Return a text that every file can hold; bytes of a file name that are not UTF-8 are written as \udcXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


Named = Annotated[str, AfterValidator(readable)]
"""What a user typed: words of a command line, names of files."""

SUITES = "suites"
"""Folder beside the runs with the index of each suite."""

Measure = Literal["reliability", "generalization", "portability", "locality", "fluency"]
"""What is measured: the four probe roles and the fluency of sampled text."""

Protocol = Literal[
    "teacher_forced_token",
    "teacher_forced_exact",
    "free_generation",
    "edit_success",
    "z_sent",
    "z_topic",
    "kl_divergence",
    "ngram_entropy",
    "probability_order",
    "reversion",
    "known_before",
]
"""How an answer is read; `docs/metrics.md` explains each with a worked example."""

LOWER_IS_BETTER: frozenset[Protocol] = frozenset(("kl_divergence", "reversion"))
OLD_ANSWER: tuple[Protocol, ...] = ("probability_order", "reversion", "known_before")
"""Protocols that need the answer from before the edit. `known_before` is a property of the unedited model: it is the
same in every row, so rows are not compared by it."""

Method = Literal[
    "clopper_pearson",
    "bootstrap",
    "rule_of_three",
    "sign_flip",
    "bonett_price",
    "crossed_wilson",
    "crossed_t",
    "two_level",
    "definition",
    "none",
]
"""How a 95 % interval was made: `statistics.py` and `crossed.py`. `none`: the values do not determine their spread.
`definition`: the number could not have been another one. `two_level`: the bootstrap of older suites."""

Split = Literal["test", "train", "validation"]
"""Which cases are evaluated; `validation` is the part of the training split that editors are not trained on."""

Schedule = Literal["single", "batch", "sequential"]
"""`single`: edit, score, discard; `batch`: joint edits of many cases; `sequential`: edits accumulate."""


class Record(BaseModel):
    """Base of all records: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(Record):
    """Base of the records that are a file, or a line of one."""

    schema_version: Literal[2] = SCHEMA_VERSION


class SparseRecord(Record):
    """A record that is written without some of its fields where they are None or empty."""

    sparse: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            name: value for name, value in write(self).items() if name not in self.sparse or value not in (None, {})
        }


R = TypeVar("R", bound=FileRecord)
S = TypeVar("S", bound=Record)


def digest_of(record: BaseModel, left_out: Collection[str] = ()) -> str:
    """Return sixteen hexadecimal digits of the sha256 of a record's canonical JSON, without the fields `left_out`."""
    content = record.model_dump(mode="json", exclude=set(left_out))
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_record(path: Path, kind: type[R]) -> R:
    """Read a file that holds one record; `InputError` if it is missing, broken or of another schema version."""
    return parse_record(read_text(path, f"a {kind.__name__}"), kind, str(path))


def unlike(found: Record, expected: Record) -> str | None:
    """Return the first field in which a record differs from the expected one; None if none does."""
    for field in type(expected).model_fields:
        if (value := getattr(found, field)) != (wanted := getattr(expected, field)):
            if isinstance(value, Record) and isinstance(wanted, Record):
                return f"{field}.{unlike(value, wanted)}"
            return f"{field}: {value}, {wanted} was expected"
    return None


def parse_record(text: str | bytes, kind: type[R], place: str) -> R:
    """Read a record from its JSON; `place` is its location for errors.

    Raises:
        InputError: If it is not valid JSON, has another schema version, or a field is missing, mistyped or unknown.
    """
    fields = parse_json(text, place, f"a {kind.__name__}")
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    # First, because another version may have any fields, and their errors would hide the reason.
    if version != SCHEMA_VERSION:
        raise InputError(f"{place}: schema version {version}, but this program reads version {SCHEMA_VERSION}.")
    return check_fields(fields, kind, place)


def check_fields(fields: object, kind: type[S], place: str) -> S:
    """Make a record of the value of a JSON text; `InputError` if a field is missing, mistyped or unknown."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place}: field '{key}': {first['msg']}.") from error


def run_folders(directory: Path) -> list[Path]:
    """Return the folders of runs, finished or not: the given one if it is of a run, else those in it by name."""
    if (directory / "run.json").is_file():
        return [directory]
    # the index of a suite that is called `run` is no run
    return sorted(path.parent for path in directory.glob("*/run.json") if path.parent.name != SUITES)


def find_run(directory: Path) -> Path:
    """Return the folder of a run: the given one, or the only one in it; `InputError` if there is none, or several."""
    found = run_folders(directory)
    if not found:
        raise InputError(f"{directory}: no run in it; expected a folder with a run.json.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{directory}: holds {len(found)} runs ({names}); name one of them.")
    return found[0]
