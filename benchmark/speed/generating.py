"""Answers and texts of a chunk, by the engine and one prompt at a time."""

from collections.abc import Sequence
from typing import Any

from instructedit.editors import EditCase, Editor, LanguageModel

from ..results import GenerationSpec
from . import fast, slow_generation
from .record import Phase
from .samples import Samples
from .slow import Twin
from .slow_edits import REFERENCES
from .watch import Watch
from .work import Needed

GENERATION = GenerationSpec()


class Generating:
    """Continuations of the edited models' prompts; the edits are made beforehand."""

    phase: Phase = "generate"

    def __init__(
        self,
        name: str,
        editor: Editor[Any],
        cases: Sequence[EditCase],
        model: LanguageModel,
        twin: Twin | None,
        watch: Watch,
    ) -> None:
        self.name, self.model, self.cases, self.twin, self.watch = name, model, cases, twin, watch
        self.chunk = len(cases)
        self.edits = fast.edit(model, cases, editor).edits
        self.change = REFERENCES[name](twin, editor, cases[0].request, 0) if twin is not None else None
        self.said: list[tuple[list[str], str]] = []

    def work(self, needed: Needed) -> float:
        """Return the operations that one case needs, for texts as long as those of the first repeat."""
        lengths = [[len(answer.split()) for answer in answers] for answers, _ in self.said]
        if self.name == "grace":
            lengths = [own[:1] for own in lengths]  # no other prompt's key is near: the unedited model's answer stands
        count = sum(map(len, lengths))
        return needed.generate(count / len(lengths), sum(map(sum, lengths)) / count, GENERATION.fluency_tokens)

    def measure(self, samples: Samples) -> None:
        """Continue the prompts of all cases by the engine, and those of the first one by one."""
        first = not samples.fast
        held = self.watch.begin() if first else None
        self.said, seconds = self.watch.time(lambda: fast.continued_by(self.model, self.cases, self.edits, GENERATION))
        samples.peak = self.watch.end(held) if first else samples.peak
        samples.fast.append(seconds / self.chunk)
        if self.twin is None or self.change is None:
            return
        twin, change = self.twin, self.change
        with twin.under(change):
            (answers, text), seconds = self.watch.time(
                lambda: slow_generation.continued(twin, self.cases[0], GENERATION, 0)
            )
        samples.slow.append(seconds)
        if first:
            samples.compared.texts([*self.said[0][0], self.said[0][1]], [*answers, text])
