"""Models from Python: facts as users write them, answers before and after, and the health of an edit."""

import subprocess
import sys

import datasets
import pytest
import torch

import instructedit
from instructedit.answers import Answers
from instructedit.baselines.ftl import FTM
from instructedit.editors import EditRequest, InputError, make
from instructedit.models import requests_of

from .conftest import FACTS, FT


def test_importing_loads_no_slow_library():
    slow = ("torch", "transformers", "pandas", "evaluate")
    code = f"import sys, instructedit; dir(instructedit); print([name for name in {slow} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    for name in instructedit.__all__:
        assert getattr(instructedit, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        instructedit.laod  # noqa: B018


def test_facts_are_read_from_pairs_mappings_requests_and_data_sets():
    request = EditRequest("mine/1", "mine", "A is", "b", "A")
    rows = datasets.Dataset.from_dict({"question": ["Who is A?"], "answer": [" b"], "subject": ["A"]})
    found = requests_of([("A is ", "b"), {"prompt": "C is", "target_new": "d", "old": None}, request, *rows])
    assert [(own.prompt, own.target, own.subject) for own in found] == [
        ("A is", "b", ""),
        ("C is", "d", ""),
        ("A is", "b", "A"),
        ("Who is A?", "b", "A"),
    ]
    assert [own.case_id for own in found] == ["own/edit/0", "own/edit/1", "mine/1", "own/edit/3"]
    assert requests_of(("A is", "b")) == requests_of([("A is", "b")]) == requests_of({"prompt": "A is", "target": "b"})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ([], "facts: found none"),
        (["A is b"], r'facts, row 0: found "A is b", a pair'),
        ([("A is", "b"), ("A is", 3)], "facts, row 1, 'target': found 3, a text was expected"),
        ([("A is", " ")], "row 0, 'target': found"),
        ([{"prompt": "A is"}], "facts, row 0: no 'target'"),
        ([{"prompt": "A is", "traget": "b"}], "unknown key 'traget'. Did you mean 'target'"),
        ([{"prompt": "A is", "question": "Who?", "target": "b"}], "the prompt is given twice"),
    ],
)
def test_odd_facts_are_one_sentence(facts, words):
    with pytest.raises(InputError, match=words):
        requests_of(facts)


def test_answers_are_those_of_plain_greedy_decoding(load):
    model = load("gpt2", torch.float32)
    edited = model.edit(FACTS, **FT)
    written = edited.edits.apply_to(model.language_model.model)
    tokenizer = model.language_model.tokenizer
    found = edited.ask([prompt for prompt, _ in FACTS], max_new_tokens=4)
    for number, (prompt, target) in enumerate(FACTS):
        ids = torch.tensor([tokenizer(prompt).input_ids])
        out = written.generate(ids, do_sample=False, max_new_tokens=4, pad_token_id=0)
        text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert text.strip().startswith(found.after[number]) and found.after[number].startswith(target)
    assert found.before == tuple(model.ask([prompt for prompt, _ in FACTS], max_new_tokens=4))


def test_a_joint_edit_and_a_sequence_are_the_editors_own(load):
    model = load("gpt2", torch.float32)
    requests, editor = requests_of(FACTS), make(FTM, FT)
    inner = model.language_model
    joint = editor.edit_together(inner, requests).patches[0][0].delta()
    assert torch.equal(model.edit(FACTS, **FT).edits.patches[0][0].delta(), joint)
    step = editor.edit_next(inner, requests[0], instructedit.editors.Edits.none(1))
    both = editor.edit_next(inner, requests[1], step).patches[0][0].delta()
    assert torch.equal(model.edit(FACTS, editor, schedule="sequential").edits.patches[0][0].delta(), both)


def test_health_says_whether_the_targets_were_reached(load):
    model = load("gpt2", torch.float32)
    good = model.edit(FACTS, **FT).health
    assert (good.facts, good.reached, good.greedy, good.notes) == (2, 2, 2, ())
    failed = model.edit(FACTS, steps=1)
    bad = failed.health
    assert bad.reached == 0 and max(bad.probabilities) < 0.5
    assert "published for GPT2-XL" in bad.notes[0] and "steps" not in bad.notes[0]
    assert "reached 0 of 2 targets" in str(bad) and "1 steps" in str(bad) and bad.notes[0] in str(bad)


def test_answers_say_that_the_edit_failed_and_why(load):
    model = load("gpt2", torch.float32)
    assert "note" not in str(model.edit(FACTS, **FT).ask("a"))
    answers = model.edit(FACTS, steps=1).ask("a")
    for shown in (str(answers), answers._repr_html_()):
        assert "FT-M reached 0 of 2 targets." in shown and "published for GPT2-XL" in shown


def test_what_cannot_be_edited_is_one_sentence(load, drawn):
    model = load("gpt2", torch.float32)
    for words, options in {
        "Unknown editor 'ftm'. Did you mean 'ft-m'": {"editor": "ftm"},
        "no option 'lrr'. Did you mean 'lr'": {"lrr": 1.0},
        "'mend' has to be trained first .*load_editor": {"editor": "mend"},
        "belong to an editor's name": {"editor": drawn, "lr": 1.0},
        "'batch' or 'sequential' was expected": {"schedule": "joint"},
    }.items():
        with pytest.raises(InputError, match=words):
            model.edit(FACTS, **options)
    with pytest.raises(InputError, match="a checkpoint of a trained editor was expected"):
        instructedit.load_editor("nowhere")


def test_a_table_of_answers_escapes_what_it_shows():
    found = Answers(("a <b>",), ("",), ("x & y",))
    assert "a &lt;b&gt;" in found._repr_html_() and "x &amp; y" in found._repr_html_()
    assert "(nothing)" in str(found)
    assert found.to_pandas().to_dict("records") == [{"prompt": "a <b>", "before": "", "after": "x & y"}]
