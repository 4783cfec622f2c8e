"""Runs in a chat template: refused before anything runs, part of the digest, shown above the tables, the same bytes."""

import json

import pytest
import torch
from typer.testing import CliRunner

from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.run.prepare import prepare
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.setup.config import make_config
from instructedit.benchmark.setup.resolve import resolve
from instructedit.cli.main import app
from instructedit.editors import InputError
from instructedit.reports.tables.run_facts import header

from ...conftest import make_model
from ...editors.test_chat import TEMPLATE as CHATML
from ...editors.test_chat import chat_tokenizer
from ..worlds import records_of, write_data, write_model, write_training

FT_M = {"method": "ft-m", "block": 1, "lr": 0.02, "clamp": 0.2, "steps": 2}


def write_chat_model(folder, template=CHATML):
    tokenizer = chat_tokenizer(template)
    torch.manual_seed(0)
    hf = make_model("llama")
    hf.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    write_data(folder / "data", 2)
    write_training(folder / "data")
    write_model(folder / "bare")
    write_chat_model(folder / "llama")
    return folder


def config(place, model="llama", **options):
    common = {
        "model": str(place / model),
        "data": str(place / "data"),
        "tasks": ("counterfact",),
        "editors": {"none": {}, "ft-m": FT_M, "ended": {**FT_M, "end_of_turn": True}},
        "generation": GenerationSpec(max_new_tokens=3, fluency_tokens=4).model_dump(),
    }
    return make_config({**common, **options}, "test")


def prepared(place, **options):
    return prepare(resolve(config(place, **options), "test"), device="cpu")


def test_a_run_in_a_template(place, tmp_path):
    folder = run(made := prepared(place, chat="template"), tmp_path)
    spec = made.file.spec
    assert spec.chat.prefix == "<s><|turn|>user\n"
    records = records_of(folder)
    assert {record.status for record in records} == {"done"}
    assert {record.prompt for record in records} == {case.request.prompt for case in made.resolved.cases["counterfact"]}
    assert {r.old for r in records} == {"London"} and spec.old_answers == "mean-nll-1" and spec.references is None
    local = [s.value for r in records if r.editor == "none" for s in r.scores if s.measure == "locality"]
    assert set(local) == {0.0, 1.0}, "KL and agreement of the unedited model with itself"
    norms = {record.editor: record.edit.get("final_loss") for record in records}
    assert norms["ended"] != norms["ft-m"], "the target ends in one more token"
    facts = dict(header(made.file))
    assert facts["Context"].startswith("template: every prompt is written as '<s><|turn|>user\\n{prompt}<|stop|>")
    again = run(prepared(place, chat="template"), tmp_path / "again")
    assert (again / "cases.jsonl").read_bytes() == (folder / "cases.jsonl").read_bytes()


def test_the_context_is_part_of_the_digest_and_its_absence_is_not(place):
    runs = {chat: prepared(place, chat=chat).file.spec for chat in ("none", "template", "wild")}
    assert len({spec.digest for spec in runs.values()}) == 3
    assert runs["none"].chat is None
    fields = json.loads(runs["none"].model_dump_json())
    assert "end_of_turn" not in fields["editors"][1]["config"] and fields["editors"][2]["config"]["end_of_turn"]


def test_a_training_in_a_context_is_a_training_of_its_own(place):
    tiny = {"rank": 8, "training": {"steps": 2, "batch": 2, "accumulate": 1, "validation_cases": 2}}
    options = {"setting": "single-task", "editors": {"mend": tiny}, "validation": 0.1}
    names = {
        chat: prepared(place, chat=chat, **options).checkpoints[0].folder_name for chat in ("none", "template", "wild")
    }
    assert len(set(names.values())) == 3


def test_a_model_without_a_template_is_refused_before_anything_is_written(place, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(
        f'model = "{place / "bare"}"\ndata = "{place / "data"}"\ntasks = ["counterfact"]\nchat = "template"\n'
    )
    for extra in ([], ["--dry-run"]):
        result = CliRunner().invoke(app, ["run", str(file), "--out", str(tmp_path / "out"), *extra])
        assert result.exit_code == 2
        said = " ".join(result.output.split())
        assert "key 'chat': The model's tokenizer has no chat template; a chat model" in said
    assert not (tmp_path / "out").exists()


def test_unknown_contexts_and_missing_ends_are_refused(place):
    with pytest.raises(InputError, match=r"key 'chat'.*Unknown context 'chatml'"):
        resolve(config(place, chat="chatml"), "test")
    plain = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    write_chat_model(place / "endless", plain)
    with pytest.raises(InputError, match="Option 'end_of_turn': a token that ends an answer was expected"):
        prepared(place, model="endless", chat="template")
