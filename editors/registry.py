"""Registries: names of editors and tasks, found through entry points and imported on first use.

A built-in editor registers exactly as one of an outside package does. Listing the names imports nothing.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from .errors import InputError, did_you_mean

if TYPE_CHECKING:
    from .editor import Editor

T = TypeVar("T")


class Registry(Generic[T]):
    """Named objects of one kind, imported on first use from an entry-point group that packages register under."""

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._targets: dict[str, str] | None = None
        self._added: dict[str, T] = {}

    def _known(self) -> dict[str, str]:
        if self._targets is None:
            targets: dict[str, str] = {}
            # an editable install beside a build has its metadata on the path twice
            for point in {(point.name, point.value): point for point in entry_points(group=self.group)}.values():
                if point.name in targets:
                    raise InputError(
                        f"Two packages register the {self.kind} '{point.name}': "
                        f"{targets[point.name]} and {point.value}; uninstall one of them."
                    )
                targets[point.name] = point.value
            self._targets = targets
        return self._targets

    def names(self) -> list[str]:
        """Return all names in alphabetical order."""
        return sorted({*self._known(), *self._added})

    def __contains__(self, name: object) -> bool:
        return name in self._added or name in self._known()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str) -> T:
        """Return the object registered under `name`.

        Raises:
            InputError: If the name is unknown, or its target cannot be imported.
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

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers an object under `name` in this process, for notebooks and tests.

        Raises:
            InputError: If the name is taken.
        """

        def add(value: T) -> T:
            if name in self:
                raise InputError(f"The {self.kind} '{name}' is registered already; choose another name.")
            self._added[name] = value
            return value

        return add

    def unregister(self, name: str) -> None:
        """Remove a name added with `register`."""
        del self._added[name]


EDITORS: Registry[type["Editor[Any]"]] = Registry("editor", "instructedit.editors")
"""All editors: the built-in ones and those of installed packages."""

BUILT_IN = {
    "none": ("no edit", "control"),
    "ft-l": ("FT-L", "Meng et al. 2022, arXiv 2202.05262"),
    "ft-m": ("FT-M", "Zhang et al. 2024 (KnowEdit), arXiv 2401.01286"),
    "calinet": ("CaliNet", "Dong et al. 2022, arXiv 2210.03329"),
    "grace": ("GRACE", "Hartvigsen et al. 2023, arXiv 2211.11031"),
    "in-context": ("in-context edit", "control; Zheng et al. 2023, arXiv 2305.12740, without demonstrations"),
    "ke": ("KE", "De Cao et al. 2021, arXiv 2104.08164"),
    "mend": ("MEND", "Mitchell et al. 2022, arXiv 2110.11309"),
    "instructedit": ("InstructEdit", "Zhang et al. 2024, arXiv 2402.16123"),
}
"""Title and source of the built-in editors: importing the classes for them would load torch (seconds)."""


def title_and_source(name: str) -> tuple[str, str]:
    """Return an editor's title and source; the class is imported unless it is a built-in one."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    editor = EDITORS.get(name)
    return editor.title, editor.source
