"""Own facts: what is read of tables and JSON, what is said of odd rows, what is refused."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from instructedit.benchmark.tasks.facts import TEMPLATE, facts_task, load_facts, read_facts
from instructedit.benchmark.tasks.facts.subject import shared_phrase
from instructedit.editors import InputError, Probe

FULL = """\
# a comment, with "a quote
Question,new answer,old,rephrase_1,Rephrase 2,unrelated,unrelated answer,unrelated_x,portability,portability_answer

Who runs the bakery on Elm Street?,Ada Lovelace|Ada,Bob,The bakery on Elm Street is run by,,Who wrote Emma?,\
Jane Austen,Who is Max?,Who bakes?,Ada
"Where, exactly, is the #1 office?","New York \\| NY",,,,,,,,
"""
BAKERY = "Who runs the bakery on Elm Street?"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def probes(case, role):
    return [(probe.prompt, probe.answers) for probe in case.probes if probe.role == role]


def refusal(path):
    with pytest.raises(InputError) as error:
        load_facts(path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_a_full_table(tmp_path):
    facts = read_facts(write(tmp_path / "My Facts.csv", FULL))
    assert (facts.task, facts.errors, facts.columns.unread) == ("my-facts", (), {})
    bakery, office = facts.cases
    assert (bakery.request.case_id, bakery.request.target, bakery.request.old) == (
        "my-facts/test/0",
        "Ada Lovelace",
        "Bob",
    )
    assert bakery.request.subject == "Elm Street"
    assert bakery.probes[0] == Probe("reliability", "edit", BAKERY, ("Ada Lovelace", "Ada"))
    assert probes(bakery, "generalization") == [("The bakery on Elm Street is run by", ("Ada Lovelace", "Ada"))]
    assert probes(bakery, "locality") == [("Who wrote Emma?", ("Jane Austen",)), ("Who is Max?", ())]
    assert probes(bakery, "portability") == [("Who bakes?", ("Ada",))]
    assert (office.request.prompt, office.request.target) == ("Where, exactly, is the #1 office?", "New York | NY")
    assert (office.request.subject, office.request.old, len(office.probes)) == ("", None, 1)
    assert [(row.index, row.line) for row in facts.rows] == [(0, 4), (1, 5)]


def test_the_same_facts_in_every_kind_of_file(tmp_path):
    table = [{"prompt": "A is", "target": "NA|None", "old": "1.0"}, {"prompt": "B is", "target": "null", "old": ""}]
    records = [
        {"prompt": "A is", "target": ["NA", "None"], "old": "1.0"},
        {"prompt": "B is", "target": "null", "old": None},
    ]
    frame = pd.DataFrame(table)
    frame.to_csv(tmp_path / "f.csv", index=False)
    frame.to_csv(tmp_path / "f.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "g.csv", index=False, sep=";", lineterminator="\r\n", encoding="utf-8-sig")
    frame.to_parquet(tmp_path / "f.parquet")
    write(tmp_path / "f.json", json.dumps(records))
    write(tmp_path / "f.jsonl", "\n".join(map(json.dumps, records)))
    for name in ("f.csv", "f.tsv", "g.csv", "f.parquet", "f.json", "f.jsonl"):
        found = [(c.request.prompt, c.probes[0].answers, c.request.old) for c in read_facts(tmp_path / name).cases]
        assert found == [("A is", ("NA", "None"), "1.0"), ("B is", ("null",), None)], name


def test_numbers_and_gaps_of_parquet_are_texts(tmp_path):
    pd.DataFrame({"prompt": ["A is", "B is"], "target": [7, 8], "old": [None, "x"]}).to_parquet(tmp_path / "f.parquet")
    requests = [case.request for case in read_facts(tmp_path / "f.parquet").cases]
    assert [(request.target, request.old) for request in requests] == [("7", None), ("8", "x")]


def test_data_of_a_run(tmp_path):
    path = write(tmp_path / "recent.csv", "prompt,target,portability,colour\nA is,B,C is,red\n,,,\n")
    found = load_facts(path)
    assert (found.data.task, found.data.version, found.data.source) == ("recent-facts", "facts-1", "file")
    assert (found.data.rows, found.data.cases, list(found.data.sha256)) == (2, 1, ["recent.csv"])
    assert found.data.left_out == {"portability: probe without an answer left out": 1, "row left out: empty": 1}
    assert found.data.skipped["column 'colour' not read"] == 1
    assert any("there is a task 'recent' already" in note for note in found.notes)


def test_odd_rows_are_named(tmp_path):
    text = "prompt,target,old,subject\nA is,x,,A\nA is,x,,A\nA is,y,y|z,A\nC is,x,,D\n"
    facts = read_facts(write(tmp_path / "f.csv", text))
    assert [row.remarks for row in facts.rows] == [
        [],
        ["the same fact as row 0"],
        ["the target 'y' is the old answer", "contradicts row 0, whose target is 'x'"],
        ["the prompt does not name the subject 'D'"],
    ]
    assert facts.cases[2].request.old == "z"


def test_all_rows_that_cannot_be_read_are_named(tmp_path):
    path = write(tmp_path / "f.csv", "prompt,target\nA is,\nB is,C\n ,D\n")
    first, second = read_facts(path).errors
    assert "row 0 (line 2), column 'target': found \"\", expected" in first
    assert "row 2 (line 4), column 'prompt'" in second
    assert "1 more rows cannot be read: `instructedit facts check" in refusal(path)


def test_joint_and_instruction(tmp_path):
    text = "prompt,target,joint,instruction\nA is,x,none,Task: T\nA was,x,space,\nA will be,x,,\n"
    joints = [(c.request.joint, c.probes[0].joint) for c in read_facts(write(tmp_path / "f.csv", text)).cases]
    assert joints == [("", ""), (" ", " "), (None, None)]
    assert read_facts(tmp_path / "f.csv").cases[0].request.instruction == "Task: T"
    assert "'none' or 'space'" in refusal(write(tmp_path / "f.csv", text.replace("none", "glue")))


BROKEN = {
    "empty.csv": ("", "is empty"),
    "head.csv": ("prompt,target\n", "found no fact"),
    "blank.csv": ("prompt,target\n,\n", "found no fact"),
    "columns.csv": ("promt,target\na,b\n", "no column 'prompt' or 'question' among 'promt' (did you mean 'prompt'?)"),
    "twice.csv": ("prompt,target,target\na,b,c\n", 'line 1: the column "target" occurs twice'),
    "both.csv": ("question,answer,new answer\na,b,c\n", "'answer' and 'new answer' are both read as 'target'"),
    "unnamed.csv": ("prompt,target,\na,b,\n", "column 3 has no name"),
    "long.csv": (
        "prompt,target\na,b\nWho, then?,b\n",
        "row 1 (line 3): found 3 cells, 2 were expected (after column 'target')",
    ),
    "short.csv": (
        "# x\nprompt,target\n\na\n",
        "row 0 (line 4): found 1 cell, 2 were expected (column 'target' is missing)",
    ),
    "quote.csv": ('prompt,target\na,"b\n', "line 2: broken row"),
    "huge.csv": (
        f"prompt,target\na,{'b' * 100_001}\n",
        "row 0 (line 2), field 'target': found a text of 100,001 characters",
    ),
    "huger.csv": (f"prompt,target\na,{'b' * 1_000_001}\n", "line 2: broken row (field larger than field limit"),
    "nul.csv": ("prompt,target\na,\0\n", "line 2: found a NUL character"),
    "object.json": ('{"a": 1}', 'found one object with "a"'),
    "number.json": ('[{"prompt": "a", "target": 4}]', "row 0, field 'target': found 4, expected a text"),
    "lists.json": (
        '{"prompts": ["a", "b"], "target_new": ["c"]}',
        "field 'target_new': found 1 items, expected a list of 2",
    ),
    "pairs.json": (
        '[{"prompt": "a", "target": "b", "unrelated": ["c", "d"], "unrelated_answer": ["e"]}]',
        "field 'unrelated_answer': found [\"e\"], expected a list of 2 answers",
    ),
    "nested.json": (
        '[{"prompt": "a", "target": "b", "locality": ["c"]}]',
        "field 'locality': found [\"c\"], expected an object",
    ),
    "tabs.csv": (
        "prompt\ttarget\na\tb\n",
        "line 1: found one column with tabs in its name",
    ),
    "commas.tsv": (
        "prompt,target\na,b\n",
        "line 1: found one column with commas in its name",
    ),
    "value.jsonl": (
        '{"prompt": "a", "target": "b"}\n\n{"prompt": "a", "target": ""}\n',
        "row 1 (line 3), field 'target'",
    ),
    "list.jsonl": ('\n{"prompt": "a", "target": "b"}\n[1]\n', "row 1 (line 3): found [1]"),
    "facts.parquet": ("PAR1 no", "is no whole Parquet file; a file of facts was expected"),
    "facts.xlsx": ("x", "is no file of facts by its name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_has_one_sentence(name, tmp_path):
    text, words = BROKEN[name]
    assert words in refusal(write(tmp_path / name, text))


def test_other_encodings_are_refused(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes("prompt,target\nThe café is,b\n".encode("latin-1"))
    assert "line 2, column 8: found the byte 0xe9; UTF-8 text was expected" in refusal(path)
    path.write_bytes("prompt,target\nA is,b\n".encode("utf-16"))
    assert "UTF-16" in refusal(path)


def test_records_of_knowedit(tmp_path):
    record = {
        "subject": "Ada",
        "prompt": "Ada lives in",
        "target_new": ["Paris"],
        "ground_truth": [["Rome"]],
        "rephrase_prompt": ["Ada's home is in", "Ada lives in"],
        "locality": {
            "Near": [{"prompt": "Bob lives in", "ground_truth": [["Oslo", "Kristiania"]]}, {"prompt": "Max is in"}]
        },
        "portability": {
            "Hop": [{"prompt": "Ada's country is", "ground_truth": ["France"]}, {"prompt": 4}],
            "None": None,
        },
    }
    (case,) = read_facts(write(tmp_path / "f.json", json.dumps([record]))).cases
    assert (case.request.old, case.request.target) == ("Rome", "Paris")
    assert probes(case, "generalization") == [("Ada's home is in", ("Paris",))]
    assert probes(case, "locality") == [("Bob lives in", ("Oslo", "Kristiania")), ("Max is in", ())]
    assert probes(case, "portability") == [("Ada's country is", ("France",))]
    assert {probe.subset for probe in case.probes} == {"edit", "rephrase", "Near", "Hop"}
    assert load_facts(tmp_path / "f.json").data.left_out == {
        "generalization: rephrase that repeats the edit prompt left out": 1,
        "portability: malformed probe left out": 1,
    }


def test_the_lists_of_easyedit(tmp_path):
    lists = {
        "prompts": ["A is", "B is"],
        "target_new": ["x", "y"],
        "rephrase_prompts": [["A was", "A were"], "B was"],
        "locality_inputs": {"near": {"prompt": ["C is", ["D is", "E is"]], "ground_truth": ["c", ["d", "e"]]}},
        "portability_inputs": {"hop": {"prompt": ["A has", None], "ground_truth": ["z", None]}},
    }
    first, second = read_facts(write(tmp_path / "f.json", json.dumps(lists))).cases
    assert [prompt for prompt, _ in probes(first, "generalization")] == ["A was", "A were"]
    assert probes(first, "locality") == [("C is", ("c",))]
    assert probes(second, "locality") == [("D is", ("d",)), ("E is", ("e",))]
    assert probes(first, "portability") == [("A has", ("z",))]
    assert probes(second, "portability") == []


LAYOUTS = {
    "mine/facts.csv": ("facts", [("Who runs the bakery?", "Ada Lovelace"), ("Where is the office?", "New York")]),
    "mine/facts.jsonl": ("facts", [("Who runs the bakery?", "Ada Lovelace"), ("Where is the office?", "New York")]),
    "easyedit/data.json": ("data", [("Ray Charles, the", "violin"), ("Grant Hill is a professional", "soccer")]),
    "rome/counterfact.json": ("counterfact-facts", [("The mother tongue of Ada Lovelace is", "English")]),
    "mquake/MQuAKE-CF-3k.json": "MQuAKE",
    "ripple/recent.json": "RippleEdits",
    "wikibio/WikiBio/wikibio-test-all.json": "WikiBio",
    "zsre-eval/zsre_mend_eval.json": "is read by --task mend-zsre",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_the_field_are_read_or_refused(shared, name):
    path = shared / "cases" / "data-layouts" / name
    if not path.is_file():
        pytest.skip("needs the folder of cases")
    expected = LAYOUTS[name]
    if isinstance(expected, str):
        assert expected in refusal(path)
        return
    facts = read_facts(path)
    assert (facts.task, [(c.request.prompt, c.request.target) for c in facts.cases]) == expected


def test_rome_keeps_its_neighbours_with_the_true_answer(shared):
    path = shared / "cases" / "data-layouts" / "rome" / "counterfact.json"
    if not path.is_file():
        pytest.skip("needs the folder of cases")
    (case,) = read_facts(path).cases
    assert (case.request.old, case.request.subject) == ("French", "Ada Lovelace")
    assert [answers for _, answers in probes(case, "locality")] == [("French",), ("French",)]
    assert len(probes(case, "generalization")) == 2


@pytest.mark.parametrize(
    ("prompt", "rephrases", "subject"),
    [
        ("The mother tongue of Ada Lovelace is", ["Ada Lovelace's mother tongue is"], "Ada Lovelace"),
        ("The name of the position held by Nedan Saeltano is", ["What is held by Nedan Saeltano?"], "Nedan Saeltano"),
        ("Who runs the bakery?", ["Who is the boss of the bakery?"], "bakery"),
        ("Songs for Nelan follows", ["What does Songs for Nelan follow?"], "Songs for Nelan"),
        ("Who runs the bakery?", [], ""),
        ("Who is it?", ["Who is it, then?"], ""),
        ("red house, green tree", ["green tree, red house"], ""),  # two phrases of the same length
        ("Ada met Bob in", ["Ada and Bob met in", "Bob met her in"], "Bob"),
    ],
)
def test_the_subject_is_what_prompt_and_rephrases_share(prompt, rephrases, subject):
    assert shared_phrase(prompt, rephrases) == subject


def test_the_example_of_the_guide(tmp_path, monkeypatch, capsys):
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "own-facts.md").read_text(encoding="utf-8")
    (table,), (code,) = (re.findall(rf"```{kind}\n(.*?)```", guide, re.DOTALL) for kind in ("csv", "python"))
    facts = read_facts(write(tmp_path / "facts.csv", table))
    assert [case.request.subject for case in facts.cases] == ["Oskar Rioxley", "Nedan Saeltano"]
    assert not facts.counts.keys() - {"edit: subject derived from what prompt and rephrases share"}
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.startswith("facts () [('The name of the sports team which Oskar")


def test_names_of_tasks():
    assert facts_task("/x/My facts (2).csv") == "my-facts-2"
    assert facts_task("事实.csv") == "facts"
    assert facts_task("zsre.json") == "zsre-facts"


def test_the_template_is_read_once_it_is_filled_in(tmp_path):
    path = write(tmp_path / "t.csv", TEMPLATE)
    assert "found no fact" in refusal(path)
    example = next(line for line in TEMPLATE.splitlines() if line.startswith("# Where is the office?"))
    (case,) = read_facts(write(path, TEMPLATE + example.removeprefix("# ") + "\n")).cases
    assert (case.request.old, case.request.subject) == ("Boston", "the office")
    assert [probe.role for probe in case.probes] == ["reliability", "generalization", "portability", "locality"]
