"""Data sets of flat records: one edit a row, and each probe in a field of its own. A task is a table of field names.

Such a file has no splits. A fifth of the subjects, chosen by a hash of the name alone, is tested and the others train
(`Task.test_share`), in every data set the same. A probe that a row lacks is left out; no rule makes one.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from instructedit.editors import EditCase, EditRequest, Probe, Role
from instructedit.editors.writing_systems import blank

from .base import Split, Task, cite
from .parse import Row

NO_ANSWER = "locality: probe without an answer kept, the unedited model's own is read"


@dataclass(frozen=True, slots=True)
class ProbeField:
    """Role and subset of an optional probe, and the fields of its prompt and of its answers.

    Without a field of answers the edit's target answers it. `prefix` is removed from the start of the prompt.
    """

    role: Role
    subset: str
    prompt: str
    answer: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """The fields that hold what a case is made of, and its optional probes in order.

    `target` is the field of the new answer, or of several right ones with the edit's target first; `old` that of the
    answers before the edit, None if the file does not hold them.
    """

    prompt: str
    target: str
    old: str | None
    probes: tuple[ProbeField, ...]
    subject: str = "subject"

    @property
    def required(self) -> tuple[str, ...]:
        """Fields that every row must have."""
        return self.subject, self.prompt, self.target

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that are read."""
        optional = (self.old, *(field for probe in self.probes for field in (probe.prompt, probe.answer)))
        return (*self.required, *(field for field in optional if field is not None))


class FlatTask(Task):
    """A task of one file of flat records."""

    layout: ClassVar[FlatLayout]
    test_share: ClassVar[float | None] = 0.2

    def __init_subclass__(cls) -> None:
        cls.fields, cls.required = cls.layout.fields, (cls.layout.required,)

    def layout_of_run(self) -> FlatLayout:
        """Return the layout under the task's options."""
        return self.layout

    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """See `Task.cases`."""
        layout = self.layout_of_run()
        for row in rows:
            accepted = row.accepted(layout.target)
            request = EditRequest(
                f"{self.name}/{split}/{row.index}",
                self.name,
                row.text(layout.prompt),
                accepted[0],
                row.text(layout.subject),
                old=old_answer(row, layout.old, accepted[0], counts) if layout.old else None,
            )
            probes = [Probe("reliability", "edit", request.prompt, accepted)]
            for field in layout.probes:
                probes += _probe(row, field, request, accepted, counts)
            yield EditCase(request, tuple(probes))


class RomeCounterFact(FlatTask):
    """ROME's CounterFact in the flat layout of one paraphrase and one neighbourhood prompt a row."""

    name = "rome-counterfact"
    title = "CounterFact (ROME)"
    about = "facts whose established object gives way to a false one of the same type"
    version = "1"
    licence = "MIT"
    citation = cite("meng2022rome")
    homepage = "https://rome.baulab.info"
    files: ClassVar[dict[Split, tuple[str, ...]]] = dict.fromkeys(
        ("train", "test"),
        (
            "counterfact/counterfact-edit.json",
            "counterfact-edit.json",
            "counterfact/counterfact_3k.json",
            "counterfact_3k.json",
        ),
    )
    layout = FlatLayout(
        prompt="prompt",
        target="target_new",
        old="ground_truth",
        probes=(
            ProbeField("generalization", "rephrase", "rephrase_prompt"),
            ProbeField("locality", "Neighborhood", "locality_prompt", "locality_ground_truth"),
        ),
    )


def _probe(
    row: Row, field: ProbeField, request: EditRequest, accepted: tuple[str, ...], counts: Counter[str]
) -> Iterator[Probe]:
    """Yield an optional probe unless it is missing, malformed, or repeats the edit's prompt.

    A locality probe needs no answer: its score is agreement with the unedited model.
    """
    prompt = row.fields.get(field.prompt)
    answers = accepted if field.answer is None else row.optional_answers(field.answer)
    if prompt is None or (isinstance(prompt, str) and blank(prompt)):
        counts[f"{field.role}: no prompt given, left out"] += 1
    elif not isinstance(prompt, str):
        counts[f"{field.role}: malformed prompt left out"] += 1
    elif prompt.strip() == request.prompt:
        counts[f"{field.role}: prompt that repeats the edit's own left out"] += 1
    elif not answers and field.role != "locality":
        counts[f"{field.role}: probe without a usable answer left out"] += 1
    else:
        if not answers:
            counts[NO_ANSWER] += 1
        yield Probe(field.role, field.subset, prompt.strip().removeprefix(field.prefix), answers)


def old_answer(row: Row, field: str, target: str, counts: Counter[str]) -> str | None:
    """Return the answer before the edit; None, counted, if the row does not hold it."""
    known = row.optional_answers(field)
    if target in known:
        counts["edit: the target is an answer from before the edit"] += 1
    others = [answer for answer in known if answer != target]
    if not others:
        counts["edit: no other answer from before the edit is given"] += 1
    return others[0] if others else None
