"""A language model without its weights: what can be known of it from its configuration alone.

It is built on the meta device, where tensors have shapes and no storage, so the largest model takes no memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .errors import CaseError, InputError
from .rows import Row, encode, encode_prompt
from .scripts import Joint
from .structure import Part, Site, Structure

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Files of which a model's folder has at least one if it has a tokenizer."""
CHARACTERS = 4
"""Characters of English text that make one token, about, where there is no tokenizer to ask."""


def locate(name: str | Path) -> str:
    """Return the folder or hub id that a user named.

    Raises:
        InputError: If it is written as a path and there is no such folder.
    """
    if isinstance(name, Path) or name.startswith((".", "/", "~")):
        name = str(Path(name).expanduser())
        if not Path(name).is_dir():
            raise InputError(
                f"{name}: no such folder; a model folder (config.json, *.safetensors, tokenizer.json) was expected."
            )
    return name


def read_config(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Any:
    """Return the configuration of a model in a folder or on the hub.

    Raises:
        InputError: If there is none, or it is of an encoder-decoder.
    """
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unloadable(name, error) from error
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"{name} is an encoder-decoder model; instructedit edits decoder-only language models.")
    return config


def unloadable(name: str, error: Exception) -> InputError:
    """Return what a user is told when a model cannot be loaded."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    local = "" if Path(name).is_dir() else f"there is no folder {name}, and as a hub id: "
    return InputError(f"{name}: the model cannot be loaded: {local}{reason}")


@dataclass(frozen=True)
class Sketch:
    """A model on the meta device.

    Attributes:
        model: The model; it cannot be run.
        structure: Its blocks and sites.
        tokenizer: Its tokenizer; None where there is none, and four characters stand for a token.
    """

    model: PreTrainedModel
    structure: Structure
    tokenizer: PreTrainedTokenizerBase | None = None
    identity: str = ""

    @classmethod
    def of(cls, config: Any, tokenizer: PreTrainedTokenizerBase | None = None) -> "Sketch":
        """Build the model of a configuration.

        Raises:
            InputError: If it is no decoder made of blocks.
        """
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except ValueError as error:
            raise InputError(f"{type(config).__name__} makes no causal language model: {error}") from error
        return cls(model, Structure(model), tokenizer)

    @classmethod
    def load(cls, name: str | Path, revision: str | None = None) -> "Sketch":
        """Build the model of a folder or of the hub from its configuration; weights are not touched.

        Raises:
            InputError: If there is no such configuration.
        """
        name = locate(name)
        config = read_config(name, revision)
        folder = Path(name)
        if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZERS):
            return cls.of(config)
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        except (OSError, ValueError, KeyError):
            return cls.of(config)  # texts are then measured by their characters; a run itself asks for the tokenizer
        return cls.of(config, tokenizer)

    @cached_property
    def parameters(self) -> int:
        """Parameters of the model, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @cached_property
    def block_parameters(self) -> int:
        """Parameters of all blocks, which is what every token passes through."""
        return sum(parameter.numel() for parameter in self.structure.blocks.parameters())

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.structure)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.structure.width

    @cached_property
    def vocabulary(self) -> int:
        """Tokens that a position can be followed by."""
        head: Any = self.model.get_output_embeddings()
        return int(head.weight.shape[0])

    @property
    def context(self) -> int:
        """Most tokens the model takes in one text."""
        return context_of(self.model)

    def share(self, block: int) -> float:
        """Return the share of the blocks from one on."""
        return 1 - block / self.depth

    def sites(self, part: Part, blocks: Sequence[int | float]) -> list[Site]:
        """Return the `up` or `down` maps of some blocks; see `LanguageModel.sites`."""
        return [site for block in blocks for site in self.structure.find(block, part)]

    def encode(self, prompt: str, answer: str, joint: Joint | None = None) -> Row:
        """See `LanguageModel.encode`."""
        if self.tokenizer is not None:
            return encode(self.tokenizer, prompt, answer, self.context, joint)
        front, back = _pieces(prompt), _pieces(answer)
        return self._row((*front, *back), range(len(front) - 1, len(front) + len(back) - 1))

    def encode_prompt(self, prompt: str, room: int = 1) -> Row:
        """See `LanguageModel.encode_prompt`."""
        if self.tokenizer is not None:
            return encode_prompt(self.tokenizer, prompt, self.context, room)
        ids = _pieces(prompt)
        return self._row(ids, [len(ids) - 1], room)

    def _row(self, ids: Sequence[int], scored: Sequence[int], room: int = 0) -> Row:
        if len(ids) + room > self.context:
            raise CaseError(f"A text of about {len(ids)} tokens does not fit a context of {self.context}.")
        return Row(tuple(ids), tuple(scored), scored[0])


def context_of(model: PreTrainedModel) -> int:
    """Return the most tokens a model takes in one text."""
    return int(getattr(model.config, "max_position_embeddings", 0) or 1_000_000)


def _pieces(text: str) -> tuple[int, ...]:
    """Return a number for every few characters, so that equal texts are equal rows."""
    return tuple(crc32(text[first : first + CHARACTERS].encode()) for first in range(0, max(len(text), 1), CHARACTERS))
