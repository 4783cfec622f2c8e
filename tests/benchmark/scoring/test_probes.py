"""Which probes carry the instruction: prompts and numbers by hand, in every schedule and for every editor."""

import json
from dataclasses import replace

import pytest
import torch

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.baselines.noedit import NoEdit
from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.results.summary import pairs
from instructedit.benchmark.run.prepare import prepare
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.scoring.scoring import Made, run_chunk, score_chunk
from instructedit.benchmark.setup.banks import instruct, read_bank
from instructedit.benchmark.setup.config import make_config, read_suite
from instructedit.benchmark.setup.resolve import resolve
from instructedit.editors import EDITORS, Context, Edits, InputError, LanguageModel, make
from instructedit.editors.instructedit import InstructEdit

from ..worlds import records_of, write_data, write_model, write_training
from .loops import CASES, read, say

GENERATION = GenerationSpec(max_new_tokens=4, fluency_tokens=4, fluency_top_k=3)
CARRY = {
    "none": set(),
    "all but locality": {"reliability", "generalization", "portability", "fluency"},
    "all": {"reliability", "generalization", "portability", "locality", "fluency"},
}
TOLD = [replace(case.request, instruction=f"Task: {name}") for case, name in zip(CASES, "ABC", strict=True)]
FT_M = {"block": 1, "lr": 0.02, "clamp": 0.2, "steps": 3}
TINY = {
    "rank": 8,
    "training": {"steps": 2, "batch": 2, "accumulate": 1, "validate_every": 2, "validation_cases": 2, "warmup": 2},
}
CONTROLS = {
    "mend": TINY,
    "mend-instructed": {"extends": "mend", "instructed_probes": "all but locality"},
    "instructedit": TINY,
    "instructedit-edit-only": {"extends": "instructedit", "instruct": "edit only"},
}


def scored(model, editors, cases=CASES, requests=TOLD, **options):
    common = {"run": "r", "seed": 0, "generation": GENERATION, "fluency": True, **options}
    records, _ = run_chunk(model, cases, editors, requests=dict.fromkeys(editors, requests), **common)
    return {(record.editor, record.case_id): record for record in records}


@pytest.mark.parametrize("option", list(CARRY))
@pytest.mark.parametrize("editor", [NoEdit(), FTM(FTMConfig(**FT_M))], ids=["none", "ft-m"])
def test_prompts_put_to_the_model_are_those_of_each_role_with_the_cases_own_instruction(
    model, editor, option, monkeypatch
):
    wanted = set()
    for request, case in zip(TOLD, CASES, strict=True):
        prefix = f"{request.instruction}\nInput: "
        wanted |= {prefix + probe.prompt for probe in case.probes if probe.role in CARRY[option]}
        wanted |= {prefix + request.prompt} if "fluency" in CARRY[option] else set()
    texts = []
    for name in ("encode", "encode_prompt"):
        inner = getattr(LanguageModel, name)

        def spy(self, prompt, *rest, inner=inner, **more):
            texts.append(prompt)
            return inner(self, prompt, *rest, **more)

        monkeypatch.setattr(LanguageModel, name, spy)
    scored(model, {"row": editor}, probes={"row": option})
    assert {text for text in texts if text.startswith("Task:")} == wanted
    bare = {probe.prompt for case in CASES for probe in case.probes}
    assert bare <= set(texts), "the unedited model is read without a prefix"


def test_an_edit_under_instructed_probes_equals_explicit_loops(model):
    editor = FTM(FTMConfig(**FT_M))
    found = scored(model, {"bare": editor, "told": editor}, probes={"told": "all but locality"})
    edits = editor.edit(model, [case.request for case in CASES], 0)
    tokenizer, before = model.tokenizer, model.model
    differ = 0
    for number, (case, request) in enumerate(zip(CASES, TOLD, strict=True)):
        after, prefix = edits.apply_to(before, number), f"{request.instruction}\nInput: "
        bare, told = (found[row, request.case_id] for row in ("bare", "told"))
        assert told.instruction == request.instruction
        for index, probe in enumerate(case.probes[:3]):
            labels, log_p = read(after, tokenizer, prefix + probe.prompt, probe.answers[0])
            right = [int(a == b) for a, b in zip(log_p.argmax(-1).tolist(), labels, strict=True)]
            values = {score.protocol: score.value for score in told.scores if score.probe == index}
            assert values["teacher_forced_token"] == pytest.approx(sum(right) / len(right))
            assert values["teacher_forced_exact"] == float(all(right))
            assert say(after, tokenizer, prefix + probe.prompt, 4).startswith(told.answers[index].generated or "")
            assert told.answers[index].prompt == probe.prompt, "the record keeps the probe itself"
        ours, theirs = ([s for s in r.scores if s.measure == "locality"] for r in (told, bare))
        assert [s.value for s in ours] == pytest.approx([s.value for s in theirs]), "locality is asked bare"
        differ += [s.value for s in told.scores] != [s.value for s in bare.scores]
    assert differ == len(CASES)


def test_the_unedited_model_under_an_instruction_is_a_control(model):
    rows = {"none": "none", "told": "all but locality", "all": "all"}
    found = scored(model, dict.fromkeys(rows, NoEdit()), probes=rows)
    for request in TOLD:
        none, told, everything = (found[row, request.case_id] for row in rows)
        local = {
            row: {s.protocol: s.value for s in found[row, request.case_id].scores if s.measure == "locality"}
            for row in rows
        }
        assert local["told"] == pytest.approx(local["none"], abs=1e-6)
        assert local["none"]["kl_divergence"] == 0.0
        assert local["all"]["kl_divergence"] > 0.0, "held against the unedited model without a prefix"
        assert (
            [a.before for a in told.answers]
            == [a.before for a in none.answers]
            == [a.before for a in everything.answers]
        )
        success = {row: [s.value for s in found[row, request.case_id].scores if s.protocol == "z_sent"] for row in rows}
        assert success["told"] == success["all"] != success["none"]


@pytest.mark.parametrize(
    ("instruct_", "option"), [("edit only", "none"), ("edit and queries", "all but locality"), ("all", "all")]
)
def test_instructedit_is_evaluated_as_it_is_trained_unless_the_row_says_otherwise(instruct_, option):
    editor = make(InstructEdit, {"instruct": instruct_})
    assert editor.instructed_probes == option
    context = editor.context(TOLD[0])
    assert (set(context.roles) if context else set()) == CARRY[option], "in training"
    assert make(InstructEdit).config.instruct == "edit and queries"
    assert {EDITORS.get(name)().instructed_probes for name in EDITORS.names() if name != "instructedit"} == {"none"}


# runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    write_training(write_data(folder / "data"))
    write_model(folder / "model")
    words = {"recent": "R", "counterfact": "C", "zsre": "Z", "convsent": "S"}
    bank = {
        **{"schema_version": 1, "name": "short", "version": "1", "licence": "CC0-1.0"},
        "tasks": {
            task: {"title": title, "descriptions": [f"of {word}" for word in "abc"], "unseen": 2}
            for task, title in words.items()
        },
    }
    (folder / "bank.json").write_text(json.dumps(bank))
    return folder


def config_of(place, editors, **changes):
    options = {
        **{"setting": "multi-task", "train": ("recent", "counterfact"), "tasks": ("recent", "zsre", "convsent")},
        **{"data": str(place / "data"), "model": str(place / "model"), "instructions": str(place / "bank.json")},
        **{"editors": editors, "limit": 3, "chunk": 2, "generation": GENERATION.model_dump()},
    }
    return make_config({**options, **changes}, "test")


def prepared_for(place, editors, **changes):
    return prepare(resolve(config_of(place, editors, **changes), "test"), device="cpu")


@pytest.mark.parametrize("schedule", ["batch", "sequential"])
def test_each_case_of_many_edits_has_the_instruction_of_its_own_request(place, tmp_path, schedule):
    """The published form in every schedule: the scores are those of the one edit, each case with its prefix by hand."""
    editors = {"none": {}, **CONTROLS, "ft-m": {**FT_M, "instructed_probes": "all but locality"}}
    prepared = prepared_for(place, editors, schedule=schedule, held_out=("zsre",))
    folder = run(prepared, tmp_path)
    records = {(r.editor, r.case_id): r for r in records_of(folder) if r.stage in ("batch", "after-all")}
    assert {r.status for r in records.values()} == {"done"}
    bank, cases = read_bank(place / "bank.json"), [c for own in prepared.resolved.cases.values() for c in own]
    for row in ("mend", "mend-instructed", "instructedit", "instructedit-edit-only", "ft-m"):
        (path,) = (folder / "edits").glob(f"{row}-[0-9]*.safetensors")
        edits = Edits.load(path)
        assert edits.contexts == (None,), "an instruction is no part of an edit"
        carries = row in ("mend-instructed", "instructedit", "ft-m")
        for case in cases:
            told = instruct(bank, case.request, "seen", 0)
            own = Context(f"{told.instruction}\nInput: ", tuple(CARRY["all but locality"])) if carries else None
            made = {"row": Made([told], replace(edits, contexts=(own,)), {}, 0.0)}
            (wanted,), _ = score_chunk(
                prepared.model, [case], made, run="r", seed=0, generation=GENERATION, fluency=True
            )
            record = records[row, case.request.case_id]
            assert record.instruction == (None if row == "mend" else told.instruction)
            assert [s.value for s in record.scores] == pytest.approx([s.value for s in wanted.scores], abs=1e-4)
            assert record.unscored == wanted.unscored
            assert [a.generated for a in record.answers] == [a.generated for a in wanted.answers]
    carried = {record.instruction for (row, _), record in records.items() if row == "instructedit"}
    assert len(carried) >= 3, "tasks and descriptions differ within one edit"


def test_rows_that_differ_in_their_probes_share_the_training_and_the_edits(place, tmp_path):
    prepared = prepared_for(place, CONTROLS)
    assert [training.rows for training in prepared.resolved.trainings] == [
        ("mend", "mend-instructed"),
        ("instructedit",),
        ("instructedit-edit-only",),
    ]
    rows = {row.name: row for row in prepared.file.spec.editors}
    assert rows["mend"].training == rows["mend-instructed"].training
    assert rows["mend"].training.instructions is None
    assert rows["instructedit"].training.instructions == prepared.file.spec.instructions
    assert rows["instructedit"].training.checkpoint != rows["instructedit-edit-only"].training.checkpoint
    assert [(row.instruction, row.instructed_probes) for row in rows.values()] == [
        (None, "none"),
        ("seen", "all but locality"),
        ("seen", "all but locality"),
        ("seen", "none"),
    ]
    said: list[str] = []
    folder = run(prepared, tmp_path, report=said.append)
    assert sum(text.startswith("training ") for text in said) == 3
    # the target's probability is that behind what the probe carries
    records = records_of(folder)
    edits = {(r.editor, r.case_id): {k: v for k, v in r.edit.items() if k != "target_probability"} for r in records}
    for row, case in edits:
        if row == "mend":
            assert edits[row, case] == edits["mend-instructed", case]


def test_the_option_is_part_of_the_runs_digest_and_of_which_rows_are_compared(place):
    def found(**options):
        return prepared_for(place, {"none": {}, "ft-m": FT_M, "told": {"extends": "ft-m", **options}}, setting="direct")

    files = [found(instructed_probes=option).file for option in CARRY]
    assert len({file.digest for file in files}) == 3
    assert files[0].digest == found().file.digest, "what the editor has by itself is no other run"
    assert files[0].spec.instructions is None
    assert files[1].spec.instructions is not None
    for file in files:
        compared = {(first.name, second.name) for first, second in pairs(file.spec.editors)}
        assert ("none", "told") in compared
        assert ("ft-m", "told") in compared
    assert read_bank(place / "bank.json").digest == files[1].spec.instructions


def test_the_default_of_an_editor_can_be_overridden(place):
    editors = {"instructedit": TINY, "bare": {"extends": "instructedit", "instructed_probes": "none"}}
    prepared = prepared_for(place, editors)
    assert [row.instructed_probes for row in prepared.file.spec.editors] == ["all but locality", "none"]
    assert len(prepared.resolved.trainings) == 1


def test_a_row_with_instructed_probes_has_a_row_for_each_instruction(place):
    found = resolve(config_of(place, {"none": {}, **CONTROLS}, setting="unseen-instruction"), "test")
    names = [row.name for row in found.rows if row.name.startswith("mend")]
    assert names == ["mend", *(f"mend-instructed#{name}" for name in NAMES)]
    assert {found.probes[name] for name in names[1:]} == {"all but locality"}


NAMES = ("seen-0", "seen-1", "unseen", "none", "wrong-task", "name-only", "random-text")


@pytest.mark.parametrize(
    ("editors", "sentence"),
    [
        ({"in-context": {"instructed_probes": "all"}}, "'in-context' puts a text of its own before the probes"),
        (
            {"none": {"instructed_probes": "all but localty"}},
            "row 'none': found 'all but localty'.*Did you mean 'all but",
        ),
        ({"none": {"instructed_probes": True}}, "'instructed_probes' of the row 'none': found True"),
        ({"a": {"extends": "b"}}, "the row 'a' extends 'b', but the name of a row that extends none was expected"),
        ({"none": {}, "a": {"extends": "none"}, "b": {"extends": "a"}}, "the row 'b' extends 'a'"),
        ({"a": {"extends": "a"}}, "the row 'a' extends 'a'"),
        ({"a": {"extends": 3}}, "the row 'a' extends 3"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(place, editors, sentence):
    with pytest.raises(InputError, match=sentence):
        resolve(config_of(place, editors, setting="direct"), "test")


def test_edits_with_a_text_of_their_own_are_never_asked_with_two(model):
    class Own(NoEdit):
        def edit(self, model, requests, seed=0):
            return replace(Edits.none(len(requests)), contexts=(Context("So. "),) * len(requests))

    with pytest.raises(InputError, match="row 'own' put a text before probes that carry instructions already"):
        scored(model, {"own": Own()}, probes={"own": "all"})


def test_a_row_takes_over_the_options_of_another(tmp_path):
    path = tmp_path / "rows.toml"
    path.write_text(
        "[editors.ft-m]\nblock = 1\nlr = 0.5\n[editors.mine]\nextends = 'ft-m'\nlr = 0.1\n"
        "[[runs]]\nonly = ['mine']\n[[runs]]\nname = 'two'\n"
    )
    mine = {"method": "ft-m", "block": 1, "lr": 0.1}
    assert [config.editors for _, config in read_suite(str(path))] == [
        {"mine": mine},
        {"ft-m": {"block": 1, "lr": 0.5}, "mine": mine},
    ]


def test_instructions_do_not_reach_an_editor_that_reads_none(place, tmp_path):
    """The edits of a row with instructed probes are bit for bit those of the bare row."""
    prepared = prepared_for(place, CONTROLS)
    run(prepared, tmp_path)
    editor = type(prepared.resolved.editors["mend"]).load(
        tmp_path / "checkpoints" / prepared.checkpoints[0].folder_name
    )
    requests = [case.request for case in prepared.resolved.cases["recent"]]
    told = [replace(r, instruction=f"Task: {name}") for r, name in zip(requests, "CBA", strict=True)]
    for bare, other in zip(
        editor.edit(prepared.model, requests).patches, editor.edit(prepared.model, told).patches, strict=True
    ):
        for one, two in zip(bare, other, strict=True):
            assert all(torch.equal(one.tensors()[name], two.tensors()[name]) for name in one.tensors())
