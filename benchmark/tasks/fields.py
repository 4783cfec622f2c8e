"""Which fields of a file are read, found by watching the reader: nothing is declared, so nothing is forgotten."""

from collections import Counter
from collections.abc import ItemsView, Iterable, Iterator, ValuesView
from typing import Any


class Fields(dict[str, Any]):
    """An object of a record; it remembers which of its keys were asked for.

    Attributes:
        read: Keys that were asked for, whether it has them or not.
        repeated: How many of its keys stand in the file more than once; their last value counts.
    """

    __slots__ = ("read", "repeated")

    def __init__(self, pairs: Iterable[tuple[str, Any]] = ()) -> None:
        pairs = list(pairs)
        super().__init__(pairs)
        self.read: set[str] = set()
        self.repeated = len(pairs) - len(self)

    def __getitem__(self, key: str) -> Any:
        """Return a value; its key counts as read. To ask whether there is one (`in`) reads nothing."""
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value or the default; see `__getitem__`."""
        self.read.add(key)
        return super().get(key, default)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return all pairs; all keys count as read."""
        self.read.update(self)
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return all values; all keys count as read."""
        self.read.update(self)
        return super().values()


def unread(records: Iterable[Fields]) -> dict[str, int]:
    """Return the fields of a file that no record's reader asked for, with the number of records that have them.

    A field within another is named `outer.inner`, deeper ones `outer.*.inner`: what stands between are names of
    subsets. Objects of which nothing was read are not looked into: they are malformed, and counted as that.
    """
    present: Counter[str] = Counter()
    read: set[str] = set()
    for record in records:
        found: dict[str, None] = {}  # a set that keeps the order of the file
        for name, was_read in _names(record):
            found[name] = None
            if was_read:
                read.add(name)
        present.update(found.keys())
    return {name: count for name, count in present.items() if name not in read}


def repeated(value: object) -> int:
    """Return how many keys of a record, or of an object within it, stand there more than once."""
    if isinstance(value, Fields):
        return value.repeated + sum(repeated(item) for item in dict.values(value))
    return sum(map(repeated, value)) if isinstance(value, list) else 0


def _names(value: object, front: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the name of each field within a value, and whether it was read."""
    if isinstance(value, list):
        for item in value:
            yield from _names(item, front)
    elif isinstance(value, Fields) and value.read & value.keys():
        inner = f"{front.split('.', maxsplit=1)[0]}.*." if "." in front else f"{front}." if front else ""
        for key, item in dict.items(value):
            name = inner + key
            yield name, key in value.read
            if key in value.read:
                yield from _names(item, name)
