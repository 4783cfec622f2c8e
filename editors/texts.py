"""The texts an edit is made from, and the loss over their tokens.

A fact has one text, its prompt and its target. An attitude edit may carry several replies: all of a record, as in
EasyEdit's multi-task data for InstructEdit. The loss of one request is that of SERAC (arXiv 2206.06520):

    L = - mean log p(t)  over the tokens t of the wanted replies
        - mean log(1 - p(t) + 1e-5)  over those of replies of the opposite sentiment

Both means pool the tokens of all replies. Only tokens of the replies count; EasyEdit also trains on those of the
question, which every reply shares.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from .cases import EditRequest
from .edits import Edits
from .errors import CaseError
from .models.tokens import Row

EPSILON = 1e-5
"""Keeps log(1 - p) finite."""
LEFT_OUT = "replies_left_out"
"""Fact of an edit: how many of its replies do not fit the model's context."""


@dataclass(frozen=True, slots=True)
class EditTexts:
    """The texts of one request.

    Attributes:
        wanted: Texts that should become likely, at least one.
        opposed: Texts that should become unlikely.
        left_out: Replies that do not fit the model's context.
    """

    wanted: tuple[Row, ...]
    opposed: tuple[Row, ...] = ()
    left_out: int = 0

    def __len__(self) -> int:
        """Return the number of tokens of all texts."""
        return sum(map(len, (*self.wanted, *self.opposed)))

    @property
    def tokens(self) -> tuple[int, int]:
        """The scored tokens of the wanted and of the opposed texts."""
        wanted, opposed = (sum(len(row.scored) for row in kind) for kind in (self.wanted, self.opposed))
        return wanted, opposed


@dataclass(frozen=True, slots=True)
class EditRows:
    """The texts of several requests as one list, those of a request next to each other.

    Attributes:
        rows: The texts.
        requests: For each row the index of its request, in ascending order.
        opposed: For each row whether it should become unlikely.
        tokens: For each row the scored tokens that the mean of its kind, wanted or opposed, is taken over: those of its
            request, or of all requests whose loss is one. A token's share in that loss is 1 / tokens.
    """

    rows: tuple[Row, ...]
    requests: tuple[int, ...]
    opposed: tuple[bool, ...]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, texts: Sequence[EditTexts | Row], pools: Sequence[tuple[int, int]] | None = None) -> "EditRows":
        """Return the texts of requests; a bare row is the only text of its request.

        Args:
            texts: The texts of each request.
            pools: For each request the wanted and the opposed tokens that its loss is the mean over, where it is part
                of a loss over several requests; by default its own.
        """
        rows: list[tuple[Row, int, bool, int]] = []
        for number, found in enumerate(texts):
            own = EditTexts((found,)) if isinstance(found, Row) else found
            tokens = own.tokens if pools is None else pools[number]
            for opposed, kind in ((False, own.wanted), (True, own.opposed)):
                rows += [(row, number, opposed, tokens[opposed]) for row in kind]
        columns = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls(*(tuple(column) for column in columns))

    def losses(self, row: int, log_p: Tensor) -> Tensor:
        """Return the terms of one row's tokens, from their log-probabilities."""
        return token_losses(log_p, self.opposed[row]) / self.tokens[row]


def edit_texts(request: EditRequest, encode: Callable[[str], Row]) -> EditTexts:
    """Return the texts an edit of a request is made from. A reply that does not fit the context is left out.

    Args:
        request: The request.
        encode: Returns the text of the request's prompt and an answer.

    Raises:
        CaseError: If no wanted text fits the model's context.
    """
    if not request.replies and not request.opposed:
        return EditTexts((encode(request.target),))
    refused: list[CaseError] = []

    def fitting(answers: Sequence[str]) -> tuple[Row, ...]:
        rows = []
        for answer in answers:
            try:
                rows.append(encode(answer))
            except CaseError as error:
                refused.append(error)
        return tuple(rows)

    wanted = fitting(request.replies or (request.target,))
    if not wanted:
        raise refused[0]
    return EditTexts(wanted, fitting(request.opposed), len(refused))


def token_losses(log_p: Tensor, opposed: bool | Tensor) -> Tensor:
    """Return the loss of each token from its log-probability: -log p, of opposed ones -log(1 - p + 1e-5)."""
    if opposed is False:
        return -log_p
    unlikely = -torch.log(1 - log_p.exp() + EPSILON)
    return unlikely if opposed is True else torch.where(opposed, unlikely, -log_p)


def counted(edits: Edits, texts: Sequence[EditTexts], owners: Sequence[int] | None = None) -> Edits:
    """Return edits whose facts tell how many replies did not fit, where there are any.

    Args:
        edits: The edits.
        texts: The texts of each request.
        owners: For each request the index of its edit; by default its own.
    """
    facts = [dict(own) for own in edits.facts]
    for found, owner in zip(texts, count() if owners is None else owners, strict=owners is not None):
        if found.left_out:
            facts[owner][LEFT_OUT] = facts[owner].get(LEFT_OUT, 0.0) + found.left_out
    return replace(edits, facts=tuple(facts))
