"""MEND's form of ZsRE and the portability file that was made from it."""

import json

import pytest

from instructedit.benchmark.tasks.sources import Folder
from instructedit.benchmark.tasks.zsre import ZsRE
from instructedit.editors import EditRequest, InputError, Probe

MEND = {
    "subject": "Watts Tower",
    "src": "Which town has Watts Tower?",
    "pred": "Rome",
    "rephrase": "Where does Watts Tower stand?",
    "alt": "Oslo",
    "answers": ["Paris"],
    "loc": "nq question: who painted the ceiling",
    "loc_ans": "Michelangelo",
    "cond": "Rome >> Oslo || Which town has Watts Tower?",
}
HOP = {"Recalled Relation": "(Oslo, country)", "New Question": "Which country has Watts Tower?", "New Answer": "Norway"}


def load(tmp_path, *records):
    file = tmp_path / "zsre" / "zsre_mend_eval_portability_gpt4.json"
    file.parent.mkdir()
    file.write_text(json.dumps(records))
    return ZsRE().load(Folder(tmp_path))


def test_mend_form(tmp_path):
    loaded = load(tmp_path, {**MEND, "portability": HOP})
    assert loaded.cases[0].request == EditRequest(
        "zsre/test/0", "zsre", "Which town has Watts Tower?", "Oslo", "Watts Tower", old="Paris"
    )
    assert loaded.cases[0].probes == (
        Probe("reliability", "edit", "Which town has Watts Tower?", ("Oslo",)),
        Probe("generalization", "rephrase", "Where does Watts Tower stand?", ("Oslo",)),
        Probe("portability", "Reasoning", "Which country has Watts Tower?", ("Norway",)),
        Probe("locality", "Relation_Specificity", "who painted the ceiling", ("Michelangelo",)),
    )
    assert loaded.data.skipped == {}
    assert list(loaded.data.sha256) == ["zsre/zsre_mend_eval_portability_gpt4.json"]


def test_mend_form_without_optional_fields(tmp_path):
    loaded = load(tmp_path, {key: MEND[key] for key in ("subject", "src", "alt", "rephrase")})
    assert [probe.role for probe in loaded.cases[0].probes] == ["reliability", "generalization"]
    assert loaded.data.skipped == {}


def test_missing_rephrase_of_a_question_is_counted(tmp_path):
    loaded = load(tmp_path, {**MEND, "rephrase": ""})
    assert loaded.data.skipped == {"generalization: no rephrase given and no rule covers the prompt": 1}


def test_dirt_is_counted(tmp_path):
    dirt = [{"loc": 3}, {"loc_ans": 3}, {"portability": "text"}, {"portability": {**HOP, "New Answer": ""}}]
    loaded = load(tmp_path, *({**MEND, **own} for own in dirt))
    assert loaded.data.skipped == {
        "locality: malformed probe left out": 2,
        "portability: malformed probe left out": 1,
        "portability: probe without an answer left out": 1,
        "record: the same prompt, target and subject as an earlier one": 3,
    }


@pytest.mark.parametrize("field", ["subject", "src", "alt"])
def test_errors_name_the_fields_of_the_file(tmp_path, field):
    with pytest.raises(InputError, match=f"row 0, field '{field}': found \"\", expected a non-empty string"):
        load(tmp_path, {**MEND, field: ""})
