"""A proposer that needs no model: it draws from a paraphrase grammar, and recombines what did well.

The first round draws at random. Later ones take each slot of the grammar from one of the better candidates of the
brief, or anew: the uniform crossover with mutation of a genetic algorithm. So the loop has something to improve by
without any model.
"""

import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import ClassVar

from instructedit.editors import seed_of

from .grammar import Slots, to_try
from .proposal import Brief, Proposer, Reply
from .rules import Rules

FRESH = 0.25
"""Share of slots that are drawn anew where there are parents."""


class OfflineProposer(Proposer):
    """Draws from the grammar; with candidates that were tried it recombines the better half of them."""

    name: ClassVar[str] = "offline"

    @property
    def model(self) -> str:
        """See `Proposer.model`."""
        return "offline"

    def propose(self, brief: Brief, count: int, seed: int, report: Callable[[str], None] = lambda _: None) -> Reply:
        """See `Proposer.propose`; only what keeps the rules is written, and nothing that is almost one of `known`."""
        slots = to_try(brief)
        choices = _choices(slots)
        parents = [choices[tried.text] for tried in brief.tried if tried.text in choices]
        parents = parents[: (len(parents) + 1) // 2]
        dice = random.Random(seed_of(seed, "offline", brief.task, len(brief.tried)))
        rules, found = Rules(brief.placeholders, frozenset(), ()), list[str]()
        for chosen in _drawn(slots, parents, dice, tries=50 * count):
            text = " ".join(chosen)
            if rules.complaint(text, (*brief.known, *found)) is None:
                found.append(text)
            if len(found) == count:
                break
        prompt = f"grammar of {len(choices):,} descriptions of {brief.about}; {len(parents)} parents; seed {seed}"
        lacking = f"The grammar has {len(found)} of {count} descriptions that keep the rules and are new."
        notes = () if len(found) == count else (lacking,)
        for note in notes:
            report(note)
        return Reply(prompt, "\n".join(found), tuple(found), self.model, notes=notes)


@cache
def _choices(slots: Slots) -> dict[str, tuple[str, ...]]:
    """Return the choices behind every description of a grammar, by its text."""
    return {" ".join(chosen): chosen for chosen in product(*slots)}


def _drawn(slots: Slots, parents: list[tuple[str, ...]], dice: random.Random, tries: int) -> Iterator[tuple[str, ...]]:
    for _ in range(tries):
        yield tuple(
            dice.choice(slot) if not parents or dice.random() < FRESH else dice.choice(parents)[number]
            for number, slot in enumerate(slots)
        )
