"""Data sets of one file and flat records: one edit, one rephrase, one locality prompt a row.

The file has no splits. A fifth of the subjects, chosen by a hash of the name, is tested and the rest trains
(`Task.test_share`), so that no subject is on both sides. The hash does not depend on the data set: a subject that two
of them share is tested in both.

A rephrase or locality prompt that a row lacks is not asked; no rule makes one.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from instructedit.editors import EditCase, EditRequest, InputError, Probe
from instructedit.editors.scripts import blank

from . import citations
from .base import Split, Task, TaskOptions
from .parse import Row, answers
from .zsre import MEND_FIELDS, NQ_PREFIX

TEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Names:
    """The fields of an optional probe, and the subset it is reported as."""

    prompt: str
    answer: str
    subset: str


class RomeCounterFact(Task):
    """ROME's CounterFact in the flat layout of one paraphrase and one neighbourhood prompt a row."""

    name = "rome-counterfact"
    title = "CounterFact (ROME)"
    about = "facts whose established object gives way to a false one of the same type"
    version = "1"
    licence = "MIT"
    citation = citations.ROME
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
    test_share = TEST_SHARE
    fields = (
        "subject",
        "prompt",
        "target_new",
        "ground_truth",
        "rephrase_prompt",
        "locality_prompt",
        "locality_ground_truth",
    )
    required = (("subject", "prompt", "target_new"),)

    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """See `Task.cases`."""
        for row in rows:
            accepted = row.accepted("target_new")
            request = EditRequest(
                f"{self.name}/{split}/{row.index}",
                self.name,
                row.text("prompt"),
                accepted[0],
                row.text("subject"),
                old=_old(row, "ground_truth", accepted[0], counts),
            )
            local = Names("locality_prompt", "locality_ground_truth", "Neighborhood")
            yield _case(row, request, accepted, "rephrase_prompt", local, counts)


class MendZsREOptions(TaskOptions):
    """Which answer is the new one."""

    target: Literal["alt", "answers"] = "alt"
    """`alt`: the invented answer, as in MEND, EasyEdit and LocFT. `answers`: the true one, as in ROME, MEMIT and
    AlphaEdit, which a model may give without any edit."""


class MendZsRE(Task):
    """zsRE in MEND's layout."""

    name = "mend-zsre"
    title = "zsRE (MEND)"
    about = "questions about one relation of a subject, whose answer is exchanged for another name"
    version = "1"
    licence = "MIT"
    citation = citations.cite(citations.MEND, citations.ZSRE)
    homepage = "https://github.com/eric-mitchell/mend"
    files: ClassVar[dict[Split, tuple[str, ...]]] = dict.fromkeys(
        ("train", "test"),
        (
            "zsre/zsre_mend_eval.json",
            "zsre_mend_eval.json",
            "zsre/zsre_3k.json",
            "zsre_3k.json",
        ),
    )
    test_share = TEST_SHARE
    fields = MEND_FIELDS
    required = (("subject", "src", "alt"),)
    unread = Task.unread | {"alt", "pred", "cond"}  # `alt` is not under `answers`
    Options = MendZsREOptions
    options: MendZsREOptions

    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """See `Task.cases`; `pred` and `cond` repeat what other fields say, or what another model said."""
        for row in rows:
            accepted = row.accepted("alt") if self.options.target == "alt" else _true_answers(row)
            request = EditRequest(
                f"{self.name}/{split}/{row.index}",
                self.name,
                row.text("src"),
                accepted[0],
                row.text("subject"),
                old=_old(row, "answers", accepted[0], counts) if self.options.target == "alt" else None,
            )
            yield _case(row, request, accepted, "rephrase", Names("loc", "loc_ans", "NQ"), counts)


def _case(
    row: Row, request: EditRequest, accepted: tuple[str, ...], rephrase: str, local: Names, counts: Counter[str]
) -> EditCase:
    """Return the case of a row: the edit's own prompt, and what the row has of rephrase and locality prompt."""
    probes = [Probe("reliability", "edit", request.prompt, accepted)]
    text = _optional(row, rephrase, "generalization", request, counts)
    if text is not None:
        probes.append(Probe("generalization", "rephrase", text, accepted))
    text = _optional(row, local.prompt, "locality", request, counts)
    if text is not None:
        try:
            expected = answers(row.fields.get(local.answer))
        except InputError:
            expected = ()
        if expected:
            # the task prefix of the T5 models that the file was made for says nothing to a decoder
            probes.append(Probe("locality", local.subset, text.removeprefix(NQ_PREFIX), expected))
        else:
            counts["locality: probe without a usable answer left out"] += 1
    return EditCase(request, tuple(probes))


def _optional(row: Row, field: str, role: str, request: EditRequest, counts: Counter[str]) -> str | None:
    """Return the text of an optional prompt, None if there is none or it repeats the edit's own."""
    value = row.fields.get(field)
    if value is None or (isinstance(value, str) and blank(value)):
        counts[f"{role}: no prompt given, not asked"] += 1
    elif not isinstance(value, str):
        counts[f"{role}: malformed prompt left out"] += 1
    elif value.strip() == request.prompt:
        counts[f"{role}: prompt that repeats the edit's own left out"] += 1
    else:
        return value.strip()
    return None


def _old(row: Row, field: str, target: str, counts: Counter[str]) -> str | None:
    """Return the answer before the edit, None where the row does not say it."""
    try:
        known = answers(row.fields.get(field))
    except InputError:
        known = ()
    if target in known:
        counts["edit: the target is an answer from before the edit"] += 1
    others = [answer for answer in known if answer != target]
    if not others:
        counts["edit: no other answer from before the edit is given"] += 1
    return others[0] if others else None


def _true_answers(row: Row) -> tuple[str, ...]:
    """Return the true answers.

    Raises:
        InputError: If there is none, or the field is mistyped.
    """
    try:
        found = answers(row.fields.get("answers"))
    except InputError as error:
        raise row.error("answers", "a list of answers") from error
    if not found:
        raise row.error("answers", "a list of at least one answer")
    return found
