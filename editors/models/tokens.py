"""Texts as sequences of tokens.

Which positions are scored and where the prompt ends follows from character offsets of the joint tokenisation of prompt
and answer. No position is counted from the right, so padding, packing and batch partners cannot move it.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from ..chat import ChatFormat, special_tokens
from ..errors import CaseError, InputError, ReservedTokenError
from ..writing_systems import Joint, blank, join


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """The tokens of one text.

    Attributes:
        ids: Token ids, including special tokens that the tokenizer adds.
        scored: Positions whose next-token distribution is read; position p predicts `ids[p + 1]`.
        prompt_end: Position of the last prompt token, where codebook editors look up their key.
        spanning: Whether the first scored token begins within the prompt, so that no continuation of the prompt alone
            can have the answer's tokens.
    """

    ids: tuple[int, ...]
    scored: tuple[int, ...]
    prompt_end: int
    spanning: bool = field(default=False, compare=False)

    @property
    def labels(self) -> tuple[int, ...]:
        """Tokens that the scored positions should predict."""
        return tuple(self.ids[p + 1] for p in self.scored)

    def __len__(self) -> int:
        return len(self.ids)

    def followed_by(self, token: int) -> "TokenSequence":
        """Return the text with one more scored token."""
        return replace(self, ids=(*self.ids, token), scored=(*self.scored, len(self.ids) - 1))

    def without_last(self) -> "TokenSequence":
        """Return the text without its last scored token."""
        return replace(self, ids=self.ids[:-1], scored=self.scored[:-1])


class Encoder(Protocol):
    """Tokenises prompts and answers, as a `LanguageModel` does."""

    def encode(self, prompt: str, answer: str, joint: Joint | None = None, *, end: bool = False) -> TokenSequence:
        """See `LanguageModel.encode`."""

    def encode_prompt(self, prompt: str, room: int = 1) -> TokenSequence:
        """See `encode_prompt`."""


def encode(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    answer: str,
    context: int,
    joint: Joint | None = None,
    chat: ChatFormat | None = None,
) -> TokenSequence:
    """Tokenise prompt and answer together and score exactly the answer's tokens; at most `context` in all.

    A token belongs to the answer if any of its characters comes after the prompt's last one; a token that spans both is
    predicted as a whole (`TokenSequence.spanning`). The joint of a chat template takes the place of the data's.

    Raises:
        CaseError: If the answer is empty or the text does not fit into the context, or spells a special token of a
            chat template.
    """
    if blank(answer):
        raise CaseError(f"The answer to '{_short(prompt)}' is empty; text was expected.")
    border, ids, offsets = _joined(tokenizer, prompt, answer, joint, chat)
    if len(ids) > context:
        raise CaseError(
            f"'{_short(prompt)}' with the answer '{_short(answer)}' has {len(ids)} tokens, "
            f"but the model's context is {context}."
        )
    first = next(i for i, (_, end) in enumerate(offsets) if end > border)
    if first == 0:
        raise CaseError(
            f"The answer '{_short(answer)}' has no token before it to be predicted from; a prompt was expected."
        )
    return TokenSequence(tuple(ids), tuple(range(first - 1, len(ids) - 1)), first - 1, offsets[first][0] < border)


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: str, context: int, room: int = 1, chat: ChatFormat | None = None
) -> TokenSequence:
    """Tokenise a prompt that is to be continued by `room` tokens; only its last position is scored.

    Trailing spaces are removed, because they belong to the answer.

    Raises:
        CaseError: If prompt and room do not fit into the context, or the prompt spells a special token of a chat
            template.
    """
    ids = [] if blank(prompt) else _tokens(tokenizer, _written(tokenizer, prompt, chat).rstrip(" "), chat)[0]
    if not ids:
        raise CaseError("The prompt is empty; text was expected.")
    if len(ids) + room > context:
        raise CaseError(
            f"The prompt '{_short(prompt)}' has {len(ids)} tokens and needs room for {room} more, "
            f"but the model's context is {context}."
        )
    return TokenSequence(tuple(ids), (len(ids) - 1,), len(ids) - 1)


def tokens_begin_with(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    continuation: str,
    row: TokenSequence,
    chat: ChatFormat | None = None,
) -> bool:
    """Tell whether a prompt with its generated continuation begins with the tokens of a row."""
    ids, _ = _tokens(tokenizer, _written(tokenizer, prompt, chat).rstrip(" ") + continuation, chat)
    return tuple(ids[: len(row)]) == row.ids


def token_at(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    answer: str,
    place: int,
    joint: Joint | None = None,
    chat: ChatFormat | None = None,
) -> int:
    """Return the index of the token that holds a character of a prompt, in the sequence of `encode`."""
    _, _, offsets = _joined(tokenizer, prompt, answer, joint, chat)
    place += len(chat.prefix) if chat else 0
    return next(index for index, (start, end) in enumerate(offsets) if start <= place < end)


def _joined(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str, joint: Joint | None, chat: ChatFormat | None
) -> tuple[int, list[int], list[tuple[int, int]]]:
    """Return of prompt and answer as one text the index at which the answer begins, its tokens and their spans."""
    joint = joint if chat is None or chat.joint is None else chat.joint
    text, border = join(_written(tokenizer, prompt, chat, answer), answer, joint)
    return border, *_tokens(tokenizer, text, chat)


def _written(tokenizer: PreTrainedTokenizerBase, prompt: str, chat: ChatFormat | None, answer: str = "") -> str:
    """Return a prompt in its context.

    Raises:
        ReservedTokenError: If prompt or answer spell a special token, which a template's text would be read with.
    """
    if chat is None:
        return prompt
    if chat.special:
        for token in special_tokens(tokenizer).values():
            if token in prompt or token in answer:
                raise ReservedTokenError(
                    f"'{_short(prompt)}' with the answer '{_short(answer)}' spells the special token '{token}', which "
                    "the chat template would read as that token; a text without it was expected."
                )
    return chat.around(prompt)


def _tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, chat: ChatFormat | None = None
) -> tuple[list[int], list[tuple[int, int]]]:
    """Return token ids and character spans, without the end-of-text token that some tokenizers append.

    A special token that is spelled in the text, such as `<|endoftext|>`, is text: data cannot end a text or begin one.
    Only the text of a chat template has its special tokens, and gets no others.
    """
    if chat is not None and chat.special:
        encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        return list(encoding["input_ids"]), list(encoding["offset_mapping"])
    encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, split_special_tokens=True)
    ids, offsets = list(encoding["input_ids"]), list(encoding["offset_mapping"])
    special = list(encoding["special_tokens_mask"])
    while len(ids) > 1 and special[len(ids) - 1]:
        ids.pop()
        offsets.pop()
    return ids, offsets


def require_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without character offsets.

    Raises:
        InputError: If the tokenizer is a slow one.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer (with a tokenizer.json) "
            "was expected, because answers are located by their characters."
        )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
