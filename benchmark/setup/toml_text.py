"""Plain options as a TOML file, which the standard library reads but does not write."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(document: Mapping[str, Any], comments: Sequence[str] = ()) -> str:
    """Return a TOML document: comments, plain keys, tables; `TypeError` for a value that TOML does not have."""
    plain = {key: value for key, value in document.items() if not _is_table(value) and not _are_tables(value)}
    blocks = ["\n".join(f"# {line}".rstrip() for line in comments)] if comments else []
    blocks += ["\n".join(_lines(plain))] if plain else []
    for key, value in document.items():
        if _are_tables(value):
            blocks += ["\n".join([f"[[{_key(key)}]]", *_lines(table)]) for table in value]
        elif _is_table(value) and value and all(map(_is_table, value.values())):
            blocks += ["\n".join([f"[{_key(key)}.{_key(name)}]", *_lines(table)]) for name, table in value.items()]
        elif _is_table(value):
            blocks.append("\n".join([f"[{_key(key)}]", *_lines(value)]))
    return "\n\n".join(blocks) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_table, value))


def _lines(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_key(key)} = {_value(value)}" for key, value in table.items())


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            return "{ " + ", ".join(_lines(value)) + " }" if value else "{}"
    raise TypeError(f"TOML has no value {value!r}.")
