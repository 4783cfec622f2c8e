"""What `instructedit list options EDITOR` prints: the fields of the editor's configuration, and their docstrings."""

import json
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from instructedit.editors import EDITORS, EditorConfig

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "none"}
_BOUNDS = {
    **{"gt": ">", "ge": ">=", "lt": "<", "le": "<="},
    **{"min_length": "of a length >=", "max_length": "of a length <="},
}


class Option(NamedTuple):
    """One option of an editor.

    Attributes:
        name: As in a TOML file, nested ones with dots.
        kind: What it takes, with its range.
        default: Its default.
        meaning: Its docstring.
    """

    name: str
    kind: str
    default: str
    meaning: str


def options(config: type[BaseModel], front: str = "") -> Iterator[Option]:
    """Yield the options of a configuration, those of nested ones behind the names of these."""
    for name, field in config.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from options(type(default), f"{front}{name}.")
        else:
            kind, value = _kind(field.annotation, field.metadata), "..." if field.is_required() else _value(default)
            yield Option(front + name, kind, value, _meaning(config, name))


def option_lines(name: str, width: int = 80) -> list[str]:
    """Return the options of an editor as lines for the terminal.

    Raises:
        InputError: If there is no such editor.
    """
    editor = EDITORS.get(name)
    found = [f"{name}: {editor.title} ({editor.source})"]
    published = editor.Config.published if issubclass(editor.Config, EditorConfig) else None
    if published is not None:
        chosen = ", ".join(published.options)
        found += [f"Defaults published for {published.model}, to be chosen anew for another model: {chosen}."]
    found = [line for text in found for line in textwrap.wrap(text, width)]
    every = list(options(editor.Config))
    if not every:
        return [*found, "", "It has no options."]
    for option in every:
        head = f"{option.name} = {option.default}  ({option.kind})"
        found += ["", *textwrap.wrap(head, width, subsequent_indent="    ", break_on_hyphens=False)]
        found += textwrap.wrap(option.meaning, width, initial_indent="    ", subsequent_indent="    ")
    return found


def _meaning(config: type[BaseModel], name: str) -> str:
    """Return an option's docstring; that of the class it is inherited from where only its default was changed."""
    fields: Iterator[FieldInfo | None] = (
        base.model_fields.get(name) for base in config.__mro__ if issubclass(base, BaseModel) and base is not BaseModel
    )
    text = next((field.description for field in fields if field is not None and field.description), "")
    return " ".join(text.split())


def _kind(annotation: Any, metadata: Any = ()) -> str:
    """Return in words what a type takes."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *own = arguments
        metadata = [part for entry in own for part in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
        return _kind(inner, metadata)
    if origin is Literal:
        return " | ".join(_value(value) for value in arguments)
    if origin in (Union, UnionType):
        # a bound outside of a union is of its numbers: `none` comes behind it
        words = " or ".join(dict.fromkeys(_kind(part, metadata) for part in arguments if part is not NoneType))
        return f"{words} or none" if NoneType in arguments else words
    if origin in (tuple, list):
        words = f"list of {' or '.join(dict.fromkeys(_kind(part) for part in arguments if part is not Ellipsis))}"
    elif origin is dict:
        words = f"table of {_kind(arguments[1])}"
    else:
        words = _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))
    found = [(sign, getattr(part, key, None)) for part in metadata for key, sign in _BOUNDS.items()]
    return " ".join([words, *(f"{sign} {bound}" for sign, bound in found if bound is not None)])


def _value(value: Any) -> str:
    """Return a value as a TOML file has it; `none` is what leaving the option out means."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
