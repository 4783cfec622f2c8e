"""GRACE against explicit loops over the published rules."""

import copy
import dataclasses

import pytest
import torch

from instructedit.baselines.grace import GRACE, Book, GRACEConfig
from instructedit.editors import CaseError, Codebook, EditRequest, Edits, InputError, seed_of
from instructedit.editors.engine.generation import answers
from instructedit.editors.patches import Span

REQUESTS = [
    EditRequest("t/test/0", "t", "The name of the spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace"),
    EditRequest("t/test/1", "t", "What is the place of birth of Alan Turing?", "King", "Alan Turing"),
]


def trained_by_hand(model, request, config: GRACEConfig, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One edit on one unpadded row: overwrite the module's output at the last prompt token, Adam on that vector."""
    (site, *_) = model.sites(config.part, [config.block])
    prompt = model.tokenizer(request.prompt)["input_ids"]
    target = model.tokenizer(" " + request.target)["input_ids"]
    t = len(prompt) - 1
    generator = torch.Generator().manual_seed(seed_of(seed, "grace", request.case_id))
    value = torch.rand(site.d_out, generator=generator).to(model.edit_dtype).requires_grad_()
    adam = torch.optim.Adam([value], lr=config.lr)
    twin = copy.deepcopy(model.model)
    keys: list[torch.Tensor] = []

    def replace(_m, arguments, output):
        keys.append(arguments[0].detach().reshape(-1, site.d_in)[t])
        mask = torch.zeros(output.shape[-2], 1, dtype=output.dtype)
        mask[t] = 1
        return output * (1 - mask) + value * mask

    handle = twin.get_submodule(site.name).register_forward_hook(replace)
    for _ in range(config.steps):
        logits = twin(input_ids=torch.tensor([prompt + target])).logits[0, t:-1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target))
        adam.zero_grad()
        loss.backward()
        adam.step()
    handle.remove()
    return keys[0], value.detach()


@pytest.mark.parametrize(("family", "part"), [("gpt2", "up"), ("gpt2", "down"), ("llama", "down")])
def test_value_and_key_equal_a_loop_over_one_row(make_language_model, family, part):
    model = make_language_model(family, torch.float64)
    config = GRACEConfig(block=2, part=part, steps=15)
    edits = GRACE(config).edit(model, REQUESTS, seed=4)
    for number, request in enumerate(REQUESTS):
        key, value = trained_by_hand(model, request, config, seed=4)
        patch = edits.patches[number][0]
        assert isinstance(patch, Codebook)
        assert (patch.keys[0] - key).abs().max() < 1e-9
        assert (patch.values[0] - value).abs().max() < 1e-6
        assert patch.radii.tolist() == [1.0]


def test_warm_values_start_from_the_modules_output(model):
    config = GRACEConfig(block=2, steps=1, lr=1e-6, init="warm")
    patch = GRACE(config).edit(model, REQUESTS[:1]).patches[0][0]
    (site,) = model.sites("up", [2])
    assert (patch.values[0] - model.output(site, patch.keys[0])).abs().max() < 1e-4


def put(book: Book, *query: float, label: tuple[int, ...], radius: float = 1.0) -> int:
    return book.admit(torch.tensor(query), torch.zeros(1), label, radius)


def test_a_far_query_opens_a_new_entry():
    book = Book()
    assert put(book, 0.0, 0.0, label=(1,)) == 0
    assert put(book, 2.5, 0.0, label=(2,)) == 1  # 2.5 > 1 + 1
    assert book.radii == [1.0, 1.0]


def test_a_near_query_of_another_label_splits_the_radii():
    book = Book()
    put(book, 0.0, 0.0, label=(1,))
    assert put(book, 0.0, 1.2, label=(2,)) == 1  # 1.2 <= 1 + 1, another label
    assert book.radii == [pytest.approx(0.6 - 1e-5), pytest.approx(0.6)]


def test_a_split_never_widens_a_radius():
    book = Book()
    put(book, 0.0, 0.0, label=(1,))
    put(book, 0.4, 0.0, label=(2,))  # radii 0.19999 and 0.2
    put(book, 0.0, 1.1, label=(3,))  # nearest is the first, at 1.1 <= 1 + 0.2
    assert book.radii == [pytest.approx(0.2 - 1e-5), pytest.approx(0.2), pytest.approx(0.55)]


def test_a_near_query_of_the_same_label_expands_the_radius():
    book = Book()
    put(book, 0.0, 0.0, label=(1, 2))
    assert put(book, 1.5, 0.0, label=(1, 2)) == 0
    assert book.radii == [pytest.approx(1.5, abs=1e-4)]
    assert book.radii[0] > 1.5, "rounding must not throw the query out again"
    assert put(book, 0.5, 0.0, label=(1, 2)) == 0
    assert book.radii == [pytest.approx(1.5, abs=1e-4)], "a query within the radius leaves it"


def test_labels_are_compared_token_by_token():
    """(1, 4) and (2, 3) have the same mean, which is what the released code compares."""
    book = Book()
    put(book, 0.0, 0.0, label=(1, 4))
    assert put(book, 0.5, 0.0, label=(2, 3)) == 1
    assert len(book.keys) == 2


def test_lookup_equals_a_loop_over_keys():
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(6, 3, generator=generator), torch.randn(6, 4, generator=generator)
    radii = torch.rand(6, generator=generator) * 1.5
    x, y = torch.randn(20, 3, generator=generator), torch.randn(20, 4, generator=generator)
    x[3] = keys[4] + 0.01  # a hit; the second row may miss
    spans = [Span(0, 5, 3), Span(5, 12, 8), Span(12, 20, None)]
    for replace in ("last", "prompt", "all"):
        wanted = y.clone()
        for span in spans:
            if span.prompt_end is None:
                continue
            gaps = [float(((x[span.prompt_end] - key) ** 2).sum() ** 0.5) for key in keys]
            nearest = min(range(6), key=gaps.__getitem__)
            if gaps[nearest] <= radii[nearest]:
                where = {
                    "last": [span.prompt_end],
                    "prompt": range(span.first, span.prompt_end),
                    "all": range(span.first, span.stop),
                }[replace]
                for token in where:
                    wanted[token] = values[nearest]
        found = Codebook("m", 0, keys, values, radii, replace)(x, y, spans)
        assert torch.equal(found, wanted)
        assert not torch.equal(found, y), "some query must hit"


def test_a_stream_of_edits_grows_one_codebook(make_language_model):
    model = make_language_model("gpt2", torch.float64)
    config = GRACEConfig(block=2, steps=10, radius=1e-3)
    edits = GRACE(config).edit_together(model, REQUESTS, seed=4)
    assert len(edits) == 1
    patch = edits.patches[0][0]
    assert patch.keys.shape[0] == 2
    for number, request in enumerate(REQUESTS):
        _, value = trained_by_hand(model, request, config, seed=4)
        assert (patch.values[number] - value).abs().max() < 1e-6
    assert edits.facts[0]["entries"] == 2


@pytest.mark.parametrize(("steps", "lr"), [(2, 0.1), (40, 1.0)])
def test_the_final_loss_is_that_of_the_value_that_is_stored(make_language_model, steps, lr):
    model = make_language_model("llama", torch.float64)  # its norms round to float32
    options = {"block": 2, "part": "down", "steps": steps, "lr": lr}
    edits = GRACE(GRACEConfig(**options)).edit(model, REQUESTS, seed=4)
    rows = [model.encode(request.prompt, request.target) for request in REQUESTS]
    for number, logits in model.forward(rows, edits, range(len(rows))):
        log_p = logits.log_softmax(-1)[range(len(logits)), list(rows[number].labels)]
        facts = edits.facts[number]
        assert facts["final_loss"] == pytest.approx(-float(log_p.mean()), abs=1e-5)
        assert facts["converged"] == float(float(log_p.mean().exp()) > 0.5)
    assert [facts["converged"] for facts in edits.facts] == [0, float(steps == 40)], "the first target stays unlikely"
    far = GRACE(GRACEConfig(**options, radius=1e-3))
    joint, alone = far.edit_together(model, REQUESTS, seed=4), far.edit(model, REQUESTS, seed=4)
    losses = [facts["final_loss"] for facts in alone.facts]
    assert joint.facts[0]["final_loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
    assert joint.facts[0]["converged"] == 0, "not all of its requests"


def test_a_stream_goes_on_from_what_was_saved(make_language_model, tmp_path):
    """One by one, through a file each time, with radii wide enough that entries expand and split."""
    model = make_language_model("gpt2", torch.float64)
    stream = [dataclasses.replace(r, target=t) for t in ("King", "the United States", "King") for r in REQUESTS]
    for radius in (1e-3, 4.0, 50.0):
        editor = GRACE(GRACEConfig(block=2, steps=3, radius=radius))
        edits = Edits.none(1)
        for request in stream:
            edits.save(tmp_path / "book.safetensors")
            edits = editor.edit_next(model, request, Edits.load(tmp_path / "book.safetensors"), seed=4)
        together = editor.edit_together(model, stream, seed=4)
        assert edits.facts[0]["entries"] == together.facts[0]["entries"]
        for name, tensor in edits.patches[0][0].tensors().items():
            torch.testing.assert_close(tensor, together.patches[0][0].tensors()[name])


def test_a_new_entry_leaves_the_others_as_they_were(model):
    editor = GRACE(GRACEConfig(block=2, steps=5, radius=1e-3))
    one = editor.edit_next(model, REQUESTS[0], Edits.none(1))
    (old,), (new,) = one.patches[0], editor.edit_next(model, REQUESTS[1], one).patches[0]
    assert torch.equal(new.values[:1], old.values)
    assert torch.equal(new.keys[:1], old.keys)


def test_the_same_edit_again_trains_the_same_entry(model):
    twice = [REQUESTS[0], REQUESTS[0]]
    edits = GRACE(GRACEConfig(block=2, steps=5)).edit_together(model, twice)
    assert edits.facts[0]["entries"] == 1


def test_the_newest_edit_of_a_prompt_holds(model):
    """One prompt, two targets: the second takes the entry over, though no radius can separate the two."""
    second = dataclasses.replace(REQUESTS[0], target="King")
    edits = GRACE(GRACEConfig(block=2, steps=60)).edit_together(model, [REQUESTS[0], second])
    assert edits.facts[0]["entries"] == 1
    row = model.encode(second.prompt, second.target)
    assert next(model.forward([row], edits, [0]))[1].argmax(-1).tolist() == list(row.labels)


def test_a_prompt_of_one_token_has_none_before_its_last(model):
    short = dataclasses.replace(REQUESTS[0], prompt="A")
    with pytest.raises(CaseError, match="The prompt has one token"):
        GRACE(GRACEConfig(block=2, steps=2, replace="prompt")).edit(model, [short])


def test_tokens_before_the_last_cannot_carry_an_edit_in_the_last_block(model):
    with pytest.raises(InputError, match="in the last block, 3, no scored token depends on them"):
        GRACE(GRACEConfig(block=-1, replace="prompt")).edit(model, REQUESTS)


def overwritten(model, request, value, where, config):
    """Logits of prompt and answers through the model itself, its module's output overwritten at some tokens."""
    (site, *_) = model.sites(config.part, [config.block])
    prompt = model.tokenizer(request.prompt)["input_ids"]
    found = []

    def put(_m, _a, output):
        mask = torch.zeros(output.shape[-2], 1, dtype=output.dtype)
        mask[list(where(len(prompt), output.shape[-2]))] = 1
        return output * (1 - mask) + value * mask

    handle = model.model.get_submodule(site.name).register_forward_hook(put)
    for answer in (*(request.replies or (request.target,)), *request.opposed):
        ids = prompt + model.tokenizer(" " + answer)["input_ids"]
        found.append((model.model(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 : -1], ids[len(prompt) :]))
    handle.remove()
    return found


@pytest.mark.parametrize("replaced", ["last", "prompt", "all"])
def test_a_value_is_trained_on_all_replies(make_language_model, replaced):
    """Against Adam on a vector that a hook puts in, the loss taken from the softmax."""
    model = make_language_model("gpt2", torch.float64)
    request = dataclasses.replace(
        REQUESTS[0], replies=("Grace Hopper", "London Vale"), opposed=("King of Maida",), sentiment="positive"
    )
    config = GRACEConfig(block=1, steps=12, replace=replaced)
    edits = GRACE(config).edit(model, [request, REQUESTS[1]], seed=4)
    where = {
        "last": lambda prompt, _: [prompt - 1],
        "prompt": lambda prompt, _: range(prompt - 1),
        "all": lambda _, tokens: range(tokens),
    }[replaced]
    (site, *_) = model.sites(config.part, [config.block])
    generator = torch.Generator().manual_seed(seed_of(4, "grace", request.case_id))
    value = torch.rand(site.d_out, generator=generator).double().requires_grad_()
    adam = torch.optim.Adam([value], lr=config.lr)

    def loss_of():
        *wanted, opposed = overwritten(model, request, value, where, config)
        good = torch.cat([logits.softmax(-1)[range(len(own)), own] for logits, own in wanted])
        bad = opposed[0].softmax(-1)[range(len(opposed[1])), opposed[1]]
        return -torch.log(good).mean() - torch.log(1 - bad + 1e-5).mean()

    for _ in range(config.steps):
        adam.zero_grad()
        loss_of().backward()
        adam.step()
    assert (edits.patches[0][0].values[0] - value).abs().max() < 1e-6
    assert edits.facts[0]["final_loss"] == pytest.approx(float(loss_of().detach()), abs=1e-8)


@pytest.mark.parametrize("block", [1, -1])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
def test_replacing_all_tokens_means_the_same_in_teacher_forcing_and_in_generation(make_language_model, family, block):
    """What is generated is the most likely token of a pass over prompt and answer whose every token has the value."""
    model = make_language_model(family, torch.float64)
    config = GRACEConfig(block=block, steps=8, replace="all", radius=1e-3)
    edits = GRACE(config).edit(model, REQUESTS, seed=1)
    asked = [*(request.prompt for request in REQUESTS), "The name of Alan Turing is"]
    owners = [0, 1, 0]
    rows = [model.encode_prompt(prompt) for prompt in asked]
    new = 6
    texts = answers(model, rows, edits, owners, max_new_tokens=new, finished=lambda *_: False)
    for prompt, text, owner in zip(asked[:2], texts, owners, strict=False):
        request = dataclasses.replace(REQUESTS[0], prompt=prompt)
        ids = model.tokenizer(prompt)["input_ids"]
        for _ in range(new):
            step = _all_replaced(model, ids, edits.patches[owner][0].values[0], config)
            if step in model.end_ids:
                break
            ids = [*ids, step]
        assert text == model.tokenizer.decode(
            ids[len(model.tokenizer(prompt)["input_ids"]) :], skip_special_tokens=True
        )
        row = model.encode(prompt, request.target)
        ((_, logits),) = model.forward([row], edits, [owner])
        ((by_hand, _),) = overwritten(
            model, request, edits.patches[owner][0].values[0], lambda _, tokens: range(tokens), config
        )
        assert (logits - by_hand).abs().max() < 1e-9
    unedited = answers(model, rows, Edits.none(1), [None] * 3, max_new_tokens=new, finished=lambda *_: False)
    assert texts[2] == unedited[2], "a prompt that is near no key is left as it is"


def _all_replaced(model, ids, value, config) -> int:
    (site, *_) = model.sites(config.part, [config.block])
    handle = model.model.get_submodule(site.name).register_forward_hook(lambda _m, _a, y: value.expand_as(y))
    found = int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    handle.remove()
    return found


def test_a_query_of_the_same_label_moves_the_key_halfway():
    """The release's moving average: k <- (k + q) / 2, eps <- d; only where the radius did not reach the query."""
    book = Book()
    book.admit(torch.tensor([0.0, 0.0]), torch.zeros(1), (1,), 1.0, "moving average")
    (held,) = book.keys
    assert book.admit(torch.tensor([1.5, 0.0]), torch.zeros(1), (1,), 1.0, "moving average") == 0
    assert [key.tolist() for key in book.keys] == [[0.75, 0.0]]
    assert book.radii == [pytest.approx(1.5, abs=1e-4)]
    assert held.tolist() == [0.0, 0.0], "a patch may hold the keys from before"
    book.admit(torch.tensor([0.75, 1.0]), torch.zeros(1), (1,), 1.0, "moving average")
    assert [key.tolist() for key in book.keys] == [[0.75, 0.0]], "within the radius nothing moves"
    assert book.admit(torch.tensor([0.75, 2.0]), torch.zeros(1), (2,), 1.0, "moving average") == 1
    assert [key.tolist() for key in book.keys] == [[0.75, 0.0], [0.75, 2.0]], "another label opens an entry"


def test_a_stream_expands_as_the_option_says(make_language_model):
    model = make_language_model("gpt2", torch.float64)
    twice = [REQUESTS[0], dataclasses.replace(REQUESTS[0], case_id="t/test/9", prompt="The name of Ada Lovelace is")]
    keys = {}
    for expand in ("coverage", "moving average"):
        config = GRACEConfig(block=2, steps=2, radius=100.0, expand=expand)
        (patch,) = GRACE(config).edit_together(model, twice).patches[0]
        keys[expand] = patch.keys
    assert [len(found) for found in keys.values()] == [1, 1]
    # within the first radius nothing moves; a smaller one lets the second query widen the entry
    assert torch.equal(keys["coverage"], keys["moving average"])
    first, second = (GRACE(GRACEConfig(block=2, steps=1)).edit(model, [r]).patches[0][0].keys[0] for r in twice)
    gap = float((first - second).norm())
    config = GRACEConfig(block=2, steps=2, radius=0.75 * gap, expand="moving average")
    (patch,) = GRACE(config).edit_together(model, twice).patches[0]
    assert (patch.keys[0] - (first + second) / 2).abs().max() < 1e-9
    assert float(patch.radii[0]) == pytest.approx(gap, rel=1e-4)
