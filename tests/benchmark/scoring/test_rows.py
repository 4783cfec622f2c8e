"""The lines of a row do not depend on a run's other rows, bit by bit, where products depend on who shares them.

With an embedding of 256 numbers and 8,192 tokens, the product of 10 positions and that of 11 round differently (MKL on
x86), as do those of 1,024 numbers; so any sequence that another row brings into a pass shows.
"""

from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.scoring.scoring import run_chunk
from instructedit.benchmark.setup.config import EMBEDDED_MODEL
from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sampling import choose
from instructedit.benchmark.tasks.sources import open_source
from instructedit.editors import EDITORS, LanguageModel, make

ROWS = {
    "none": ("none", {}),
    "in-context": ("in-context", {}),
    "ft-l": ("ft-l", {"steps": 2, "block": 0}),
    "ft-m": ("ft-m", {"steps": 2, "block": 2}),
    "grace": ("grace", {"steps": 2, "block": 1}),
    "mend": ("mend", {"rank": 8, "edit_lr": 1e-2}),
    "mend-instructed": ("mend", {"rank": 8, "edit_lr": 1e-2}),
    "instructedit": ("instructedit", {"rank": 8, "edit_lr": 1e-2}),
    "other-instruction": ("instructedit", {"rank": 8, "edit_lr": 1e-2}),
    "mend-half-instructed": ("mend", {"rank": 8, "edit_lr": 1e-2}),
}
PARTS = (
    ["none"],
    ["ft-l", "grace"],
    ["mend-instructed", "ft-m"],
    ["instructedit"],
    ["other-instruction", "in-context"],
    ["mend-half-instructed"],
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    options = {"n_embd": 256, "n_layer": 3, "n_head": 4, "n_positions": 256, "vocab_size": 8192}
    folder = tmp_path_factory.mktemp("model")
    GPT2LMHeadModel(GPT2Config(**options, initializer_range=0.05)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED_MODEL).save_pretrained(folder)
    return LanguageModel.load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def cases():
    found = [
        case for task in ("recent", "convsent") for case in choose(TASKS.get(task)().load(open_source(None)).cases, 5)
    ]
    requests = [replace(case.request, instruction=f"Task: {number % 3}") for number, case in enumerate(found)]
    return [replace(case, request=request) for case, request in zip(found, requests, strict=True)]


def lines(model, cases, names):
    editors = {name: make(EDITORS.get(ROWS[name][0]), ROWS[name][1]) for name in names}
    for name, editor in editors.items():
        if ROWS[name][0] in ("mend", "instructedit"):
            torch.manual_seed(1)
            editor.build(model)
            editor.observe(model, [[case.request] for case in cases])
    generation = GenerationSpec(max_new_tokens=4, fluency_tokens=4)
    probes = {name: "all but locality" for name in names if name in ("mend-instructed", "mend-half-instructed")}
    # some cases have the instruction that they have for the other rows, some have none
    same = [replace(case.request, instruction="Task: 0") for case in cases]
    half = [case.request if n % 2 else replace(case.request, instruction=None) for n, case in enumerate(cases)]
    requests = {"other-instruction": same, "mend-half-instructed": half}
    options = {"run": "r", "seed": 0, "generation": generation, "fluency": True, "probes": probes}
    options["requests"] = {name: own for name, own in requests.items() if name in names}
    found = run_chunk(model, cases, editors, **options)[0]
    return {(record.editor, record.case_id): record.model_dump_json() for record in found}


def test_the_lines_of_a_row_are_the_same_with_any_other_rows(model, cases):
    together = lines(model, cases, list(ROWS))
    assert len(together) == len(ROWS) * len(cases)
    for names in PARTS:
        assert lines(model, cases, names) == {key: line for key, line in together.items() if key[0] in names}, names
