"""A model under an edit: its answers before and after, the health of the edit, and its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from instructedit.benchmark.results.health import LARGE, REACHED
from instructedit.benchmark.scoring.predictions import Prediction, reduced
from instructedit.benchmark.setup.config import EMBEDDED_MODEL
from instructedit.benchmark.setup.model_checks import defaults_of_another
from instructedit.editors import Editor, EditRequest, Edits, InstructedProbes, LanguageModel, instruction_context
from instructedit.editors.changes import change_facts
from instructedit.editors.models.loading import Origin

from .answers import Answers, facts_rows, greedy

if TYPE_CHECKING:
    from .export import Exported


def name_of(origin: Origin) -> str:
    """Return the name of a model for users: `embedded`, a folder, a GGUF file or a hub id."""
    return "embedded" if origin.name == EMBEDDED_MODEL else origin.place


@dataclass(frozen=True, slots=True)
class EditHealth:
    """Whether an edit took effect. `str` gives one line, and one for each note.

    >>> print(EditHealth(2, 1, 1, (0.97, 0.31), {"steps": 40.0, "relative_norm": 0.052}, {}, 1.24))
    reached 1 of 2 targets (p >= 0.5; lowest 0.31), greedy 1 of 2; 40 steps; |dW| is 5.2 % of |W|; 1.2 s

    Attributes:
        facts: Facts that the edit carries.
        reached: Those whose target has a probability of at least one half (the geometric mean over its tokens).
        greedy: Those whose target has the most likely token at every position under teacher forcing.
        probabilities: The probability of each target.
        edit: What the editor reports (`steps`, `final_loss`, `converged`), and `delta_norm` and `relative_norm` of an
            edit of weights.
        failures: Why facts were left out, by their id.
        seconds: Time that the edit took.
        notes: Sentences on what may explain a target that was not reached.
    """

    facts: int
    reached: int
    greedy: int
    probabilities: tuple[float, ...]
    edit: Mapping[str, float]
    failures: Mapping[str, str]
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lowest = min(self.probabilities)
        words = [
            f"reached {self.reached} of {self.facts} targets (p >= {REACHED:g}; lowest {lowest:.2f}), "
            f"greedy {self.greedy} of {self.facts}"
        ]
        if "steps" in self.edit:
            words.append(f"{self.edit['steps']:.0f} steps")
        if "relative_norm" in self.edit:
            large = " (large)" if self.edit["relative_norm"] > LARGE else ""
            words.append(f"|dW| is {100 * self.edit['relative_norm']:.1f} % of |W|{large}")
        if self.failures:
            words.append(f"{len(self.failures)} left out: {next(iter(self.failures.values())).removesuffix('.')}")
        return "\n".join(["; ".join([*words, f"{self.seconds:.1f} s"]), *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class Edited:
    """A model under one edit. `Model.edit` and `edit_of_run` make one.

    Attributes:
        model: The unedited model.
        origin: Where it was loaded from.
        editor: The editor.
        requests: The facts that the edit carries.
        edits: The edit, as patches.
        failures: Why facts were left out, by their id.
        seconds: Time that the edit took.
        instructed_probes: Which prompts carry a fact's instruction; None: as the editor has it.
        notes: Sentences for the user.
    """

    model: LanguageModel
    origin: Origin
    editor: Editor[Any]
    requests: tuple[EditRequest, ...]
    edits: Edits
    failures: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    instructed_probes: InstructedProbes | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Edited({name_of(self.origin)!r}, {self.editor.name}, {len(self.requests)} facts)"

    @cached_property
    def prefixes(self) -> list[str]:
        """What is put before each fact's prompt: the edit's own context, or the fact's instruction."""
        probes = self.editor.instructed_probes if self.instructed_probes is None else self.instructed_probes
        contexts = [self.edits.contexts[0] or instruction_context(request, probes) for request in self.requests]
        return ["" if context is None else context.prompt_prefix("reliability") for context in contexts]

    @property
    def prefix(self) -> str:
        """What is put before any prompt: the prefix that all facts share, else nothing."""
        return self.prefixes[0] if len(set(self.prefixes)) == 1 else ""

    def ask(self, prompts: str | Sequence[str], max_new_tokens: int = 32) -> Answers:
        """Return the greedy answers before and after the edit, each up to its natural stop.

        Where the edit did not reach all its targets, the notes of the answers say so, and what may explain it.

        Raises:
            CaseError: If a prompt is empty or longer than the model's context.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        before = greedy(self.model, prompts, max_new_tokens)
        after = greedy(self.model, prompts, max_new_tokens, self.edits, self.prefix)
        health = self.health
        failed = f"{self.editor.title} reached {health.reached} of {health.facts} targets."
        notes = () if health.reached == health.facts else (failed, *health.notes)
        return Answers(tuple(prompts), tuple(before), tuple(after), notes)

    @cached_property
    def taught(self) -> list[Prediction]:
        """The edited model's predictions of the facts' targets under teacher forcing."""
        rows = facts_rows(self.model, self.requests, self.prefixes)
        with torch.no_grad():
            found = reduced(rows, set(), self.model.forward(rows, self.edits, [0] * len(rows)))
        return [found[index] for index in range(len(rows))]

    @cached_property
    def health(self) -> EditHealth:
        """Whether the edit took effect."""
        probabilities = tuple(found.probability for found in self.taught)
        (changes,) = change_facts(self.model, self.edits, apart=False)
        return EditHealth(
            facts=len(self.requests),
            reached=sum(p >= REACHED for p in probabilities),
            greedy=sum(found.exact for found in self.taught),
            probabilities=probabilities,
            edit={**self.edits.facts[0], **changes},
            failures=self.failures,
            seconds=self.seconds,
            notes=(*self.notes, *self._reasons(min(probabilities) >= REACHED)),
        )

    def _reasons(self, reached: bool) -> list[str]:
        """Return a sentence on options that were published for another model, where a target was not reached."""
        if reached or (left := defaults_of_another(self.editor, self.model)) is None:
            return []
        names = f"{', '.join(left.options)} (published for {left.model})"
        return [f"Options of {self.editor.name} at defaults of another model: {names}."]

    def save_pretrained(self, folder: str | Path, form: str = "hf") -> "Exported":
        """Write the edited model, load it again, and ask it the facts.

        Args:
            folder: Where to write; it must not exist, or be empty.
            form: `hf`, a whole model for `from_pretrained`; `peft`, a LoRA adapter; `edits`, patches for `load_edits`.

        Returns:
            What was written and how many facts took effect in it; `str` gives two lines.

        Raises:
            InputError: If the form cannot hold the edit (the sentence names those that can), or the folder has content.
            OSError: If it cannot be written.
        """
        from .export import export

        return export(self, Path(folder), form)
