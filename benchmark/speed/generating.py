"""Answers and texts of a chunk, by the engine and one prompt at a time."""

from collections.abc import Sequence
from typing import Any

from instructedit.editors import Cut, EditCase, Editor, Edits, LanguageModel

from ..results.records import GenerationSpec
from ..results.speed_results import Phase
from ..scoring.probe_batch import Plan
from . import fast, slow_generation
from .samples import Samples
from .slow import UNCHANGED, Change, Twin
from .slow_edits import REFERENCES
from .watch import Watch
from .work import Needed

GENERATION = GenerationSpec()


class Generating:
    """Continuations of prompts by the unedited model, and again under edits that are made beforehand.

    The unedited model's are made once for all editors, which are compared with them: an editor's seconds hold a share
    of theirs. The slow path makes them anew for each editor.

    Args:
        name: The editor, or a name for the unedited model.
        editor: None for the unedited model.
        cases: The cases; the same texts for all.
        model: The model.
        twin: The same for the slow path.
        watch: Measures.
        sharing: Editors that share the unedited model's texts.
        unedited: What measures the unedited model, always just before; None for itself.
    """

    phase: Phase = "generate"

    def __init__(
        self,
        name: str,
        editor: Editor[Any] | None,
        cases: Sequence[EditCase],
        model: LanguageModel,
        twin: Twin | None,
        watch: Watch,
        sharing: int = 1,
        unedited: "Generating | None" = None,
    ) -> None:
        self.name, self.model, self.cases, self.twin, self.watch = name, model, cases, twin, watch
        self.chunk, self.sharing, self.unedited = len(cases), sharing, unedited
        self.edits = Edits.none(len(cases)) if editor is None else fast.edit(model, cases, editor).edits
        self.cuts: list[Cut] = []
        if unedited is not None and self.edits.cut is not None:
            unedited.cuts.append(self.edits.cut)
        self.change: Change | None = None
        if twin is not None:
            self.change = UNCHANGED if editor is None else REFERENCES[name](twin, editor, cases[0].request, 0)
        self.told: fast.Told | None = None
        self.said: list[tuple[list[str], str]] = []
        self.seconds = self.slow = 0.0

    def work(self, needed: Needed) -> float:
        """Return the operations that one case needs, for texts as long as those of the latest repeat."""
        lengths = [[len(answer.split()) for answer in answers] for answers, _ in self.said]
        if self.name == "grace":
            lengths = [own[:1] for own in lengths]  # no other prompt's key is near: the unedited model's answer stands
        count = sum(map(len, lengths))
        own = needed.generate(count / len(lengths), sum(map(sum, lengths)) / count, GENERATION.fluency_tokens)
        return own if self.unedited is None else own + self.unedited.work(Needed(needed.shape)) / self.sharing

    def measure(self, samples: Samples) -> None:
        """Continue the prompts of all cases by the engine, and those of the first one by one."""
        first = not samples.fast
        held = self.watch.begin() if first else None
        (plan, answers, texts), self.seconds = self.watch.time(self._continued)
        samples.peak = self.watch.end(held) if first else samples.peak
        self.said = fast.by_case(plan, answers, texts)
        shared = 0.0 if self.unedited is None else self.unedited.seconds / self.sharing
        samples.fast.append((self.seconds + shared) / self.chunk)
        if self.twin is None or self.change is None:
            return
        twin, change = self.twin, self.change
        with twin.under(change):
            (alone, text), self.slow = self.watch.time(
                lambda: slow_generation.continued(twin, self.cases[0], GENERATION, 0)
            )
        samples.slow.append(self.slow + (0.0 if self.unedited is None else self.unedited.slow))
        if first:
            samples.compared.texts([*self.said[0][0], self.said[0][1]], [*alone, text])

    def _continued(self) -> tuple[Plan, Sequence[str], Sequence[str]]:
        if self.unedited is None:
            self.told = fast.unedited(self.model, self.cases, self.cuts, GENERATION)
            return self.told.plan, self.told.before.generated, self.told.before.free
        assert self.unedited.told is not None, "the unedited model comes first"
        return self.unedited.told.plan, *fast.edited(self.model, self.unedited.told, self.edits, GENERATION)
