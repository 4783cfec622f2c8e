"""The texts that an edit is made from, and the loss over their tokens.

A fact has one text, its prompt and target. An attitude edit may carry several replies: all of a record, as in
EasyEdit's multi-task data for InstructEdit. The loss of a request is that of SERAC (arXiv 2206.06520):

    L = - mean log p(t)  over the tokens t of the wanted replies
        - mean log(1 - p(t) + 1e-5)  over the tokens of replies of the opposite sentiment

Both means pool the tokens of all replies. Only reply tokens are scored. EasyEdit also trains on the tokens of the
question, which all replies have in common.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .cases import EditRequest
from .edits import Edits
from .engine.model import LanguageModel
from .errors import CaseError
from .models.tokens import TokenSequence, token_at

EPSILON = 1e-5
"""Keeps log(1 - p) finite."""
LEFT_OUT = "replies_left_out"
"""Fact of an edit: how many of its replies do not fit the model's context."""


@dataclass(frozen=True, slots=True)
class EditTexts:
    """The texts of one request that should become likely, at least one, and those that should become unlikely.

    `left_out` counts the replies that do not fit the model's context.
    """

    wanted: tuple[TokenSequence, ...]
    opposed: tuple[TokenSequence, ...] = ()
    left_out: int = 0

    def __len__(self) -> int:
        """Return the number of tokens of all texts."""
        return sum(map(len, (*self.wanted, *self.opposed)))

    @property
    def tokens(self) -> tuple[int, int]:
        """Number of scored tokens of the wanted and of the opposed texts."""
        wanted, opposed = (sum(len(row.scored) for row in kind) for kind in (self.wanted, self.opposed))
        return wanted, opposed


@dataclass(frozen=True, slots=True)
class EditRows:
    """The texts of several requests as one list, request by request.

    Attributes:
        rows: The texts.
        requests: For each row the index of its request, in ascending order.
        opposed: For each row whether it should become unlikely.
        tokens: For each row the number of tokens that the mean of its kind (wanted or opposed) is taken over.
    """

    rows: tuple[TokenSequence, ...]
    requests: tuple[int, ...]
    opposed: tuple[bool, ...]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, texts: Sequence[EditTexts], pools: Sequence[tuple[int, int]] | None = None) -> "EditRows":
        """Return the texts of requests.

        `pools` are the numbers of wanted and of opposed tokens in the loss of each request, larger than its own where
        several requests have one loss; its own by default.
        """
        rows: list[tuple[TokenSequence, int, bool, int]] = []
        for number, own in enumerate(texts):
            tokens = own.tokens if pools is None else pools[number]
            for opposed, kind in ((False, own.wanted), (True, own.opposed)):
                rows += [(row, number, opposed, tokens[opposed]) for row in kind]
        columns = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls(*(tuple(column) for column in columns))

    def loss(self, row: int, log_p: Tensor) -> Tensor:
        """Return one row's part of its request's loss, a scalar.

        The log-probabilities are those at its scored positions, [scored, vocabulary]; [1, vocabulary] predicts every
        label from one position.
        """
        labels = torch.tensor(self.rows[row].labels, device=log_p.device)
        own = log_p.expand(len(labels), -1).gather(1, labels[:, None])
        return token_losses(own, self.opposed[row]).sum() / self.tokens[row]


def edit_texts(request: EditRequest, encode: Callable[[str], TokenSequence], *, ends: bool = False) -> EditTexts:
    """Return the texts an edit of a request is made from. Replies that do not fit the context are left out.

    `ends` says that texts end in the token that ends an answer, which is no part of opposed ones.

    Raises:
        CaseError: If no wanted text fits the model's context.
    """
    if not request.replies and not request.opposed:
        return EditTexts((encode(request.target),))
    refused: list[CaseError] = []

    def fitting(answers: Sequence[str]) -> tuple[TokenSequence, ...]:
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
    opposed = fitting(request.opposed)
    return EditTexts(wanted, tuple(row.without_last() for row in opposed) if ends else opposed, len(refused))


def token_losses(log_p: Tensor, opposed: bool) -> Tensor:
    """Return the loss of each token from its log-probability: -log p, or -log(1 - p + 1e-5) for an opposed text."""
    return -torch.log(1 - log_p.exp() + EPSILON) if opposed else -log_p


def subject_token(model: LanguageModel, request: EditRequest) -> int:
    """Return the index of the subject's last token in a request's text, of its last occurrence in the prompt.

    Raises:
        CaseError: If the request has no subject, or the subject does not occur in the prompt.
    """
    if not request.subject:
        raise CaseError(f"The editor needs the subject of the fact '{request.prompt}', but none is given.")
    place = request.prompt.rfind(request.subject)
    if place < 0:
        raise CaseError(f"The subject '{request.subject}' does not occur in the prompt '{request.prompt}'.")
    last = place + len(request.subject) - 1
    return token_at(model.tokenizer, request.prompt, request.target, last, request.joint, model.chat)


def counted(edits: Edits, texts: Sequence[EditTexts], owners: Sequence[int] | None = None) -> Edits:
    """Add the number of replies that did not fit to the facts of edits; `owners` has the edit of each request."""
    facts = [dict(own) for own in edits.facts]
    for found, owner in zip(texts, range(len(texts)) if owners is None else owners, strict=True):
        if found.left_out:
            facts[owner][LEFT_OUT] = facts[owner].get(LEFT_OUT, 0.0) + found.left_out
    return replace(edits, facts=tuple(facts))
