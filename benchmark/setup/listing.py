"""What `instructedit list` prints: editors, tasks, presets, settings, lists of others, and the options of an editor."""

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from instructedit.editors import EDITORS, InputError, did_you_mean
from instructedit.editors.registry import title_and_source

from ..tasks.base import TASKS, Task
from .config import presets, read_suite
from .settings import SETTINGS

_LISTS: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {
    "editors": lambda: ((name, "{} ({})".format(*title_and_source(name))) for name in EDITORS),
    "tasks": lambda: ((name, _about(TASKS.get(name))) for name in TASKS),
    "presets": lambda: ((name, read_suite(name)[0].config.description) for name in presets()),
    "settings": lambda: ((name, setting.description) for name, setting in SETTINGS.items()),
}
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "none"}
_BOUNDS = {
    **{"gt": ">", "ge": ">=", "lt": "<", "le": "<="},
    **{"min_length": "of a length >=", "max_length": "of a length <="},
}


class Option(NamedTuple):
    """One option of an editor, in words; nested ones are named with dots."""

    name: str
    kind: str
    default: str
    meaning: str


Lists = Mapping[str, Mapping[str, str]]
"""Further lists by name: what is listed, and one line each."""


def content(what: str | None = None, name: str | None = None, others: Lists = MappingProxyType({})) -> Any:
    """Return a list as records, all lists by name, or the options of the editor `name`.

    Raises:
        InputError: If there is no such list, or `name` is missing or superfluous.
    """
    if what == "options" and name is None:
        raise InputError(f"Options of which editor? Expected one of {', '.join(EDITORS)} after 'options'.")
    if what == "options":
        editor = EDITORS.get(str(name))
        published = editor.Config.published
        return {
            "editor": name,
            "title": editor.title,
            "source": editor.source,
            "published": published and {"model": published.model, "options": list(published.options)},
            "options": [option._asdict() for option in options(editor.Config)],
        }
    if name is not None:
        raise InputError(f"'{what}' takes no further name, found '{name}'; 'options {name}' lists an editor's options.")
    if what is None:
        return {kind: content(kind, None, others) for kind in (*_LISTS, *others)}
    if what not in _LISTS and what not in others:
        raise InputError(f"Nothing to list under '{what}'.{did_you_mean(what, [*_LISTS, *others, 'options'])}")
    listed = others[what].items() if what in others else _LISTS[what]()
    return [{"name": own, "about": text} for own, text in listed]


def lines(
    what: str | None = None, name: str | None = None, width: int | None = None, others: Lists = MappingProxyType({})
) -> list[str]:
    """Return `content` as text, all lists under headings; errors as `content`.

    Lines are wrapped at `width` columns; None leaves all but options unwrapped.
    """
    found = content(what, name, others)
    if what == "options":
        return _option_lines(found, width or 80)
    if what is not None:
        return _lines(found, "", width)
    return [line for kind in found for line in ("", kind.capitalize(), *_lines(found[kind], "  ", width))][1:]


def options(config: type[BaseModel], prefix: str = "") -> Iterator[Option]:
    """Yield the options of a configuration; the names of nested ones have the group as a prefix."""
    for name, field in config.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from options(type(default), f"{prefix}{name}.")
        else:
            shown = "..." if field.is_required() else _value(default)
            yield Option(prefix + name, _kind(field.annotation, field.metadata), shown, _meaning(config, name))


def _lines(listed: list[dict[str, str]], indent: str, width: int | None) -> list[str]:
    longest = max(18, *(len(own["name"]) for own in listed))
    found = [f"{indent}{own['name']:{longest}} {own['about']}" for own in listed]
    if width is None:
        return found
    below = " " * (len(indent) + longest + 1)
    fold = textwrap.TextWrapper(width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)
    return [line for text in found for line in fold.wrap(text)]


def _about(task: type[Task]) -> str:
    sizes = ", ".join(f"{split} {count:,}" for split, count in task.published_rows.items()) or "none"
    if task.test_share is not None:
        sizes = f"one file, {task.test_share:.0%} of its subjects tested"
    return f"{task.title}; published rows: {sizes}; licence {task.licence}; {task.homepage}"


def _option_lines(listed: Mapping[str, Any], width: int) -> list[str]:
    texts = ["{editor}: {title} ({source})".format_map(listed)]
    if published := listed["published"]:
        chosen = ", ".join(published["options"])
        texts.append(f"Defaults published for {published['model']}, to be chosen again for another model: {chosen}.")
    found = [line for text in texts for line in textwrap.wrap(text, width)]
    for option in listed["options"]:
        head = "{name} = {default}  ({kind})".format_map(option)
        found += ["", *textwrap.wrap(head, width, subsequent_indent="    ", break_on_hyphens=False)]
        found += textwrap.wrap(option["meaning"], width, initial_indent="    ", subsequent_indent="    ")
    return found


def _meaning(config: type[BaseModel], name: str) -> str:
    """Return an option's docstring, of the base class that has one where only the default was overridden."""
    for base in config.__mro__:
        field = base.model_fields.get(name) if issubclass(base, BaseModel) and base is not BaseModel else None
        if field is not None and field.description:
            return " ".join(field.description.split())
    return ""


def _kind(annotation: Any, metadata: Any = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *own = arguments
        metadata = [part for entry in own for part in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
        return _kind(inner, metadata)
    if origin is Literal:
        return " | ".join(_value(value) for value in arguments)
    if origin in (Union, UnionType):
        # a bound outside of a union belongs to its numbers: `none` comes after it
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
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
