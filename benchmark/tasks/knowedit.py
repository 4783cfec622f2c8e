"""KnowEdit's record, which Recent, CounterFact and ZsRE share.

`subject`, `prompt` and `target_new` are required and stop the run if they are not there. The probes under `portability`
and `locality` are optional and as dirty as they come: one that cannot be used is left out and counted by its reason.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from instructedit.editors import EditCase, EditRequest, InputError, Probe
from instructedit.editors.scripts import blank

from .base import Split, Task
from .parse import Row, answers
from .rephrase import derive_rephrases

ProbeGroup = Literal["portability", "locality"]
REPHRASE_FIELDS = ("rephrase_prompt", "rephrase")


class KnowEditTask(Task):
    """A task whose records have KnowEdit's fields."""

    fields: ClassVar[tuple[str, ...]] = ("subject", "prompt", "target_new", *REPHRASE_FIELDS, "portability", "locality")
    required: ClassVar[tuple[tuple[str, ...], ...]] = (("subject", "prompt", "target_new"),)
    unread = Task.unread | {"ground_truth", "cond"}

    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """See `Task.cases`."""
        for row in rows:
            yield read_record(row, self.name, split, counts)


def read_record(row: Row, task: str, split: Split, counts: Counter[str]) -> EditCase:
    """Read one record.

    Raises:
        InputError: If subject, prompt or target is missing, mistyped or empty.
    """
    accepted = row.accepted("target_new")
    request = EditRequest(
        case_id=f"{task}/{split}/{row.index}",
        task=task,
        prompt=row.text("prompt"),
        target=accepted[0],
        subject=row.text("subject"),
    )
    reliability = Probe("reliability", "edit", request.prompt, target_aliases(row, accepted))
    return EditCase(
        request,
        (
            reliability,
            *generalization(row, request, reliability.answers, counts),
            *probes(row, "portability", request, counts),
            *probes(row, "locality", request, counts),
        ),
    )


def target_aliases(row: Row, accepted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the target's right answers followed by the target's aliases, where the record is certain about them.

    The answers of a Subject_Aliasing probe are the edit's own; an alias list of theirs that begins with the target
    holds the target's names. A flat list could as well hold several different answers, so it is not used.
    """
    portability = row.fields.get("portability")
    items = portability.get("Subject_Aliasing") if isinstance(portability, Mapping) else None
    names = [*accepted]
    for item in items if isinstance(items, list) else ():
        groups = item.get("ground_truth") if isinstance(item, Mapping) else None
        for group in groups if isinstance(groups, list) else ():
            if (
                isinstance(group, list)
                and group
                and group[0] == accepted[0]
                and all(isinstance(name, str) for name in group)
            ):
                names += group
    return answers(names)


def generalization(row: Row, request: EditRequest, accepted: tuple[str, ...], counts: Counter[str]) -> Iterator[Probe]:
    """Yield the given rephrases or, where the record has none, those derived by rule; never the edit prompt itself."""
    given: tuple[str, ...] = ()
    for field in REPHRASE_FIELDS:
        try:
            given += answers(row.fields.get(field))
        except InputError:
            counts["generalization: malformed rephrase left out"] += 1
    usable = [text for text in dict.fromkeys(given) if text != request.prompt]
    if repeated := len(set(given)) - len(usable):
        counts["generalization: rephrase that repeats the edit prompt left out"] += repeated
    for text in usable:
        yield Probe("generalization", "rephrase", text, accepted)
    if usable:
        return
    derived = derive_rephrases(request.prompt, request.subject)
    for form, text in derived:
        counts[f"generalization: {form} derived"] += 1
        yield Probe("generalization", form, text, accepted, derived=True)
    if not derived:
        counts["generalization: no rephrase given and no rule covers the prompt"] += 1


def probes(row: Row, role: ProbeGroup, request: EditRequest, counts: Counter[str]) -> Iterator[Probe]:
    """Yield the portability or locality probes, one for each subset and prompt with the answers of all its entries.

    A probe with the edit's own prompt is left out: under locality it contradicts the edit, under portability it asks
    for nothing new.
    """
    for subset, items in _subsets(row, role, counts):
        merged: dict[str, tuple[str, ...]] = {}
        for item in items:
            prompt = item.get("prompt") if isinstance(item, Mapping) else None
            if not isinstance(item, Mapping) or not isinstance(prompt, str) or blank(prompt):
                counts[f"{role}: malformed probe left out"] += 1
                continue
            try:
                accepted = answers(item.get("ground_truth"))
            except InputError:
                counts[f"{role}: malformed probe left out"] += 1
                continue
            if not accepted:
                counts[f"{role}: probe without an answer left out"] += 1
            elif prompt.strip() == request.prompt:
                counts[f"{role}: probe that repeats the edit prompt left out"] += 1
            elif prompt.strip() in merged:
                counts[f"{role}: repeated probe merged, its answers kept"] += 1
                merged[prompt.strip()] = answers([*merged[prompt.strip()], *accepted])
            else:
                merged[prompt.strip()] = accepted
        for prompt, accepted in merged.items():
            yield Probe(role, subset, prompt, accepted)


def _subsets(row: Row, role: ProbeGroup, counts: Counter[str]) -> Iterator[tuple[str, list[object]]]:
    """Yield the named lists of a record's portability or locality, whatever the names are."""
    group = row.fields.get(role)
    if group is None:
        return
    if not isinstance(group, Mapping):
        counts[f"{role}: malformed group of probes left out"] += 1
        return
    for subset, items in group.items():
        if isinstance(items, list):
            yield subset, items
        elif items is not None:
            counts[f"{role}: malformed group of probes left out"] += 1
