"""Validation of options without any conversion: `true` is no number, and neither is "3"."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import did_you_mean
from .jsonfile import describe

M = TypeVar("M", bound=BaseModel)


class Complaint(NamedTuple):
    """The fault of some options: the key, nested ones with dots, and whether it is unknown.

    The text suggests a known key, or says what was expected and found.
    """

    key: str
    unknown: bool
    text: str


def validated(kind: type[M], options: Mapping[str, Any]) -> M:
    """Return plain options as a model, strictly.

    They are validated as JSON, whose strict mode accepts lists for tuples and tables for models, as TOML has them, but
    neither a boolean nor a string for a number.

    Raises:
        ValidationError: See `complaint`.
    """
    # names of files need not be UTF-8, as JSON is
    texts = {key: value.encode(errors="replace").decode() for key, value in options.items() if isinstance(value, str)}
    names = {key: options[key] for key, text in texts.items() if text != options[key]}
    found = kind.model_validate_json(json.dumps({**options, **texts}, default=str), strict=True)
    return found.model_copy(update=names) if names else found


def complaint(error: ValidationError, kind: type[BaseModel], options: Mapping[str, Any]) -> Complaint:
    """Return the first fault; the deepest where a value could be of several types."""
    found = [(_keys(entry["loc"], options), entry) for entry in error.errors(include_url=False)]
    first = found[0][0][:1]
    keys, entry = max((pair for pair in found if pair[0][:1] == first), key=lambda pair: len(pair[0]))
    name = ".".join(keys)
    if entry["type"] == "extra_forbidden":
        known = _known(kind, keys[:-1])
        return Complaint(name, True, did_you_mean(keys[-1], known) if known else " It has none.")
    if entry["type"] == "missing":
        return Complaint(name, False, "found nothing, but the key is required")
    texts = dict.fromkeys(_expected(other) for own, other in found if own == keys)
    return Complaint(name, False, f"{' or '.join(texts)}, found {describe(entry.get('input'))}")


def _expected(entry: Mapping[str, Any]) -> str:
    text: str = entry["msg"].removeprefix("Value error, ")
    return text.replace("Input should be an object", "Input should be a table").replace("valid array", "valid list")


def _keys(location: tuple[int | str, ...], value: object) -> list[str]:
    """Return the keys and indices of a location; its other entries name branches of a union."""
    keys: list[str] = []
    for part in location:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif keys or len(location) > 1:
            continue
        keys.append(str(part))
    return keys


def _known(kind: type[BaseModel], keys: list[str]) -> list[str]:
    """Return the options of a model, or of the one nested at some keys."""
    for key in keys:
        field = kind.model_fields.get(key)
        inner = field.annotation if field else None
        if not isinstance(inner, type) or not issubclass(inner, BaseModel):
            return []
        kind = inner
    return list(kind.model_fields)
