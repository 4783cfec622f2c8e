"""A language model on the meta device, where tensors have shapes and no storage: the largest model takes no memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError
from .configuration import context_length
from .loading import Origin
from .structure import Site, Structure


@dataclass(frozen=True)
class MetaModel:
    """A model without its weights, which cannot be run; its identity is empty.

    `lacks` says why it cannot be loaded though its shapes are known; None where it can be.
    """

    model: PreTrainedModel
    structure: Structure
    tokenizer: PreTrainedTokenizerBase | None = None
    identity: str = ""
    lacks: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Any, tokenizer: PreTrainedTokenizerBase | None = None) -> "MetaModel":
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
    def load(cls, name: str | Path, revision: str | None = None, *, trust_remote_code: bool = False) -> "MetaModel":
        """Load a model's configuration, tokenizer and shapes, from a folder, a GGUF file or the hub.

        Weights on this machine are checked by names and shapes. A folder with a configuration alone can be loaded here,
        and `lacks` explains why it cannot be loaded otherwise.

        Raises:
            InputError: If the model could not be loaded.
        """
        origin = Origin(name, revision, trust_remote_code)
        origin.config  # noqa: B018 - its faults are reported first
        config_alone = origin.lacks is not None and origin.contents is not None and not origin.contents.tokenizer
        tokenizer = None if config_alone else origin.tokenizer
        model = origin.shapes()
        with origin.named():
            structure = Structure(model)
        return cls(model, structure, tokenizer, lacks=origin.lacks, notes=tuple(origin.notes))

    @cached_property
    def parameters(self) -> int:
        """Number of parameters, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.structure.width

    @cached_property
    def vocabulary(self) -> int:
        """Size of the output vocabulary."""
        head: Any = self.model.get_output_embeddings()
        return int(head.weight.shape[0])

    @property
    def context(self) -> int:
        """Maximum number of tokens of a text."""
        return context_length(self.model.config)

    def sites(self, part: str, blocks: Sequence[int | float]) -> list[Site]:
        """Return the sites of one part in some blocks; see `LanguageModel.sites`."""
        return [site for block in blocks for site in self.structure.find(block, part)]
