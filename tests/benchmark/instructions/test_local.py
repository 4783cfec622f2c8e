"""The local proposer on tiny random models that lie in a folder."""

import json

import pytest
import torch

from instructedit.benchmark.instructions import local
from instructedit.benchmark.instructions.conversation import messages, rendered
from instructedit.benchmark.instructions.local import LocalProposer
from instructedit.benchmark.instructions.proposer import Brief, Example
from instructedit.editors import InputError

from ...conftest import make_model, make_tokenizer

BRIEF = Brief("zsre", "Fact", "facts that are asked for.", (), (Example("Who is she?", "Ada"),))
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}" + TEMPLATE
NOTHING = "{{ raise_exception('nothing at all') }}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a function that lays down a model with a chat template, once for each template and family."""
    made = {}

    def make(template=TEMPLATE, family="llama"):
        if (template, family) not in made:
            path = tmp_path_factory.mktemp("chat") / f"tiny-{family}"
            tokenizer = make_tokenizer()
            tokenizer.chat_template = template
            make_model(family).save_pretrained(path)
            tokenizer.save_pretrained(path)
            made[template, family] = path
        return made[template, family]

    return make


@pytest.fixture
def proposer(folder, monkeypatch):
    def make(template=TEMPLATE, family="llama", max_new_tokens=12):
        monkeypatch.setattr(local, "MAX_NEW_TOKENS", max_new_tokens)
        return LocalProposer(folder(template, family), device="cpu")

    return make


def answering(proposer, monkeypatch, *answers):
    """Let a proposer's model say these one after another, and return the prompts that it is given, as tokens."""
    model, prompts, script = proposer._load(), [], list(answers)

    def generate(prompt, **_):
        prompts.append(prompt[0].tolist())
        ids = model.tokenizer(script.pop(0), add_special_tokens=False)["input_ids"]
        return torch.cat([prompt, torch.tensor([[*ids, model.tokenizer.eos_token_id]])], 1)

    monkeypatch.setattr(model.model, "generate", generate)
    return prompts


def test_the_same_seed_says_the_same_and_another_one_something_else(proposer):
    replies = [proposer().propose(BRIEF, 2, seed) for seed in (1, 1, 2)]
    assert replies[0].text == replies[1].text != replies[2].text
    assert replies[0].input_tokens > 0 < replies[0].output_tokens <= 24


def test_both_requests_of_a_proposal_draw_differently(proposer):
    first, second = proposer().propose(BRIEF, 2, 1).text.split("\n\n", 1)
    assert first != second


def test_the_global_random_numbers_stay_where_they_were(proposer):
    made = proposer()  # the first of a process writes the model, with random weights
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    made.propose(BRIEF, 2, 1)
    assert torch.equal(torch.rand(3), expected)


def test_the_answer_does_not_depend_on_the_global_random_numbers(proposer):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(proposer().propose(BRIEF, 2, 7).text)
    assert found[0] == found[1]


def test_the_model_gets_its_own_template_and_descriptions_are_found(proposer, monkeypatch):
    made = proposer(max_new_tokens=500)
    prompts = answering(made, monkeypatch, '["one of them"]', '["another one", "a third one"]')
    reply = made.propose(BRIEF, 3, 0)
    assert reply.admitted == ("one of them", "another one", "a third one")
    assert reply.notes == ("1 of 3 descriptions came; the rest is requested once more.",)
    assert reply.model == "tiny-llama"
    assert reply.input_tokens == sum(map(len, prompts))
    system, user = (message["content"] for message in messages(BRIEF, 3))
    tokenizer = made._load().tokenizer
    assert tokenizer.decode(prompts[0]) == f"<system>{system}</system><user>{user}</user><assistant>"
    assert '<assistant>["one of them"]</assistant><user>' in tokenizer.decode(prompts[1])


def test_a_model_without_a_template_gets_plain_text_and_a_note(proposer, monkeypatch):
    made = proposer(None, max_new_tokens=500)
    prompts = answering(made, monkeypatch, "prose", '["one", "two"]')
    reports = []
    reply = made.propose(BRIEF, 2, 0, reports.append)
    assert made._load().tokenizer.decode(prompts[0]) == f"{rendered(messages(BRIEF, 2))}\n\n[assistant]\n"
    assert reply.admitted == ("one", "two")
    assert [note for note in reply.notes if "chat template" in note] == [
        "tiny-llama has no chat template; it receives the messages as plain text."
    ]
    assert tuple(reports) == reply.notes


def test_a_template_without_system_messages_gets_them_in_the_first_question(proposer, monkeypatch):
    made = proposer(NO_SYSTEM, max_new_tokens=500)
    prompts = answering(made, monkeypatch, '["one"]')
    reply = made.propose(BRIEF, 1, 0)
    system, user = (message["content"] for message in messages(BRIEF, 1))
    assert made._load().tokenizer.decode(prompts[0]) == f"<user>{system}\n\n{user}</user><assistant>"
    assert reply.notes == ("tiny-llama takes no system message; it is put before the first question.",)


def test_a_template_that_takes_nothing_is_an_error(proposer):
    with pytest.raises(InputError, match=r"tiny-llama: its chat template does not take the messages: nothing at all"):
        proposer(NOTHING).propose(BRIEF, 1, 0)


def test_an_answer_that_fills_its_room_is_noted(proposer):
    reply = proposer(max_new_tokens=1).propose(BRIEF, 1, 0)
    assert "The reply was cut off at 1 tokens." in reply.notes and reply.admitted == ()


def test_a_prompt_that_does_not_fit_is_an_error(proposer):
    with pytest.raises(InputError, match=r"tiny-gpt2: the prompt has [\d,]+ tokens, and the model takes 96 with the"):
        proposer(family="gpt2").propose(BRIEF, 1, 0)


def test_an_answer_ends_with_the_context(proposer, monkeypatch):
    made = proposer(max_new_tokens=10**6)
    model, asked = made._load(), []

    def generate(prompt, generation_config, **_):
        asked.append((prompt, generation_config))
        return prompt

    monkeypatch.setattr(model.model, "generate", generate)
    made.propose(BRIEF, 1, 0)
    assert all(config.max_new_tokens + prompt.shape[1] == model.context for prompt, config in asked) and asked
    assert {config.do_sample for _, config in asked} == {True}


def test_out_of_memory_is_a_sentence(proposer, monkeypatch):
    made = proposer()

    def generate(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(made._load().model, "generate", generate)
    with pytest.raises(InputError, match="tiny-llama: there is not enough memory on cpu for an answer"):
        made.propose(BRIEF, 1, 0)


def test_pickled_weights_are_not_loaded(folder, tmp_path):
    model = make_model("llama")
    make_tokenizer().save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        LocalProposer(tmp_path, device="cpu").propose(BRIEF, 1, 0)


def test_code_of_the_model_does_not_run(folder, tmp_path):
    path, witness = tmp_path / "model", tmp_path / "witness"
    make_model("llama").save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "own.py").write_text(f"open({str(witness)!r}, 'w').close()")
    with pytest.raises(InputError):
        LocalProposer(path, device="cpu").propose(BRIEF, 1, 0)
    assert not witness.exists()


def test_a_folder_that_is_not_there_is_named_at_once(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        LocalProposer(tmp_path / "nothing")


def test_a_hub_id_is_the_name_of_the_model():
    assert LocalProposer("Some/Chat-Model").model == "Some/Chat-Model"
