"""Models of named shapes with random weights: the cost of a pass does not depend on the weights."""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from instructedit.editors import InputError, LanguageModel, did_you_mean, seed_of

END, INPUT = "<end>", "Input:"
"""Words of the vocabulary: the end of a text, and the text between InstructEdit's instruction and prompt."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A shape of a model, `gpt2` or `llama`; `inner` is the inner width of the MLP."""

    name: str
    family: str
    blocks: int
    width: int
    heads: int
    vocabulary: int
    inner: int
    dtype: str = "float32"


SHAPES = {
    shape.name: shape
    for shape in (
        ModelShape("tiny", "gpt2", 4, 32, 4, 96, 128),
        ModelShape("S", "gpt2", 4, 256, 4, 4096, 1024),
        ModelShape("M", "gpt2", 12, 768, 12, 4096, 3072),
        ModelShape("M50k", "gpt2", 12, 768, 12, 50257, 3072),
        ModelShape("gpt2-xl", "gpt2", 48, 1600, 25, 50257, 6400, "bfloat16"),
        ModelShape("llama-2-7b", "llama", 32, 4096, 32, 32000, 11008, "bfloat16"),
    )
}
"""`tiny` is for trying the command; M50k is GPT-2's own shape and vocabulary; the last two are those of the
InstructEdit paper, for a GPU.
"""


def shape_of(name: str) -> ModelShape:
    """Return the shape with a name; `InputError` if there is none."""
    if name not in SHAPES:
        raise InputError(f"Unknown shape '{name}'.{did_you_mean(name, list(SHAPES))}")
    return SHAPES[name]


def word(number: int) -> str:
    """Return the word of a token; tokens 0 and 1 are reserved."""
    return f"w{number}"


def make_model(shape: ModelShape, device: str = "cpu") -> LanguageModel:
    """Return a model of a shape with fixed random weights and a tokenizer with one token per word."""
    config = AutoConfig.for_model(
        shape.family,
        vocab_size=shape.vocabulary,
        num_hidden_layers=shape.blocks,
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,  # of a Llama; that of a GPT-2 is 4 x width
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    place = torch.device(device)
    gpus = [place.index or 0] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), place:
        torch.manual_seed(seed_of("shape", shape.name) % 2**63)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, shape.dtype))
    words = {END: 0, INPUT: 1} | {word(number): number for number in range(2, shape.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return LanguageModel(model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END))
