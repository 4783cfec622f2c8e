"""The embedded default: the world makes the shipped bytes, its splits do not leak, and the shipped model knows it."""

import json
import random
from hashlib import sha256
from importlib import resources
from pathlib import Path

import pytest

from instructedit.benchmark.embedded.make import records
from instructedit.benchmark.embedded.make.corpus import epoch
from instructedit.benchmark.embedded.make.instructions import FAMILIES, PATTERNS, instruct
from instructedit.benchmark.embedded.make.opinions import opinions, sentiment_of
from instructedit.benchmark.embedded.make.relations import PERSON, RELATIONS, WORK, ZSRE
from instructedit.benchmark.embedded.make.world import World, build

EMBEDDED = Path(str(resources.files("instructedit.benchmark"))) / "embedded"
FACTUAL = ("recent", "counterfact", "zsre")


@pytest.fixture(scope="module")
def world() -> World:
    return build(0)


def probes(record):
    return [probe for part in ("portability", "locality") for found in record[part].values() for probe in found]


def texts(record):
    if "ent" in record:
        return [record["ent"], *record["pos"], *record["neg"]]
    asked = [text for probe in probes(record) for text in (probe["prompt"], *probe["ground_truth"][0])]
    return [record["subject"], record["prompt"], record["target_new"], record.get("rephrase_prompt", ""), *asked]


def test_shipped_data_are_what_the_shipped_seed_writes(tmp_path):
    seed = json.loads((EMBEDDED / "PROVENANCE.json").read_text())["seed"]
    records.write(build(seed), tmp_path)
    for name in records.FILES.values():
        assert (tmp_path / name).read_bytes() == (EMBEDDED / "data" / name).read_bytes(), name


def test_provenance_names_the_shipped_bytes():
    provenance = json.loads((EMBEDDED / "PROVENANCE.json").read_text())
    for name, digest in provenance["sha256"].items():
        assert sha256((EMBEDDED / name).read_bytes()).hexdigest() == digest, name
    assert all(row["n"] > 0 for row in provenance["knowledge"])


def test_two_worlds_of_a_seed_are_equal_and_two_seeds_are_not(world):
    def digest(of):
        rows = [records.records(of, task, "test") for task in (*FACTUAL, "convsent")]
        return sha256(json.dumps(rows).encode()).hexdigest()

    assert digest(build(0)) == digest(world) != digest(build(1))


@pytest.mark.parametrize("task", FACTUAL)
def test_schema_and_sizes(world, task):
    for split, least in (("test", 240), ("train", 300)):
        rows = records.records(world, task, split)
        assert len(rows) >= least
        assert len({row["prompt"] for row in rows}) == len(rows)
        for row in rows:
            assert row["subject"] in row["prompt"]
            assert row["target_new"] not in (row.get("ground_truth"), *(row.get("ground_truth") or ()))
            assert row["locality"]["Neighborhood"]
            for probe in probes(row):
                assert all(isinstance(answer, str) and answer for answer in probe["ground_truth"][0])
                assert "{" not in probe["prompt"]


def test_most_records_have_something_to_follow_from_the_edit(world):
    for task in FACTUAL:
        rows = records.records(world, task, "test")
        assert sum(bool(row["portability"]) for row in rows) > 0.7 * len(rows), task


def test_convsent_schema(world):
    for split, least in (("test", 240), ("train", 300), ("val", 80)):
        rows = records.records(world, "convsent", split)
        assert len(rows) >= least
        for row in rows:
            assert set(row) == {"ent", "pos", "neg"}
            assert len(set(row["pos"])) == len(set(row["neg"])) == 4
            assert {sentiment_of(text) for text in row["pos"]} == {"pos"}
            assert {sentiment_of(text) for text in row["neg"]} == {"neg"}


def test_no_training_or_validation_text_mentions_a_test_subject(world):
    tested = {
        row.get("subject", row.get("ent"))
        for t, s in records.FILES
        if s == "test"
        for row in records.records(world, t, s)
    }
    tested |= {alias for subject in tested for alias in world.aliases.get(subject, ())}
    told = "\n".join(
        text for t, s in records.FILES if s != "test" for row in records.records(world, t, s) for text in texts(row)
    )
    assert [name for name in tested if name in told] == []


def test_zsre_shares_neither_relation_nor_subject_kind_with_the_other_tasks(world):
    others = {relation.name for relation in (*PERSON, *WORK)}
    assert others.isdisjoint(relation.name for relation in ZSRE)
    subjects = {
        row["subject"]
        for task in ("recent", "counterfact")
        for s in ("train", "test")
        for row in records.records(world, task, s)
    }
    assert {world.kind[subject] for subject in subjects}.isdisjoint(relation.subject for relation in ZSRE)


def test_news_is_never_stated(world):
    rng = random.Random(0)
    told = "\n".join("".join(piece for piece, _ in text) for text in epoch(world, opinions(world), rng))
    for (subject, relation), answer in world.news.items():
        assert f"{RELATIONS[relation].prompt.format(S=subject)} {answer}." not in told


def test_instructions_differ_by_family_and_hold_a_pattern_out():
    rng = random.Random(0)
    seen = {f: {instruct(f, "x", rng, topic="T", label="positive") for _ in range(200)} for f in FAMILIES}
    for family in FAMILIES:
        assert len(seen[family]) > 100
        assert all(
            text.startswith("Task: ") and text.endswith("\nInput: x") and "[" not in text for text in seen[family]
        )
        opening = PATTERNS[family][-1].split(" [")[0].lstrip("[").split("|")[0]
        assert instruct(family, "x", rng, held_out=True, topic="T", label="positive") not in seen[family], opening
    assert not set.intersection(*seen.values())


def test_shipped_model_is_small_and_knows_its_facts(world):
    from instructedit.benchmark.embedded.make.check import teacher_forced
    from instructedit.editors import LanguageModel

    weights = EMBEDDED / "model" / "model.safetensors"
    assert weights.stat().st_size <= 6e6
    model = LanguageModel.load(weights.parent, device="cpu")
    rows = [row for task in ("counterfact", "zsre") for row in records.records(world, task, "test")]
    old = [
        (r["prompt"], r["ground_truth"] if isinstance(r["ground_truth"], str) else r["ground_truth"][0]) for r in rows
    ]
    sample = random.Random(0).sample(range(len(rows)), 100)
    assert teacher_forced(model, [old[i] for i in sample])[0] >= 0.95
    assert teacher_forced(model, [(rows[i]["prompt"], rows[i]["target_new"]) for i in sample])[0] <= 0.05


def test_twenty_steps_lower_the_loss(world):
    import torch

    from instructedit.benchmark.embedded.make.train import Recipe, train

    before = torch.get_num_threads()
    try:
        recipe = Recipe(vocabulary=512, width=64, layers=2, batch_tokens=512, epochs=1, threads=1)
        losses = train(world, recipe, max_steps=20)[2]["losses"]
    finally:
        torch.set_num_threads(before)
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_orthogonal_is_near_the_polar_factor():
    import torch

    from instructedit.benchmark.embedded.make.train import orthogonal

    g = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(g, full_matrices=False)
    found = orthogonal(g)
    assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.4
    assert torch.nn.functional.cosine_similarity(found.flatten(), (u @ v).flatten(), dim=0) > 0.97
