"""Search spaces: the ranges within which an editor's options are tuned.

A value depends only on the seed, the trial and the option's name: a longer search starts with the trials of a shorter
one, and an additional option does not change the values of the others. Numbers have three significant digits, so that
they are readable in a TOML file and equal on every machine.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pydantic import BaseModel

from .errors import InputError
from .seeds import seed_of


class Range(ABC):
    """Values of an option in a search."""

    @abstractmethod
    def draw(self, rng: random.Random) -> Any:
        """Return one value, as plain data for JSON and TOML."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the range as tables show it."""


@dataclass(frozen=True, slots=True)
class Choice(Range):
    """One of several values with equal probability."""

    values: tuple[Any, ...]

    def draw(self, rng: random.Random) -> Any:  # noqa: D102
        return self.values[int(rng.random() * len(self.values))]

    def __str__(self) -> str:
        return "{" + ", ".join(map(plain, self.values)) + "}"


@dataclass(frozen=True, slots=True)
class Uniform(Range):
    """A number between two bounds."""

    low: float
    high: float

    def draw(self, rng: random.Random) -> float:  # noqa: D102
        return _within(self.low + rng.random() * (self.high - self.low), self.low, self.high)

    def __str__(self) -> str:
        return f"[{plain(self.low)}, {plain(self.high)}]"


@dataclass(frozen=True, slots=True)
class LogUniform(Range):
    """A number whose logarithm is uniform between two bounds: positive, or `signed` in half of the draws negative."""

    low: float
    high: float
    whole: bool = False
    signed: bool = False

    def draw(self, rng: random.Random) -> int | float:  # noqa: D102
        value = _within(self.low * (self.high / self.low) ** rng.random(), self.low, self.high)
        if self.whole:
            return round(value)
        return -value if self.signed and rng.random() < 0.5 else value

    def __str__(self) -> str:
        sign = "± " if self.signed else ""
        return f"{sign}[{plain(self.low)}, {plain(self.high)}], {'integer, ' if self.whole else ''}logarithmic"


@dataclass(frozen=True, slots=True)
class Either(Range):
    """A range or, with the probability `share`, one value outside of it, e.g. `false`."""

    range: Range
    value: Any
    share: float = 0.25

    def draw(self, rng: random.Random) -> Any:  # noqa: D102
        return self.value if rng.random() < self.share else self.range.draw(rng)

    def __str__(self) -> str:
        return f"{self.range}, or {plain(self.value)}"


@dataclass(frozen=True, slots=True)
class Scaled(Range):
    """A range of a factor of a unit that `Editor.unit` measures on the model, under the other options of the trial."""

    range: Range
    unit: str

    def draw(self, rng: random.Random) -> Any:  # noqa: D102
        return self.range.draw(rng)

    def __str__(self) -> str:
        return f"{self.range}, times {self.unit}"


Space = Mapping[str, Range]
"""Ranges by the names of options; nested names are separated by dots."""
DEPTH = Uniform(0.0, 0.999)
"""A block as a fraction of the depth, for any number of blocks."""


def drawn(space: Space, seed: int, trial: int) -> dict[str, Any]:
    """Return the options of a trial by name; factors for `Scaled` ranges."""
    return {name: own.draw(random.Random(seed_of("tune", seed, trial, name))) for name, own in space.items()}


def replaced(options: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an editor's options with new values for some names, which may be nested."""
    found = deepcopy(dict(options))
    for name, value in values.items():
        *groups, last = name.split(".")
        reduce(lambda place, group: place.setdefault(group, {}), groups, found)[last] = value
    return found


def current(config: BaseModel, space: Space) -> dict[str, Any]:
    """Return the values of a configuration for the names of a space, as plain data.

    Raises:
        InputError: If it has no such option.
    """
    options = config.model_dump(mode="json")
    try:
        return {name: reduce(lambda group, key: group[key], name.split("."), options) for name in space}
    except KeyError as error:
        raise InputError(f"A range is declared for {error}, but {type(config).__name__} has no such option.") from error


def significant(value: float) -> float:
    """Return a number with three significant digits."""
    return float(f"{value:.3g}")


def plain(value: Any) -> str:
    """Return a value as tables show it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    return str(value)


def _within(value: float, low: float, high: float) -> float:
    return min(max(significant(value), low), high)
