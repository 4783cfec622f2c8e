"""What a run keeps in memory follows from shapes; some of it is worked by hand, some held against what is there."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import GPT2Config, LlamaConfig

from instructedit.benchmark.forecast import memory
from instructedit.benchmark.forecast.estimate import Estimate
from instructedit.benchmark.forecast.forecast import forecast
from instructedit.benchmark.forecast.machine import Machine
from instructedit.benchmark.forecast.memory import Base, Pass
from instructedit.benchmark.forecast.workload import EditLoad, ScoreLoad
from instructedit.benchmark.setup.config import make_config
from instructedit.benchmark.setup.resolve import outline
from instructedit.editors import Cost, Cut, Sketch

from ...conftest import FAMILIES
from ...editors.engine.test_engine import rows_and_owners

GPT = Sketch.of(GPT2Config(n_embd=8, n_layer=4, n_head=2, vocab_size=16))
LLAMA = Sketch.of(
    LlamaConfig(hidden_size=8, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, vocab_size=16)
)


@pytest.mark.parametrize(("blocks", "states"), [((), 0), ((1,), 1), ((1, 1), 1), ((1, 3), 2)])
def test_a_base_pass_keeps_the_hidden_states_that_enter_patched_blocks(blocks, states):
    cuts = [None, *(Cut(block, late) for block, late in zip(blocks, (False, True), strict=False))]
    assert Base.of(GPT, cuts, 2).token == 2 * 8 * states


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("late", [False, True])
def test_what_a_base_pass_is_said_to_keep_is_what_it_keeps(make_language_model, family, late):
    model = make_language_model(family)
    rows, _ = rows_and_owners(model, 2)
    cuts = [Cut(block, late) for block in (1, 3)]
    base = model.base_pass(rows, cuts, 0 if late else None)
    kept = sum(tensor.untyped_storage().nbytes() for tensor in base.hidden.values())
    tokens = 1 + max(map(max, base.paths))
    assert kept == Base.of(Sketch.of(model.model.config), cuts, 4).token * tokens


def test_scoring_keeps_log_probabilities_base_passes_keys_and_values():
    of = Pass(token=1000.0, saved=0.0, cached=7.0, vocabulary=100.0, depth=4)
    load = ScoreLoad(tokens=40, scored=10, kept=2, prompts=3, prompt_tokens=30, texts=1, text_tokens=5)
    need = memory.reading(of, load, 2, Base(3), 0.5, (6, 8), EditLoad(80, 20), itemsize=2)
    kept = 2 * 2 * 100  # before and after, in four bytes whatever the weights have
    texts = 40 * 3 + 0.5 * 7 * 40
    prompts = 30 * (7 + 3) + 3 * 50 + 5 * (7 + 3) + 1 * 50
    passed = 80 * 1000 + memory.LOGITS * 100 * 20
    assert need.total == 2 * (kept + texts + prompts) + passed
    none = memory.reading(of, load, 2, Base(), 0.0, (0, 0), EditLoad(80, 20), itemsize=2)
    assert none.total == 2 * kept + passed


@pytest.fixture(scope="module")
def expected():
    """Return what is expected of a run of two cases, on a model of 4 blocks of width 8."""

    def make(editor, **options):
        setup = {"model": "embedded", "setting": "direct", "tasks": ["zsre"], "limit": 2, "editors": {editor: {}}}
        found = outline(make_config({**setup, **options}, "test"), "test")
        return Estimate(found, GPT, Machine("cpu", 1e11, 1e10, 512)), found.rows[0]

    return make


@pytest.mark.parametrize(
    ("schedule", "batch", "together", "remembered"),
    [("single", None, 1, 1), ("batch", None, 2, 2), ("batch", 1, 1, 2)],
)
def test_steps_of_an_optimiser_keep_the_base_pass_of_all_requests(expected, schedule, batch, together, remembered):
    run, row = expected("ft-m", schedule=schedule, editors={"ft-m": {"block": 1, "batch": batch}})
    cost = run.cost(row)
    assert (cost.together, cost.remembered) == (together, remembered)
    edits, count = (2, 2) if schedule == "single" else (1, together)
    _, load = run._edit_load(row)
    passed = load.tokens * (0.75 * 4 * run.passes.saved + run.passes.token) + memory.LOGITS * 4 * 16 * load.scored
    base = load.tokens * 4 * 8  # the hidden state
    need = run.edit_memory(row, cost)
    assert need.more == pytest.approx(count * passed + 2 * base)
    assert need.exact == edits * 12 * 32 * 8  # D and two moments


@pytest.mark.parametrize(("schedule", "together"), [("single", 1), ("batch", 2)])
def test_a_network_makes_the_edits_when_the_passes_are_over(expected, schedule, together):
    run, row = expected("ft-m", schedule=schedule)
    _, load = run._edit_load(row)
    cost = Cost(sites=tuple(GPT.sites("up", [1])), edit_token_bytes=100, together=together, remembered=together)
    passing = run.edit_memory(row, cost)
    assert passing.exact == 2 * 100 * load.tokens
    assert run.edit_memory(row, replace(cost, network_token_bytes=1)) == passing
    least = passing.total / (2 * load.tokens)
    network = run.edit_memory(row, replace(cost, network_token_bytes=int(least) + 1))
    assert (network.exact, network.more) == (pytest.approx(2 * (int(least) + 1) * load.tokens), 0)


def test_edits_that_are_not_made_all_at_once_stand_finished_beside_those_that_are(expected):
    run, row = expected("ft-m", schedule="single")
    _, load = run._edit_load(row)
    run.pack = load.tokens / 4  # two passes are less than one edit, of which one is made at least
    cost = Cost(sites=tuple(GPT.sites("up", [1])), network_token_bytes=10**6, token_bytes=10, patch_bytes=7)
    every = run.edit_memory(row, cost)
    assert every.exact == pytest.approx(2e6 * load.tokens)
    assert run.edit_memory(row, replace(cost, room=round(8 * load.tokens))) == every
    part = run.edit_memory(row, replace(cost, room=1))
    assert part.exact == pytest.approx(1e6 * load.tokens + 7 + 10 * load.tokens)


@pytest.mark.parametrize(
    ("kind", "dtype", "blocks"), [("cpu", "float32", 3), ("cpu", "bfloat16", 0), ("cuda", "float32", 0)]
)
def test_maps_that_are_laid_anew_lie_beside_the_file_they_were_read_from(kind, dtype, blocks):
    config = make_config({"model": "embedded", "setting": "direct", "editors": {"none": {}}, "dtype": dtype}, "test")
    wide = Sketch.of(GPT2Config(n_embd=256, n_layer=3, n_head=2, vocab_size=16))
    said = forecast(outline(config, "test"), wide, Machine(kind, 1e11, 1e10, 512), Path("nowhere"), set())
    loading = said.phases[0]
    assert (loading.name, loading.need.more) == ("loading the model", blocks * 4 * 256 * 1024)
    assert loading.need.exact == said.weights + memory.LIBRARIES[kind]
    assert min(phase.need.total for phase in said.phases) == loading.need.total, "it stays until the end"


def test_a_sum_of_changes_takes_no_more_room_than_the_matrices(expected):
    (run, row), (joint, _) = expected("ft-m"), expected("ft-m", schedule="batch")
    _, load = run._edit_load(row)
    small, large = (Cost(sites=tuple(GPT.sites("up", [1])), token_bytes=size) for size in (4, 1000))
    assert run.patch_memory(row, small) == joint.patch_memory(row, small) == 2 * 4 * load.tokens
    assert run.patch_memory(row, large) == 2 * 1000 * load.tokens
    assert joint.patch_memory(row, large) == 4 * 8 * 32
