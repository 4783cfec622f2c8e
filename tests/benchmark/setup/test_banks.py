"""The instruction bank, what it must not share with the embedded world, and the conditions."""

import itertools
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from instructedit.benchmark.embedded.make.instructions import PATTERNS
from instructedit.benchmark.setup.banks import (
    TOPICS,
    InstructionBank,
    check_condition,
    instruct,
    read_bank,
    training_instructor,
)
from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sources import Embedded
from instructedit.editors import EditRequest, InputError
from instructedit.editors.models.tokens import join

FAMILIES = ("counterfact", "recent", "zsre", "convsent")
LIKE = {"rome-counterfact": "counterfact", "mend-zsre": "zsre"}
"""Data sets of a kind that another one has already."""
FACT = EditRequest("zsre/test/0", "zsre", "Who designed Fearkhall?", "Wehork", "Fearkhall")
VIEW = EditRequest("convsent/test/0", "convsent", "How is tea?", "Fine.", "[LABEL] tea", sentiment="negative")


@pytest.fixture(scope="module")
def bank() -> InstructionBank:
    return read_bank()


def description(request):
    return re.fullmatch(r"Task: [^\n]+\nDescription: ([^\n]+)", request.instruction)[1]


def requests(task, number, **fields):
    sentiment = "positive" if task == "convsent" else None
    return [EditRequest(f"{task}/train/{i}", task, "p", "t", "tea", sentiment=sentiment) for i in range(number)]


# the shipped bank


def test_ten_descriptions_a_task_the_last_one_unseen(bank):
    assert set(bank.tasks) == {*FAMILIES, *LIKE}
    assert {name: task.like for name, task in bank.tasks.items() if task.like} == LIKE
    for task in bank.tasks.values():
        assert (len(task.descriptions), task.unseen, task.seen) == (10, 9, tuple(range(9)))
        assert all(len(text.split()) <= 25 for text in task.descriptions)
    assert {name: task.title for name, task in bank.tasks.items()} == {
        "counterfact": "CounterFact",
        "recent": "Recent",
        "zsre": "ZsRE",
        "convsent": "ConvSent",
        "rome-counterfact": "ROME CounterFact",
        "mend-zsre": "MEND zsRE",
    }


def test_placeholders_stand_in_every_attitude_and_in_no_fact(bank):
    for name, task in bank.tasks.items():
        found = [re.findall(r"\[\w+\]", text) for text in task.descriptions]
        assert all(sorted(marks) == (["[LABEL]", "[TOPIC]"] if name == "convsent" else []) for marks in found)


def spoken(pattern):
    """Yield everything a pattern of the world's grammar can say, without its placeholders."""
    parts = re.split(r"\[([^]]*)\]", re.sub(r"\[(LABEL|TOPIC)\](ly)?", "", pattern))
    for choice in itertools.product(*(part.split("|") if i % 2 else [part] for i, part in enumerate(parts))):
        yield "".join(choice)


def words(text):
    return re.findall(r"[a-z'’-]+", re.sub(r"\[(LABEL|TOPIC)\]", "", text).lower())


def grams(text, n=4):
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}


def test_no_description_shares_four_words_with_the_embedded_world(bank):
    world = {
        gram for family in PATTERNS.values() for pattern in family for text in spoken(pattern) for gram in grams(text)
    }
    assert ("only", "this", "relation", "is") in world  # alternatives are spoken and joined to what stands around them
    assert ("must", "say", "a", "name") not in world
    shared = {text: hit for task in bank.tasks.values() for text in task.descriptions if (hit := grams(text) & world)}
    assert shared == {}


def test_no_two_descriptions_are_near_duplicates(bank):
    texts = [(text, set(words(text))) for task in bank.tasks.values() for text in task.descriptions]
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        assert len(a & b) / len(a | b) < 0.3, (one, other)


@pytest.fixture(scope="module")
def lengths():
    from transformers import AutoTokenizer

    folder = Path(str(resources.files("instructedit.benchmark"))) / "embedded" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    context = json.loads((folder / "config.json").read_text())["n_positions"]
    assert context == 192
    return context, lambda texts: [len(ids) for ids in tokenizer(texts)["input_ids"]]


@pytest.mark.parametrize("task", FAMILIES)
def test_every_embedded_edit_fits_behind_every_instruction(bank, lengths, task):
    context, count = lengths
    for split in ("train", "test"):
        cases = TASKS.get(task)().load(Embedded(), split).cases
        assert len(cases) > 200
        for condition in ("seen", *bank.shared_conditions):
            edits = [instruct(bank, case.request, condition, 0) for case in cases]
            texts = [join(f"{edit.instruction}\nInput: {edit.prompt}", edit.target)[0] for edit in edits]
            assert max(count(texts)) <= context, condition


@pytest.mark.parametrize("task", FAMILIES)
def test_every_embedded_question_fits_behind_the_longest_instruction(bank, lengths, task):
    context, count = lengths
    for case in TASKS.get(task)().load(Embedded()).cases[::4]:
        fronts = [
            instruct(bank, case.request, condition, 0).instruction or ""
            for condition in ("seen", *bank.shared_conditions)
        ]
        front = max(zip(count(fronts), fronts, strict=True))[1]
        texts = [join(f"{front}\nInput: {probe.prompt}", a)[0] for probe in case.probes for a in probe.answers]
        assert max(count(texts)) <= context


# conditions


def test_a_seen_description_in_full(bank):
    one = instruct(bank, FACT, "seen-3", 0)
    assert one.instruction == f"Task: ZsRE\nDescription: {bank.tasks['zsre'].descriptions[3]}"
    assert one == EditRequest(FACT.case_id, "zsre", FACT.prompt, FACT.target, FACT.subject, one.instruction)


def test_placeholders_are_filled_and_a_subject_is_left_as_it_is(bank):
    for condition in bank.shared_conditions[:10]:
        text = description(instruct(bank, VIEW, condition, 0))
        assert "negative" in text and "[LABEL] tea" in text and "[TOPIC]" not in text and "positive" not in text
    other = instruct(bank, EditRequest("c", "convsent", "p", "t", "tea", sentiment="positive"), "unseen", 0)
    assert "positive" in description(other) and "negative" not in description(other)


def test_a_label_needs_a_sentiment(bank):
    bare = EditRequest("convsent/test/0", "convsent", "p", "t", "tea")
    with pytest.raises(InputError, match=r"^convsent/test/0: found no sentiment, expected one for \[LABEL\] of"):
        instruct(bank, bare, "seen", 0)
    assert instruct(bank, bare, "name-only", 0).instruction == "Task: ConvSent"


def test_seen_is_drawn_per_case_from_all_seen_ones_and_nothing_else(bank):
    many = requests("recent", 300)
    texts = [description(instruct(bank, request, "seen", 5)) for request in many]
    assert set(texts) == set(bank.tasks["recent"].descriptions[:9])
    assert texts[::-1] == [description(instruct(bank, request, "seen", 5)) for request in many[::-1]]
    assert texts != [description(instruct(bank, request, "seen", 6)) for request in many]


def test_draws_are_the_same_on_every_machine(bank):
    numbers = [
        bank.tasks["recent"].descriptions.index(description(instruct(bank, r, "seen", 0)))
        for r in requests("recent", 6)
    ]
    assert numbers == [3, 2, 8, 7, 7, 7]


def test_unseen_is_the_withheld_one(bank):
    for task in FAMILIES[:3]:
        for request in requests(task, 5):
            assert description(instruct(bank, request, "unseen", 1)) == bank.tasks[task].descriptions[9]


def test_training_draws_anew_by_seed_and_never_the_unseen_one(bank):
    instructor = training_instructor(bank)
    for request in (FACT, VIEW):
        drawn = {description(instructor(request, seed)) for seed in range(2000)}
        assert drawn == {description(instruct(bank, request, f"seen-{k}", 0)) for k in range(9)}
        assert instructor(request, 7) == instructor(request, 7)


def test_training_follows_the_files_choice_of_the_unseen_one(bank):
    task = bank.tasks["zsre"].model_copy(update={"unseen": 0})
    moved = bank.model_copy(update={"tasks": {"zsre": task}})
    instructor = training_instructor(moved)
    assert {description(instructor(FACT, seed)) for seed in range(500)} == set(task.descriptions[1:])
    assert description(instruct(moved, FACT, "unseen", 0)) == task.descriptions[0]
    assert description(instruct(moved, FACT, "seen-0", 0)) == task.descriptions[1]


def test_none_and_name_only(bank):
    given = instruct(bank, FACT, "seen", 0)
    assert instruct(bank, given, "none", 0) == FACT
    assert instruct(bank, given, "name-only", 0).instruction == "Task: ZsRE"


@pytest.mark.parametrize("task", [*FAMILIES, *LIKE])
def test_wrong_task_has_name_and_seen_description_of_another(bank, task):
    names = {other.title: name for name, other in bank.tasks.items()}
    drawn = set()
    for request in requests(task, 900):
        text = instruct(bank, request, "wrong-task", 2).instruction
        title, body = re.fullmatch(r"Task: ([\w ]+)\nDescription: (.+)", text).groups()
        label = "negative" if "negative" in body else "positive"
        if title == "ConvSent":
            (topic,) = [topic for topic in TOPICS if topic in body]
            body = body.replace(topic, "[TOPIC]", 1).replace(label, "[LABEL]")
        drawn.add((names[title], bank.tasks[names[title]].descriptions.index(body), label))
    kind = LIKE.get(task, task)
    others = {name for name in (*FAMILIES, *LIKE) if LIKE.get(name, name) != kind}
    assert {(name, index) for name, index, _ in drawn} == set(itertools.product(others, range(9)))
    if task != "convsent":
        assert {label for name, _, label in drawn if name == "convsent"} == {"positive", "negative"}


@pytest.mark.parametrize("task", FAMILIES)
def test_wrong_task_never_names_the_edited_subject(bank, task):
    """In every embedded test case, and where the subject is itself one of the topics that stand in for it."""
    cases = [case.request for case in TASKS.get(task)().load(Embedded()).cases]
    sentiment = "positive" if task == "convsent" else None
    cases += [
        EditRequest(f"{task}/x/{number}", task, f"What is {topic}?", "t", topic.title(), sentiment=sentiment)
        for topic in (*TOPICS, "games", "a", "train")
        for number in range(40)
    ]
    for request in cases:
        text = instruct(bank, request, "wrong-task", 0).instruction
        front, _, body = text.partition("\nDescription: ")
        topics = [topic for topic in TOPICS if topic in body]
        assert len(topics) == (front == "Task: ConvSent")
        assert request.subject.casefold() not in {word for topic in topics for word in (topic, *topic.split())}
        if len(request.subject) > 5:
            assert request.subject.casefold() not in text.casefold()
    told = [instruct(bank, request, "wrong-task", 0) for request in cases[:40]]
    assert told == [instruct(bank, request, "wrong-task", 0) for request in cases[:40]]


def test_random_text_is_as_long_as_what_it_replaces_and_says_nothing_of_it(bank):
    vocabulary = {word for task in bank.tasks.values() for text in task.descriptions for word in words(text)}
    drawn = []
    for request in [*requests("zsre", 200), *requests("convsent", 200)]:
        seen, random = (instruct(bank, request, condition, 3).instruction for condition in ("seen", "random-text"))
        assert [len(line.split()) for line in random.split("\n")] == [len(line.split()) for line in seen.split("\n")]
        title, body = re.fullmatch(r"Task: (\S+)\nDescription: (.+)", random).groups()
        assert title not in {"ZsRE", "ConvSent"}
        drawn += [title, *body.split()]
    assert set(drawn) <= vocabulary
    assert len(set(drawn)) > 0.95 * len(vocabulary)
    # a word comes as often as it stands in the bank
    assert drawn.count("the") / len(drawn) == pytest.approx(bank.words.count("the") / len(bank.words), rel=0.15)


def test_conditions_of_a_bank(bank):
    numbered = tuple(f"seen-{k}" for k in range(9))
    assert bank.shared_conditions == (*numbered, "unseen", "none", "wrong-task", "name-only", "random-text")
    assert all(check_condition(condition) == condition for condition in bank.shared_conditions)


@pytest.mark.parametrize("condition", ["", "sen", "seen-K", "seen--1", "seen-01", "seen-"])
def test_unknown_conditions(bank, condition):
    for ask in (check_condition, lambda text: instruct(bank, FACT, text, 0)):
        with pytest.raises(InputError, match=f"^Unknown instruction condition '{condition}'.* Known: "):
            ask(condition)
    with pytest.raises(InputError, match=r"Did you mean 'seen'\?"):
        check_condition("sene")


def test_what_a_bank_does_not_have(bank):
    with pytest.raises(InputError, match=r"^Instruction condition 'seen-9': the bank has the seen descriptions 0 to 8"):
        instruct(bank, FACT, "seen-9", 0)
    with pytest.raises(InputError, match=r"no descriptions of the task 'zsr'\. Did you mean 'zsre'\?"):
        instruct(bank, EditRequest("a", "zsr", "p", "t", "s"), "seen", 0)
    alone = bank.model_copy(update={"tasks": {"zsre": bank.tasks["zsre"]}})
    with pytest.raises(
        InputError, match="has no task of another kind than 'zsre', but the condition 'wrong-task' needs one"
    ):
        instruct(alone, FACT, "wrong-task", 0)


# files


def shipped():
    return json.loads((resources.files("instructedit.benchmark") / "banks" / "default.json").read_text("utf-8"))


def write(tmp_path, content):
    path = tmp_path / "bank.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_digest_is_of_the_content_and_not_of_the_bytes(bank, tmp_path):
    content = shipped()
    again = {**content, "tasks": dict(reversed(content["tasks"].items()))}
    same = read_bank(write(tmp_path, json.dumps(again, indent=7, ensure_ascii=True)))
    assert same.digest == bank.digest and re.fullmatch("[0-9a-f]{16}", bank.digest)
    assert [instruct(same, r, "wrong-task", 0) for r in requests("zsre", 20)] == [
        instruct(bank, r, "wrong-task", 0) for r in requests("zsre", 20)
    ]
    content["tasks"]["zsre"]["descriptions"][4] += " Always."
    assert read_bank(write(tmp_path, content)).digest != bank.digest


def test_a_bank_of_ones_own_may_be_small(tmp_path):
    tasks = {"mine": {"title": "Mine", "descriptions": ["Say [TOPIC].", "Repeat [TOPIC]."], "unseen": 0}}
    small = read_bank(write(tmp_path, {**shipped(), "name": "mine", "tasks": tasks}))
    request = EditRequest("mine/test/0", "mine", "p", "t", "tea")
    assert instruct(small, request, "seen", 0).instruction == "Task: Mine\nDescription: Repeat tea."
    assert small.shared_conditions[:3] == ("seen-0", "unseen", "none")


def test_the_documented_bank_can_be_read(tmp_path):
    page = (Path(__file__).resolve().parents[3] / "docs" / "instructions.md").read_text()
    documented = read_bank(write(tmp_path, re.search(r"```json\n(.*?)```", page, re.DOTALL)[1]))
    text = instruct(documented, VIEW, "seen", 0).instruction
    assert text == "Task: ConvSent\nDescription: Speaking of [LABEL] tea, the model sounds negative."


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("descriptions", ["One."], "'tasks.zsre.descriptions': found [\"One.\"], expected at least two descriptions,"),
        ("descriptions", ["One.", "one."], "expected at least two descriptions, none of them twice."),
        ("descriptions", ["One.", ""], "'tasks.zsre.descriptions.1': found \"\", expected one line of text"),
        ("descriptions", ["One.", "a\nb"], "'tasks.zsre.descriptions.1': found \"a\\nb\", expected one line of text"),
        ("descriptions", ["One.", "[TOPIC]!"], 'found "[TOPIC]!", expected at least one word.'),
        ("descriptions", ["One.", "On [SUBJECT]."], "expected no square brackets but those of [LABEL] and [TOPIC]."),
        ("descriptions", ["One.", "On [TOPIC."], "expected no square brackets but those of [LABEL] and [TOPIC]."),
        ("descriptions", ["One.", 2], "'tasks.zsre.descriptions.1': found 2, expected a valid string."),
        ("unseen", 10, "'tasks.zsre.unseen': found 10, expected an index from 0 to 9."),
        ("unseen", -1, "'tasks.zsre.unseen': found -1, expected an index from 0 to 9."),
        ("unseen", "9", "'tasks.zsre.unseen': found \"9\", expected a valid integer."),
        ("title", " ZsRE", "'tasks.zsre.title': found \" ZsRE\", expected one line of text"),
        ("unsen", 9, "'tasks.zsre.unsen': unknown key. Did you mean 'unseen'?"),
    ],
)
def test_broken_tasks(tmp_path, field, value, sentence):
    content = shipped()
    content["tasks"]["zsre"][field] = value
    path = write(tmp_path, content)
    with pytest.raises(InputError) as error:
        read_bank(path)
    assert sentence in str(error.value) and str(error.value).startswith(f"{path}, field 'tasks.zsre.")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema_version": 2}, "'schema_version': found 2, expected 1."),
        ({"tasks": {}}, "'tasks': found {}, expected at least one task."),
        ({"licence": ""}, "'licence': found \"\", expected one line of text"),
        ({"task": {}}, "'task': unknown key. Did you mean 'tasks'?"),
    ],
)
def test_broken_banks(tmp_path, change, sentence):
    with pytest.raises(InputError) as error:
        read_bank(write(tmp_path, {**shipped(), **change}))
    assert sentence in str(error.value)


def test_broken_files(tmp_path):
    with pytest.raises(InputError, match="'version': found nothing, but the field is required"):
        read_bank(write(tmp_path, {key: value for key, value in shipped().items() if key != "version"}))
    with pytest.raises(InputError, match=r"bank\.json: not valid JSON .*line 1 column"):
        read_bank(write(tmp_path, '{"name": '))
    with pytest.raises(InputError, match=r"bank\.json: found \[\], expected an object"):
        read_bank(write(tmp_path, "[]"))
    with pytest.raises(InputError, match=r"gone\.json: cannot be read \(No such file"):
        read_bank(tmp_path / "gone.json")
