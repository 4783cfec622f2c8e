"""`facts check`, `facts template` and `run FILE`: own facts from the file to the tables."""

import hashlib
import json

import pytest

from instructedit.benchmark.results.records import find_run
from instructedit.editors import CaseError, EditRequest
from instructedit.editors.texts import subject_token

from ..benchmark.worlds import write_world
from .command import call, refused

FACTS = """\
# Invented.
question,answer,rephrase,unrelated,unrelated answer,portability,color
Who runs the bakery?,Ada Lovelace|Ada,The bakery is run by,Who wrote Emma?,,Who bakes?,x
Where is the office?,New York,,,,,
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = write_world(tmp_path_factory.mktemp("facts"))
    (folder / "my facts.csv").write_text(FACTS)
    return folder


def start(place, *words):
    options = ["--model", place / "model", "--data", place / "data", "--device", "cpu", "--out", place / "out"]
    return call("run", place / "my facts.csv", *options, *words)


def test_check_shows_every_row(place):
    code, out, _ = call("facts", "check", place / "my facts.csv")
    assert code == 0
    words = (
        "Who runs the bakery? ->",
        "subject 'bakery'",
        "not read: column 'color'",
        "columns that are read: prompt, target, old",
        "'question' as prompt",
        "'my-facts'",
    )
    assert all(word in out for word in words), out
    assert "row 0: portability: no answer to 'Who bakes?', left out" in out
    assert "Without a subject: 1 of 2 facts" in out


def test_check_fits_a_narrow_terminal(place, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = call("facts", "check", place / "my facts.csv")[1]
    table = out[out.index("row  edit") : out.index("row 0: ")]
    assert max(map(len, table.splitlines())) <= 80


def test_check_as_json(place):
    found = json.loads(call("facts", "check", place / "my facts.csv", "--json")[1])
    assert (found["usable"], found["task"], found["not_read"]) == (True, "my-facts", {"color": ""})
    assert found["sha256"] == hashlib.sha256(FACTS.encode()).hexdigest()
    assert [row["request"]["target"] for row in found["rows"]] == ["Ada Lovelace", "New York"]


def test_check_of_a_file_that_cannot_be_used(tmp_path):
    (tmp_path / "f.csv").write_text("prompt,target\na,\nb,c\n")
    code, out, _ = call("facts", "check", tmp_path / "f.csv")
    assert code == 2
    assert "row 0 (line 2), column 'target'" in " ".join(out.split())
    assert "Not usable: 1 of 2 rows" in out
    (tmp_path / "g.csv").write_text("a,b\nc,d\n")
    assert "no column 'prompt'" in refused(call("facts", "check", tmp_path / "g.csv"))


def test_template_is_written_once(tmp_path):
    code, _, _ = call("facts", "template", tmp_path / "new.csv")
    assert code == 0
    assert (tmp_path / "new.csv").read_text() == call("facts", "template")[1]
    assert "is there already" in refused(call("facts", "template", tmp_path / "new.csv"))
    assert "there is no folder" in refused(call("facts", "template", tmp_path / "none" / "new.csv"))
    assert "ends in .csv" in refused(call("facts", "template", tmp_path / "new.txt"))


def test_a_run_of_own_facts(place):
    code, out, err = start(place, "--editor", "none", "--editor", "ft-m")
    assert code == 0, err
    assert (
        out.index("Left out")
        < out.index("portability: probe without an answer left out (1)")
        < out.index("Reliability")
    )
    run = json.loads((find_run(place / "out") / "run.json").read_text())
    assert run["spec"]["tasks"] == ["my-facts"]
    assert run["spec"]["data"] == {"my-facts": {"my facts.csv": hashlib.sha256(FACTS.encode()).hexdigest()}}
    assert run["spec"]["readers"] == {"my-facts": "facts-1"}
    code, out, _ = call("show", place / "out", "my-facts/test/1")
    assert code == 0
    assert "Where is the office?" in out and "subject" not in out


def test_a_dry_run_says_what_is_left_out(place):
    code, out, _ = start(place, "--dry-run", "--editor", "none")
    assert code == 0
    assert "left out of my-facts: portability: probe without an answer left out (1)" in out


def test_trained_editors_learn_from_tasks_of_the_data(place):
    assert "--train counterfact --train recent" in refused(start(place, "--editor", "mend"))
    code, out, err = call("run", place / "my facts.csv", "--editor", "mend", "--train", "recent", "--dry-run")
    assert code == 0, err
    assert "cases: my-facts 2" in out and "1 of 1" in out


def test_facts_beside_a_preset(place):
    options = ["--facts", place / "my facts.csv", "--editor", "instructedit", "--dry-run"]
    code, out, err = call("run", "quickstart", *options)
    assert code == 0, err
    assert out.count("cases: my-facts 2") == 2, "in both settings"
    assert "2 facts have no instruction; instructed editors get the descriptions of 'counterfact'" in " ".join(
        out.split()
    )
    code, out, _ = call("run", "quickstart", *options, "--task", "recent")
    assert code == 0
    assert "recent 12, my-facts 2" in out


def test_facts_that_are_missing_or_named_twice(place, tmp_path):
    assert "facts: nothing to evaluate; name a file of own facts" in refused(call("run", "facts"))
    assert "No such file" in refused(call("run", tmp_path / "none.csv"))
    assert "expected one of them" in refused(start(place, "--facts", "other.csv"))


@pytest.mark.parametrize("option", ["--editor", "--add-editor"])
def test_an_unknown_editor_is_named_by_its_option(place, option):
    sentence = refused(start(place, option, "gracee"))
    assert sentence.startswith(f"instructedit: {option}: there is no editor 'gracee'")
    assert "Did you mean 'grace'?" in sentence


def test_an_editor_that_needs_a_subject_fails_the_fact(model):
    request = EditRequest("f/test/0", "f", "Where is the office?", "New York", "")
    with pytest.raises(
        CaseError, match=r"^The editor needs the subject of the fact 'Where is the office\?', but none is"
    ):
        subject_token(model, request)
