"""Text around every prompt: a model's own chat template, or a named context.

`LanguageModel.in_chat` returns a view of a model that encodes every prompt inside such a text, for edits and probes
alike. An instruction or another prefix of an editor stands inside the user's turn, before the prompt.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict

from .errors import InputError, did_you_mean
from .writing_systems import Joint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NONE: Final = "none"
TEMPLATE: Final = "template"
_QUESTION, _ANSWER = "USER-TURN", "ASSISTANT-TURN"
"""Stand for the two turns while a template is rendered."""
_OPTIONS: Mapping[str, Any] = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""Variables of templates that would make texts differ: a reasoning model answers directly, and a prompt that states
today's date (Llama 3) states the same one every day."""


class ChatFormat(BaseModel):
    """What stands around a prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """`template`, or the name of a context."""
    prefix: str
    suffix: str
    joint: Joint | None = None
    """Text between suffix and answer; None: that of the data, or by its writing system, as for bare prompts."""
    special: bool = False
    """Whether prefix and suffix are written with special tokens, that of the beginning of a text included."""
    end: str | None = None
    """Special token that ends the assistant's turn; None where the template has none, and in named contexts."""

    def around(self, prompt: str) -> str:
        """Return a prompt in its context."""
        return self.prefix + prompt.rstrip(" ") + self.suffix


CONTEXTS: Mapping[str, ChatFormat] = MappingProxyType(
    {"wild": ChatFormat(name="wild", prefix="Please answer the question:\n\nQ: ", suffix="\nA:")}
)
"""Named contexts. `wild` is the question-answer instruction under which WILD evaluates (arXiv 2502.11177), in the
wording of EasyEdit's question-answer context."""


def check_chat(name: str) -> None:
    """Check the name of a context.

    Raises:
        InputError: If it is unknown.
    """
    if name not in (known := [NONE, TEMPLATE, *CONTEXTS]):
        raise InputError(f"Unknown context '{name}'.{did_you_mean(name, known)}")


def chat_format(name: str, tokenizer: "PreTrainedTokenizerBase") -> ChatFormat | None:
    """Return the text around prompts by its name; None for `none`.

    Raises:
        InputError: If the name is unknown, or the model has no chat template, or one that cannot be used.
    """
    check_chat(name)
    if name == NONE:
        return None
    return _template(tokenizer) if name == TEMPLATE else CONTEXTS[name]


def _template(tokenizer: "PreTrainedTokenizerBase") -> ChatFormat:
    if not tokenizer.chat_template:
        raise InputError(
            "The model's tokenizer has no chat template; a chat model, or one of "
            f"{', '.join(map(repr, (NONE, *CONTEXTS)))} was expected."
        )
    user = [{"role": "user", "content": _QUESTION}]
    before = _rendered(tokenizer, user, add_generation_prompt=True)
    prefix, found, suffix = before.partition(_QUESTION)
    if not found or _QUESTION in suffix:
        raise InputError(
            "The model's chat template does not write the user's text exactly once; expected one that does."
        )
    whole = _rendered(tokenizer, [*user, {"role": "assistant", "content": _ANSWER}])
    header, _, after = whole.rpartition(_ANSWER)
    joint: Joint = " " if header == f"{before} " else ""
    return ChatFormat(
        name=TEMPLATE, prefix=prefix, suffix=suffix, joint=joint, special=True, end=_first_special(tokenizer, after)
    )


def _rendered(tokenizer: "PreTrainedTokenizerBase", turns: list[dict[str, str]], **options: Any) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **_OPTIONS, **options))
    except (TemplateError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"The model's chat template cannot be rendered ({reason}).") from error


def _first_special(tokenizer: "PreTrainedTokenizerBase", text: str) -> str | None:
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = special_tokens(tokenizer)
    return next((special[token] for token in tokens if token in special), None)


@lru_cache(maxsize=8)
def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    """Return the special tokens of a tokenizer by their ids."""
    return {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def end_token(tokenizer: "PreTrainedTokenizerBase", chat: ChatFormat | None) -> int | None:
    """Return the token that ends an answer: the template's end of the assistant's turn, else the end of text."""
    if chat is not None and chat.special:
        return next((number for number, token in special_tokens(tokenizer).items() if token == chat.end), None)
    end: int | None = tokenizer.eos_token_id
    return end
