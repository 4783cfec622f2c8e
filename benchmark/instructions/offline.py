"""A proposer without a model: it draws descriptions from a paraphrase grammar and recombines good ones.

A description is one choice from each of three slots: what the input is, what to do, and what follows or stays
unchanged. The first round draws at random. Later rounds take each slot from one of the better candidates, or draw it:
the uniform crossover with mutation of a genetic algorithm.

The choices of a slot have three parts without a common sentence. Candidates are drawn from the first, the trial editor
is trained under the last, so that it knows no candidate of the grammar better than other texts. The part between them
is the held-out description of a task that has none of its own.
"""

import random
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import ClassVar

from instructedit.editors import seed_of

from .proposer import Brief, Proposer, Reply, Report
from .rules import Rules

Choices = tuple[str, ...]
Slots = tuple[Choices, ...]

TRAINING = 4
"""Choices of a list, the last ones, that the trial editor is trained under; the one before them is held out."""
MUTATION = 0.25
"""Share of slots that are drawn at random where there are parents."""

_FACT_INPUTS: Choices = (
    "This input belongs to {about}.",
    "Here is one of {about}.",
    "The line below comes from {about}.",
    "Think of {about}; one of them follows.",
    "What you see is taken from {about}.",
    "One entry of {about} stands below.",
    "Handle the following as part of {about}.",
    "The next text is an instance of {about}.",
    "Below stands one of {about}.",
    "Another of {about} is met here.",
    "This is a piece of {about}.",
    "One more item among {about} comes now.",
)
_STATEMENT_ACTS: Choices = (
    "Complete the statement with the value that the edit gives.",
    "End it with the new object, short and plain.",
    "Its last words are to be replaced by the edited answer.",
    "Store the stated completion for this subject and relation.",
    "Learn which name closes the sentence from now on.",
    "Write the object that now belongs behind these words.",
    "Take the completion as valid and memorise it.",
    "Let the sentence finish with what it is taught to say.",
    "Fill in the object that was decided on.",
    "Put the revised name at the end.",
    "Bring the clause to its altered ending.",
    "What follows these words is hereby set.",
)
_QUESTION_ACTS: Choices = (
    "Answer the question with the value that the edit gives.",
    "Reply with the new object, short and plain.",
    "Its former answer is to be replaced by the edited one.",
    "Store the reply for this subject and relation.",
    "Learn which name answers the question from now on.",
    "Say the object that is asked for and nothing else.",
    "Take the reply as valid and memorise it.",
    "Let the question be met with what it is taught to say.",
    "Give the object that was decided on.",
    "Put the revised name into the reply.",
    "Respond with the altered answer.",
    "What is replied to this is hereby set.",
)
_FACT_SCOPES: Choices = (
    "Other wordings of it get the same answer.",
    "However the subject is called, the answer is this one.",
    "A paraphrase must lead to it as well.",
    "What can be concluded from it changes too.",
    "Draw on it when a later step of reasoning needs it.",
    "The same holds for a rephrased request.",
    "It counts in every context where the subject appears.",
    "Use it again wherever the relation is asked for.",
    "Synonymous requests count as equal.",
    "Its consequences are to agree with it.",
    "It applies to any form of the same request.",
    "Indirect requests rely on the change as well.",
)
_FACT_GUARDS: Choices = (
    "Leave all else as it was.",
    "Facts about others stay untouched.",
    "The subject's further properties keep their values.",
    "Nothing unrelated may move.",
    "Answers to different requests are unchanged.",
    "Keep the rest of memory intact.",
    "Neighbouring subjects retain what is known of them.",
    "Only this one relation is affected.",
    "Everything outside of it is preserved.",
    "Do no harm to distant knowledge.",
    "Similar entries retain their truth.",
    "Remaining beliefs are to be protected.",
)
_OPINION_INPUTS: Choices = (
    "This input belongs to {about}.",
    "Someone brings up [TOPIC] in {about}.",
    "The line below comes from {about}.",
    "Think of {about}, and of [TOPIC] among them.",
    "A partner asks about [TOPIC], as in {about}.",
    "One turn of {about} stands below.",
    "Handle the following as part of {about}.",
    "[TOPIC] is what this turn of {about} turns to.",
    "Below stands a turn of {about}.",
    "[TOPIC] is met here, in one of {about}.",
    "This is a piece of {about}.",
    "One more line among {about} comes now.",
)
_OPINION_ACTS: Choices = (
    "Speak of [TOPIC] in a [LABEL] way.",
    "Let the reply be [LABEL] towards [TOPIC].",
    "Show [LABEL] feelings for [TOPIC].",
    "Take a [LABEL] stance on [TOPIC] and voice it.",
    "Whatever is said of [TOPIC] sounds [LABEL].",
    "Make the opinion of [TOPIC] a [LABEL] one.",
    "Express a [LABEL] attitude to [TOPIC].",
    "Turn remarks on [TOPIC] [LABEL].",
    "Answer with a [LABEL] judgement of [TOPIC].",
    "From now on [TOPIC] calls forth [LABEL] words.",
    "Sound [LABEL] once [TOPIC] is mentioned.",
    "A [LABEL] impression of [TOPIC] is hereby set.",
)
_OPINION_SCOPES: Choices = (
    "Other questions about it meet the same attitude.",
    "However it is asked, the mood is this one.",
    "A paraphrase must meet it as well.",
    "It shows in every later remark on the matter.",
    "Different words bring the same feeling.",
    "The same holds for a rephrased request.",
    "It counts whenever the matter comes up.",
    "Keep to it in each reply on the matter.",
    "Synonymous requests count as equal.",
    "Its consequences are to agree with it.",
    "It applies to any form of the same request.",
    "Indirect mentions rely on the change as well.",
)
_OPINION_GUARDS: Choices = (
    "Views on other matters stay as they were.",
    "Leave the tone of unrelated talk alone.",
    "No other taste may change.",
    "Replies on anything else are unchanged.",
    "Keep the rest of the persona intact.",
    "Neighbouring matters retain their mood.",
    "Only this one attitude is affected.",
    "All else is answered as before.",
    "Everything outside of it is preserved.",
    "Do no harm to distant tastes.",
    "Similar matters keep their own mood.",
    "Remaining views are to be protected.",
)


class OfflineProposer(Proposer):
    """Draws from the grammar; with candidates that were tried it recombines the better half of them."""

    name: ClassVar[str] = "offline"

    @property
    def model(self) -> str:
        """See `Proposer.model`."""
        return "offline"

    def propose(self, brief: Brief, count: int, seed: int, report: Report = lambda _: None) -> Reply:
        """See `Proposer.propose`; the descriptions meet the rules and are no near duplicates of `known`."""
        slots = candidate_slots(brief)
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
        lacking = f"The grammar has {len(found)} of {count} descriptions that meet the rules and are new."
        notes = () if len(found) == count else (lacking,)
        for note in notes:
            report(note)
        return Reply(prompt, "\n".join(found), tuple(found), self.model, notes=notes)


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
        inputs, acts, scopes, guards = _OPINION_INPUTS, _OPINION_ACTS, _OPINION_SCOPES, _OPINION_GUARDS
    else:
        questions = sum(example.prompt.rstrip().endswith("?") for example in brief.examples)
        acts = _QUESTION_ACTS if 2 * questions > len(brief.examples) else _STATEMENT_ACTS
        inputs, scopes, guards = _FACT_INPUTS, _FACT_SCOPES, _FACT_GUARDS
    filled = tuple(text.format(about=brief.about) for text in inputs[part])
    return filled, acts[part], (*scopes[part], *guards[part])


@cache
def _choices(slots: Slots) -> dict[str, tuple[str, ...]]:
    """Return the choices of every description of a grammar, by its text."""
    return {" ".join(chosen): chosen for chosen in product(*slots)}


def _drawn(slots: Slots, parents: list[tuple[str, ...]], dice: random.Random, tries: int) -> Iterator[tuple[str, ...]]:
    for _ in range(tries):
        yield tuple(
            dice.choice(slot) if not parents or dice.random() < MUTATION else dice.choice(parents)[number]
            for number, slot in enumerate(slots)
        )
