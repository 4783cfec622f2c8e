"""Options of the seven editors that make an edit of visible size in a short time, on any architecture."""

from collections.abc import Sequence
from typing import Any

from instructedit.editors.models.structure import Site

OPTIONS: dict[str, dict[str, Any]] = {
    "ft-l": {"block": 1, "steps": 4, "lr": 0.02, "clamp": False},
    "ft-m": {"block": 1, "steps": 4, "lr": 0.02, "clamp": False},
    "calinet": {"blocks": [1], "steps": 4, "slots": 4, "lr": 0.05, "zero_init": False},
    "grace": {"block": 1, "steps": 4, "radius": 0.01},
    "ke": {"max_scale": 300.0, "hidden": 32, "condition": 32},
    "mend": {"edit_lr": 0.3, "rank": 4},
    "instructedit": {"edit_lr": 0.3, "rank": 4},
}
PAIRS = ("up", "down"), ("shared up", "shared down"), ("expert up", "expert down")
LEADING = *(pair[0] for pair in PAIRS), "query", "query key value", "key value", "input", "output"
CLOSING = *(pair[1] for pair in PAIRS), "output", "query key value", "key value", "input"
"""Parts for editors whose default parts a block lacks; the first that it has is taken."""


def options(name: str, blocks: Sequence[Sequence[Site]]) -> dict[str, Any]:
    """Return an editor's options for a model with these sites; other parts where its blocks lack the default ones."""
    have = [{str(site.part) for site in own} for own in blocks]
    block = next((index for index in (1, *range(len(have))) if have[index]), 1)
    given = {**OPTIONS[name], **({"block": block} if "block" in OPTIONS[name] else {})}
    if name == "calinet":
        dense, shared = ([index for index, own in enumerate(have) if pair <= own] for pair in map(set, PAIRS[:2]))
        if not dense and shared:
            return {**given, "blocks": shared[:1], "network": "shared"}
        return {**given, "blocks": dense[:2][-1:] or [block]}
    if name in ("ft-l", "ft-m", "grace"):
        order = [part for part in (LEADING if name == "grace" else CLOSING) if name != "grace" or "expert" not in part]
        part = next((part for part in order if part in have[block]), order[0])
        return {**given, **({} if part == order[0] else {"part": part})}
    last = range(max(0, len(have) - 3), len(have))
    fits = {pair: [index for index in last if set(pair) <= have[index]] for pair in (*PAIRS, ("query", "output"))}
    parts = max(fits, key=lambda pair: len(fits[pair]))
    if not fits[parts]:  # a mixer of another kind
        parts = next(((part,) for part in LEADING if any(part in have[index] for index in last)), PAIRS[0])
        fits[parts] = [index for index in last if parts[0] in have[index]]
    changed = {"blocks": fits[parts]} if len(fits[parts]) < len(last) or len(last) < 3 else {}
    return {**given, **changed, **({} if parts == PAIRS[0] else {"parts": list(parts)})}
