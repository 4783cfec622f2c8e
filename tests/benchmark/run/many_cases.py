"""Peak memory of runs with more and more cases, on a tiny model made in memory, under every editor that is not trained.

    python -m tests.benchmark.run.many_cases 1000 3000 10000

prints a line of JSON for each number of cases: the largest resident memory in bytes while a run is prepared, while it
is computed and summed up, and while a second start finds it finished. Linux only: the peak is reset through /proc. Ten
thousand cases take seven minutes.
"""

import json
import sys
import tempfile
from pathlib import Path
from time import process_time

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from instructedit.benchmark.run.prepare import prepare
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.setup.config import RunConfig, make_config
from instructedit.benchmark.setup.resolve import resolve
from instructedit.editors import EDITORS, LanguageModel

from ...conftest import make_tokenizer

RESET = Path("/proc/self/clear_refs")
WARM = 16
PLACES = ("Paris", "New York", "Rome")


def main(counts: list[int]) -> None:
    """Measure runs of each number of cases, the smallest first, behind one that loads what libraries load late."""
    model = tiny_model()
    for count in [WARM, *sorted(counts)]:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(model, count, Path(folder))
        if count != WARM:
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


def measure(model: LanguageModel, count: int, folder: Path) -> dict[str, float]:
    """Return the peaks and the processor time of one run."""
    config = configuration(write_cases(folder / "data", count))
    begun = process_time()
    reset()
    prepared = prepare(resolve(config, "many cases"), model=model)
    found: dict[str, float] = {"cases": count, "prepare_bytes": peak()}
    for name in ("run_bytes", "again_bytes"):
        reset()
        out = run(prepared, folder / "out")
        found[name] = peak()
    lines = (out / "cases.jsonl").read_bytes().count(b"\n")
    assert lines == count * len(config.editors)
    return {**found, "lines": lines, "seconds": round(process_time() - begun, 1)}


def tiny_model() -> LanguageModel:
    """Return a random GPT-2 of 2 layers and width 32."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = AutoConfig.for_model(
        "gpt2", vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=96, initializer_range=0.2, **ends
    )
    return LanguageModel(AutoModelForCausalLM.from_config(config), make_tokenizer())


def configuration(data: Path) -> RunConfig:
    """Return a run of ZsRE under every editor that is not trained, with as few steps as they can do."""
    editors: dict[str, dict[str, int]] = {}
    for name in EDITORS:
        editor = EDITORS.get(name)
        if not editor.trains:
            editors[name] = {"steps": 1} if "steps" in editor.Config.model_fields else {}
    options = {
        "data": str(data),
        "tasks": ["zsre"],
        "limit": None,
        "chunk": 16,
        "fluency": False,
        "generation": {"max_new_tokens": 0},
        "editors": editors,
    }
    return make_config(options, "many cases")


def write_cases(folder: Path, count: int) -> Path:
    """Write a test file of ZsRE in KnowEdit's layout."""
    rows = [
        {
            "subject": person,
            "prompt": f"Where was {person} born?",
            "rephrase_prompt": f"Where is {person} from?",
            "target_new": PLACES[number % len(PLACES)],
            "ground_truth": "London",
            "portability": {
                "Reasoning": [{"prompt": f"The country of birth of {person} is", "ground_truth": [["England", "UK"]]}]
            },
            "locality": {
                "Relation_Specificity": [{"prompt": f"The gender of {person} is", "ground_truth": [["female"]]}]
            },
        }
        for number, person in enumerate(f"Person {number}" for number in range(count))
    ]
    path = folder / "ZsRE" / "ZsRE-test-all.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    return folder


def reset() -> None:
    """Let the peak start from what is resident now."""
    RESET.write_text("5")


def peak() -> int:
    """Return the largest resident memory since `reset`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
