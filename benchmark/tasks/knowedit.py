"""KnowEdit's record layout, and the tasks WikiData Recent and WikiData CounterFact.

`subject`, `prompt` and `target_new` are required; without them the run stops. The probes under `portability` and
`locality` are optional and often malformed: one that cannot be used is left out and counted by its reason.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from instructedit.editors import EditCase, EditRequest, InputError, Probe
from instructedit.editors.writing_systems import blank

from .base import Split, Task, cite
from .flat import NO_ANSWER, old_answer
from .parse import Row, answers
from .rephrase import derive_rephrases

REPHRASE_FIELDS = ("rephrase_prompt", "rephrase")
_GROUPS = tuple(
    f"{role}{inner}" for role in ("portability", "locality") for inner in ("", ".*", ".*.prompt", ".*.ground_truth")
)


class KnowEditTask(Task):
    """A task whose records have KnowEdit's fields."""

    homepage = "https://huggingface.co/datasets/zjunlp/KnowEdit"
    fields: ClassVar[tuple[str, ...]] = ("subject", "prompt", "target_new", "ground_truth", *REPHRASE_FIELDS, *_GROUPS)
    required: ClassVar[tuple[tuple[str, ...], ...]] = (("subject", "prompt", "target_new"),)
    ignored = Task.ignored | {"cond"}

    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """See `Task.cases`."""
        for row in rows:
            yield self.case(row, split, counts)

    def case(self, row: Row, split: Split, counts: Counter[str]) -> EditCase:
        """Return the case of one record; `InputError` if subject, prompt or target is missing, mistyped or empty."""
        accepted = row.accepted("target_new")
        case_id = f"{self.name}/{split}/{row.index}"
        old = (
            old_answer(row, "ground_truth", accepted[0], counts) if row.fields.get("ground_truth") is not None else None
        )
        request = EditRequest(case_id, self.name, row.text("prompt"), accepted[0], row.text("subject"), old=old)
        accepted = _with_aliases(row, accepted)
        return EditCase(
            request,
            (
                Probe("reliability", "edit", request.prompt, accepted),
                *_generalization(row, request, accepted, counts),
                *_probes(row, "portability", request, counts),
                *_probes(row, "locality", request, counts),
            ),
        )


class Recent(KnowEditTask):
    """WikiData Recent: inserting a fact that was added to Wikidata after the model was trained."""

    name = "recent"
    title = "Recent"
    about = "facts that became known after the model was trained"
    version = "1"
    licence = "MIT"
    citation = cite("zhang2024knowedit", "cohen2024ripple")
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": ("wiki_recent/recent_train.json", "benchmark_wiki_recent_recent_train.json"),
        "test": ("wiki_recent/recent_test.json", "benchmark_wiki_recent_recent_test.json"),
    }
    published_rows: ClassVar[dict[Split, int]] = {"train": 570, "test": 1266}
    published_digests: ClassVar[dict[str, str]] = {
        "recent_train.json": "318274a1f52051fdead83442d7adcd9015fe662275c354fb2d7adad5e6a58788"
    }


class CounterFact(KnowEditTask):
    """WikiData CounterFact: replacing a fact that the model may know by an invented one."""

    name = "counterfact"
    title = "CounterFact"
    about = "facts whose established value gives way to an invented one"
    version = "1"
    licence = "MIT"
    citation = cite("zhang2024knowedit", "cohen2024ripple")
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": ("wiki_counterfact/train_cf.json", "benchmark_wiki_counterfact_train_cf.json"),
        "test": ("wiki_counterfact/test_cf.json", "benchmark_wiki_counterfact_test_cf.json"),
    }
    # The data card gives 1,455 training rows; the published file has 1,428.
    published_rows: ClassVar[dict[Split, int]] = {"train": 1428, "test": 885}
    published_digests: ClassVar[dict[str, str]] = {
        "train_cf.json": "a053786eff7c28b59f3fe6cf0a77046f8736255548455c6d53faca0eb016387e"
    }


def _with_aliases(row: Row, accepted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the target's right answers followed by its aliases, where the record is unambiguous about them.

    The answers of a Subject_Aliasing probe are the edit's own; an alias list among them that begins with the target
    holds the target's names. A flat list may hold several different answers, so it is not used.
    """
    portability = row.fields.get("portability")
    items = portability.get("Subject_Aliasing") if isinstance(portability, Mapping) else None
    names = [*accepted]
    for item in items if isinstance(items, list) else ():
        groups = item.get("ground_truth") if isinstance(item, Mapping) else None
        for group in groups if isinstance(groups, list) else ():
            if isinstance(group, list) and group[:1] == [accepted[0]] and all(isinstance(name, str) for name in group):
                names += group
    return answers(names)


def _generalization(row: Row, request: EditRequest, accepted: tuple[str, ...], counts: Counter[str]) -> Iterator[Probe]:
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


def _probes(
    row: Row, role: Literal["portability", "locality"], request: EditRequest, counts: Counter[str]
) -> Iterator[Probe]:
    """Yield the portability or locality probes, one for each subset and prompt with the answers of all its entries.

    A probe with the edit's own prompt is left out: under locality it contradicts the edit, under portability it asks
    for nothing new.
    """
    subsets = row.fields.get(role)
    if subsets is None:
        return
    if not isinstance(subsets, Mapping):
        counts[f"{role}: malformed group of probes left out"] += 1
        return
    for subset, items in subsets.items():
        merged: dict[str, tuple[str, ...]] = {}
        if items is not None and not isinstance(items, list):
            counts[f"{role}: malformed group of probes left out"] += 1
            continue
        for item in items or ():
            prompt, accepted = _prompt_and_answers(item)
            if not prompt:
                counts[f"{role}: malformed probe left out"] += 1
            elif not accepted and role != "locality":
                counts[f"{role}: probe without an answer left out"] += 1
            elif prompt == request.prompt:
                counts[f"{role}: probe that repeats the edit prompt left out"] += 1
            else:
                if prompt in merged:
                    counts[f"{role}: repeated probe merged, its answers kept"] += 1
                merged[prompt] = answers([*merged.get(prompt, ()), *accepted])
        for prompt, accepted in merged.items():
            if not accepted:
                counts[NO_ANSWER] += 1
            yield Probe(role, subset, prompt, accepted)


def _prompt_and_answers(item: Any) -> tuple[str, tuple[str, ...]]:
    """Return an entry's prompt and answers; an empty prompt if the entry is malformed."""
    prompt = item.get("prompt") if isinstance(item, Mapping) else None
    if not isinstance(prompt, str) or blank(prompt):
        return "", ()
    try:
        return prompt.strip(), answers(item.get("ground_truth"))
    except InputError:
        return "", ()
