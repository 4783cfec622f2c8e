"""Keeps test subjects out of training: no edit of a tested subject, and no probe that names one."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from instructedit.editors import EditCase

from ..tasks.base import TaskCases, make_task, subjects
from ..tasks.sources import Source


def training_cases(
    task: str, source: Source, tested: Sequence[EditCase], options: Mapping[str, Mapping[str, Any]] | None = None
) -> TaskCases:
    """Return the training cases of a task without the subjects of tested cases, of whatever task.

    `data.skipped` counts the rows and probes that were left out.
    """
    found = make_task(task, options).load(source, "train", exclude=subjects(tested))
    names = _Names({case.request.subject for case in tested})
    counts = Counter(found.data.skipped)

    def untested(case: EditCase) -> EditCase:
        own = case.request.subject
        kept = tuple(p for p in case.probes if p.role == "reliability" or not names.within(p.prompt, but=own))
        if left_out := len(case.probes) - len(kept):
            counts["probe left out: it names a tested subject"] += left_out
        return replace(case, probes=kept)

    # own facts may have no subject
    prompts = {case.request.prompt for case in tested if not case.request.subject}
    cases = tuple(untested(case) for case in found.cases if case.request.prompt not in prompts)
    if left_out := len(found.cases) - len(cases):
        counts["row left out: its prompt is tested"] = left_out
    data = found.data.model_copy(update={"cases": len(cases), "skipped": dict(sorted(counts.items()))})
    return replace(found, cases=cases, data=data)


class _Names:
    """Finds names in texts, as whole words and case-sensitive."""

    def __init__(self, names: Collection[str]) -> None:
        self._by_first_word: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for name in names:
            if words := _words(name):
                self._by_first_word[words[0]].add(words)

    def within(self, text: str, but: str) -> bool:
        words = _words(text.replace(but, " "))
        return any(
            words[index : index + len(name)] == name
            for index, word in enumerate(words)
            for name in self._by_first_word.get(word, ())
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFC", text)))
