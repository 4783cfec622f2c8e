"""What a run trains, edits and tests is known before it starts, and one that cannot fit is refused."""

import json
from dataclasses import replace

import pytest
from rich.console import Console
from transformers import AutoConfig, GPT2Config, LlamaConfig

from instructedit.baselines.ftl import FTL, FTConfig
from instructedit.baselines.mend import MEND
from instructedit.benchmark.forecast.forecast import forecast, meta_model_of
from instructedit.benchmark.forecast.machine import Free, Place, free
from instructedit.benchmark.forecast.report import draw, lines, refuse, size, verdict
from instructedit.benchmark.run.progress import duration
from instructedit.benchmark.setup.checks import make_editor
from instructedit.benchmark.setup.config import make_config, read_suite
from instructedit.benchmark.setup.data import DataReader, published_cases
from instructedit.benchmark.setup.model_checks import cannot_edit
from instructedit.benchmark.setup.resolve import resolve
from instructedit.benchmark.tasks.base import make_task
from instructedit.editors import InputError, MetaModel

from ...conftest import make_model, make_tokenizer
from ..worlds import write_data, write_training

PLENTY = Free(10**13, 10**13, 10**13, "this computer")
XL = GPT2Config(n_embd=1600, n_layer=48, n_head=25)
LLAMA = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, vocab_size=32000)
MIXTURE = AutoConfig.for_model(
    "mixtral", hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=400, num_local_experts=4, bos_token_id=0, eos_token_id=0, pad_token_id=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def meta_models():
    return {"paper-gpt2-xl": MetaModel.of(XL), "paper-llama-2-7b": MetaModel.of(LLAMA)}


def editors_of(preset):
    return {row: make_editor(run.config, row) for run in read_suite(preset) for row in run.config.editors}


@pytest.mark.parametrize(
    ("preset", "blocks", "names", "mend", "ke"),
    [
        ("paper-gpt2-xl", (45, 46, 47), {"c_fc", "c_proj"}, 123.1, 51.7 + 80.4 + 8.7),
        ("paper-llama-2-7b", (29, 30, 31), {"gate_proj", "up_proj", "down_proj"}, 232.6, 143 + 131 + 18.9),
    ],
)
def test_the_papers_presets_edit_the_published_layers_with_networks_of_the_published_size(
    meta_models, preset, blocks, names, mend, ke
):
    meta, editors = meta_models[preset], editors_of(preset)
    for row in ("mend", "instructedit", "ke"):
        sites = editors[row].sites(meta)
        assert {(site.block, site.name.rpartition(".")[2]) for site in sites} == {(b, n) for b in blocks for n in names}
        assert len(sites) == 3 * len(names)
    assert editors["mend"].parameters(meta) / 1e6 == pytest.approx(mend, abs=0.1)
    assert editors["instructedit"].parameters(meta) == editors["mend"].parameters(meta)
    # the projection of the LSTM's states, which METHODS leaves out, and biases: 1 % at most
    assert editors["ke"].parameters(meta) / 1e6 == pytest.approx(ke, rel=0.01)


def test_the_papers_other_editors_edit_the_published_layers(meta_models):
    found = {
        preset: {row: [site.name for site in editor.sites(meta_models[preset])] for row, editor in own.items()}
        for preset, own in ((preset, editors_of(preset)) for preset in meta_models)
    }
    large, llama = found["paper-gpt2-xl"], found["paper-llama-2-7b"]
    assert large["ft-l"] == ["transformer.h.0.mlp.c_proj"]
    assert large["grace"] == ["transformer.h.35.mlp.c_fc"]
    assert large["calinet"] == ["transformer.h.47.mlp.c_proj"]
    assert llama["ft-l"] == ["model.layers.21.mlp.down_proj"]
    assert llama["grace"] == ["model.layers.27.mlp.down_proj"]
    assert large["none"] == large.get("in-context", []) == []


@pytest.mark.parametrize("preset", ["paper-gpt2-xl", "paper-llama-2-7b"])
def test_the_papers_presets_have_both_protocols_and_all_settings(preset):
    suite = read_suite(preset)
    settings = ("multi-task", "hold-out", "single-task", "unseen-instruction", "task-scaling", "balanced")
    assert {(run.config.setting, run.config.schedule) for run in suite} == {
        ("multi-task", "batch"),
        *((setting, "single") for setting in settings),
    }
    assert editors_of(preset)["instructedit"].config.instruct == "edit and queries"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forecast")
    write_training(write_data(folder / "data"))
    make_model("gpt2").save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    return folder


def config_of(place, **options):
    given = {
        "setting": "multi-task",
        "model": str(place / "model"),
        "data": str(place / "data"),
        "editors": {"none": {}, "ft-l": {}, "mend": {"rank": 8}, "in-context": {}},
        "generation": {"max_new_tokens": 3, "fluency_tokens": 4},
    }
    return make_config({**given, **options}, "test")


def planned(place, known=None, checkpoints=None, local=False, **options):
    config = config_of(place, **options)
    known = set() if known is None else known
    run = resolve(config, "test", DataReader(local=local))
    return forecast("one", run, meta_model_of(config), checkpoints or place / "none", known)


def test_memory_is_parameters_times_bytes(place):
    count = sum(parameter.numel() for parameter in make_model("gpt2").parameters())
    found = planned(place)
    network = found.editors[2].parameters
    assert found.weights == 4 * count
    assert found.peak == (4 * count + 16 * network, "training mend")
    assert found.disk == 4 * network * (1 + 6)
    half = planned(place, dtype="bfloat16")
    assert half.weights == 2 * count
    two = planned(place, editors={"mend": {"rank": 8}, "again": {"method": "mend", "rank": 16}})
    first, second = (own.parameters for own in two.editors)
    assert two.peak == (4 * count + 4 * first + 16 * second, "training again")


def test_rows_say_what_each_editor_does(place):
    editors = {own.editor: own for own in planned(place).editors}
    assert {name: own.results for name, own in editors.items()} == dict.fromkeys(editors, 15)
    assert [name for name, own in editors.items() if own.missing] == ["mend"]
    assert [name for name, own in editors.items() if own.sites] == ["ft-l", "mend"]


def test_trainings_that_runs_share_are_counted_once(place):
    known = set()
    first, second = planned(place, known), planned(place, known, setting="hold-out", held_out=("zsre",))
    assert [run.editors[2].trainings for run in (first, second)] == [1, 0]
    assert second.disk == 0
    network = second.editors[2].parameters
    assert second.peak == (second.weights + 4 * network, "editing"), "it is read, and kept"


def test_a_checkpoint_is_found(place, tmp_path):
    options = {"editors": {"mend": {"rank": 8}}}
    training = resolve(config_of(place, **options), "test").trainings[0]
    checkpoint = training.checkpoint("b" * 64, "t" * 64, 0, None)
    folder = tmp_path / checkpoint.folder_name
    folder.mkdir()
    (folder / "checkpoint.json").write_text(checkpoint.model_dump_json())

    def ready():
        (own, *_) = planned(place, checkpoints=tmp_path, **options).editors
        return own.trainings - own.missing

    assert ready() == 0, "it is not finished"
    shape = {"vocabulary": 400, "width": 32}
    (folder / "editor.json").write_text(json.dumps({"shape": shape}))
    assert ready() == 1
    (folder / "editor.json").write_text(json.dumps({"shape": {**shape, "width": 64}}))
    assert ready() == 0, "it is another model's"
    (folder / "editor.json").write_text("{")
    assert ready() == 0, "it is damaged"


def test_a_run_that_cannot_fit_is_refused(place):
    found = planned(place)
    need, _ = found.peak
    refuse([found], Place(place / "out"), PLENTY)
    refuse([found], Place(), replace(PLENTY, memory=need))
    assert verdict(found, PLENTY) == "fits"
    assert verdict(found, replace(PLENTY, memory=need)).startswith("tight")
    with pytest.raises(InputError, match=r"needs at least \d MB .* training mend .* has 0 MB free; a smaller model or"):
        refuse([found], Place(device="cpu"), replace(PLENTY, memory=1000))
    assert verdict(found, replace(PLENTY, memory=1000)) == "does not fit"
    with pytest.raises(InputError, match=r"checkpoints take \d+ MB on disk, but .* has 0 MB free"):
        refuse([found], Place(), replace(PLENTY, disk=1000))
    direct = planned(place, editors={"ft-l": {}}, setting="direct")
    with pytest.raises(InputError, match="; dtype = 'bfloat16' would help"):
        refuse([direct], Place(device="cpu"), replace(PLENTY, memory=direct.weights - 1000))


def test_what_is_free_is_measured(tmp_path):
    found = free(Place(tmp_path / "not" / "yet", device="cpu"))
    assert 0 < found.memory == found.host
    assert found.disk > 0


def test_hub_data_that_are_absent_are_taken_as_published(place, tmp_path):
    options = {
        "data": "hub:nobody/nothing", "tasks": ("recent", "zsre", "convsent"), "setting": "single-task",
        "train": ("recent",),
    }  # fmt: skip
    with pytest.raises(InputError, match="cannot be reached"):
        planned(place, **options)
    (tmp_path / "config.json").write_text((place / "model" / "config.json").read_text())
    found = planned(place, local=True, model=str(tmp_path), **options)
    assert found.published
    assert found.meta.lacks
    sizes = {task: len(cases) for task, cases in found.run.cases.items()}
    assert sizes == {"recent": 1266, "zsre": 1301, "convsent": 800}
    console = Console(width=100)
    with console.capture() as text:
        draw(found, 2, PLENTY, console)
    printed = text.get()
    for words in ("published sizes", "1-3 up+down", "2 seeds", "1 of 1", "mend: "):
        assert words in printed
    assert max(map(len, printed.splitlines())) <= 100
    with pytest.raises(InputError, match="no published size"):
        published_cases(make_task("counterfact"), "else")


def test_two_lines_say_what_a_suite_takes(place):
    said = lines([planned(place)], PLENTY)
    assert [line.partition(":")[0] for line in said] == ["model", "memory"]
    assert said[1].endswith("fits")


def test_an_editor_that_lacks_its_modules_is_known_before_weights_are_read():
    lacking = "Block 0 of MixtralForCausalLM has no 'down'; it has: expert up, expert down, query, key, value, output."
    assert cannot_edit(FTL(), MetaModel.of(MIXTURE)) == lacking
    assert "Block 1 of MixtralForCausalLM has no 'up'" in (cannot_edit(MEND(), MetaModel.of(MIXTURE)) or "")
    for part in ("expert down", "query", "output"):
        assert cannot_edit(FTL(FTConfig(part=part)), MetaModel.of(MIXTURE)) is None


@pytest.mark.parametrize(("number", "words"), [(3e9, "3.0 GB"), (6.2e6, "6 MB")])
def test_bytes_are_readable(number, words):
    assert size(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (2.5, "2.5 s"), (80, "80 s"), (5400, "1.5 h"), (4e5, "4.6 d")]
)
def test_times_are_readable(seconds, words):
    assert duration(seconds) == words
