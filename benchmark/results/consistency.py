"""A check of the unedited model in every run: free generation and teacher forcing must agree on what is right.

Greedy decoding of an answer's tokens and exact match under teacher forcing ask the same. So where a probe has one
accepted answer and the unedited model generates it, teacher forcing must count it as right, unless the model wrote it
in other tokens: without the space that teacher forcing puts before it, in another case, with an article. Many such
probes mean that the model receives the texts in another form than it was trained on.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from instructedit.editors.cases import Probe

from .records import Answer, CaseRecord, Consistency, EditorSpec, Protocol, Score

OTHER_TOKENS = "right in free generation and wrong under teacher forcing, written in other tokens"
SAME_TOKENS = "right in free generation and wrong under teacher forcing, in the same tokens"
"""Remarks on probes of the unedited model. The second is a fault of the engine, or a tie of two tokens."""


class ConsistencyTally:
    """Counts the check over the lines of the rows that are the unedited model."""

    def __init__(self, editors: Sequence[EditorSpec]) -> None:
        self._base = {row.name for row in editors if row.is_base}
        self._found: dict[tuple[str, str], Consistency] = {}

    def take(self, record: CaseRecord) -> None:
        """Count one line; those of other rows and those that are not done are ignored."""
        if record.editor not in self._base or record.status != "done":
            return
        key = record.editor, record.task
        values = values_by_probe(record.scores)
        for number, answer in enumerate(record.answers):
            own = values[number]
            if not _read_both_ways(answer, own):
                continue
            empty = Consistency(editor=record.editor, task=record.task, probes=0, free=0, otherwise=0)
            found, apart = self._found.get(key, empty), otherwise(answer, own)
            free = found.free + (own["free_generation"] == 1.0)
            update: dict[str, object] = {"probes": found.probes + 1, "free": free, "otherwise": found.otherwise + apart}
            if apart and (found.case_id is None or record.case_id < found.case_id):
                update |= {"case_id": record.case_id, "prompt": answer.prompt}
                update |= {"accepted": answer.accepted[0], "generated": answer.generated}
            self._found[key] = found.model_copy(update=update)

    def summed(self) -> list[Consistency]:
        """Return the counts of each row and task, the example being of the first case by id."""
        return [found for _, found in sorted(self._found.items())]


def sentence(found: Consistency) -> str | None:
    """Return what a reader of the scores must know; None where both protocols agree on every probe."""
    if not found.otherwise:
        return None
    return (
        f"{found.task}, '{found.editor}': {found.otherwise} of {found.free} probes with one accepted answer that free "
        f"generation has right are wrong under teacher forcing, so the model wrote them in other tokens: after "
        f"{found.prompt!r} it wrote {found.generated!r}, {found.accepted!r} was accepted ({found.case_id})."
    )


def values_by_probe(scores: Iterable[Score]) -> defaultdict[int, dict[Protocol, float]]:
    """Return the scores of each probe of a case by protocol."""
    values: defaultdict[int, dict[Protocol, float]] = defaultdict(dict)
    for score in scores:
        if score.probe is not None:
            values[score.probe][score.protocol] = score.value
    return values


def otherwise(probe: Probe | Answer, values: Mapping[Protocol, float]) -> bool:
    """Return whether a probe with one accepted answer is right in free generation and wrong under teacher forcing."""
    return _read_both_ways(probe, values) and values["free_generation"] == 1.0 and values["teacher_forced_exact"] == 0.0


def _read_both_ways(probe: Probe | Answer, values: Mapping[Protocol, float]) -> bool:
    answers = probe.answers if isinstance(probe, Probe) else probe.accepted
    both = {"free_generation", "teacher_forced_exact"} <= values.keys()
    return probe.role != "locality" and len(answers) == 1 and not probe.opposed and both
