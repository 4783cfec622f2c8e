"""Texts as rows of tokens.

A row knows which of its positions are scored and where its prompt ends. Both come from character offsets of the joint
tokenisation of prompt and
answer: no position is ever found by counting from the right, so padding, packing and batch partners cannot move it.
"""

from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from .errors import CaseError, InputError


@dataclass(frozen=True, slots=True)
class Row:
    """One text.

    Attributes:
        ids: Token ids, special tokens of the tokenizer included.
        scored: Positions whose next-token distribution is wanted; position p predicts `ids[p + 1]`.
        prompt_end: Position of the last prompt token, where codebook editors look up their key.
    """

    ids: tuple[int, ...]
    scored: tuple[int, ...]
    prompt_end: int

    @property
    def labels(self) -> tuple[int, ...]:
        """Tokens that the scored positions should predict."""
        return tuple(self.ids[p + 1] for p in self.scored)

    def __len__(self) -> int:
        return len(self.ids)


class Encoder(Protocol):
    """Turns texts into rows: a `LanguageModel`, or a `Sketch` of one."""

    def encode(self, prompt: str, answer: str) -> Row:
        """See `encode`."""
        ...

    def encode_prompt(self, prompt: str, room: int = 1) -> Row:
        """See `encode_prompt`."""
        ...


def join(prompt: str, answer: str) -> tuple[str, int]:
    """Return prompt and answer as one text, and the character where the answer's part begins.

    One space stands between them, unless the prompt ends with other white space. The space belongs to the answer:
    byte-level BPE makes it part of the answer's first token.
    """
    front = prompt.rstrip(" ")
    if not front or front[-1].isspace() or answer[:1].isspace():
        return front + answer, len(front)
    return f"{front} {answer}", len(front)


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str, context: int) -> Row:
    """Tokenise prompt and answer together and score exactly the answer's tokens.

    A token belongs to the answer if any of its characters lies behind the prompt's last one; a token that straddles the
    border is predicted as a whole.

    Raises:
        CaseError: If the answer is empty or the text does not fit into the context.
    """
    if not answer.strip():
        raise CaseError(f"The answer to '{_short(prompt)}' is empty; text was expected.")
    text, border = join(prompt, answer)
    ids, offsets = _tokens(tokenizer, text)
    _check_length(len(ids), context, prompt, answer)
    first = next(i for i, (_, end) in enumerate(offsets) if end > border)
    if first == 0:
        raise CaseError(
            f"The answer '{_short(answer)}' has nothing in front of it to be predicted from; a prompt was expected."
        )
    return Row(tuple(ids), tuple(range(first - 1, len(ids) - 1)), first - 1)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, context: int, room: int = 1) -> Row:
    """Tokenise a prompt that is to be continued; only its last position is scored.

    Args:
        tokenizer: A fast tokenizer.
        prompt: The text to be continued; trailing spaces are cut, because the answer brings its own.
        context: Most tokens the model can take.
        room: New tokens that must still fit behind the prompt.

    Raises:
        CaseError: If prompt and room do not fit into the context.
    """
    ids, _ = _tokens(tokenizer, prompt.rstrip(" "))
    if not ids:
        raise CaseError("The prompt is empty; text was expected.")
    if len(ids) + room > context:
        raise CaseError(
            f"The prompt '{_short(prompt)}' has {len(ids)} tokens and needs room for {room} more, "
            f"but the model's context is {context}."
        )
    return Row(tuple(ids), (len(ids) - 1,), len(ids) - 1)


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return token ids and character spans, without the end-of-text token that some tokenizers append."""
    encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids, offsets = list(encoding["input_ids"]), list(encoding["offset_mapping"])
    special = list(encoding["special_tokens_mask"])
    while len(ids) > 1 and special[len(ids) - 1]:
        ids.pop()
        offsets.pop()
    return ids, offsets


def require_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that cannot say which characters a token covers.

    Raises:
        InputError: If the tokenizer is a slow one.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer (with a tokenizer.json) "
            "was expected, because answers are located by their characters."
        )


def _check_length(tokens: int, context: int, prompt: str, answer: str) -> None:
    if tokens > context:
        raise CaseError(
            f"'{_short(prompt)}' with the answer '{_short(answer)}' has {tokens} tokens, "
            f"but the model's context is {context}."
        )


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
