"""The knowledge of the trained model, measured on its files.

Each row of the table tests one claim about the embedded default: that a fact is known in all its wordings, that the
targets of edits are not known yet, that the instruction before an input decides the answer.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from instructedit.editors.scripts import join

from ...tasks.convsent import QUESTIONS
from .corpus import OPEN_INPUT, held_alias, held_hop, held_wording, hop_prompts, hops, open_fact, wordings
from .instructions import instruct
from .opinions import opinions, sentiment_of
from .records import FILES, records
from .relations import RELATIONS
from .world import World, stream

Item = tuple[str, str]
"""A prompt and its answer."""

Row = dict[str, float | int | str]

BATCH = 128


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a shipped model in float32."""
    model = cast(PreTrainedModel, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)).eval()
    return model, cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(folder))


def knowledge(world: World, folder: Path, limit: int = 1000) -> list[Row]:
    """Return the knowledge table of a model folder.

    Args:
        world: The world of its training.
        folder: Model and tokenizer.
        limit: Maximum number of items of a row; they are sampled with the world's seed.

    Returns:
        Rows of `probe`, `exact` (teacher-forced exact match), `tokens` (teacher-forced token accuracy), `free` (the
        greedy text up to its first full stop is the answer) and `n`. Rows about a sentiment have `free` alone.
    """
    model, tokenizer = load(folder)
    rng = stream(world.seed, "check")
    table: list[Row] = []
    for name, items in _probes(world, rng).items():
        chosen = rng.sample(items, min(limit, len(items)))
        exact, tokens = teacher_forced(model, tokenizer, chosen)
        texts = greedy(model, tokenizer, [prompt for prompt, _ in chosen])
        free = sum(_first(text) == _first(answer) for text, (_, answer) in zip(texts, chosen, strict=True)) / len(
            chosen
        )
        table.append(
            {
                "probe": name,
                "exact": round(exact, 3),
                "tokens": round(tokens, 3),
                "free": round(free, 3),
                "n": len(chosen),
            }
        )
    return [*table, *_sentiments(world, model, tokenizer, rng)]


def _first(text: str) -> str:
    return text.partition(".")[0].strip()


def _probes(world: World, rng: random.Random) -> dict[str, list[Item]]:
    """Return the items of every row by its name."""
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
        (_instructed(p, rng, held_out), a, held_out)
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
        **_to_edit(world),
        **_probes_of_records(world),
    }


def _instructed(prompt: str, rng: random.Random, held_out: bool) -> str:
    return instruct(rng.choice(("counterfact", "recent")), prompt, rng, held_out=held_out)


def _to_edit(world: World) -> dict[str, list[Item]]:
    """Return the targets of the test records, which the model must not know before the edit."""
    return {
        f"{task}, new answer before the edit": [(r["prompt"], r["target_new"]) for r in records(world, task, "test")]
        for task in ("counterfact", "recent", "zsre")
    }


def _probes_of_records(world: World) -> dict[str, list[Item]]:
    """Return the locality probes of the test records, by key."""
    found: dict[str, list[Item]] = {}
    for task, split in FILES:
        if split == "test" and task != "convsent":
            for record in records(world, task, split):
                for key, probes in record["locality"].items():
                    found.setdefault(f"locality: {key}", []).extend(
                        (probe["prompt"], probe["ground_truth"][0][0]) for probe in probes
                    )
    return found


def _sentiments(
    world: World, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> list[Row]:
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
        texts = greedy(model, tokenizer, [prompt for prompt, _ in items])
        right = sum(sentiment_of(text) == want for text, (_, want) in zip(texts, items, strict=True))
        rows.append({"probe": name, "free": round(right / len(items), 3), "n": len(items)})
    return rows


@torch.inference_mode()
def teacher_forced(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, items: Sequence[Item]
) -> tuple[float, float]:
    """Return exact match and token accuracy of prompt and answer as one text, without a full stop.

    Args:
        model: Model in evaluation mode.
        tokenizer: Fast tokenizer.
        items: Prompts and answers.
    """
    exact, right, total = 0, 0, 0
    encoded = tokenizer([join(p, a.rstrip("."))[0] for p, a in items], return_offsets_mapping=True)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    for group in _groups(range(len(items)), lambda i: lengths[i]):
        ids = torch.tensor([encoded["input_ids"][i] for i in group])
        hits = model(input_ids=ids).logits[:, :-1].argmax(-1) == ids[:, 1:]
        for row, i in enumerate(group):
            # a token belongs to the answer if it ends after the prompt, however the tokenizer splits the space
            scored = [k for k, (_, end) in enumerate(encoded["offset_mapping"][i]) if end > len(items[i][0])]
            found = [bool(hits[row, k - 1]) for k in scored]
            exact += all(found)
            right += sum(found)
            total += len(found)
    return exact / len(items), right / total


@torch.inference_mode()
def greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], new: int = 28
) -> list[str]:
    """Return the greedy continuation of each prompt, up to the end of the text.

    Args:
        model: Model in evaluation mode.
        tokenizer: Fast tokenizer.
        prompts: Prompts; those of equal length share a batch, so nothing is padded.
        new: Maximum number of new tokens.
    """
    encoded = tokenizer(list(prompts))["input_ids"]
    texts = [""] * len(prompts)
    generate: Callable[..., Any] = model.generate  # type: ignore[assignment]
    for group in _groups(range(len(prompts)), lambda i: len(encoded[i])):
        ids = torch.tensor([encoded[i] for i in group])
        out = generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
        decoded = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        for i, text in zip(group, decoded, strict=True):
            texts[i] = text
    return texts


def _groups(indices: Iterable[int], length: Callable[[int], int]) -> Iterable[list[int]]:
    """Split indices into batches of equal length."""
    by_length: dict[int, list[int]] = {}
    for i in indices:
        by_length.setdefault(length(i), []).append(i)
    for same in by_length.values():
        for start in range(0, len(same), BATCH):
            yield same[start : start + BATCH]
