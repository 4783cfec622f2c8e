"""Which protocol each measure of a table is read by, from the choice `--protocol`."""

from instructedit.benchmark.results.records import Measure, Protocol
from instructedit.editors.errors import InputError

from .columns import Column

PUBLISHED = "published"
"""The mix of protocols that the paper's main table appears to use: see `protocol_for`."""
CHOICES = ("teacher_forced_exact", "teacher_forced_token", "free_generation", PUBLISHED)
"""Values of `--protocol`."""
PROTOCOL_WORDS: dict[Protocol, str] = {
    "teacher_forced_exact": "exact match, teacher forced",
    "teacher_forced_token": "token share, teacher forced",
    "free_generation": "free generation",
    "edit_success": "edit success",
    "z_sent": "z_sent",
    "z_topic": "z_topic",
    "kl_divergence": "KL",
    "ngram_entropy": "n-gram entropy",
    "probability_order": "P(new) > P(old)",
    "reversion": "reversion to the old answer",
    "known_before": "old answer known before the edit",
}
WORDS: dict[str, str] = {
    **{str(protocol): words for protocol, words in PROTOCOL_WORDS.items()},
    PUBLISHED: "each measure read as the published table appears to read it",
}
"""Protocols and choices in words."""


def short(protocol: Protocol) -> str:
    """Return a protocol in words, without how answers are forced."""
    return PROTOCOL_WORDS[protocol].partition(",")[0]


def protocol_for(choice: str, measure: Measure, *, attitude: bool) -> str:
    """Return the protocol of a measure of a task.

    Edits of an attitude are always read by edit success, as in the paper's table, and fluency by its entropy.
    `published` reads reliability and generalization by exact match, portability and locality by token share.

    Raises:
        InputError: If there is no such choice.
    """
    if choice not in CHOICES:
        raise InputError(f"--protocol: '{choice}' is not known; expected one of {', '.join(CHOICES)}.")
    if measure == "fluency":
        return "ngram_entropy"
    if attitude:
        return "edit_success"
    if choice == PUBLISHED:
        return "teacher_forced_exact" if measure in ("reliability", "generalization") else "teacher_forced_token"
    return choice


def label(column: Column, choice: str) -> str:
    """Return the measure in words, with its protocol where that is not the choice, which the title names."""
    head = f"{column.measure.capitalize()}{'†' if column.derived else ''}"
    return head if column.protocol == choice else f"{head}, {WORDS[column.protocol]}"
