"""A check of the unedited model in every run: free generation and teacher forcing have to agree on what is right.

Greedy decoding of an answer's tokens and exact match under teacher forcing are the same question. So where a probe has
one accepted answer, and the unedited model writes it, teacher forcing has to find it too, unless the model wrote it in
other tokens: without the space that teacher forcing puts before it, in another case, with an article. Many such probes
mean that the texts are put to the model in another form than it has learnt.
"""

from collections.abc import Mapping

from instructedit.editors.cases import Probe

from .records import Answer, CaseRecord, Consistency, EditorSpec, Protocol

OTHER_TOKENS = "right in free generation and wrong under teacher forcing, written in other tokens"
SAME_TOKENS = "right in free generation and wrong under teacher forcing, in the same tokens"
"""Remarks on probes of the unedited model. The second is a fault of the engine, or two tokens that tie."""


class Tally:
    """Counts the check over the lines of the unedited model."""

    def __init__(self, editors: Mapping[str, EditorSpec]) -> None:
        self._base = {name for name, editor in editors.items() if editor.is_base}
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._first: dict[tuple[str, str], tuple[str, Answer]] = {}

    def take(self, record: CaseRecord) -> None:
        """Take one line; those of other rows and those that are not done are passed over."""
        if record.editor not in self._base or record.status != "done":
            return
        values: dict[int, dict[Protocol, float]] = {}
        for score in record.scores:
            if score.probe is not None:
                values.setdefault(score.probe, {})[score.protocol] = score.value
        key = record.editor, record.task
        for number, answer in enumerate(record.answers):
            own = values.get(number, {})
            if not _read_both_ways(answer, own):
                continue
            counts = self._counts.setdefault(key, [0, 0, 0])
            apart = otherwise(answer, own)
            for place, found in enumerate((True, own["free_generation"] == 1.0, apart)):
                counts[place] += found
            if apart and (key not in self._first or record.case_id < self._first[key][0]):
                self._first[key] = record.case_id, answer

    def summed(self) -> list[Consistency]:
        """Return the counts of each row and task, the example being of the first case by id."""
        found = []
        for (editor, task), (probes, free, apart) in sorted(self._counts.items()):
            one = Consistency(editor=editor, task=task, probes=probes, free=free, otherwise=apart)
            if (editor, task) in self._first:
                case_id, answer = self._first[editor, task]
                example = {"case_id": case_id, "prompt": answer.prompt, "accepted": answer.accepted[0]}
                one = one.model_copy(update=example | {"generated": answer.generated})
            found.append(one)
        return found


def sentence(found: Consistency) -> str | None:
    """Return what a reader of the scores has to know; None where both readings agree on every probe."""
    if not found.otherwise:
        return None
    return (
        f"{found.task}, '{found.editor}': {found.otherwise} of {found.free} probes with one accepted answer that free "
        f"generation has right are wrong under teacher forcing, so the model wrote them in other tokens: after "
        f"{found.prompt!r} it wrote {found.generated!r}, {found.accepted!r} was accepted ({found.case_id})."
    )


def _read_both_ways(probe: Probe | Answer, values: Mapping[Protocol, float]) -> bool:
    answers = probe.answers if isinstance(probe, Probe) else probe.accepted
    return (
        probe.role != "locality"
        and len(answers) == 1
        and not probe.opposed
        and {"free_generation", "teacher_forced_exact"} <= values.keys()
    )


def otherwise(probe: Probe | Answer, values: Mapping[Protocol, float]) -> bool:
    """Tell whether a probe with one accepted answer is right in free generation and wrong under teacher forcing."""
    return _read_both_ways(probe, values) and values["free_generation"] == 1.0 and values["teacher_forced_exact"] == 0.0
