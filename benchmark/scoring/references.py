"""Locality probes without an answer in the data.

Locality is agreement with the unedited model, so a probe needs no answer. Where the data has none, teacher forcing
reads along what the unedited model itself says: its greedy answer to the bare probe, up to its natural stop.
"""

from collections.abc import Sequence
from dataclasses import replace

from instructedit.editors import CaseError, EditCase, Edits, LanguageModel, Probe
from instructedit.editors.engine.generation import answers

from .matching import finished, natural_text

REFERENCE_RULE = "greedy-1"
"""Name of the rule, recorded in runs; a change of the rule changes the name."""
NEW_TOKENS = 32
"""Maximum number of new tokens of such an answer where a run generates none (`max_new_tokens = 0`)."""
EMPTY = "locality: the data has no answer, and the unedited model gives none that teacher forcing could read"


def lacks_answer(probe: Probe) -> bool:
    """Tell whether a probe is a locality probe without an answer."""
    return probe.role == "locality" and not probe.answers


def with_references(model: LanguageModel, cases: Sequence[EditCase], max_new_tokens: int) -> Sequence[EditCase]:
    """Return cases whose locality probes without an answer have the unedited model's own.

    A probe stays without an answer if the model gives none, or its context has no room for `max_new_tokens`.
    """
    room = max_new_tokens or NEW_TOKENS
    rows, probes = [], []
    for probe in dict.fromkeys(probe for case in cases for probe in case.probes if lacks_answer(probe)):
        try:
            rows.append(model.encode_prompt(probe.prompt, room=room))
        except CaseError:
            continue
        probes.append(probe)
    if not probes:
        return cases
    written = answers(
        model, rows, Edits.none(1), [None] * len(rows), max_new_tokens=room, finished=lambda _, text: finished(text, ())
    )
    # the text goes on from the prompt, but tokenizers of SentencePiece decode it without its leading space
    keeps_space = str(model.tokenizer.decode(list(model.in_chat(None).encode("a", "b", " ").labels))).startswith(" ")
    found = {
        probe: replace(probe, answers=(answer,), joint="" if keeps_space else probe.joint)
        for probe, text in zip(probes, written, strict=True)
        if (answer := natural_text(text))
    }
    return [replace(case, probes=tuple(found.get(probe, probe) for probe in case.probes)) for case in cases]
