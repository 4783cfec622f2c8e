"""The world as the four data sets of KnowEdit, in their folders and in their schema.

A base model of this world can answer every probe of a record once the edit is made: the second hop of a two-hop probe
is a fact that it learned. In addition to KnowEdit's keys a record has the locality keys `Neighborhood`, the same
relation of other subjects (it separates editors that change one fact from those that change all of a kind), and
`Opinion`, the attitude to the same subject.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...tasks.convsent import QUESTIONS
from .opinions import Opinions, opinions
from .relations import HOPS, INVERSE, PERSON, RELATIONS, WORK, ZSRE
from .world import World, stream

Record = dict[str, Any]
Probes = dict[str, list[Record]]
Edit = tuple[str, str, str]
"""Subject, relation and new answer."""

REASONING_PROBES = 2
COUNTERFACT_SIZES = {"test": 240, "train": 400}

FILES = {
    ("recent", "train"): "wiki_recent/recent_train.json",
    ("recent", "test"): "wiki_recent/recent_test.json",
    ("counterfact", "train"): "wiki_counterfact/train_cf.json",
    ("counterfact", "test"): "wiki_counterfact/test_cf.json",
    ("zsre", "train"): "ZsRE/zsre_train.json",
    ("zsre", "test"): "ZsRE/ZsRE-test-all.json",
    ("convsent", "train"): "Convsent/blender_train.json",
    ("convsent", "val"): "Convsent/blender_val.json",
    ("convsent", "test"): "Convsent/blender_test.json",
}


def write(world: World, folder: Path) -> None:
    """Write all data files below `folder`, one record a line; equal worlds give equal bytes."""
    for (task, split), name in FILES.items():
        lines = [json.dumps(record, separators=(",", ":")) for record in records(world, task, split)]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(("[\n" + ",\n".join(lines) + "\n]\n").encode())


def records(world: World, task: str, split: str) -> list[Record]:
    """Return the records of one of `FILES`."""
    rng = stream(world.seed, f"records/{task}/{split}")
    views = opinions(world)
    if task == "convsent":
        topics = [topic for topic in world.topics() if world.split[topic] == split]
        rng.shuffle(topics)
        return [{"ent": topic, "pos": list(views[topic].pos), "neg": list(views[topic].neg)} for topic in topics]
    return [_record(world, views, task, edit, rng) for edit in _edits(world, task, split, rng)]


def _edits(world: World, task: str, split: str, rng: random.Random) -> list[Edit]:
    if task == "recent":
        pairs = [(key, answer) for key, answer in world.news.items() if world.split[key[0]] == split]
        rng.shuffle(pairs)
        return [(subject, relation, answer) for (subject, relation), answer in pairs]
    table = ZSRE if task == "zsre" else (*PERSON, *WORK)
    subjects = {relation.subject for relation in table}
    names = {relation.name for relation in table}
    keys = [
        (subject, relation)
        for subject, relation in world.facts
        if world.kind[subject] in subjects and relation in names and world.split[subject] == split
    ]
    rng.shuffle(keys)
    keys = keys if task == "zsre" else keys[: COUNTERFACT_SIZES[split]]
    return [(s, r, rng.choice([a for a in world.candidates(r, s) if a != world.facts[s, r]])) for s, r in keys]


def _record(world: World, views: dict[str, Opinions], task: str, edit: Edit, rng: random.Random) -> Record:
    subject, relation, target = edit
    wordings = rng.sample(RELATIONS[relation].questions, 2) if task == "zsre" else [RELATIONS[relation].prompt]
    record: Record = {"subject": subject, "prompt": wordings[0].format(S=subject), "target_new": target}
    if task == "counterfact":
        record["ground_truth"] = world.facts[subject, relation]
    elif task == "zsre":
        record["ground_truth"] = [world.facts[subject, relation]]
        record["rephrase_prompt"] = wordings[1].format(S=subject)
    for role, probes in (("portability", _portability), ("locality", _locality)):
        record[role] = {key: found for key, found in probes(world, views, wordings[0], edit, rng).items() if found}
    return record


def _portability(world: World, _: dict[str, Opinions], wording: str, edit: Edit, rng: random.Random) -> Probes:
    """Return the consequences of the edit: two-hop facts, the subject by its alias, the inverse relation."""
    subject, relation, target = edit
    bridge, further = RELATIONS[relation].noun.format(S=subject), HOPS.get(relation, ())
    hops = [RELATIONS[name] for name in rng.sample(further, min(REASONING_PROBES, len(further)))]
    inverse = [RELATIONS[INVERSE[relation]].prompt.format(S=target)] if relation in INVERSE else []
    aliases = world.aliases.get(subject, ())
    return {
        "Reasoning": [
            _probe((*hop.questions, hop.prompt)[0].format(S=bridge), world.names(world.facts[target, hop.name]))
            for hop in hops
        ],
        "Subject_Aliasing": [_probe(wording.format(S=alias), world.names(target)) for alias in aliases],
        "Logical_Generalization": [_probe(prompt, [subject]) for prompt in inverse],
    }


def _locality(world: World, views: dict[str, Opinions], wording: str, edit: Edit, rng: random.Random) -> Probes:
    """Return what must stay: other facts of the subject, the old answer, neighbours, the attitude to it."""
    subject, relation, target = edit
    others = [name for name in world.relations(subject) if name != relation]
    kept = rng.sample(others, min(3, len(others)))
    old, prompt = world.facts.get((subject, relation)), RELATIONS[relation].prompt.format(S=subject)
    forgetting, attitude = [], []
    if old is not None and prompt.endswith(" is"):
        forgetting.append(_probe(f"{prompt.removesuffix(' is')}, which is not {target}, is", world.names(old)))
    if subject in views:
        attitude.append(_probe(QUESTIONS[0].format(topic=subject), [views[subject].standing]))
    return {
        "Relation_Specificity": [
            _probe(RELATIONS[name].prompt.format(S=subject), world.names(world.facts[subject, name])) for name in kept
        ],
        "Forgetfulness": forgetting,
        "Neighborhood": [
            _probe(wording.format(S=other), world.names(world.facts[other, relation]))
            for other in _neighbours(world, subject, relation, old, rng)
        ],
        "Opinion": attitude,
    }


def _neighbours(world: World, subject: str, relation: str, old: str | None, rng: random.Random) -> list[str]:
    """Return two other subjects with the relation, first one with the same old answer (the hardest to keep)."""
    split = world.split[subject]
    known = [s for s, r in world.facts if r == relation and s != subject and world.split[s] == split]
    rng.shuffle(known)
    alike = sorted(known, key=lambda s: world.facts[s, relation] != old)
    return list(dict.fromkeys([*alike[:1], *known]))[:2]


def _probe(prompt: str, answers: Sequence[str]) -> Record:
    """Return a probe whose answers are one alias list, as in KnowEdit."""
    return {"prompt": prompt, "ground_truth": [list(answers)]}
