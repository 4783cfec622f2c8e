"""Greedy answers, and the texts by which a model answers facts under teacher forcing."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from instructedit.benchmark.scoring.matching import finished, first_answer
from instructedit.editors import EditRequest, Edits, LanguageModel, TokenSequence
from instructedit.editors.engine.generation import answers
from instructedit.reports.render.literal import literal

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers before and after an edit: a table in notebooks, on the terminal, and as a data frame.

    >>> print(Answers(("The capital of X is",), ("A",), ("Y",)))
    prompt               before  after
    The capital of X is  A       Y

    Attributes:
        prompts: The prompts.
        before: Greedy answers of the unedited model, each up to its natural stop; '' if it stops at once.
        after: Those of the edited model.
        notes: Sentences on an edit that did not take effect, shown below the table.
    """

    prompts: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows, as they are shown: on one line, control characters by their codes."""
        lines = zip(self.prompts, self.before, self.after, strict=True)
        return [tuple(literal(" ".join(text.split())) or "(nothing)" for text in line) for line in lines]

    def __str__(self) -> str:
        lines = [("prompt", "before", "after"), *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
        table = [f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in lines]
        return "\n".join([*table, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        def cells(kind: str, line: Sequence[str]) -> str:
            parts = "".join(f'<{kind} style="text-align: left">{html.escape(cell)}</{kind}>' for cell in line)
            return f"<tr>{parts}</tr>"

        head = cells("th", ("prompt", "before", "after"))
        body = "".join(cells("td", line) for line in self.rows)
        notes = "".join(f"<p>Note: {html.escape(note)}</p>" for note in self.notes)
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{notes}"

    def to_dict(self) -> list[dict[str, str]]:
        """Return one mapping for each prompt, with `prompt`, `before` and `after`."""
        lines = zip(self.prompts, self.before, self.after, strict=True)
        return [dict(zip(("prompt", "before", "after"), line, strict=True)) for line in lines]

    def to_pandas(self) -> "DataFrame":
        """Return columns `prompt`, `before` and `after`."""
        from pandas import DataFrame

        return DataFrame(self.to_dict(), columns=["prompt", "before", "after"])


def greedy(
    model: LanguageModel, prompts: Sequence[str], max_new_tokens: int, edits: Edits | None = None, prefix: str = ""
) -> list[str]:
    """Return the greedy answer to each prompt after a prefix, under one edit or none; `CaseError` if too long."""
    rows = [model.encode_prompt(prefix + prompt, max_new_tokens) for prompt in prompts]
    texts = answers(
        model,
        rows,
        Edits.none(1) if edits is None else edits,
        [0] * len(rows),
        max_new_tokens=max_new_tokens,
        finished=lambda _, text: finished(text, ()),
    )
    return [_natural(text) for text in texts]


def _natural(text: str) -> str:
    """Return a generated text up to the stop at which its generation ended, or all of its first line."""
    line = first_answer(text, len(text))
    if not finished(text, ()):
        return line
    inner = next(stops for stops in count() if first_answer(text, stops) == line)
    return first_answer(text, max(0, inner - 1))


def facts_rows(model: LanguageModel, requests: Sequence[EditRequest], prefixes: Sequence[str]) -> list[TokenSequence]:
    """Return the texts of prompts and targets, each prompt with its prefix."""
    pairs = zip(prefixes, requests, strict=True)
    return [model.encode(prefix + own.prompt, own.target, own.joint) for prefix, own in pairs]
