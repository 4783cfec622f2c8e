"""What the common reading layer says of every file: unread fields, repetitions, contradictions, limits."""

import json

import pytest

from instructedit.benchmark.tasks.audit import NO_SUBJECT, OTHER_TARGET, REPEATED_KEY, REPEATED_RECORD, unread_fields
from instructedit.benchmark.tasks.base import TASKS, make_task
from instructedit.benchmark.tasks.parse import read_rows
from instructedit.benchmark.tasks.sources import Folder
from instructedit.editors import InputError

from ...cli.malformed import LAYOUTS

OTHERS = {"mend-zsre": "alt", "convsent": None}


def load(folder, layout, rows):
    path = folder / layout.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return TASKS.get(layout.task)().load(Folder(folder))


def records(layout, **changed):
    rows = [json.loads(json.dumps(layout.record).replace("Ada Lovelace", f"Person {n}")) for n in range(40)]
    return [{**row, **changed} for row in rows]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.task)
def test_what_a_reader_reads_is_declared_and_a_good_file_is_not_spoken_of(layout, tmp_path):
    loaded = load(tmp_path, layout, records(layout))
    assert not [reason for reason in loaded.data.skipped if reason.startswith(("field", "record", "edit"))]
    assert set(layout.record) <= {*TASKS.get(layout.task).fields, *TASKS.get(layout.task).ignored}
    assert any(set(group) <= set(layout.record) for group in TASKS.get(layout.task).required)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.task)
def test_an_unread_field_is_counted_and_said_once(layout, tmp_path):
    misspelt = f"{layout.required[-1]}s"
    loaded = load(tmp_path, layout, records(layout, **{misspelt: "x"}, surplus={"a": {"b": 1}}))
    count = loaded.data.cases
    assert loaded.data.skipped[f"field '{misspelt}' not read"] == count > 1
    assert loaded.data.skipped["field 'surplus' not read"] == count
    (note,) = [note for note in loaded.notes if "not read" in note]
    assert f"'{misspelt}' ({count}, did you mean '{layout.required[-1]}'?)" in note
    assert f"'surplus' ({count})" in note


def test_fields_of_another_layout_name_its_task_and_inner_ones_their_place(tmp_path):
    rows = records(LAYOUTS[1], locality_prompt="Alan Turing was born in", loc="who")
    rows[0]["locality"]["Relation_Specificity"][0]["prompts"] = "x"
    (note,) = [note for note in load(tmp_path, LAYOUTS[1], rows).notes if "not read" in note]
    assert "'locality_prompt' (40, read by --task rome-counterfact)" in note
    assert "'loc' (40, read by --task mend-zsre and --task zsre)" in note
    assert "'locality.*.prompts' (1, did you mean 'prompt'?)" in note


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.task)
def test_repetitions_and_contradictions_are_counted(layout, tmp_path):
    rows = records(layout)
    once = load(tmp_path / "a", layout, rows).data
    twice = load(tmp_path / "b", layout, [*rows, *rows]).data.skipped
    target = OTHERS.get(layout.task, "target_new")
    if target is not None:
        assert twice[REPEATED_RECORD] == once.cases
        other = load(tmp_path / "c", layout, [*rows, *records(layout, **{target: "Rome"})]).data.skipped
        assert other[OTHER_TARGET] == once.cases
        assert REPEATED_RECORD not in other
        away = [{**row, "subject": row["subject"] + " IV"} for row in rows]
        found = load(tmp_path / "d", layout, away).data
        assert found.skipped[NO_SUBJECT] == found.cases
    text = json.dumps(rows).replace(
        f'{{"{layout.required[0]}"', f'{{"{layout.required[0]}": "x", "{layout.required[0]}"'
    )
    found = load(tmp_path / "e", layout, text).data
    assert found.skipped[REPEATED_KEY] == found.cases == once.cases, "the last value counts"


def test_too_many_probes_are_refused(tmp_path):
    rows = records(LAYOUTS[0])
    item = {"ground_truth": ["x"]}
    rows[3]["locality"] = {f"s{n}": [{**item, "prompt": f"p{n} {m}"} for m in range(600)] for n in range(2)}
    with pytest.raises(InputError, match=r"recent_test\.json, row 3: found 1,20\d probes, expected at most 1,000"):
        load(tmp_path, LAYOUTS[0], rows)


def test_unread_fields_are_named_by_their_place(tmp_path):
    rows = read_rows(b'[{"a": 1, "b": {"c": 1, "d": [{"e": 1, "f": 2}]}, "g": {"h": 1}}]', tmp_path / "x.json")
    assert unread_fields(rows, {"b", "b.*", "b.*.e"}) == {"a": 1, "b.*.f": 1, "g": 1}
    assert unread_fields(rows, {"a", "b", "b.c", "b.d", "g"}) == {"b.d.e": 1, "b.d.f": 1, "g.h": 1}
    assert unread_fields(rows, {"a", "g", "g.h"}) == {"b": 1}, "what is within an unread field is not looked into"


def test_options_of_tasks_are_strict():
    with pytest.raises(InputError, match=r"Option 'target' of the task 'mend-zsre': .* found true"):
        make_task("mend-zsre", {"mend-zsre": {"target": True}})
