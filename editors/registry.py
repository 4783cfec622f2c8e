"""Named things found lazily: editors, tasks, whatever an outside package adds.

A registry maps a name to an import target and imports it on first use, so naming the editors does not load torch.
Names come from the entry points of installed packages, ours included: a built-in editor registers exactly as anybody's
own.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from .errors import InputError, did_you_mean
from .literals import literals

if TYPE_CHECKING:
    from .editor import Editor

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of thing, imported on first use.

    Args:
        kind: Word for error sentences, e.g. `editor`.
        group: Entry-point group that installed packages register under.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._targets: dict[str, str] | None = None
        self._added: dict[str, T] = {}

    def _known(self) -> dict[str, str]:
        if self._targets is None:
            targets: dict[str, str] = {}
            for point in _unique(entry_points(group=self.group)):
                if point.name in targets:
                    raise InputError(
                        f"Two packages register the {self.kind} '{point.name}': "
                        f"{targets[point.name]} and {point.value}; uninstall one of them."
                    )
                targets[point.name] = point.value
            self._targets = targets
        return self._targets

    def names(self) -> list[str]:
        """Return all registered names in alphabetical order, without importing anything."""
        return sorted({*self._known(), *self._added})

    def __contains__(self, name: object) -> bool:
        return name in self._added or name in self._known()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str) -> T:
        """Return the thing registered under `name`, importing it if need be.

        Raises:
            InputError: If the name is unknown (with a suggestion) or its target cannot be imported.
        """
        if name in self._added:
            return self._added[name]
        target = self._known().get(name)
        if target is None:
            raise InputError(f"Unknown {self.kind} '{name}'.{did_you_mean(name, self.names())}")
        module, _, attribute = target.partition(":")
        try:
            return cast(T, getattr(import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"The {self.kind} '{name}' is registered as {target}, which cannot be imported: {error}."
            ) from error

    def texts(self, name: str, attributes: Iterable[str]) -> list[str]:
        """Return attributes of the class registered under `name` that are strings, for a list of what there is.

        The class is imported only if it is not known by its source what they are; see `literals`.

        Raises:
            InputError: If the name is unknown, or its target has to be imported and cannot be.
        """
        wanted, target = list(attributes), self._known().get(name)
        if target is not None and name not in self._added:
            module, _, attribute = target.partition(":")
            found = {} if module in sys.modules else literals(module, attribute)
            if found.keys() >= set(wanted):
                return [found[key] for key in wanted]
        return [getattr(self.get(name), key) for key in wanted]

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a thing under `name` for this process (notebooks, tests).

        Raises:
            InputError: If the name is taken.
        """

        def add(thing: T) -> T:
            if name in self:
                raise InputError(f"The {self.kind} '{name}' is registered already; choose another name.")
            self._added[name] = thing
            return thing

        return add

    def unregister(self, name: str) -> None:
        """Forget a name added with `register`."""
        del self._added[name]


def _unique(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Drop entry points listed twice: an editable install beside a build has its metadata on the path twice."""
    return list({(point.name, point.value): point for point in points}.values())


EDITORS: Registry[type["Editor[Any]"]] = Registry("editor", "instructedit.editors")
"""All editors, ours and those of installed packages."""
