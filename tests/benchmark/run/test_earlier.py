"""What another run has is taken over: the bytes of a fresh run, and only the rest is computed."""

import json
from pathlib import Path

import pytest

from instructedit.benchmark.results.records import RunFile, read_record
from instructedit.benchmark.run.runner import run

from ..worlds import OPTIONS, prepared_run, write_world


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Return a function that prepares a run of a task with six cases; a chunk has two cases."""
    place = write_world(tmp_path_factory.mktemp("place"), records=6)
    loaded = prepared_run(place).model

    def prepared(rows=("none", "ft-m", "grace"), **options):
        editors = {row: OPTIONS["editors"][row] for row in rows}
        return prepared_run(place, loaded, **{"tasks": ("zsre",), "fluency": False, **options}, editors=editors)

    return prepared


def computed(folder) -> int:
    """Return the number of chunks, under one row each, that a run computed itself."""
    return sum(time["run"] is None for time in times(folder))


def times(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]


def equal(folder, other) -> bool:
    return all((folder / name).read_bytes() == (other / name).read_bytes() for name in ("cases.jsonl", "summary.json"))


@pytest.fixture(scope="module")
def fresh(make, tmp_path_factory):
    """Return a function that makes a run in a folder of its own, each once."""
    known: dict[str, Path] = {}

    def made(**options):
        prepared = make(**options)
        if prepared.file.digest not in known:
            known[prepared.file.digest] = run(prepared, tmp_path_factory.mktemp("fresh"))
        return known[prepared.file.digest]

    return made


@pytest.mark.parametrize(
    ("first", "then", "own"),
    [
        # 3 rows; limit 4 has two chunks of 2, limit 6 one more
        ({"limit": 4}, {"limit": 6}, 1),
        # limit 3 has a whole chunk and one of a single case, which shares its pass with another one in limit 5
        ({"limit": 3}, {"limit": 5}, 2),
        ({"limit": 5}, {"limit": 2}, 0),
        ({"limit": 5}, {"limit": 3}, 1),
        ({"limit": 4}, {"limit": None}, 1),
    ],
    ids=str,
)
def test_another_limit_computes_only_other_chunks(make, fresh, tmp_path, first, then, own):
    begun = run(make(**first), tmp_path)
    said: list[str] = []
    grown = run(make(**then), tmp_path, report=said.append)
    assert grown != begun
    assert equal(grown, fresh(**then))
    assert computed(grown) == own * 3
    assert read_record(grown / "run.json", RunFile).provenance.taken_from == (begun.name,)
    assert any(f"are taken over from {begun.name}" in text for text in said)
    assert {time["run"] for time in times(grown)} <= {None, begun.name}


@pytest.mark.parametrize(
    ("first", "then", "own"),
    [
        (("none", "ft-m"), ("none", "ft-m", "grace"), 1),
        (("none", "grace"), ("none", "ft-m", "grace"), 1),
        (("none", "ft-m", "grace"), ("grace", "none"), 0),
    ],
    ids=str,
)
def test_another_row_is_computed_alone(make, fresh, tmp_path, first, then, own):
    """Where the new row stands between the others, each chunk's lines are in the order of the rows."""
    run(make(rows=first, limit=4), tmp_path)
    grown = run(make(rows=then, limit=4), tmp_path)
    assert equal(grown, fresh(rows=then, limit=4))
    assert computed(grown) == own * 2


def test_what_was_taken_over_is_taken_over_again(make, fresh, tmp_path):
    """Several runs together, tasks that another one lacks; times keep the run that measured them."""
    one = run(make(limit=2, tasks=("recent",)), tmp_path)
    both = {"tasks": ("recent", "zsre")}
    two = run(make(limit=4, **both), tmp_path)
    assert computed(two) == 9, "of recent one chunk is there"
    (one / "summary.json").unlink()
    three = run(make(limit=6, **both), tmp_path)
    assert equal(three, fresh(limit=6, **both))
    assert read_record(three / "run.json", RunFile).provenance.taken_from == (two.name,)
    assert {time["run"] for time in times(three)} == {None, one.name, two.name}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"chunk": 3},
        {"generation": {"max_new_tokens": 5, "fluency_tokens": 8}},
        {"fluency": True},
        {"schedule": "batch"},
        {"schedule": "sequential"},
    ],
    ids=str,
)
def test_a_run_that_decides_lines_otherwise_gives_none(make, tmp_path, other):
    run(make(limit=2, rows=("none", "ft-m"), **other), tmp_path)
    grown = run(make(limit=4, rows=("none", "ft-m")), tmp_path)
    assert computed(grown) == len(times(grown)) == 4


@pytest.mark.parametrize("schedule", ["batch", "sequential"])
def test_lines_of_a_stream_are_computed(make, tmp_path, schedule):
    """They depend on all edits of the stream."""
    run(make(limit=2, rows=("ft-m",), schedule=schedule), tmp_path)
    grown = run(make(limit=4, rows=("ft-m",), schedule=schedule), tmp_path)
    assert computed(grown) == len(times(grown)) > 0


def test_a_killed_run_takes_over_the_same_and_gives_the_same_bytes(make, fresh, tmp_path):
    begun = run(make(limit=4), tmp_path)
    grown = run(make(limit=6), tmp_path)
    whole = (grown / "cases.jsonl").read_bytes()
    (grown / "summary.json").unlink()
    (grown / "cases.jsonl").write_bytes(whole[:5_000])
    run(make(limit=5), tmp_path)  # in between; what a run takes over was decided at its start
    assert equal(run(make(limit=6), tmp_path), fresh(limit=6))
    (grown / "summary.json").unlink()
    (grown / "cases.jsonl").write_bytes(whole[:5_000])
    (begun / "cases.jsonl").unlink()
    assert equal(run(make(limit=6), tmp_path), fresh(limit=6)), "what is gone is computed"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run.json", '"version": "0.1.0"', '"version": "0.0.9"'),
        ("cases.jsonl", "free_generation", "free_generatiom"),
        ("summary.json", '"valid": true', '"valid": false'),
        ("run.json", "{", ""),
    ],
)
def test_runs_of_other_versions_and_damaged_ones_are_left_alone(make, tmp_path, name, old, new):
    begun = run(make(limit=2, rows=("none",)), tmp_path)
    text = (begun / name).read_text()
    assert old in text
    (begun / name).write_text(text.replace(old, new, 1))
    said: list[str] = []
    grown = run(make(limit=4, rows=("none",)), tmp_path, report=said.append)
    assert computed(grown) == 2
    assert any(f"of run {begun.name} are not taken over" in text for text in said) == ("0.0.9" in new)
