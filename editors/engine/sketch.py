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
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import CaseError, InputError
from ..models.configuration import context_length
from ..models.loading import Origin
from ..models.structure import Site, Structure
from ..models.tokens import Row, encode, encode_prompt
from ..scripts import Joint

CHARACTERS = 4
"""Characters of English text that make one token, about, where there is no tokenizer to ask."""


@dataclass(frozen=True)
class Sketch:
    """A model on the meta device.

    Attributes:
        model: The model; it cannot be run.
        structure: Its blocks and sites.
        tokenizer: Its tokenizer; None where there is none, and four characters stand for a token.
        lacks: Sentence on why it cannot be loaded though its shapes are known; None where it can be.
        notes: Sentences for the user.
    """

    model: PreTrainedModel
    structure: Structure
    tokenizer: PreTrainedTokenizerBase | None = None
    identity: str = ""
    lacks: str | None = None
    notes: tuple[str, ...] = ()

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
    def load(cls, name: str | Path, revision: str | None = None, *, trust_remote_code: bool = False) -> "Sketch":
        """Build the model of a folder or of the hub; do all that a load does, but with shapes instead of weights.

        Weights that are on this machine are held against the model by their names and shapes. A folder that holds only
        a configuration has shapes to be known all the same, and `lacks` says that it cannot be loaded.

        Raises:
            InputError: If it could not be loaded.
        """
        origin = Origin(name, revision, trust_remote_code)
        origin.config  # noqa: B018 - what is wrong with it is said first
        bare_folder = origin.lacks is not None and origin.contents is not None and not origin.contents.tokenizer
        tokenizer = None if bare_folder else origin.tokenizer
        model = origin.shapes()
        with origin.named():
            structure = Structure(model)
        return cls(model, structure, tokenizer, lacks=origin.lacks, notes=tuple(origin.notes))

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

    def sites(self, part: str, blocks: Sequence[int | float]) -> list[Site]:
        """Return the maps of some blocks that play one part; see `LanguageModel.sites`."""
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
    return context_length(model.config)


def _pieces(text: str) -> tuple[int, ...]:
    """Return a number for every few characters, so that equal texts are equal rows."""
    return tuple(crc32(text[first : first + CHARACTERS].encode()) for first in range(0, max(len(text), 1), CHARACTERS))
