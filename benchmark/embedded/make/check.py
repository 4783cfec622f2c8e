"""The knowledge of the trained model, measured on its files.

Each row of the table tests one claim about the embedded default: that a fact is known in all its wordings, that the
targets of edits are not known yet, that the instruction before an input decides the answer.
"""

import random
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean

import torch

from instructedit.editors import Edits, LanguageModel
from instructedit.editors.engine.generation import answers

from ...tasks.convsent import QUESTIONS
from .corpus import OPEN_INPUT, held_alias, held_hop, held_wording, hop_prompts, hops, open_fact, wordings
from .instructions import instruct
from .opinions import opinions, sentiment_of
from .records import records
from .relations import RELATIONS
from .world import World, stream

Item = tuple[str, str]
"""A prompt and its answer."""

Row = dict[str, float | int | str]


def knowledge(world: World, folder: Path, limit: int = 1000) -> list[Row]:
    """Return the knowledge table of a model folder, with at most `limit` items of a row, sampled with the world's seed.

    Rows have `probe`, `exact` (teacher-forced exact match), `tokens` (teacher-forced token accuracy), `free` (the
    greedy text up to its first full stop is the answer) and `n`; rows about a sentiment have `free` alone.
    """
    model = LanguageModel.load(folder, device="cpu")
    rng = stream(world.seed, "check")
    table: list[Row] = []
    for name, items in _probes(world, rng).items():
        chosen = rng.sample(items, min(limit, len(items)))
        exact, tokens = teacher_forced(model, chosen)
        texts = greedy(model, [prompt for prompt, _ in chosen])
        free = fmean(_first(text) == _first(answer) for text, (_, answer) in zip(texts, chosen, strict=True))
        scores = {"exact": exact, "tokens": tokens, "free": free}
        table.append({"probe": name, **{key: round(value, 3) for key, value in scores.items()}, "n": len(chosen)})
    return [*table, *_sentiments(world, model, rng)]


def _first(text: str) -> str:
    return text.partition(".")[0].strip()


def _probes(world: World, rng: random.Random) -> dict[str, list[Item]]:
    known = list(world.facts.items())
    statements = [(RELATIONS[r].prompt.format(S=s), a) for (s, r), a in known]
    every = [(text, a, held_wording(s, r, text)) for (s, r), a in known for text in wordings(r, s)[1:]]
    names = [
        (RELATIONS[r].prompt.format(S=alias), a, held_alias(alias, r))
        for (s, r), a in known
        if world.kind[s] not in ("country", "university", "award", "team", "label")
        for alias in world.aliases.get(s, ())
    ]
    far = [(hop_prompts(s, r, f)[-1], a, held_hop(s, r, f)) for s, r, f, a in hops(world)]
    views = opinions(world)
    instructed = [
        (instruct(rng.choice(("counterfact", "recent")), p, rng, held_out=held_out), a, held_out)
        for held_out in (False, True)
        for p, a in rng.sample(statements, min(1000, len(statements)))
    ]
    opened = [
        (instruct(family, OPEN_INPUT.format(S=s), rng, held_out=True), open_fact(world, s, family))
        for s in [*world.members["person"], *views]
        if world.relations(s)
        for family in ("counterfact", "recent", "zsre")
    ]
    return {
        "statement": statements,
        "other wording, seen": [(p, a) for p, a, held in every if not held],
        "other wording of a fact, never seen": [(p, a) for p, a, held in every if held],
        "question, never seen": [(p, a) for p, a, held in every if held and p.endswith("?")],
        "subject by another name, seen": [(p, a) for p, a, held in names if not held],
        "subject by another name, never seen": [(p, a) for p, a, held in names if held],
        "one hop, seen": [(p, a) for p, a, held in far if not held],
        "one hop, never seen": [(p, a) for p, a, held in far if held],
        "statement behind an instruction": [(p, a) for p, a, held in instructed if not held],
        "statement behind an instruction of a new pattern": [(p, a) for p, a, held in instructed if held],
        "open input, the instruction picks the fact": opened,
        "opinion": [(QUESTIONS[0].format(topic=t), v.standing) for t, v in views.items()],
        **_probes_of_records(world),
    }


def _probes_of_records(world: World) -> dict[str, list[Item]]:
    """Return the targets of the test records, which must not be known before the edit, and their locality probes."""
    targets: dict[str, list[Item]] = {}
    locality: dict[str, list[Item]] = {}
    for task in ("counterfact", "recent", "zsre"):
        found = records(world, task, "test")
        targets[f"{task}, new answer before the edit"] = [(r["prompt"], r["target_new"]) for r in found]
    for task in ("recent", "counterfact", "zsre"):
        for record in records(world, task, "test"):
            for key, probes in record["locality"].items():
                locality.setdefault(f"locality: {key}", []).extend(
                    (probe["prompt"], probe["ground_truth"][0][0]) for probe in probes
                )
    return targets | locality


def _sentiments(world: World, model: LanguageModel, rng: random.Random) -> list[Row]:
    """Return how often a reply has the model's own sentiment, or the one in the instruction."""
    views = opinions(world)
    bare = [(q.format(topic=t), v.stance) for t, v in views.items() for q in rng.sample(QUESTIONS, 1)]
    requested = []
    for topic in views:
        for label, sentiment in (("positive", "pos"), ("negative", "neg")):
            text = rng.choice((rng.choice(QUESTIONS).format(topic=topic), OPEN_INPUT.format(S=topic)))
            requested.append((instruct("convsent", text, rng, held_out=True, topic=topic, label=label), sentiment))
    rows: list[Row] = []
    for name, items in {
        "sentiment held": bare,
        "sentiment asked for by an instruction of a new pattern": requested,
    }.items():
        texts = greedy(model, [prompt for prompt, _ in items])
        right = sum(sentiment_of(text) == want for text, (_, want) in zip(texts, items, strict=True))
        rows.append({"probe": name, "free": round(right / len(items), 3), "n": len(items)})
    return rows


@torch.no_grad()
def teacher_forced(model: LanguageModel, items: Sequence[Item]) -> tuple[float, float]:
    """Return exact match and token accuracy of prompts with their answers, without a full stop."""
    rows = [model.encode(prompt, answer.rstrip(".")) for prompt, answer in items]
    hits = [
        [int(token) == label for token, label in zip(logits.argmax(-1), rows[index].labels, strict=True)]
        for index, logits in model.forward(rows)
    ]
    return fmean(all(row) for row in hits), fmean(chain.from_iterable(hits))


def greedy(model: LanguageModel, prompts: Sequence[str], new: int = 28) -> list[str]:
    """Return the greedy continuation of each prompt, up to the end of the text or at most `new` tokens."""
    rows = [model.encode_prompt(prompt, room=new) for prompt in prompts]
    bare = [None] * len(rows)
    return answers(model, rows, Edits.none(0), bare, max_new_tokens=new, finished=lambda row, text: False)
