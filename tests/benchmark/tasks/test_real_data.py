"""The readers on real files, where they are at hand: nothing lost, nothing silent."""

from collections import Counter

import pytest

from instructedit.benchmark.tasks.audit import OTHER_TARGET, REPEATED_RECORD
from instructedit.benchmark.tasks.base import TASKS, make_task, subjects
from instructedit.benchmark.tasks.layouts import NO_ANSWER
from instructedit.benchmark.tasks.rephrase import derive_rephrases
from instructedit.benchmark.tasks.sources import Folder

EXPECTED = {
    ("recent", "test"): (
        700,
        {
            "generalization: possessive derived": 564,
            "generalization: question derived": 700,
            "portability: probe that repeats the edit prompt left out": 1,
            "portability: repeated probe merged, its answers kept": 2122,
            OTHER_TARGET: 1,
        },
    ),
    ("recent", "train"): (
        570,
        {
            "generalization: possessive derived": 241,
            "generalization: question derived": 570,
            NO_ANSWER: 7,
            "portability: repeated probe merged, its answers kept": 55,
        },
    ),
    ("counterfact", "test"): (
        500,
        {
            "generalization: possessive derived": 357,
            "generalization: question derived": 500,
            "portability: probe that repeats the edit prompt left out": 3,
            "portability: probe without an answer left out": 16,
            "portability: repeated probe merged, its answers kept": 313,
            OTHER_TARGET: 7,
        },
    ),
    ("counterfact", "train"): (
        1428,
        {
            "generalization: possessive derived": 1137,
            "generalization: question derived": 1428,
            "edit: no other answer from before the edit is given": 7,
            "edit: the target is an answer from before the edit": 6,
            NO_ANSWER: 2,
            "portability: probe that repeats the edit prompt left out": 5,
            REPEATED_RECORD: 11,
        },
    ),
    ("zsre", "test"): (
        700,
        {
            "edit: no other answer from before the edit is given": 26,
            "edit: the target is an answer from before the edit": 26,
            OTHER_TARGET: 3,
            REPEATED_RECORD: 2,
        },
    ),
    ("convsent", "test"): (300, {"reply left out: empty or repeated": 28}),
    ("convsent", "train"): (
        799,
        {
            "locality: the other topic has fewer than two replies of a sentiment": 1,
            "reply left out: empty or repeated": 30,
            OTHER_TARGET: 1,
        },
    ),
}


@pytest.fixture(scope="module")
def knowedit(shared):
    return Folder(shared / "data" / "knowedit")


@pytest.mark.parametrize(("name", "split"), EXPECTED, ids=["-".join(key) for key in EXPECTED])
def test_counts(knowedit, name, split):
    rows, skipped = EXPECTED[name, split]
    loaded = TASKS.get(name)().load(knowedit, split)
    assert (loaded.data.rows, loaded.data.cases, len(loaded.cases)) == (rows, rows, rows)
    assert loaded.data.skipped == skipped
    # a declared digest fits the complete files; what is left to note is a file that is a part of the published one
    odd = any(kind in skipped for kind in (OTHER_TARGET, REPEATED_RECORD))
    assert len(loaded.notes) == (rows != TASKS.get(name).published_rows[split]) + odd


@pytest.mark.parametrize("edit", ["all replies", "descriptor", "reply"])
def test_every_form_of_an_attitude_edit(knowedit, edit):
    loaded = make_task("convsent", {"convsent": {"edit": edit}}).load(knowedit, "train")
    one = loaded.data.skipped.get("sentiment: no reply beside the edit's own, probes left out", 0)
    assert one == (edit == "reply"), "the others judge by the edit's own reply, too"
    for case in loaded.cases:
        request = case.request
        assert bool(request.replies) == bool(request.opposed) == (edit == "all replies")
        for probe in case.probes:
            if probe.opposed:
                assert probe.prompt.endswith("?")
                assert (request.target in probe.answers) == (edit == "all replies")
                if edit == "all replies":
                    assert (probe.answers, probe.opposed) == (request.replies, request.opposed)


@pytest.mark.parametrize(("name", "split"), EXPECTED, ids=["-".join(key) for key in EXPECTED])
def test_every_case_is_well_formed(knowedit, name, split):
    cases = TASKS.get(name)().load(knowedit, split).cases
    assert len({case.request.case_id for case in cases}) == len(cases)
    for case in cases:
        request = case.request
        assert request.subject in request.prompt
        asked = Counter(probe.role for probe in case.probes)
        assert asked["reliability"] >= 1
        assert asked["generalization"] >= 1
        for probe in case.probes:
            assert probe.prompt
            assert probe.prompt == probe.prompt.strip()
            assert all(answer and answer == answer.strip() for answer in (*probe.answers, *probe.opposed))
            assert probe.answers or probe.role == "locality"
            assert len(set(probe.answers)) == len(probe.answers)
            assert (probe.prompt == request.prompt) == (probe.role == "reliability")
            if probe.role == "reliability" and probe.subset == "edit":
                assert probe.answers[0] == request.target


@pytest.mark.parametrize(("name", "split"), [key for key in EXPECTED if key[0] in ("recent", "counterfact")])
def test_a_rule_covers_every_prompt(knowedit, name, split):
    for case in TASKS.get(name)().load(knowedit, split).cases:
        assert derive_rephrases(case.request.prompt, case.request.subject)


def test_tested_subjects_leave_training(knowedit):
    tested: set[str] = set()
    for name, split in EXPECTED:
        if split == "test":
            tested |= subjects(TASKS.get(name)().load(knowedit).cases)
    left_out = {}
    for name in ("recent", "counterfact", "convsent"):
        data = TASKS.get(name)().load(knowedit, "train", exclude=tested).data
        left_out[name] = data.rows - data.cases
        assert data.skipped.get("row left out: its subject is tested", 0) == left_out[name]
    assert left_out == {"recent": 2, "counterfact": 0, "convsent": 4}
