"""Data of other layouts: each is refused with the way to bring it in."""

import json

import pytest

from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sources import open_source
from instructedit.editors import InputError

CASES = {
    "rome": (
        "counterfact",
        ("counterfact.json", "ROME", "requested_rewrite", "counterfact.json` reads it as own facts"),
    ),
    "mquake": ("counterfact", ("test_cf.json, row 0", "MQuAKE", "`instructedit run facts.json`")),
    "easyedit": ("counterfact", ("EasyEdit", "parallel lists", "test_cf.json` reads it as own facts")),
    "zsre-eval": ("zsre", ("zsre_mend_eval.json is read by --task mend-zsre",)),
    "ripple": ("recent", ("recent_test.json, row 0", "RippleEdits", "--data hub", "`instructedit run facts.json`")),
    "mine": ("counterfact", ("facts.csv is a table", "facts.csv` reads it", "facts.jsonl` reads it as own facts")),
    "wikibio": ("counterfact", ("wikibio-test-all.json", "WikiBio", "`instructedit run facts.json`")),
}


@pytest.mark.parametrize("name", CASES)
def test_every_layout_of_the_field_has_its_sentence(shared, name):
    task, words = CASES[name]
    folder = shared / "cases" / "data-layouts" / name
    if not folder.is_dir():
        pytest.skip("needs the folder of cases")
    with pytest.raises(InputError) as error:
        TASKS.get(task)().load(open_source(str(folder)))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_file_is_no_folder_and_says_who_reads_it(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text(json.dumps([{"subject": "A", "src": "Who is A?", "alt": "B", "loc": "x"}]))
    with pytest.raises(InputError, match=r"is a file, but a folder .* was expected.* is read by --task mend-zsre"):
        open_source(str(path))


def test_equal_layouts_are_described_once(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text('[{"requested_rewrite": {}}]')
    (tmp_path / "c.json").write_text("broken")
    with pytest.raises(InputError) as error:
        TASKS.get("recent")().load(open_source(str(tmp_path)))
    assert "a.json (and b.json) is in ROME's" in str(error.value)
    assert "c.json holds no JSON records" in str(error.value)
    assert str(error.value).count("reads it as own facts") == 1
