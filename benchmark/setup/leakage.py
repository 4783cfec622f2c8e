"""What keeps test subjects out of training: no edit of a tested subject, and no probe that names one."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from instructedit.editors import EditCase

from ..tasks.base import TaskCases, make_task, subjects
from ..tasks.sources import Source


class TrainingCases:
    """The training splits of tasks without the tested subjects; each file is read once.

    Args:
        source: Where the files are.
        tested: All cases whose subjects are tested, of whatever task.
        options: Options of tasks by name.
    """

    def __init__(
        self, source: Source, tested: Collection[EditCase], options: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._source = source
        self._options = options or {}
        self._tested = subjects(tested)
        self._names = _Names({case.request.subject for case in tested})
        self._found: dict[str, TaskCases] = {}

    def of(self, task: str) -> TaskCases:
        """Return the training cases of a task; `data.skipped` counts the rows and probes that were left out."""
        if task not in self._found:
            found = make_task(task, self._options).load(self._source, "train", exclude=self._tested)
            counts = Counter(found.data.skipped)
            cases = tuple(self._without_tested(case, counts) for case in found.cases)
            data = found.data.model_copy(update={"skipped": dict(sorted(counts.items()))})
            self._found[task] = replace(found, cases=cases, data=data)
        return self._found[task]

    def _without_tested(self, case: EditCase, counts: Counter[str]) -> EditCase:
        own = case.request.subject
        kept = tuple(p for p in case.probes if p.role == "reliability" or not self._names.within(p.prompt, but=own))
        if left_out := len(case.probes) - len(kept):
            counts["probe left out: it names a tested subject"] += left_out
        return replace(case, probes=kept)


class _Names:
    """Finds names in texts, as whole words and case-sensitive."""

    def __init__(self, names: Collection[str]) -> None:
        self._by_first_word: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for name in names:
            if words := _words(name):
                self._by_first_word[words[0]].add(words)

    def within(self, text: str, but: str) -> bool:
        """Tell whether a text contains a name outside of the occurrences of `but`."""
        words = _words(text.replace(but, " "))
        return any(
            words[index : index + len(name)] == name
            for index, word in enumerate(words)
            for name in self._by_first_word.get(word, ())
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFC", text)))
