"""Opinions on topics: replies of both sentiments, and the one that the model learns."""

import random
from dataclasses import dataclass

from .relations import words
from .world import World, stream

OPENERS, REASONS = words("openers"), words("reasons")
LINKS = (", {}.", " because {}.", ". For me {}.", "; {}.")


@dataclass(frozen=True, slots=True)
class Opinions:
    """Favourable and unfavourable replies about one topic.

    The model learns the reply `standing`, which is in neither list, with the sentiment `stance` (`pos` or `neg`).
    """

    stance: str
    standing: str
    pos: tuple[str, ...]
    neg: tuple[str, ...]


def reply(sentiment: str, rng: random.Random) -> str:
    """Draw a reply of a sentiment, `pos` or `neg`."""
    return rng.choice(OPENERS[sentiment]) + rng.choice(LINKS).format(rng.choice(REASONS[sentiment]))


def sentiment_of(text: str) -> str | None:
    """Return the sentiment whose openers or reasons occur in a reply, None if none or both do."""
    found = {s for s in ("pos", "neg") if any(part in text for part in (*OPENERS[s], *REASONS[s]))}
    return found.pop() if len(found) == 1 else None


def opinions(world: World) -> dict[str, Opinions]:
    """Return the replies about every topic of a world, by topic."""
    rng = stream(world.seed, "opinions")
    result = {}
    for topic in world.topics():
        stance = rng.choice(("pos", "neg"))
        # `standing` has a fixed link, so that the model has to learn an opener and a reason only
        standing = f"{rng.choice(OPENERS[stance])}, {rng.choice(REASONS[stance])}."
        lists = {}
        for sentiment in ("pos", "neg"):
            drawn: dict[str, None] = {}
            while len(drawn) < 4:
                text = reply(sentiment, rng)
                if text != standing:
                    drawn[text] = None
            lists[sentiment] = tuple(drawn)
        result[topic] = Opinions(stance, standing, lists["pos"], lists["neg"])
    return result
