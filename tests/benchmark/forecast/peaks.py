"""Peak memory of a run's phases beside what preflight says of them. Linux only: the peak is reset through /proc.

    python -m tests.benchmark.forecast.peaks --model embedded --model M --chunk 4 --chunk 8 --chunk 20

prints a line for each phase: model, phase, cases of a chunk, measured and forecast peak in MB, their ratio, and the
same without what is there before the model. Each is measured in a process of its own, since memory that one phase
gives back the next one may find still held. The models are the embedded one and random ones of the shapes of
`instructedit speed`, which read the embedded world through the embedded tokenizer. All phases of one model and chunk
take a few minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

Setup = dict[str, Any]
"""Keys of a configuration."""
STEPS = {"steps": 2}
TRAINING = {
    "training": {"steps": 2, "warmup": 1, "validate_every": 2, "validation_cases": 8, "batch": 8, "accumulate": 1}
}
EDITORS: dict[str, Setup] = {
    "ft-l": STEPS,
    "ft-m": STEPS,
    "calinet": STEPS,
    "grace": STEPS,
    "ke": TRAINING,
    "mend": TRAINING,
    "instructedit": TRAINING,
}
"""Few steps: memory does not depend on their number."""
TRAINED = ("ke", "mend", "instructedit")
READ = {
    "forced": {"generation": {"max_new_tokens": 0}, "fluency": False},
    "answers": {"generation": {"max_new_tokens": 32}, "fluency": False},
    "texts": {"generation": {"max_new_tokens": 0, "fluency_tokens": 64}, "fluency": True},
}
"""What scoring a chunk may take besides teacher forcing."""
MB = 1e6
RESET = Path("/proc/self/clear_refs")


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="embedded, or a shape of instructedit speed")
    parser.add_argument("--chunk", type=int, action="append")
    parser.add_argument("--task", action="append", help="tasks that are edited and scored")
    parser.add_argument("--phase", action="append", help="load, edit, train, score, run")
    parser.add_argument("--editor", action="append")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        sys.stdout.write(json.dumps(measure(**json.loads(asked.one))) + "\n")
        return
    editors = asked.editor or list(EDITORS)
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.model or ["embedded", "M"]:
            model = name if name == "embedded" else _made(name, Path(folder) / name)
            for chunk in asked.chunk or [4, 8, 20]:
                for phase, subject, own in phases(editors, asked.phase or ["load", "edit", "train", "score", "run"]):
                    if chunk != (asked.chunk or [4])[0] and phase in ("load", "train"):
                        continue  # they do not depend on it
                    tasks = asked.task or ["zsre"]
                    setup = {"model": model, "tasks": tasks, "limit": chunk, "chunk": chunk, **own}
                    _show(name, f"{phase} {subject}", chunk, apart(phase, setup))


def phases(editors: list[str], asked: list[str]) -> list[tuple[str, str, Setup]]:
    """Return phases, what they are of, and their part of the configuration."""
    some = {name: EDITORS[name] for name in editors}
    found: list[tuple[str, str, Setup]] = [("load", "", {"editors": {"none": {}}})]
    found += [("edit", name, {"editors": {name: own}}) for name, own in some.items()]
    found += [("train", name, {"editors": {name: own}}) for name, own in some.items() if name in TRAINED]
    found += [("score", kind, {"editors": some, **options}) for kind, options in READ.items()]
    found += [("run", "", {"editors": {"none": {}, **some}})]
    for _, _, setup in found:
        setup["setting"] = "hold-out" if set(TRAINED) & set(setup["editors"]) else "direct"
    return [entry for entry in found if entry[0] in asked]


def measure(phase: str, setup: Setup) -> dict[str, float]:
    """Return the peak of one phase, what was held before the model, and what preflight says of both."""
    import torch

    from instructedit.benchmark.forecast.forecast import forecast
    from instructedit.benchmark.forecast.machine import Machine
    from instructedit.benchmark.run.runner import load_model, prepare, run
    from instructedit.benchmark.scoring.scoring import Made, edit_each, score_chunk
    from instructedit.benchmark.setup.config import EMBEDDED_MODEL, make_config
    from instructedit.benchmark.setup.resolve import outline, requests_of
    from instructedit.editors import Sketch, TrainedEditor
    from instructedit.editors.engine.model import PACK_TOKENS

    torch.set_num_threads(1)
    config = make_config(setup, "peaks")
    found = outline(config, "peaks")
    sketch = Sketch.load(EMBEDDED_MODEL if config.model == "embedded" else config.model)
    said = forecast(found, sketch, Machine("cpu", 1e11, 1e10, PACK_TOKENS["cpu"]), Path("nowhere"), set())
    before = _begin()

    def named(start: str) -> float:
        return next(part.need.total for part in said.phases if part.name.startswith(start))

    expected = named("loading")

    with tempfile.TemporaryDirectory() as folder:
        if phase == "run":
            run(prepare(config, "peaks"), Path(folder))
            return _end(before, said.peak.need.total)
        model = load_model(config)
        if phase == "load":
            return _end(before, expected)
        cases = next(iter(found.cases.values()))
        made: dict[str, Made] = {}
        for row in found.rows:
            editor = found.editors[row.name]
            if phase == "train":
                (training,) = found.trainings
                _begin()
                training.editor.fit(model, training.cases, Path(folder))
                return _end(before, named("training"))
            requests = requests_of(row.instruction, found.bank, cases, 0)
            if isinstance(editor, TrainedEditor):
                editor.build(model)
                editor.observe(model, requests)
            if phase == "edit":
                edit_each(model, requests[:1], editor, 0)  # what libraries load late is no part of an edit
            held = _begin()
            edits, failures = edit_each(model, requests, editor, 0)
            assert not failures
            made[row.name] = Made(requests, edits, failures, 0.0)
            if phase == "edit":
                found_peak = _end(before, named("editing"))
                return {**found_peak, "held": held, "added": named("editing") - expected}
        _begin()
        how = {"probes": found.probes, "generation": config.generation, "fluency": config.fluency}
        score_chunk(model, cases, made, run="0" * 16, seed=0, **how)
        return _end(before, named("scoring"))


def _begin() -> int:
    """Give freed memory back, let the peak start from what is held, and return that."""
    import ctypes
    import gc

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    RESET.write_text("5")
    return _status("VmRSS")


def _end(before: int, expected: float) -> dict[str, float]:
    return {"before": before, "peak": _status("VmHWM"), "forecast": expected}


def _status(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def _made(name: str, folder: Path) -> str:
    """Write a random model of a shape with the embedded tokenizer, and return its folder."""
    from transformers import AutoTokenizer

    from instructedit.benchmark.setup.config import EMBEDDED_MODEL
    from instructedit.benchmark.speed.shapes import make_model, shape_of

    make_model(shape_of(name)).model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED_MODEL).save_pretrained(folder)
    return str(folder)


def apart(phase: str, setup: Setup) -> dict[str, float]:
    """Measure in a process of its own."""
    one = json.dumps({"phase": phase, "setup": setup})
    command = [sys.executable, "-m", "tests.benchmark.forecast.peaks", "--one", one]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _show(model: str, phase: str, chunk: int, found: dict[str, float]) -> None:
    from instructedit.benchmark.forecast.memory import LIBRARIES

    own, said = found["peak"] - found["before"], found["forecast"] - LIBRARIES["cpu"]
    sys.stdout.write(
        f"{model:9} {phase:18} {chunk:3} {found['peak'] / MB:8,.0f} {found['forecast'] / MB:8,.0f} "
        f"{found['forecast'] / found['peak']:5.2f}   own {own / MB:8,.1f} {said / MB:8,.1f} {said / own:5.2f}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
