"""Options of runs that make several edits, the order of their edits, and what they save."""

import hashlib

from instructedit.benchmark.scoring.scoring import Made, score_chunk
from instructedit.editors import Edits

FT_M = {"block": 1, "lr": 0.02, "clamp": 0.2, "steps": 3}
OPTIONS = {
    "tasks": ("recent", "zsre"),
    "editors": {"none": {}, "ft-m": FT_M, "grace": {"block": 2, "steps": 3, "radius": 5.0}},
    "limit": 3,
    "fluency": False,
    "generation": {"max_new_tokens": 3},
}


def values(record):
    return [score.value for score in record.scores]


def stream(prepared):
    """The order of the edits, by its definition."""
    cases = [case for task in prepared.resolved.edited for case in prepared.resolved.cases[task]]
    seed = prepared.file.spec.seed
    return sorted(cases, key=lambda case: hashlib.sha256(f"{seed} {case.request.case_id}".encode()).hexdigest())


def scored(prepared, cases, edits, stage="x"):
    """Score cases one after another under one edit."""
    spec = prepared.file.spec
    found = []
    for case in cases:
        made = {"row": Made([case.request], edits, {}, 0.0)}
        common = {"run": "r", "seed": spec.seed, "generation": spec.generation, "fluency": spec.fluency}
        found += score_chunk(prepared.model, [case], made, stage=stage, **common)[0]
    return found


def files(folder):
    """What is kept of the edits; the order of a safetensors file's metadata is left to chance."""
    found = {path.name: path.read_bytes() for path in (folder / "edits").glob("*.json")}
    for path in (folder / "edits").glob("*.safetensors"):
        edits = Edits.load(path)
        tensors = [(patch.site, *sorted(patch.tensors().items())) for patch in edits.patches[0]]
        found[path.name] = str([(site, [(n, x.dtype, x.tolist()) for n, x in own]) for site, *own in tensors])
    assert len(found) == len(list((folder / "edits").iterdir()))
    return found
