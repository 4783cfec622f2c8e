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
    edits = _edits(world, task, split, rng)
    return [_record(world, views, task, subject, relation, target, rng) for subject, relation, target in edits]


def _edits(world: World, task: str, split: str, rng: random.Random) -> list[tuple[str, str, str]]:
    """Return `(subject, relation, new answer)` in random order."""
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


def _record(
    world: World, views: dict[str, Opinions], task: str, subject: str, relation: str, target: str, rng: random.Random
) -> Record:
    wordings = rng.sample(RELATIONS[relation].questions, 2) if task == "zsre" else [RELATIONS[relation].prompt]
    record: Record = {"subject": subject, "prompt": wordings[0].format(S=subject), "target_new": target}
    if task == "counterfact":
        record["ground_truth"] = world.facts[subject, relation]
    elif task == "zsre":
        record["ground_truth"] = [world.facts[subject, relation]]
        record["rephrase_prompt"] = wordings[1].format(S=subject)
    record["portability"] = _portability(world, wordings, subject, relation, target, rng)
    record["locality"] = _locality(world, views, wordings, subject, relation, target, rng)
    return record


def _portability(
    world: World, wordings: Sequence[str], subject: str, relation: str, target: str, rng: random.Random
) -> Record:
    """Return the consequences of the edit: two-hop facts, the subject by its alias, the inverse relation."""
    reasoning = []
    further = HOPS.get(relation, ())
    for hop in (RELATIONS[name] for name in rng.sample(further, min(REASONING_PROBES, len(further)))):
        text = hop.questions[0] if hop.questions else hop.prompt
        prompt = text.format(S=RELATIONS[relation].noun.format(S=subject))
        reasoning.append(_probe(prompt, world.names(world.facts[target, hop.name])))
    aliasing = [_probe(wordings[0].format(S=alias), world.names(target)) for alias in world.aliases.get(subject, ())]
    logical = []
    if relation in INVERSE:
        logical.append(_probe(RELATIONS[INVERSE[relation]].prompt.format(S=target), [subject]))
    return _filled({"Reasoning": reasoning, "Subject_Aliasing": aliasing, "Logical_Generalization": logical})


def _locality(
    world: World,
    views: dict[str, Opinions],
    wordings: Sequence[str],
    subject: str,
    relation: str,
    target: str,
    rng: random.Random,
) -> Record:
    """Return what must stay: other facts of the subject, the old answer, neighbours, the attitude to it."""
    others = [name for name in world.relations(subject) if name != relation]
    specificity = [
        _probe(RELATIONS[name].prompt.format(S=subject), world.names(world.facts[subject, name]))
        for name in rng.sample(others, min(3, len(others)))
    ]
    forgetting = []
    old = world.facts.get((subject, relation))
    prompt = RELATIONS[relation].prompt.format(S=subject)
    if old is not None and prompt.endswith(" is"):
        forgetting.append(_probe(f"{prompt.removesuffix(' is')}, which is not {target}, is", world.names(old)))
    neighbours = [
        _probe(wordings[0].format(S=other), world.names(world.facts[other, relation]))
        for other in _neighbours(world, subject, relation, old, rng)
    ]
    attitude = []
    if subject in views:
        attitude.append(_probe(QUESTIONS[0].format(topic=subject), [views[subject].standing]))
    return _filled(
        {
            "Relation_Specificity": specificity,
            "Forgetfulness": forgetting,
            "Neighborhood": neighbours,
            "Opinion": attitude,
        }
    )


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


def _filled(probes: dict[str, list[Record]]) -> Record:
    return {key: value for key, value in probes.items() if value}
