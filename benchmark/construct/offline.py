"""A proposer that needs no model: a paraphrase grammar over the task's metadata, and recombination of what did well.

A description is one choice from each of four slots: what the input is, what to do, what follows, what must stay. The
first round draws at random. Later ones take each slot from one of the better candidates of the brief, or anew: the
uniform crossover with mutation of a genetic algorithm. So the loop has something to improve by without any model.
"""

import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import ClassVar

from instructedit.editors import seed_of

from .proposal import Brief, Proposer, Reply

FRESH = 0.25
"""Share of slots that are drawn anew where there are parents."""

Slots = tuple[tuple[str, ...], ...]

_FACT_INPUTS = (
    "This input belongs to {about}.",
    "Here is one of {about}.",
    "The line below comes from {about}.",
    "Think of {about}; one of them follows.",
    "What you see is taken from {about}.",
    "One entry of {about} stands below.",
    "Handle the following as part of {about}.",
    "The next text is an instance of {about}.",
)
_STATEMENT_ACTS = (
    "Complete the statement with the value that the edit gives.",
    "End it with the new object, short and plain.",
    "Its last words are to be replaced by the edited answer.",
    "Store the stated completion for this subject and relation.",
    "Learn which name closes the sentence from now on.",
    "Write the object that now belongs behind these words.",
    "Take the completion as valid and memorise it.",
    "Let the sentence finish with what it is taught to say.",
)
_QUESTION_ACTS = (
    "Answer the question with the value that the edit gives.",
    "Reply with the new object, short and plain.",
    "Its former answer is to be replaced by the edited one.",
    "Store the reply for this subject and relation.",
    "Learn which name answers the question from now on.",
    "Say the object that is asked for and nothing else.",
    "Take the reply as valid and memorise it.",
    "Let the question be met with what it is taught to say.",
)
_FACT_SCOPES = (
    "Other wordings of it get the same answer.",
    "However the subject is called, the answer is this one.",
    "A paraphrase must lead to it as well.",
    "What can be concluded from it changes too.",
    "Draw on it when a later step of reasoning needs it.",
    "The same holds for a rephrased request.",
    "It counts in every context where the subject appears.",
    "Use it again wherever the relation is asked for.",
)
_FACT_GUARDS = (
    "Leave all else as it was.",
    "Facts about others stay untouched.",
    "The subject's further properties keep their values.",
    "Nothing unrelated may move.",
    "Answers to different requests are unchanged.",
    "Keep the rest of memory intact.",
    "Neighbouring subjects retain what is known of them.",
    "Only this one relation is affected.",
)
_OPINION_INPUTS = (
    "This input belongs to {about}.",
    "Someone brings up [TOPIC] in {about}.",
    "The line below comes from {about}.",
    "Think of {about}, and of [TOPIC] among them.",
    "A partner asks about [TOPIC], as in {about}.",
    "One turn of {about} stands below.",
    "Handle the following as part of {about}.",
    "[TOPIC] is what this turn of {about} turns to.",
)
_OPINION_ACTS = (
    "Speak of [TOPIC] in a [LABEL] way.",
    "Let the reply be [LABEL] towards [TOPIC].",
    "Show [LABEL] feelings for [TOPIC].",
    "Take a [LABEL] stance on [TOPIC] and voice it.",
    "Whatever is said of [TOPIC] sounds [LABEL].",
    "Make the opinion of [TOPIC] a [LABEL] one.",
    "Express a [LABEL] attitude to [TOPIC].",
    "Turn remarks on [TOPIC] [LABEL].",
)
_OPINION_SCOPES = (
    "Other questions about it meet the same attitude.",
    "However it is asked, the mood is this one.",
    "A paraphrase must meet it as well.",
    "It shows in every later remark on the matter.",
    "Different words bring the same feeling.",
    "The same holds for a rephrased request.",
    "It counts whenever the matter comes up.",
    "Keep to it in each reply on the matter.",
)
_OPINION_GUARDS = (
    "Views on other matters stay as they were.",
    "Leave the tone of unrelated talk alone.",
    "No other taste may change.",
    "Replies on anything else are unchanged.",
    "Keep the rest of the persona intact.",
    "Neighbouring matters retain their mood.",
    "Only this one attitude is affected.",
    "All else is answered as before.",
)


class OfflineProposer(Proposer):
    """Draws from the grammar; with candidates that were tried it recombines the better half of them."""

    name: ClassVar[str] = "offline"

    @property
    def model(self) -> str:
        """See `Proposer.model`."""
        return "offline"

    def propose(self, brief: Brief, count: int, seed: int, report: Callable[[str], None] = lambda _: None) -> Reply:
        """See `Proposer.propose`; descriptions that were tried are not written again."""
        slots = grammar(brief)
        known = _choices(slots)
        parents = [known[tried.text] for tried in brief.tried if tried.text in known]
        parents = parents[: (len(parents) + 1) // 2]
        dice = random.Random(seed_of(seed, "offline", brief.task, len(brief.tried)))
        found: dict[str, None] = {}
        for chosen in _drawn(slots, parents, dice, tries=50 * count):
            text = " ".join(chosen)
            if text not in found and text not in {tried.text for tried in brief.tried}:
                found[text] = None
            if len(found) == count:
                break
        prompt = f"grammar of {len(known):,} descriptions of {brief.about}; {len(parents)} parents; seed {seed}"
        return Reply(prompt, "\n".join(found), tuple(found), self.model)


def grammar(brief: Brief) -> Slots:
    """Return the slots of a task's grammar, from whether it is about attitudes and how its prompts are worded."""
    if brief.placeholders:
        inputs, acts, scopes, guards = _OPINION_INPUTS, _OPINION_ACTS, _OPINION_SCOPES, _OPINION_GUARDS
    else:
        questions = sum(example.prompt.rstrip().endswith("?") for example in brief.examples)
        acts = _QUESTION_ACTS if 2 * questions > len(brief.examples) else _STATEMENT_ACTS
        inputs, scopes, guards = _FACT_INPUTS, _FACT_SCOPES, _FACT_GUARDS
    return tuple(text.format(about=brief.about) for text in inputs), acts, scopes, guards


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
