"""The numbers of a case do not depend on what shares its passes, and their bytes not on base passes on disk."""

import json
from dataclasses import replace

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.scoring.base_passes import NOT_KEPT, BasePasses
from instructedit.benchmark.scoring.scoring import run_chunk
from instructedit.benchmark.setup.config import EMBEDDED_MODEL
from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sampling import choose
from instructedit.benchmark.tasks.sources import open_source
from instructedit.editors import EDITORS, LanguageModel, make
from instructedit.editors.products import LEAST_ROWS

EDITORS_AND_OPTIONS = {
    "none": {},
    "ft-l": {"steps": 3},
    "ft-m": {"steps": 3},
    "calinet": {"steps": 3},
    "grace": {"steps": 3},
    "mend": {"rank": 16, "edit_lr": 1e-2},
    "instructedit": {"rank": 16, "edit_lr": 1e-2},
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads divide the rows of a product among them
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model():
    return LanguageModel.load(EMBEDDED_MODEL, device="cpu")


@pytest.fixture(scope="module")
def same_bytes(model):
    """Whether this machine's products with the model's weights do not depend on the number of rows."""
    found = []
    for module in model.model.modules():
        if isinstance(module, Conv1D | torch.nn.Linear):
            x = torch.randn(600, module.nx if isinstance(module, Conv1D) else module.in_features)
            whole = module(x)
            counts = (*range(LEAST_ROWS, 64), 100, 200, 400)
            found += [torch.equal(module(x[7 : 7 + rows]), whole[7 : 7 + rows]) for rows in counts]
    return all(found)


@pytest.fixture(scope="module")
def cases():
    found = [c for t in ("recent", "convsent") for c in choose(TASKS.get(t)().load(open_source(None)).cases, 3)]
    told = [replace(case.request, instruction=f"Task: {number % 2}") for number, case in enumerate(found)]
    return [replace(case, request=request) for case, request in zip(found, told, strict=True)]


def numbers(model, cases, chunk: int, names=tuple(EDITORS_AND_OPTIONS), passes=NOT_KEPT):
    """Return the lines of some editors without the fact that compares the edits of a chunk."""
    editors = {name: make(EDITORS.get(name), EDITORS_AND_OPTIONS[name]) for name in names}
    for name in {"mend", "instructedit"} & editors.keys():
        editors[name].build(model)
        editors[name].observe(model, [[case.request] for case in cases])
    spec = {"run": "r", "seed": 0, "generation": GenerationSpec(max_new_tokens=4, fluency_tokens=4), "fluency": True}
    spec["passes"] = passes
    lines = {}
    for first in range(0, len(cases), chunk):
        for record in run_chunk(model, cases[first : first + chunk], editors, **spec)[0]:
            edit = {name: value for name, value in record.edit.items() if name != "cosine"}
            lines[record.editor, record.case_id] = record.model_copy(update={"edit": edit}).model_dump_json()
    return lines


@pytest.fixture(scope="module")
def together(model, cases):
    return numbers(model, cases, len(cases))


def leaves(value, path=""):
    """Return the numbers and words of a line, by where they are."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, own in inner for key, leaf in leaves(own, f"{path}/{name}").items()}
    return {path: value}


def test_lines_are_the_same_in_any_chunk(model, cases, together, same_bytes):
    assert len(together) == len(EDITORS_AND_OPTIONS) * len(cases)
    for chunk in (1, 4):
        found = numbers(model, cases, chunk)
        assert found.keys() == together.keys()
        for key, line in found.items():
            ours, theirs = leaves(json.loads(line)), leaves(json.loads(together[key]))
            assert ours == {
                name: pytest.approx(v, 1e-4, 1e-4) if isinstance(v, float) else v for name, v in theirs.items()
            }
        if same_bytes:
            assert found == together


def test_lines_are_the_same_bytes_with_base_passes_of_any_other_rows(model, cases, together, tmp_path):
    passes = BasePasses(tmp_path, "identity")
    for names in (["instructedit"], ["mend", "grace"], list(EDITORS_AND_OPTIONS), ["instructedit", "ft-l"], ["none"]):
        found = numbers(model, cases, len(cases), names, passes)
        assert found == {key: line for key, line in together.items() if key[0] in names}
        assert found == numbers(model, cases, len(cases), names, passes)
