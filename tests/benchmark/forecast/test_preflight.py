"""What a run will take is known before it starts, and one that cannot fit is refused."""

import json
from dataclasses import replace

import pytest
from rich.console import Console
from transformers import GPT2Config, LlamaConfig

from instructedit.benchmark.forecast.machine import Machine, Work, forward
from instructedit.benchmark.forecast.preflight import (
    Place,
    Room,
    check,
    draw,
    duration,
    lines,
    refuse,
    room,
    size,
    verdict,
)
from instructedit.benchmark.forecast.workload import EditLoad, score_load
from instructedit.benchmark.setup.config import make_config, read_suite
from instructedit.benchmark.setup.published_cases import stand_ins
from instructedit.benchmark.setup.resolve import make_editor, outline
from instructedit.benchmark.tasks import make_task
from instructedit.benchmark.tasks.base import TASKS
from instructedit.editors import InputError, Sketch

from ...conftest import make_model, make_tokenizer
from ..worlds import write_data, write_training
from . import peaks

PLENTY = Room(10**13, 10**13, 10**13, "this computer")
MACHINE = Machine("cpu", 1e11, 1e10, 512)
XL = GPT2Config(n_embd=1600, n_layer=48, n_head=25)
LLAMA = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, vocab_size=32000)


@pytest.fixture(scope="module")
def sketches():
    return {"paper-gpt2-xl": Sketch.of(XL), "paper-llama-2-7b": Sketch.of(LLAMA)}


def editors_of(preset):
    return {row: make_editor(run.config, row) for run in read_suite(preset) for row in run.config.editors}


@pytest.mark.parametrize(
    ("preset", "blocks", "names", "mend", "ke"),
    [
        ("paper-gpt2-xl", (45, 46, 47), {"c_fc", "c_proj"}, 123.1, 51.7 + 80.4 + 8.7),
        ("paper-llama-2-7b", (29, 30, 31), {"gate_proj", "up_proj", "down_proj"}, 232.6, 143 + 131 + 18.9),
    ],
)
def test_the_papers_presets_edit_the_published_maps_with_networks_of_the_published_size(
    sketches, preset, blocks, names, mend, ke
):
    sketch, editors = sketches[preset], editors_of(preset)
    for row in ("mend", "instructedit", "ke"):
        sites = editors[row].cost(sketch).sites
        assert {(site.block, site.name.rpartition(".")[2]) for site in sites} == {(b, n) for b in blocks for n in names}
        assert len(sites) == 3 * len(names)
    assert editors["mend"].cost(sketch).parameters / 1e6 == pytest.approx(mend, abs=0.1)
    assert editors["instructedit"].cost(sketch).parameters == editors["mend"].cost(sketch).parameters
    # the projection of the LSTM's states, which METHODS leaves out, and biases: 1 % at most
    assert editors["ke"].cost(sketch).parameters / 1e6 == pytest.approx(ke, rel=0.01)
    assert editors["mend"].cost(sketch).training_bytes == 16 * editors["mend"].cost(sketch).parameters


def test_the_papers_other_editors_stand_where_they_were_published(sketches):
    large, llama = (
        {row: editor.cost(sketches[preset]) for row, editor in editors_of(preset).items()}
        for preset in ("paper-gpt2-xl", "paper-llama-2-7b")
    )
    assert [site.name for site in large["ft-l"].sites] == ["transformer.h.0.mlp.c_proj"]
    assert [site.name for site in large["grace"].sites] == ["transformer.h.35.mlp.c_fc"]
    assert [site.name for site in large["calinet"].sites] == ["transformer.h.47.mlp.c_proj"]
    assert [site.name for site in llama["ft-l"].sites] == ["model.layers.21.mlp.down_proj"]
    assert [site.name for site in llama["grace"].sites] == ["model.layers.27.mlp.down_proj"]
    # D and two moments, 4 bytes each
    assert large["ft-l"].edit_bytes == 3 * 4 * 6400 * 1600
    assert large["ft-l"].passes == 1 + 2 * 25
    assert large["grace"].passes == pytest.approx(1 + 2 * 200 * 13 / 48)
    assert llama["ft-l"].passes == pytest.approx(1 + 2 * 25 * 11 / 32)
    joint = editors_of("paper-gpt2-xl")["calinet-joint"].cost(sketches["paper-gpt2-xl"], 2951)
    assert joint.patch_bytes == 4 * 2 * 1600 * 1889  # 64 slots for 100 edits


@pytest.mark.parametrize("preset", ["paper-gpt2-xl", "paper-llama-2-7b"])
def test_the_papers_presets_have_both_protocols_and_all_settings(preset):
    suite = read_suite(preset)
    assert {(run.config.setting, run.config.schedule) for run in suite} == {
        ("multi-task", "batch"),
        *(
            (setting, "single")
            for setting in (
                "multi-task",
                "hold-out",
                "single-task",
                "unseen-instruction",
                "task-scaling",
                "balanced",
            )
        ),
    }
    assert editors_of(preset)["instructedit"].config.instruct == "edit and queries"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preflight")
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
        "chunk": 2,
        "generation": {"max_new_tokens": 3, "fluency_tokens": 4},
    }
    return make_config({**given, **options}, "test")


def checked(place, seen=None, **options):
    return check("one", config_of(place, **options), "test", Place(place / "out"), set() if seen is None else seen)


def test_memory_of_the_weights_is_parameters_times_bytes(place):
    count = sum(parameter.numel() for parameter in make_model("gpt2").parameters())
    assert checked(place).forecast.weights == pytest.approx(4 * count, rel=0.01)
    assert checked(place, dtype="bfloat16").forecast.weights == pytest.approx(2 * count, rel=0.01)


def test_rows_say_what_each_editor_takes(place):
    rows = {row.editor: row for row in checked(place).forecast.rows}
    assert {name: row.results for name, row in rows.items()} == dict.fromkeys(rows, 15)
    assert [name for name, row in rows.items() if row.trainings] == ["mend"]
    assert rows["mend"].train > 0
    assert rows["none"].edit == rows["none"].score == 0
    assert rows["in-context"].edit == 0 < rows["in-context"].score
    assert rows["ft-l"].edits.exact == 2 * 12 * 128 * 32  # two edits: D and two moments


def test_trainings_that_runs_share_are_counted_once(place):
    seen: set[str] = set()
    first, second = checked(place, seen), checked(place, seen, setting="hold-out", held_out=("zsre",))
    assert [run.forecast.rows[2].trainings for run in (first, second)] == [1, 0]
    assert second.forecast.rows[2].train == second.forecast.disk == 0


def test_a_trained_checkpoint_is_found(place, tmp_path):
    options = {"editors": {"mend": {"rank": 8}}}
    training = outline(config_of(place, **options), "test").trainings[0]
    checkpoint = training.checkpoint("b" * 64, "t" * 64, 0, None)
    folder = tmp_path / checkpoint.name
    folder.mkdir()
    (folder / "checkpoint.json").write_text(checkpoint.model_dump_json())
    where = Place(tmp_path, checkpoints=tmp_path)

    def ready():
        (row,) = check("one", config_of(place, **options), "test", where, set()).forecast.rows
        assert (row.train == 0) == (row.ready == 1)
        return row.ready

    assert ready() == 0, "it is not finished"
    shape = {"vocabulary": 400, "width": 32}
    (folder / "editor.json").write_text(json.dumps({"shape": shape}))
    assert ready() == 1
    (folder / "editor.json").write_text(json.dumps({"shape": {**shape, "width": 64}}))
    assert ready() == 0, "it is another model's"


def test_a_run_that_cannot_fit_is_refused(place):
    run = checked(place)
    refuse([run], Place(place / "out"), PLENTY)
    need = run.forecast.least.need.exact
    assert run.forecast.weights < need < run.forecast.peak.need.total
    refuse([run], Place(), replace(PLENTY, memory=int(need) + 1))  # what is estimated on top refuses nothing
    assert verdict(run.forecast, replace(PLENTY, memory=int(need) + 1)).startswith("tight")
    with pytest.raises(
        InputError, match=r"needs 4[45]\d MB .* this computer has 1 MB free; a smaller model or"
    ) as refusal:
        refuse([run], Place(), replace(PLENTY, memory=10**6))
    assert verdict(run.forecast, replace(PLENTY, memory=10**6)) == "does not fit"
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match=r"checkpoints take \d+ MB on disk, but .* has 0 MB free"):
        refuse([run], Place(), replace(PLENTY, disk=1000))


@pytest.mark.parametrize(
    ("chunk", "short", "ways"),
    [
        (2, 1000, "a smaller chunk than 2 or dtype = 'bfloat16' would help"),
        (1, 1000, "; dtype = 'bfloat16' would help"),
        (2, 150_000, "a smaller chunk than 2 together with dtype = 'bfloat16' would help"),
    ],
)
def test_the_refusal_says_what_would_help(place, chunk, short, ways):
    run = checked(place, chunk=chunk, editors={"ft-l": {}}, setting="direct")
    with pytest.raises(InputError, match=ways):
        refuse([run], Place(), replace(PLENTY, memory=int(run.forecast.least.need.exact) - short))


def test_what_is_free_is_asked_of_the_machine(tmp_path):
    found = room(Place(tmp_path / "not" / "yet", device="cpu"))
    assert 0 < found.memory == found.host
    assert found.disk > 0


def test_hub_data_that_are_not_here_are_taken_as_published(place, tmp_path):
    config = config_of(place, data="hub:nobody/nothing", tasks=("recent", "zsre", "convsent"), setting="single-task")
    with pytest.raises(InputError, match="cannot be reached"):
        outline(config, "test")
    (tmp_path / "config.json").write_text((place / "model" / "config.json").read_text())
    config = config.model_copy(update={"model": str(tmp_path), "train": ("recent",)})
    run = check("one", config, "test", Place(tmp_path), set(), local=True)
    assert run.forecast.published
    assert run.tasks == {"recent": 1266, "zsre": 1301, "convsent": 800}
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as text:
        draw(run, 2, PLENTY, console)
    printed = text.get()
    assert "published sizes" in printed
    assert "1-3 up+down" in printed
    assert "2 seeds" in printed
    assert max(map(len, printed.splitlines())) <= 100


def test_stand_ins_have_the_usual_length(place):
    cases = stand_ins(make_task("counterfact"), "test").cases
    assert len(cases) == TASKS.get("counterfact").published_rows["test"]
    probes = [probe for case in cases for probe in case.probes if probe.role == "locality"]
    assert len(probes) / len(cases) == pytest.approx(6.9, abs=0.01)
    assert sum(len(probe.prompt) for probe in probes) / len(probes) == pytest.approx(48, abs=2)
    assert len({case.request.prompt for case in cases}) == len(cases)
    with pytest.raises(InputError, match="no published sizes"):
        stand_ins(make_task("counterfact"), "else")  # type: ignore[arg-type]


def test_work_is_counted_from_tokens(sketches):
    sketch = sketches["paper-gpt2-xl"]
    load = EditLoad(1000, 10)
    once = forward(sketch, MACHINE, load)
    assert once.flops == 1000 * 2 * sketch.block_parameters + 2 * 1600 * 50257 * 10
    assert once.moved == 24 * 50257 * 10 + 3 * 2 * 4 * sketch.block_parameters
    assert once.calls == 2 * 48  # two packs
    assert forward(sketch, MACHINE, load, 3, 0).flops == 3 * (once.flops - 2 * 1600 * 50257 * 10)
    assert Work(flops=1e11).seconds(MACHINE) > 1 > Work(moved=1e9).seconds(MACHINE)


def test_a_case_is_as_long_as_its_plan(place):
    config = config_of(place)
    sketch = Sketch.load(place / "model")
    case = outline(config, "test").cases["recent"][0]
    load = score_load(sketch, [case, case], [None, None], config.generation, True)
    assert load == score_load(sketch, [case], [None], config.generation, True)
    own = sketch.encode(case.request.prompt, case.request.target)
    assert load.tokens > len(own)
    assert load.texts == 1
    assert load.text_tokens == len(sketch.encode_prompt(case.request.prompt))


def test_three_lines_say_what_a_suite_takes(place):
    said = lines([checked(place)], 4, PLENTY)
    assert [line.partition(":")[0] for line in said] == ["model", "memory", "time"]
    assert said[1].endswith("fits")


@pytest.mark.parametrize(("number", "words"), [(3e9, "3.0 GB"), (6.2e6, "6 MB")])
def test_bytes_are_readable(number, words):
    assert size(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (2.5, "2.5 s"), (80, "80 s"), (5400, "1.5 h"), (4e5, "4.6 d")]
)
def test_times_are_readable(seconds, words):
    assert duration(seconds) == words


@pytest.mark.skipif(not peaks.RESET.exists(), reason="the peak is reset through /proc, which only Linux has")
def test_what_edits_take_beside_libraries_and_model_is_what_is_measured():
    setup = {"model": "embedded", "tasks": ["zsre"], "limit": 40, "chunk": 40, "setting": "direct"}
    found = peaks.apart("edit", {**setup, "editors": {"ft-l": {"steps": 2}}})
    # of forty edits D and two moments, and one pass
    assert found["added"] > 40 * 12 * 768 * 192
    assert found["added"] == pytest.approx(found["peak"] - found["held"], rel=0.2)
