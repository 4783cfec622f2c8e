"""Makes the embedded default: `make(Path("embedded"))` writes the data, the model and their provenance."""

import json
import platform
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from .records import FILES, records, write
from .world import World, build


def make(out: Path, seed: int = 0, threads: int = 2) -> None:
    """Write the data sets, the trained model and `PROVENANCE.json` below a folder.

    A seed gives the same data everywhere, and the same weights on one machine with the same number of torch threads.
    """
    from .check import knowledge
    from .train import Recipe, train

    world = build(seed)
    write(world, out / "data")
    recipe = Recipe(threads=threads)
    model, tokenizer, report = train(world, recipe)
    model.half().save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    provenance = {
        "seed": seed,
        "recipe": asdict(recipe),
        "world": sizes(world),
        "training": {
            "parameters": report["parameters"],
            "tokens": report["tokens"],
            "steps": len(report["losses"]),
            "seconds": report["seconds"],
            "last_loss": round(sum(report["losses"][-50:]) / len(report["losses"][-50:]), 4),
            "versions": _versions(),
        },
        "sha256": digests(out),
        "knowledge": knowledge(world, out / "model"),
        "licence": "MIT; every name, fact and sentence is invented",
    }
    (out / "PROVENANCE.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def sizes(world: World) -> dict[str, Any]:
    """Return the sizes of a world."""
    return {
        "entities": {kind: len(names) for kind, names in world.members.items()},
        "facts": len(world.facts),
        "news": len(world.news),
        "aliases": sum(map(len, world.aliases.values())),
        "topics": len(world.topics()),
        "records": {f"{task}/{split}": len(records(world, task, split)) for task, split in FILES},
    }


def digests(out: Path) -> dict[str, str]:
    """Return the sha256 of every data and model file by its path below `out`."""
    files = sorted(path for part in ("data", "model") for path in (out / part).rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def _versions() -> dict[str, str]:
    import tokenizers
    import torch
    import transformers

    modules = {"torch": torch, "transformers": transformers, "tokenizers": tokenizers}
    return {"python": platform.python_version()} | {name: module.__version__ for name, module in modules.items()}
