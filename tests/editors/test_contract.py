"""What every registered editor must keep, an outside package's too (`--editor NAME` picks one)."""

import copy
import hashlib

import pytest
import torch

from instructedit.baselines.noedit import NoEdit
from instructedit.editors import (
    EDITORS,
    CaseError,
    EditRequest,
    Edits,
    InputError,
    LanguageModel,
    MetaModel,
    TrainedEditor,
    TrainingSet,
    make,
)
from instructedit.editors.search import current, drawn, replaced

from ..conftest import make_model, make_tokenizer
from .cases import fact, facts

REQUESTS = [
    EditRequest("t/test/0", "t", "The name of the spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace"),
    EditRequest(
        "t/test/1", "t", "What is the place of birth of Alan Turing?", "Katherine, King of Maida", "Alan Turing"
    ),
    EditRequest("t/test/2", "t", "Grace Hopper's occupation is", "spouse", "Grace Hopper"),
    EditRequest("t/test/3", "t", "The place of birth of Ada Lovelace is", "Vale", "Ada Lovelace"),
]
QUESTIONS = [
    "The name of the spouse of Ada Lovelace is",
    "Ada Lovelace is married to",
    "The occupation of Alan Turing is",
    "What is the place of birth of Alan Turing?",
]


@pytest.fixture
def editor(editor_name):
    """With its defaults, but for a short descent: most of the contract holds after any number of steps.

    A long descent at its floor makes 1e-2 of a rounding of 1e-16 (CaliNet, 200 steps, transformers 5.2.0).
    """
    kind = EDITORS.get(editor_name)
    return make(kind, {"steps": 5} if "steps" in kind.Config.model_fields else {})


@pytest.fixture(params=["gpt2", "llama"])
def exact_model(request, make_language_model) -> LanguageModel:
    """Double precision: whatever differs between many at once and one by one is then no rounding."""
    return make_language_model(request.param, torch.float64)


@pytest.fixture
def ready(tmp_path):
    """Train an editor that has to be trained, for one step and with its defaults."""

    def train(editor, model):
        if editor.trains:
            training = TrainingSet(facts(4), facts(2), {"facts": 1.0})
            editor.fit(model, training, tmp_path / "training", seed=0, steps=1)

    return train


def outcome(model: LanguageModel, edits: Edits) -> torch.Tensor:
    """Logits of all edits' models to all questions, with an edit's context in front of them."""
    fronts = [context.prompt_prefix("generalization") if context else "" for context in edits.contexts]
    rows = [model.encode(front + question, "London") for front in fronts for question in QUESTIONS]
    owners = [owner for owner in range(len(edits)) for _ in QUESTIONS]
    return torch.cat([logits for _, logits in model.forward(rows, edits, owners)])


def test_names_itself_as_it_is_registered(editor_name):
    editor = make(EDITORS.get(editor_name))
    assert editor.name == editor_name
    assert editor.title
    assert editor.source
    assert type(editor).Config() == editor.config, "every option has a default"


def test_base_weights_stay_as_they_are_bit_for_bit(editor, model, ready):
    ready(editor, model)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    edits = editor.edit(model, REQUESTS, seed=0)
    outcome(model, edits)
    after = model.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())


def test_many_at_once_equal_one_by_one(editor, exact_model, ready):
    ready(editor, exact_model)
    together = editor.edit(exact_model, REQUESTS, seed=3)
    alone = Edits.join([editor.edit(exact_model, [request], seed=3) for request in REQUESTS])
    assert together.contexts == alone.contexts
    apart = torch.cat([outcome(exact_model, alone.select([number])) for number in range(len(REQUESTS))])
    assert (outcome(exact_model, together) - apart).abs().max() <= 1e-6 * apart.abs().max()


def test_same_seed_same_edit(editor, model, ready):
    ready(editor, model)
    first, second = (editor.edit(model, REQUESTS, seed=7) for _ in range(2))
    assert len(first) == len(REQUESTS)
    assert first.contexts == second.contexts
    for ours, theirs in zip(first.patches, second.patches, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.site == other.site
            assert all(torch.equal(one.tensors()[name], other.tensors()[name]) for name in one.tensors())


def test_its_sites_are_those_that_it_edits(editor, model, ready):
    ready(editor, model)
    sites = editor.sites(MetaModel.of(model.model.config))
    assert sites == editor.sites(model)
    if not sites:
        pytest.skip("the editor does not declare its sites")
    edited = {patch.site for edit in editor.edit(model, REQUESTS).patches for patch in edit}
    assert edited == {site.name for site in sites}


def test_a_network_has_as_many_parameters_as_are_counted_without_it(editor, model, ready):
    if not isinstance(editor, TrainedEditor):
        pytest.skip("no network")
    ready(editor, model)
    trainable = sum(p.numel() for p in editor.network.parameters() if p.requires_grad)
    assert editor.parameters(MetaModel.of(model.model.config)) == trainable


def test_what_its_ranges_give_are_options_that_it_takes(editor):
    ranges = type(editor).search
    assert current(editor.config, ranges).keys() == ranges.keys()
    for trial in range(1, 30):
        made = make(type(editor), replaced({}, drawn(ranges, 0, trial)))
        assert all(made.config != editor.config for _ in ranges)


def test_requests_are_not_changed(editor, model, ready):
    ready(editor, model)
    before = copy.deepcopy(REQUESTS)
    editor.edit(model, REQUESTS, seed=0)
    assert before == REQUESTS


def test_no_probe_occurs_in_what_it_reads(editor, model, monkeypatch, ready):
    """Neither in a text that it tokenises, nor in a text or file that it declares; only requests are known to it."""
    ready(editor, model)
    texts: list[str] = []
    inner = type(model.tokenizer).__call__
    monkeypatch.setattr(
        type(model.tokenizer), "__call__", lambda self, text, **k: texts.append(text) or inner(self, text, **k)
    )
    case = fact(2)
    edits = editor.edit(model, [case.request, *REQUESTS], seed=0)
    if editor.name == "none":
        return
    assert texts, "an editor tokenises by model.encode, where this test can see it"
    texts += [context.text for context in edits.contexts if context]
    texts += [
        given if isinstance(given, str) else given.read_bytes().decode(errors="ignore")
        for given in editor.materials().values()
    ]
    asked = [probe for probe in case.probes if probe.prompt != case.request.prompt]
    assert len(asked) > 2
    for probe in asked:
        assert not any(probe.prompt in text for text in texts)
        answers = [answer for answer in probe.answers if answer not in case.request.target]
        assert not any(f" {answer}" in text for answer in answers for text in texts), "an answer of a probe"
    for context, request in zip(edits.contexts, [case.request, *REQUESTS], strict=True):
        others = {r.target for r in [case.request, *REQUESTS]} - {request.target}
        assert context is None or not any(f"{target}\n" in context.text for target in others), "another request"


def test_editors_and_their_edits_are_saved_and_loaded(editor, model, tmp_path, ready):
    ready(editor, model)
    editor.save(tmp_path / "editor")
    again = type(editor).load(tmp_path / "editor")
    assert again.config == editor.config
    edits = editor.edit(model, REQUESTS, seed=1)
    edits.save(tmp_path / "edits.safetensors")
    loaded = Edits.load(tmp_path / "edits.safetensors")
    assert (loaded.facts, loaded.contexts) == (edits.facts, edits.contexts)
    assert torch.equal(outcome(model, loaded), outcome(model, edits))
    assert torch.equal(outcome(model, again.edit(model, REQUESTS, seed=1)), outcome(model, edits))


def test_an_edit_made_together_is_one_edit_or_refused_with_a_sentence(editor, model, ready):
    ready(editor, model)
    try:
        edits = editor.edit_together(model, REQUESTS, seed=0)
    except InputError as error:
        assert editor.name in str(error)
    else:
        assert len(edits) == 1


def test_edits_follow_one_another_or_are_refused_with_a_sentence(editor, exact_model, ready, tmp_path):
    ready(editor, exact_model)
    try:
        first = editor.edit_next(exact_model, REQUESTS[0], Edits.none(1), seed=2)
    except InputError as error:
        assert editor.name in str(error)
        return
    alone = outcome(exact_model, editor.edit(exact_model, REQUESTS[:1], seed=2))
    torch.testing.assert_close(outcome(exact_model, first), alone)
    kept = copy.deepcopy(first)
    second = editor.edit_next(exact_model, REQUESTS[1], first, seed=2)
    assert len(first) == len(second) == 1
    assert torch.equal(outcome(exact_model, first), outcome(exact_model, kept)), "what was there is not written to"
    first.save(tmp_path / "first.safetensors")
    loaded = Edits.load(tmp_path / "first.safetensors")
    again = editor.edit_next(exact_model, REQUESTS[1], loaded, seed=2)
    torch.testing.assert_close(outcome(exact_model, again), outcome(exact_model, second))
    assert again.facts == second.facts
    if editor.name != "none":
        assert not torch.equal(outcome(exact_model, first), outcome(exact_model, second))


def test_a_request_that_does_not_fit_is_refused_with_a_sentence(editor, editor_name, ready):
    model = LanguageModel(make_model("gpt2"), make_tokenizer())
    ready(editor, model)
    long = EditRequest("t/test/9", "t", "The name of", "x" * 300, "x")
    if editor_name == "none":
        pytest.skip("no edit is never refused")
    with pytest.raises(CaseError, match="context is 96"):
        editor.edit(model, [long], seed=0)


def test_works_in_bfloat16(editor_name, make_language_model, ready):
    editor = make(EDITORS.get(editor_name))
    model = make_language_model("llama", torch.bfloat16)
    ready(editor, model)
    edits = editor.edit(model, REQUESTS, seed=0)
    tensors = [t for edit in edits.patches for patch in edit for t in patch.tensors().values()]
    assert all(t.dtype == torch.float32 for t in tensors if t.is_floating_point())
    assert outcome(model, edits).isfinite().all()


def test_texts_and_files_that_an_editor_declares_are_hashed(tmp_path):
    class WithMaterials(NoEdit):
        def materials(self):
            return {"template": "{} is", "statistics": tmp_path / "moments.bin"}

    (tmp_path / "moments.bin").write_bytes(b"moments")
    assert WithMaterials().material_digests() == {
        "template": hashlib.sha256(b"{} is").hexdigest(),
        "statistics": hashlib.sha256(b"moments").hexdigest(),
    }
    assert NoEdit().material_digests() is None
