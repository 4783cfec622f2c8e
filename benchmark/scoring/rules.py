"""Rules of free generation that saved answers can be scored by, besides the one that runs use (`matching`).

Answers are saved up to where the rule of runs stopped reading them: the first line or sentence end that no accepted
answer has inside. No rule can see more.
"""

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from instructedit.editors.errors import InputError, did_you_mean

from .matching import NORMALISATION, first_answer, generation_agreement, matches, normalise

DEFAULT = "normalised"


@dataclass(frozen=True, slots=True)
class Rule:
    """Decides whether a generated text is right, and whether two texts give the same answer."""

    name: str
    about: str
    right: Callable[[str, Sequence[str]], float]
    """Score of a text against accepted answers, from 0 to 1."""
    same: Callable[[str, str, Sequence[str]], float]
    """Score of locality: of the unedited and the edited model's text, with the accepted answers."""
    code: str | None = None
    """sha256 of the file of a rule from outside."""

    @property
    def identity(self) -> str:
        """Name under which results record it: with the version of the normalisation, if it normalises."""
        return self.name if self.code or self.name == "exact" else f"{self.name} ({NORMALISATION})"

    @classmethod
    def named(cls, name: str) -> Self:
        """Return one of `RULES`, or that of a metric `module:function` or `module:Class`; `InputError` for others."""
        if ":" in name:
            return cls(name, "", *_outside(name))
        if name not in RULES:
            raise InputError(
                f"Unknown rule '{name}'.{did_you_mean(name, list(RULES))} One of {', '.join(RULES)} was expected, or a "
                "metric as module:name."
            )
        return RULES[name]  # type: ignore[return-value]


def _contains(text: str, accepted: Sequence[str]) -> bool:
    words = f" {normalise(text)} "
    return any(f" {wanted} " in words for wanted in map(normalise, accepted) if wanted)


def _starts_with(text: str, accepted: Sequence[str]) -> bool:
    words = f"{normalise(text)} "
    return any(words.startswith(f"{wanted} ") for wanted in map(normalise, accepted) if wanted)


def _exact(text: str, accepted: Sequence[str]) -> bool:
    # an answer may have sentence ends inside, at most as many as marks
    marks = (sum(not (c.isalnum() or c.isspace()) for c in wanted) for wanted in accepted)
    pairs = zip(accepted, marks, strict=True)
    return any(_bare(first_answer(text, stops)) == _bare(wanted) for wanted, most in pairs for stops in range(most + 1))


def _bare(answer: str) -> str:
    """Return an answer without the mark that ends it: a text that was cut there has none after it."""
    return answer.strip().rstrip(".!?。！？") or answer.strip()


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            DEFAULT,
            "the first answer equals an accepted one after normalisation; the rule of runs",
            matches,
            generation_agreement,
        ),
        Rule(
            "exact",
            "the first answer is an accepted one, character by character but for the mark that ends it",
            _exact,
            lambda before, after, accepted: _bare(first_answer(before)) == _bare(first_answer(after)),
        ),
        Rule(
            "starts-with",
            "the text begins with the words of an accepted answer, after normalisation",
            _starts_with,
            generation_agreement,
        ),
        Rule(
            "contains",
            "the words of an accepted answer occur in the text one after the other, after normalisation",
            _contains,
            generation_agreement,
        ),
    )
}
"""All rules by name."""


def _outside(name: str) -> tuple[Callable[..., float], Callable[..., float], str]:
    """Return the functions of a rule from a metric of another package, and the sha256 of its file."""
    module, _, attribute = name.partition(":")
    try:
        found: Any = getattr(import_module(module), attribute)
        source = inspect.getsourcefile(found)
        code = hashlib.sha256(Path(source or "").read_bytes()).hexdigest()
    except (ImportError, AttributeError, TypeError, OSError, ValueError) as error:
        raise InputError(f"--metric: '{name}' cannot be imported: {error}.") from error
    score = _of_library(name, found) if inspect.isclass(found) else found

    def right(text: str, accepted: Sequence[str]) -> float:
        try:
            value = float(score(text, list(accepted)))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"--metric: '{name}' failed on {text!r} and {accepted!r}: {error}.") from error
        if not 0 <= value <= 1 or math.isnan(value):
            raise InputError(f"--metric: '{name}' gave {value} for {text!r}, a number from 0 to 1 was expected.")
        return value

    return right, lambda before, after, _: right(after, [first_answer(before)]), code


def _of_library(name: str, kind: Any) -> Callable[[str, list[str]], float]:
    """Return an `evaluate.Metric` as a function: one row at a time, its one number."""
    metric = kind()

    def score(text: str, accepted: list[str]) -> float:
        numbers = [
            value for value in metric.compute(predictions=[text], references=[accepted]).values() if value is not None
        ]
        if len(numbers) != 1:
            raise InputError(f"--metric: '{name}' gave {len(numbers)} numbers, one was expected.")
        return float(numbers[0])

    return score
