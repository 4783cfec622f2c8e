"""By which protocol each measure of a table is read, where the reader of the table chooses one."""

from instructedit.benchmark.results.records import Measure, Protocol
from instructedit.editors.errors import InputError

from .columns import Column

PUBLISHED = "published"
"""The mix that the paper's main table seems to have: see `protocol_for`."""
CHOICES = ("teacher_forced_exact", "teacher_forced_token", "free_generation", PUBLISHED)
"""What `--protocol` takes."""
WORDS: dict[str, str] = {
    "teacher_forced_exact": "exact match, teacher forced",
    "teacher_forced_token": "token share, teacher forced",
    "free_generation": "free generation",
    "edit_success": "edit success",
    "z_sent": "z_sent",
    "z_topic": "z_topic",
    "kl_divergence": "KL",
    "ngram_entropy": "n-gram entropy",
    PUBLISHED: "each measure read as the published table seems to read it",
}
"""Protocols and choices in words."""


def protocol_for(choice: str, measure: Measure, *, attitude: bool) -> Protocol:
    """Return the one protocol that a measure of a task is read by.

    Edits of an attitude are read by edit success, as in the paper's table, and fluency by its entropy, whatever is
    chosen. `published` reads reliability and generalization by exact match, portability and locality by token share.

    Args:
        choice: One of `CHOICES`.
        measure: The measure.
        attitude: Whether the task scores the measure by edit success.

    Raises:
        InputError: If there is no such choice.
    """
    if choice not in CHOICES:
        raise InputError(f"--protocol: '{choice}' is not known; one of {', '.join(CHOICES)} was expected.")
    if measure == "fluency":
        return "ngram_entropy"
    if attitude:
        return "edit_success"
    mixed: dict[Measure, Protocol] = {
        "reliability": "teacher_forced_exact",
        "generalization": "teacher_forced_exact",
        "portability": "teacher_forced_token",
        "locality": "teacher_forced_token",
    }
    own: dict[str, Protocol] = {
        "teacher_forced_exact": "teacher_forced_exact",
        "teacher_forced_token": "teacher_forced_token",
        "free_generation": "free_generation",
    }
    return mixed[measure] if choice == PUBLISHED else own[choice]


def label(column: Column, choice: str) -> str:
    """Return the measure in words, with its protocol where the title, which names the choice, does not say it."""
    head = f"{column.measure.capitalize()}{'†' if column.derived else ''}"
    return head if column.protocol == choice else f"{head}, {WORDS[column.protocol]}"
