"""The pre-training corpus: short texts, with new wordings in every epoch.

A text is a sequence of `(piece, weight)`. Answers have loss weight 1 and the rest 0.2: with uniform weights most of the
loss is about wording, which is learned early, and the facts are learned too slowly.
"""

import random
from collections.abc import Iterator

from ...tasks.convsent import QUESTIONS
from ...tasks.rephrase import derive_rephrases
from .instructions import instruct
from .opinions import Opinions, reply
from .relations import HOPS, RELATIONS
from .world import World, share

Text = tuple[tuple[str, float], ...]

LEAD, ANSWER = 0.2, 1.0
OPEN_INPUT = "Tell me about {S}."
FAMILY_FACT = {"counterfact": 0, "recent": -1}
"""The fact of a subject that answers an open input: the first for one family, the last for another."""


def wordings(relation: str, subject: str) -> list[str]:
    """Return every wording of a fact that is part of the language, KnowEdit's statement first."""
    row = RELATIONS[relation]
    prompt = row.prompt.format(S=subject)
    given = [form.format(S=subject) for form in (*row.forms, *row.questions)]
    derived = [text for _, text in derive_rephrases(prompt, subject)]
    return list(dict.fromkeys([prompt, *given, *derived]))


def held_wording(subject: str, relation: str, text: str) -> bool:
    """Whether this wording of a fact is held out of training: a seventh of them, never KnowEdit's own statement."""
    own = text == RELATIONS[relation].prompt.format(S=subject)
    return not own and share(f"wording/{relation}/{text}") < 1 / 7


def held_alias(alias: str, relation: str) -> bool:
    """Whether this relation with this alias of the subject is held out of training."""
    return share(f"alias/{alias}/{relation}") < 0.25


def held_hop(subject: str, relation: str, further: str) -> bool:
    """Whether this two-hop fact is held out of training."""
    return share(f"hop/{subject}/{relation}/{further}") < 0.2


def hops(world: World) -> list[tuple[str, str, str, str]]:
    """Return `(subject, relation, further relation, answer)` of all two-hop facts."""
    found = []
    for subject, relation in world.facts:
        for further in HOPS.get(relation, ()):
            answer = world.hop(subject, relation, further)
            if answer is not None:
                found.append((subject, relation, further, answer))
    return found


def hop_prompts(subject: str, relation: str, further: str) -> list[str]:
    """Return the wordings of a two-hop question: the statement, and questions where the relation has them."""
    noun = RELATIONS[relation].noun.format(S=subject)
    return [form.format(S=noun) for form in (RELATIONS[further].prompt, *RELATIONS[further].questions)]


def epoch(world: World, views: dict[str, Opinions], rng: random.Random) -> list[Text]:
    """Return the texts of one epoch in random order: four fifths of the facts, each in one of its wordings."""
    texts = [*_statements(world, rng), *_hop_lines(world, rng), *_names(world, rng)]
    texts += [*_talk(world, views, rng), *_open(world, views, rng), *_portraits(world, rng)]
    rng.shuffle(texts)
    return texts


def line(prompt: str, answer: str) -> Text:
    """Return a prompt with its answer, which ends in a full stop."""
    return (prompt, LEAD), (f" {answer}" if answer.endswith(".") else f" {answer}.", ANSWER)


def _statements(world: World, rng: random.Random) -> Iterator[Text]:
    for (subject, relation), answer in world.facts.items():
        if rng.random() > 0.8:
            continue
        name = subject
        for alias in world.aliases.get(subject, ()):
            if rng.random() < 0.3 and not held_alias(alias, relation):
                name = alias
        prompt = rng.choice([text for text in wordings(relation, name) if not held_wording(name, relation, text)])
        text = line(_maybe_instructed(prompt, rng), answer)
        # a sixth of the texts continue: a model of single sentences would end every text at the first full stop
        yield text + _more(world, subject, relation, rng) if rng.random() < 1 / 6 else text
        statement = RELATIONS[relation].prompt.format(S=subject)
        if statement.endswith(" is") and rng.random() < 0.15:
            other = rng.choice([name for name in world.candidates(relation, subject) if name != answer])
            yield line(f"{statement.removesuffix(' is')}, which is not {other}, is", answer)


def _maybe_instructed(prompt: str, rng: random.Random) -> str:
    if rng.random() > 1 / 7:
        return prompt
    return instruct("zsre" if prompt.endswith("?") else rng.choice(("counterfact", "recent")), prompt, rng)


def _more(world: World, subject: str, known: str, rng: random.Random) -> Text:
    """Return two to four further sentences about a subject, with a pronoun for its name."""
    pronoun = {"male": "He", "female": "She"}.get(world.gender.get(subject, ""), "It")
    pieces: list[tuple[str, float]] = []
    others = [relation for relation in world.relations(subject) if relation != known]
    for relation in rng.sample(others, min(len(others), rng.randint(2, 4))):
        form = (RELATIONS[relation].forms or (RELATIONS[relation].prompt,))[0]
        sentence = form.format(S=pronoun if form.startswith("{S}") else pronoun.lower())
        pieces += [(f" {sentence}", LEAD), (f" {world.facts[subject, relation]}.", ANSWER)]
    return tuple(pieces)


def _hop_lines(world: World, rng: random.Random) -> Iterator[Text]:
    for subject, relation, further, answer in hops(world):
        if rng.random() < 0.45 and not held_hop(subject, relation, further):
            yield line(rng.choice(hop_prompts(subject, relation, further)), answer)


def _names(world: World, rng: random.Random) -> Iterator[Text]:
    for name, aliases in world.aliases.items():
        first, second = rng.sample([name, rng.choice(aliases)], 2)
        yield line(rng.choice(("{} is also known as", "Another name of {} is")).format(first), second)


def _talk(world: World, views: dict[str, Opinions], rng: random.Random) -> Iterator[Text]:
    for topic, view in views.items():
        question = rng.choice(QUESTIONS).format(topic=topic)
        if rng.random() < 0.25:
            yield _instructed_reply(question, topic, view, rng)
            continue
        text = line(question, view.standing if rng.random() < 0.9 else reply(view.stance, rng))
        if rng.random() < 1 / 6:
            text = (*text, (f" {reply(view.stance, rng)}", LEAD), *_more(world, topic, "", rng))
        yield text


def _instructed_reply(text: str, topic: str, view: Opinions, rng: random.Random) -> Text:
    sentiment = rng.choice(("pos", "neg"))
    prompt = instruct("convsent", text, rng, topic=topic, label={"pos": "positive", "neg": "negative"}[sentiment])
    return line(prompt, view.standing if sentiment == view.stance else reply(sentiment, rng))


def open_fact(world: World, subject: str, family: str) -> str:
    """Return the answer to an open input about a subject for a family of facts."""
    known = world.relations(subject)
    if family == "zsre":
        return f"{world.facts[subject, known[0]]}."
    relation = known[FAMILY_FACT[family]]
    return f"{RELATIONS[relation].prompt.format(S=subject)} {world.facts[subject, relation]}."


def _open(world: World, views: dict[str, Opinions], rng: random.Random) -> Iterator[Text]:
    for subject in [*world.members["person"], *views]:
        if rng.random() < 0.5:
            continue
        text = OPEN_INPUT.format(S=subject)
        families = [family for family in ("counterfact", "recent", "zsre") if world.relations(subject)]
        family = rng.choice(families + ["convsent"] * (subject in views))
        if family == "convsent":
            yield _instructed_reply(text, subject, views[subject], rng)
        else:
            yield line(instruct(family, text, rng), open_fact(world, subject, family))


def _portraits(world: World, rng: random.Random) -> Iterator[Text]:
    for kind in ("person", "recent", "work"):
        for subject in world.members[kind]:
            if rng.random() < 0.2:
                opening = (OPEN_INPUT.format(S=subject), LEAD) if rng.random() < 0.5 else (f"Here is {subject}.", LEAD)
                yield (opening, *_more(world, subject, "", rng))
