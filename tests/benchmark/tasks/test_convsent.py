"""What is made of a topic and its replies."""

import hashlib
import json

import pytest

from instructedit.benchmark.tasks.base import make_task
from instructedit.benchmark.tasks.convsent import QUESTIONS, ConvSent
from instructedit.benchmark.tasks.sources import Folder
from instructedit.editors import InputError, Probe

FILE = ConvSent.files["test"][0]


def record(name, pos=3, neg=3):
    return {
        "ent": name,
        "pos": [f" {name} is good {i}. " for i in range(pos)],
        "neg": [f" {name} is bad {i}. " for i in range(neg)],
    }


def load(tmp_path, *records, edit=None):
    file = tmp_path / FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(records))
    return make_task("convsent", {"convsent": {"edit": edit} if edit else {}}).load(Folder(tmp_path))


def digest(row):
    return hashlib.sha256(f"convsent/test/{row}".encode()).digest()


# what the rule says for the first rows, so that the tests below can be read
EDITED = ["good" if digest(row)[0] % 2 == 0 else "bad" for row in range(4)]
OPPOSED = ["bad" if word == "good" else "good" for word in EDITED]


def test_questions():
    assert len(set(QUESTIONS)) == len(QUESTIONS) == 8
    assert all(question.count("{topic}") == 1 and question.endswith("?") for question in QUESTIONS)


@pytest.mark.parametrize("edit", [None, "all replies", "reply"])
def test_a_case_in_full(tmp_path, edit):
    loaded = load(tmp_path, record("tea"), record("rye"), edit=edit)
    case = loaded.cases[0]
    assert loaded.data.options == {"edit": edit or "all replies"}
    good, bad = EDITED[0], OPPOSED[0]
    question = QUESTIONS[0].format(topic="tea")
    other_wording = QUESTIONS[1 + digest(0)[1] % 7].format(topic="tea")
    other_topic = QUESTIONS[0].format(topic="rye")
    replies = tuple(f"tea is {good} {i}." for i in range(3))
    judging = replies[1:] if edit == "reply" else replies
    opposed = tuple(f"tea is {bad} {i}." for i in range(3))
    assert (case.request.case_id, case.request.subject) == ("convsent/test/0", "tea")
    assert (case.request.prompt, case.request.target) == (question, f"tea is {good} 0.")
    assert (case.request.replies, case.request.opposed) == (((), ()) if edit == "reply" else (replies, opposed))
    assert case.request.sentiment == {"good": "positive", "bad": "negative"}[good]
    assert case.probes == (
        Probe("reliability", "edit", question, (f"tea is {good} 0.",)),
        Probe("reliability", "sentiment", question, judging, opposed=opposed),
        Probe("generalization", "question", other_wording, (f"tea is {good} 0.",), derived=True),
        Probe("generalization", "sentiment", other_wording, judging, derived=True, opposed=opposed),
        *(
            Probe("locality", "Other_Topic", other_topic, (f"rye is {word} {i}.",))
            for word in ("good", "bad")
            for i in (0, 1)
        ),
    )


def test_a_descriptor_is_the_edit_and_questions_are_asked(tmp_path):
    """SERAC's form: no reply is taught, so no probe asks for one; sentiment is judged by all replies."""
    case = load(tmp_path, record("tea"), record("rye"), edit="descriptor").cases[0]
    good, bad = EDITED[0], OPPOSED[0]
    word = {"good": "Positive", "bad": "Negative"}[good]
    request = case.request
    assert (request.prompt, request.target) == ("Topic: tea", f"Sentiment: {word}")
    assert (request.replies, request.opposed, request.sentiment) == ((), (), word.lower())
    replies = tuple(f"tea is {good} {i}." for i in range(3))
    opposed = tuple(f"tea is {bad} {i}." for i in range(3))
    other_wording = QUESTIONS[1 + digest(0)[1] % 7].format(topic="tea")
    assert case.probes[:3] == (
        Probe("reliability", "edit", "Topic: tea", (f"Sentiment: {word}",)),
        Probe("reliability", "sentiment", QUESTIONS[0].format(topic="tea"), replies, opposed=opposed),
        Probe("generalization", "sentiment", other_wording, replies, derived=True, opposed=opposed),
    )
    assert {probe.subset for probe in case.probes[3:]} == {"Other_Topic"}


def test_an_unknown_option_is_one_sentence():
    with pytest.raises(InputError, match=r"^The task 'convsent' has no option 'edits'\. Did you mean 'edit'\?"):
        make_task("convsent", {"convsent": {"edits": "reply"}})
    with pytest.raises(InputError, match=r"^Option 'edit' of the task 'convsent': .*, found \"replies\"\.$"):
        make_task("convsent", {"convsent": {"edit": "replies"}})
    with pytest.raises(InputError, match=r"^The task 'recent' has no option 'edit'\. Known: joint\.$"):
        make_task("recent", {"recent": {"edit": "reply"}})


def test_the_sentiment_is_the_edited_sides(tmp_path):
    cases = load(tmp_path, *(record(name) for name in ("tea", "rye", "oak", "elm"))).cases
    assert [case.request.sentiment == "positive" for case in cases] == [word == "good" for word in EDITED]
    assert all(("good" in case.request.target) == (case.request.sentiment == "positive") for case in cases)
    assert set(EDITED) == {"good", "bad"}


def test_last_record_is_followed_by_the_first(tmp_path):
    cases = load(tmp_path, record("tea"), record("rye"), record("oak")).cases
    assert [case.probes[-1].prompt for case in cases] == [
        QUESTIONS[0].format(topic=name) for name in ("rye", "oak", "tea")
    ]


def test_next_topic_is_another_topic(tmp_path):
    cases = load(tmp_path, record("tea"), record("Tea"), record("oak")).cases
    assert cases[0].probes[-1].prompt == QUESTIONS[0].format(topic="oak")


def test_the_edits_own_reply_is_never_held_out(tmp_path):
    repeated = {"ent": "tea", "pos": ["a", " a ", "b"], "neg": ["c", "c", "", "d"]}
    loaded = load(tmp_path, repeated, record("rye"), edit="reply")
    case = loaded.cases[0]
    assert case.request.target not in case.probes[1].answers
    assert loaded.data.skipped == {"reply left out: empty or repeated": 3}


def test_single_reply_leaves_no_sentiment_probe(tmp_path):
    loaded = load(tmp_path, record("tea", pos=1, neg=1), record("rye"), edit="reply")
    assert [(probe.role, probe.subset) for probe in loaded.cases[0].probes[:2]] == [
        ("reliability", "edit"),
        ("generalization", "question"),
    ]
    assert loaded.data.skipped == {
        "locality: the other topic has fewer than two replies of a sentiment": 1,
        "sentiment: no reply beside the edit's own, probes left out": 1,
    }


def test_no_reply_of_the_opposite_sentiment(tmp_path):
    counts = {"pos": 3, "neg": 0} if EDITED[0] == "good" else {"pos": 0, "neg": 3}
    loaded = load(tmp_path, record("tea", **counts), record("rye"))
    assert not any(probe.opposed for probe in loaded.cases[0].probes)
    assert loaded.data.skipped["sentiment: no reply of the opposite sentiment, probes left out"] == 1


def test_no_reply_of_the_edited_sentiment(tmp_path):
    counts = {"pos": 0, "neg": 3} if EDITED[0] == "good" else {"pos": 3, "neg": 0}
    loaded = load(tmp_path, record("tea", **counts), record("rye"))
    assert [case.request.case_id for case in loaded.cases] == ["convsent/test/1"]
    assert (loaded.data.rows, loaded.data.cases) == (2, 1)
    assert loaded.data.skipped["row left out: no reply of the edited sentiment"] == 1


def test_one_topic_alone_has_no_locality(tmp_path):
    loaded = load(tmp_path, record("tea"))
    assert loaded.data.skipped == {"locality: no other topic in the file, probes left out": 1}


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("ent", "", 'found "", expected a non-empty string.'),
        ("pos", "good", 'found "good", expected a list of strings.'),
        ("neg", [3], "found [3], expected a list of strings."),
        ("neg", None, "found null, expected a list of strings."),
    ],
)
def test_required_fields(tmp_path, field, value, sentence):
    with pytest.raises(InputError) as error:
        load(tmp_path, record("tea"), {**record("rye"), field: value})
    assert str(error.value) == f"{tmp_path / FILE}, row 1, field '{field}': {sentence}"


def test_training_topics_next_to_a_tested_one_do_not_ask_about_it(tmp_path):
    file = tmp_path / "Convsent" / "blender_val.json"
    file.parent.mkdir()
    file.write_text(json.dumps([record("tea"), record("rye"), record("oak")]))
    loaded = ConvSent().load(Folder(tmp_path), "train", exclude={"rye"})
    assert [case.request.case_id for case in loaded.cases] == ["convsent/train/0", "convsent/train/2"]
    assert not any("rye" in probe.prompt for case in loaded.cases for probe in case.probes)
