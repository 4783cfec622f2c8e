"""A proposer without a model: it draws descriptions from a paraphrase grammar and recombines good ones.

A description is one choice from each of three slots: what the input is, what to do, and what follows or stays
unchanged. The first round draws at random. Later rounds take each slot from one of the better candidates, or draw it:
the uniform crossover with mutation of a genetic algorithm.

The choices of a slot have three parts without a common sentence. Candidates are drawn from the first, the trial editor
is trained under the last, so that it knows no candidate of the grammar better than other texts. The part between them
is the held-out description of a task that has none of its own.
"""

import random
import tomllib
from functools import cache
from importlib import resources
from itertools import product

from instructedit.editors import seed_of

from ..results.loop_results import Candidate, Proposal
from .proposer import Brief, Proposer, Report, Rules

Slots = tuple[tuple[str, ...], ...]

TRAINING = 4
"""Choices of a list, the last ones, that the trial editor is trained under; the one before them is held out."""
MUTATION = 0.25
"""Share of slots that are drawn at random where there are parents."""


class OfflineProposer(Proposer):
    """Draws from the grammar; with candidates that were tried it recombines the better half of them."""

    @property
    def model(self) -> str:
        """See `Proposer.model`."""
        return "offline"

    def propose(self, brief: Brief, count: int, seed: int, report: Report = lambda _: None) -> Proposal:
        """See `Proposer.propose`; the descriptions meet the rules and are no near duplicates of `known`."""
        slots = candidate_slots(brief)
        choices = _choices(slots)
        parents = [choices[tried.text] for tried in brief.tried if tried.text in choices]
        parents = parents[: (len(parents) + 1) // 2]
        dice = random.Random(seed_of(seed, "offline", brief.task, len(brief.tried)))
        rules, found = Rules(brief.placeholders, frozenset(), ()), list[str]()
        for _ in range(50 * count):
            text = " ".join(
                dice.choice(slot) if not parents or dice.random() < MUTATION else dice.choice(parents)[number]
                for number, slot in enumerate(slots)
            )
            if rules.complaint(text, (*brief.known, *found)) is None:
                found.append(text)
            if len(found) == count:
                break
        prompt = f"grammar of {len(choices):,} descriptions of {brief.about}; {len(parents)} parents; seed {seed}"
        notes: tuple[str, ...] = ()
        if len(found) < count:
            notes = (f"The grammar has {len(found)} of {count} descriptions that meet the rules and are new.",)
            report(notes[0])
        return Proposal(
            prompt=prompt,
            text="\n".join(found),
            model=self.model,
            seed=seed,
            candidates=tuple(Candidate(text=text) for text in found),
            notes=notes,
        )


def candidate_slots(brief: Brief) -> Slots:
    """Return the slots that candidates are drawn from."""
    return _slots(brief, slice(None, -TRAINING - 1))


def training_slots(brief: Brief) -> Slots:
    """Return the slots that the trial editor is trained under."""
    return _slots(brief, slice(-TRAINING, None))


def held_out_description(brief: Brief) -> str:
    """Return the held-out description of a task without any; it has no sentence in common with the slots."""
    return " ".join(slot[0] for slot in _slots(brief, slice(-TRAINING - 1, -TRAINING)))


def _slots(brief: Brief, part: slice) -> Slots:
    """Return a part of each slot; the lists depend on the placeholders and on the wording of the prompts."""
    if brief.placeholders:
        lists = _grammar()["opinion"]
        acts = lists["acts"]
    else:
        lists = _grammar()["fact"]
        questions = sum(example.prompt.rstrip().endswith("?") for example in brief.examples)
        acts = lists["question_acts" if 2 * questions > len(brief.examples) else "statement_acts"]
    inputs = tuple(text.format(about=brief.about) for text in lists["inputs"][part])
    return inputs, tuple(acts[part]), (*lists["scopes"][part], *lists["guards"][part])


@cache
def _grammar() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads((resources.files(__package__) / "grammar.toml").read_text(encoding="utf-8"))


@cache
def _choices(slots: Slots) -> dict[str, tuple[str, ...]]:
    return {" ".join(chosen): chosen for chosen in product(*slots)}
