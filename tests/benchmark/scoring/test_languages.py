"""A tiny model that knows facts in six languages: every protocol has to find them, in editing as in scoring."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.baselines.incontext import InContext
from instructedit.baselines.noedit import NoEdit
from instructedit.benchmark.results.consistency import OTHER_TOKENS, SAME_TOKENS, ConsistencyTally, sentence
from instructedit.benchmark.results.records import EditorSpec, GenerationSpec
from instructedit.benchmark.scoring.scoring import run_chunk
from instructedit.editors import EditCase, EditRequest, LanguageModel, Probe

FACTS = {
    "Chinese": ("{}的首都是", "", "。", {"甲国": "红城", "乙国": "蓝城", "丙国": "白港", "丁国": "黑山"}),
    "Japanese": (
        "{}の首都は",
        "",
        "。",
        {"アルタ": "ミナト市", "ベルダ": "青森", "ガンマ": "しまね", "デルタ": "山口"},
    ),
    "Thai": ("เมืองหลวงของ{}คือ", "", "\n", {"อัลตา": "บางนา", "เบลดา": "แม่ริม", "กามา": "ท่าเรือ", "เดลตา": "ดอยเต่า"}),
    "Arabic": ("عاصمة {} هي", " ", ".", {"ألتا": "النور", "بلدا": "الزهراء", "غاما": "الميناء", "دلتا": "القلعة"}),
    "Hindi": (
        "{} की राजधानी का नाम है",
        " ",
        "।",
        {"अल्टा": "नवपुर", "बेल्डा": "श्यामगढ़", "गामा": "नीलगंज", "डेल्टा": "पूर्णिया"},
    ),
    "German": (
        "Die Hauptstadt von {} ist",
        " ",
        ".",
        {"Alta": "Blauburg", "Belda": "Grünstädt", "Gama": "Weißensee", "Delta": "Süd-Öhr"},
    ),
}
"""By language: the prompt, what stands before the answer, what ends it, and the capital of each country."""


def cases(language: str, joint=None) -> list[EditCase]:
    prompt, _, _, capitals = FACTS[language]
    found = []
    for number, (country, capital) in enumerate(capitals.items()):
        text = prompt.format(country)
        request = EditRequest(f"{language}/test/{number}", language, text, capital, country, joint=joint)
        found.append(EditCase(request, (Probe("reliability", "edit", text, (capital,), joint=joint),)))
    return found


@pytest.fixture(scope="module")
def polyglot() -> LanguageModel:
    lines, prompts, words = [], [], []
    for prompt, joint, stop, capitals in FACTS.values():
        for country, capital in capitals.items():
            lines.append(prompt.format(country) + joint + capital + stop)
            prompts.append(prompt.format(country))
            # learnt from single names and words, so that no token spans prompt and answer
            words += [country, *prompt.format("\n").split("\n"), joint + capital]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        words,
        trainers.BpeTrainer(vocab_size=700, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>")
    torch.manual_seed(0)
    shape = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 96, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **shape))
    batch = tokenizer([line + "<end>" for line in lines], return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for line, prompt in zip(labels, prompts, strict=True):
        line[: len(tokenizer(prompt)["input_ids"])] = -100
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    model.train()
    for _ in range(400):
        loss = model(**batch, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if float(loss.detach()) < 0.01:
            break
    return LanguageModel(model, tokenizer)


def scores(model, editors, own):
    records, _ = run_chunk(
        model, own, editors, run="r", seed=0, generation=GenerationSpec(max_new_tokens=24), fluency=False
    )
    assert {record.status for record in records} == {"done"}
    tally = ConsistencyTally([EditorSpec(name="none", method="none")])
    for record in records:
        tally.take(record)
    return records, tally.summed()


def means(records, editor):
    found = {}
    for protocol in ("teacher_forced_token", "teacher_forced_exact", "free_generation"):
        values = [s.value for r in records if r.editor == editor for s in r.scores if s.protocol == protocol]
        found[protocol] = sum(values) / len(values)
    return found


def plain(model: LanguageModel, prompt: str) -> str:
    """Greedy text by transformers alone."""
    ids = model.tokenizer(prompt, return_tensors="pt").input_ids
    out = model.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
    return model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("language", FACTS)
def test_every_protocol_finds_what_the_model_knows(polyglot, language):
    own = cases(language)
    _, joint, _, _ = FACTS[language]
    known = [plain(polyglot, one.request.prompt).startswith(joint + one.request.target) for one in own]
    assert sum(known) == 4
    records, checked = scores(polyglot, {"none": NoEdit()}, own)
    assert set(means(records, "none").values()) >= {sum(known) / len(known)}
    assert means(records, "none")["free_generation"] == sum(known) / len(known)
    assert means(records, "none")["teacher_forced_exact"] == sum(known) / len(known)
    assert [(found.probes, found.free, found.otherwise) for found in checked] == [(4, sum(known), 0)]
    assert sentence(checked[0]) is None


@pytest.mark.parametrize("language", FACTS)
def test_an_edit_is_made_from_the_text_that_is_scored(polyglot, language):
    """Fine-tuned to another capital, the model writes it, and teacher forcing finds it."""
    capitals = list(FACTS[language][3].values())
    own = []
    for one, other in zip(cases(language), capitals[1:] + capitals[:1], strict=True):
        request = EditRequest(one.request.case_id, language, one.request.prompt, other, one.request.subject)
        own.append(EditCase(request, (Probe("reliability", "edit", request.prompt, (other,)),)))
    editor = FTM(FTMConfig(block=1, lr=0.05, clamp=False, steps=40))
    records, _ = scores(polyglot, {"none": NoEdit(), "ft-m": editor}, own)
    assert means(records, "none")["free_generation"] == 0.0
    assert means(records, "ft-m")["teacher_forced_exact"] == 1.0
    joint = FACTS[language][1]
    for record in (record for record in records if record.editor == "ft-m"):
        assert record.answers[0].generated.startswith(joint + record.target)


@pytest.mark.parametrize(("language", "wrong"), [("Chinese", " "), ("Thai", " "), ("German", ""), ("Hindi", "")])
def test_a_joint_that_the_model_has_not_learnt_is_said(polyglot, language, wrong):
    """Right in free generation, whose normalisation does not see the space; wrong under teacher forcing, which does."""
    records, checked = scores(polyglot, {"none": NoEdit()}, cases(language, wrong))
    assert means(records, "none")["teacher_forced_exact"] == 0.0
    (found,) = checked
    assert found.otherwise == found.free == 4
    assert [record.remarks for record in records if record.remarks] == [
        {f"reliability: {OTHER_TOKENS}": 1}
    ] * found.free
    assert f"{found.free} of {found.free} probes" in sentence(found)
    assert f"{found.accepted!r} was accepted" in sentence(found)


def test_a_disagreement_in_the_same_tokens_is_called_one(polyglot, monkeypatch):
    """A fault of the engine: what was generated is what teacher forcing says is wrong."""
    from instructedit.benchmark.scoring import scoring

    monkeypatch.setattr(scoring, "teacher_forced_exact", lambda predicted, reference: 0.0)
    records, _ = scores(polyglot, {"none": NoEdit()}, cases("German"))
    assert {f"reliability: {SAME_TOKENS}"} == {remark for record in records for remark in record.remarks}


def test_a_token_that_spans_prompt_and_answer_is_counted(polyglot):
    request = EditRequest("t/test/0", "t", "Die Hauptst", "adt von", "s", joint="")
    own = [EditCase(request, (Probe("reliability", "edit", request.prompt, ("adt von",), joint=""),))]
    assert polyglot.encode("Die Hauptst", "adt von", "").spanning
    records, _ = scores(polyglot, {"none": NoEdit()}, own)
    assert records[0].remarks == {"reliability: a token spans prompt and answer": 1}


def test_a_demonstration_joins_as_the_scores_do():
    told = InContext().context(cases("Chinese")[0].request).text
    assert told == "New fact: 甲国的首都是红城\n"
    assert InContext().context(cases("Chinese", " ")[0].request).text == "New fact: 甲国的首都是 红城\n"
    assert InContext().context(cases("German")[0].request).text == "New fact: Die Hauptstadt von Alta ist Blauburg\n"
