"""docs/models.md from the results of a campaign: `python -m tests.models.page RESULTS.json docs/models.md`."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import transformers

from . import zoo


@dataclass
class Result:
    """Result for one architecture.

    Attributes:
        name: Model type.
        verdict: `right`, `in part`, `refused`, `wrong`, `traceback`, `not built`.
        parts: Result of each check: `right`, `refused: ...`, `wrong: ...`, `traceback: ...`.
        note: The message of a refusal, or why it is not built.
        packing: How sequences share a pass.
        blocks: Number of blocks.
        sites: Number of blocks with each part.
        edited: The parts that each editor edited.
        generation: How texts are generated.
        worst: Largest difference of logits, relative to the largest logit.
        seconds: Duration.
    """

    name: str
    verdict: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    note: str = ""
    packing: str = ""
    blocks: int = 0
    sites: dict[str, int] = field(default_factory=dict)
    edited: dict[str, list[str]] = field(default_factory=dict)
    generation: str = ""
    worst: float = 0.0
    seconds: float = 0.0

    def line(self) -> str:
        """Return the result in one line."""
        bad = [f"{part} {said}" for part, said in self.parts.items() if said != "right"]
        about = " | ".join(bad)[:400] if bad else self.note[:200]
        return f"{self.verdict:9} {self.name:26} {self.packing:7} {self.seconds:5.1f}s {self.worst:.0e} {about}"


VERDICTS = "right", "in part", "refused", "wrong", "traceback", "not built"
PARAGRAPHS = """# Models

Architectures of transformers {version} that can be edited. A tiny random model of every model type that
`AutoModelForCausalLM` serves (`tests/models/zoo.py`) is compared with plain transformers (`tests/models/check.py`):
packed batches, replays from every block, replays of codebooks, captured gradients, greedy texts, and the edits of all
seven editors. The reference is a second copy of the model with the edit in its weights, run on one sequence at a time
without padding or cache. This page is written by

```bash
tox -e models
```

- **right**: everything equals the reference; the largest difference is {worst:.1e} of the largest logit.
- **in part**: what runs is right; an editor or a replay that the model does not support is refused with a message.
- **refused**: loading ends with the message in the last column.
- **wrong**, **traceback**: a number or a text differs, or an error is not one of this package.
- **not built**: transformers cannot build or run it here, for the given reason.

Sequences share a pass by an attention function that separates them (`rows`), by the model's own mask (`mask`), or not
at all (`single`). Texts are generated with this package's cache of keys and values (`cache`), by transformers in
left-padded batches (`batch`) or one by one (`alone`), or with a full pass for each token (`recompute`). The parts of a
block are those of the editors' option `part`; numbers in brackets count the blocks that have it.
"""
HEADS = {
    zoo.DECODER_ONLY: "Decoder-only models",
    zoo.HALF: "Decoders of encoder-decoder models",
    zoo.ENCODER: "Encoders that can be run as decoders",
}


def page(results: Sequence[Result]) -> str:
    """Return the page."""
    worst = max((found.worst for found in results if found.verdict == "right"), default=0.0)
    lines = [PARAGRAPHS.format(version=transformers.__version__, worst=worst)]
    kinds = {head: [found for found in results if zoo.kind(found.name) == kind] for kind, head in HEADS.items()}
    seen = [verdict for verdict in VERDICTS if any(found.verdict == verdict for found in results)]
    lines += ["| | all | " + " | ".join(seen) + " |", "| --- |" + " --- |" * (len(seen) + 1)]
    for head, own in kinds.items():
        count = Counter(found.verdict for found in own)
        lines.append(f"| {head} | {len(own)} | " + " | ".join(str(count[verdict]) for verdict in seen) + " |")
    for head, own in kinds.items():
        lines += ["", f"## {head}", ""]
        lines += ["| model type | verdict | rows | texts | parts of its blocks | note |", "| --- |" * 1 + " --- |" * 5]
        for found in own:
            parts = ", ".join(
                part if count == found.blocks else f"{part} ({count} of {found.blocks})"
                for part, count in found.sites.items()
            )
            cells = found.name, found.verdict, found.packing, found.generation, parts, _note(found)
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _note(found: Result) -> str:
    """Return the note on a model."""
    bad: dict[str, list[str]] = {}
    for part, said in found.parts.items():
        if said != "right":
            bad.setdefault(said, []).append(part)
    if bad:
        return "; ".join(f"{', '.join(parts)}: {said}" for said, parts in bad.items())[:600]
    others = sorted({part for parts in found.edited.values() for part in parts} - {"up", "down"})
    return found.note or (f"edited at: {', '.join(others)}" if others else "")


def read(path: Path) -> list[Result]:
    """Return the results of a campaign, ordered by name."""
    found = [Result(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    return sorted(found, key=lambda result: result.name)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(read(Path(sys.argv[1]))), encoding="utf-8")
