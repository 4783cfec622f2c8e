"""Layouts of records: which fields hold an edit and its probes. A layout is a table, and one reader serves all.

Subject, prompt and target are required; without them the run stops. The probes are optional and often malformed: one
that cannot be used is left out and counted by its reason.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from instructedit.editors import EditCase, EditRequest, InputError, Probe

from .base import Split, Task
from .parse import Row, answers
from .rephrase import derive_rephrases

NO_ANSWER = "locality: probe without an answer kept, the unedited model's own is read"

Role = Literal["portability", "locality"]


@dataclass(frozen=True, slots=True)
class ProbeField:
    """Role and subset of a probe, and the fields of its prompt and its answers; `outer.inner` names an inner field.

    `prefix` is removed from the start of the prompt.
    """

    role: Role
    subset: str
    prompt: str
    answer: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields that hold what a case is made of; the probes are optional."""

    prompt: str
    target: str
    """The new answer, or several right ones with the edit's target first."""
    old: str | None
    """The answers before the edit; None if records do not hold them."""
    rephrases: tuple[str, ...] = ()
    probes: tuple[ProbeField, ...] = ()
    groups: tuple[Role, ...] = ()
    """Fields that hold, by subset, lists of probes with `prompt` and `ground_truth`; each is named like its role."""
    derives: bool = False
    """Whether rephrases are derived by rule where a record has none."""
    subject: str = "subject"

    @property
    def required(self) -> tuple[str, ...]:
        """Fields that every record must have."""
        return self.subject, self.prompt, self.target

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that are read, as in `Task.fields`."""
        flat = [field for probe in self.probes for field in (probe.prompt, probe.answer)]
        outer = [field.partition(".")[0] for field in flat]
        inner = [f"{role}{name}" for role in self.groups for name in ("", ".*", ".*.prompt", ".*.ground_truth")]
        old = () if self.old is None else (self.old,)
        return tuple(dict.fromkeys((*self.required, *old, *self.rephrases, *outer, *flat, *inner)))


class LayoutTask(Task):
    """A task whose records have one of several layouts.

    Attributes:
        layouts: The layouts; a record has the first whose prompt it holds, or else the last.
    """

    layouts: ClassVar[tuple[Layout, ...]]

    def __init_subclass__(cls) -> None:
        if "layouts" in cls.__dict__:
            cls.fields = tuple(dict.fromkeys(field for layout in cls.layouts for field in layout.fields))
            cls.required = tuple(layout.required for layout in cls.layouts)

    def layouts_of_run(self) -> tuple[Layout, ...]:
        """Return the layouts under the task's options."""
        return self.layouts

    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """See `Task.cases`."""
        layouts = self.layouts_of_run()
        for row in rows:
            layout = next((layout for layout in layouts if layout.prompt in row.fields), layouts[-1])
            accepted = row.accepted(layout.target)
            request = EditRequest(
                f"{self.name}/{split}/{row.index}",
                self.name,
                row.text(layout.prompt),
                accepted[0],
                row.text(layout.subject),
                old=_old_answer(row, layout, accepted[0], counts),
            )
            accepted = _with_aliases(row, layout, accepted)
            probes = [Probe("reliability", "edit", request.prompt, accepted)]
            probes += _generalization(row, layout, request, accepted, counts)
            for role in ("portability", "locality"):
                probes += _probes(row, layout, role, request.prompt, counts)
            yield EditCase(request, tuple(probes))


class Entry(NamedTuple):
    """What a record says of a probe; several entries may be on one question."""

    subset: str
    prompt: str
    answers: tuple[str, ...]


Note = Callable[..., object]
"""Receives the reason why something was left out or merged, and perhaps a remark in place of it."""


def group_entries(role: Role, groups: object, note: Note) -> Iterator[Entry]:
    """Yield the probes of an object that has, by subset, lists of `{"prompt": ..., "ground_truth": ...}`."""
    malformed = f"{role}: malformed group of probes left out"
    if groups is not None and not isinstance(groups, Mapping):
        note(malformed)
        return
    for subset, items in (groups or {}).items():
        if items is not None and not isinstance(items, list):
            note(malformed)
            continue
        for item in items or ():
            fields = item if isinstance(item, Mapping) else {}
            yield from entries(role, subset, fields.get("prompt"), fields.get("ground_truth"), note)


def entries(role: Role, subset: str, prompt: object, accepted: object, note: Note) -> Iterator[Entry]:
    """Yield a probe, unless its prompt or its answers are malformed."""
    try:
        (text,) = answers(prompt)
        yield Entry(subset, text, answers(accepted))
    except (InputError, ValueError):
        note(f"{role}: malformed probe left out")


def merged(role: Role, edit_prompt: str, found: Iterable[Entry], note: Note) -> Iterator[Probe]:
    """Yield one probe for each subset and prompt with the answers of all its entries.

    A probe with the edit's own prompt is left out: under locality it contradicts the edit, under portability it asks
    for nothing new. Locality compares with the unedited model and needs no answer.
    """
    probes: dict[tuple[str, str], tuple[str, ...]] = {}
    for subset, prompt, accepted in found:
        key = subset, prompt
        if prompt == edit_prompt:
            note(f"{role}: probe that repeats the edit prompt left out")
        elif not accepted and role != "locality":
            note(f"{role}: probe without an answer left out", f"{role}: no answer to '{prompt}', left out")
        else:
            if key in probes:
                note(f"{role}: repeated probe merged, its answers kept", "")
            probes[key] = answers([*probes.get(key, ()), *accepted])
    for (subset, prompt), accepted in probes.items():
        yield Probe(role, subset, prompt, accepted)


def _probes(row: Row, layout: Layout, role: Role, edit_prompt: str, counts: Counter[str]) -> list[Probe]:
    def note(reason: str, _: str = "") -> None:
        counts[reason] += 1

    found: list[Entry] = []
    for field in layout.probes:
        prompt = _value(row.fields, field.prompt)
        if field.role == role and prompt is not None:
            own = entries(role, field.subset, prompt, _value(row.fields, field.answer), note)
            found += (entry._replace(prompt=entry.prompt.removeprefix(field.prefix)) for entry in own)
    if role in layout.groups:
        found += group_entries(role, row.fields.get(role), note)
    probes = list(merged(role, edit_prompt, found, note))
    counts.update(NO_ANSWER for probe in probes if not probe.answers)
    return probes


def _value(record: Any, path: str) -> Any:
    """Return the value at a path, None if it is missing; False, which no reader takes, if an outer one is no object."""
    for name in path.split("."):
        if record is None:
            return None
        if not isinstance(record, Mapping):
            return False
        record = record.get(name)
    return record


def _old_answer(row: Row, layout: Layout, target: str, counts: Counter[str]) -> str | None:
    """Return the answer before the edit; None, counted where the field is given, if the record does not hold it."""
    if layout.old is None or row.fields.get(layout.old) is None:
        return None
    known = row.optional_answers(layout.old)
    if target in known:
        counts["edit: the target is an answer from before the edit"] += 1
    others = [answer for answer in known if answer != target]
    if not others:
        counts["edit: no other answer from before the edit is given"] += 1
    return others[0] if others else None


def _with_aliases(row: Row, layout: Layout, accepted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the target's right answers followed by its aliases, where the record is unambiguous about them.

    The answers of a Subject_Aliasing probe are the edit's own; an alias list among them that begins with the target
    holds the target's names. A flat list may hold several different answers, so it is not used.
    """
    portability = row.fields.get("portability") if "portability" in layout.groups else None
    items = portability.get("Subject_Aliasing") if isinstance(portability, Mapping) else None
    names = [*accepted]
    for item in items if isinstance(items, list) else ():
        groups = item.get("ground_truth") if isinstance(item, Mapping) else None
        for group in groups if isinstance(groups, list) else ():
            if isinstance(group, list) and group[:1] == [accepted[0]] and all(isinstance(name, str) for name in group):
                names += group
    return answers(names)


def _generalization(
    row: Row, layout: Layout, request: EditRequest, accepted: tuple[str, ...], counts: Counter[str]
) -> Iterator[Probe]:
    """Yield the given rephrases or, where the layout derives them, those by rule; never the edit prompt itself."""
    given: tuple[str, ...] = ()
    for field in layout.rephrases:
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
    derived = derive_rephrases(request.prompt, request.subject) if layout.derives else []
    for form, text in derived:
        counts[f"generalization: {form} derived"] += 1
        yield Probe("generalization", form, text, accepted, derived=True)
    if not derived:
        counts[f"generalization: no rephrase given{' and no rule covers the prompt' if layout.derives else ''}"] += 1
