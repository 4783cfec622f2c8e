"""Models of named shapes with random weights, synthetic cases of one fixed shape, and editors ready to edit them.

The cost of a pass does not depend on the weights.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from instructedit.editors import (
    EDITORS,
    EditCase,
    Editor,
    EditRequest,
    InputError,
    LanguageModel,
    Probe,
    Role,
    TrainedEditor,
    did_you_mean,
    make,
    seed_of,
)

from .reference_edits import REFERENCES

END, INPUT = "<end>", "Input:"
"""Words of the vocabulary: the end of a text, and the text between InstructEdit's instruction and prompt."""
PROMPT = 17
"""Tokens of every prompt."""
TARGETS = 2, 3
"""Tokens of a target and of every answer, alternating from case to case."""
PROBES: dict[Role, int] = {"reliability": 1, "generalization": 1, "locality": 3, "portability": 3}
INSTRUCTION = 34
"""Tokens before InstructEdit's prompt: the mean over the 40 instructions of KnowEdit's tasks in the shipped bank is
33.6 under GPT-2's tokenizer, 30.6 of the instruction and 3 of the line break and `Input:`."""
INSTRUCTIONS = 9
"""Instructions of a task, as in a run: the shipped bank has ten descriptions of a task, one of them unseen."""
OPTIONS: dict[str, dict[str, Any]] = {"calinet": {"steps": 10}, "grace": {"steps": 200}, "ke": {"max_scale": 100.0}}
"""Options that differ from the defaults.

CaliNet takes ten steps: with random weights it does not reach its stop loss, and rounding errors of two paths grow with
the steps (on S a log-probability differs by 4e-5 after 10 steps, 3e-4 after 20, 0.3 after 200). GRACE takes the 200
steps of EasyEdit, whose times the page shows. With KE's own scale, the gates of a random network change next to
nothing. InstructEdit's probes carry the instruction, but for locality, as published.
"""


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


def make_cases(count: int, vocabulary: int, first: int = 0) -> list[EditCase]:
    """Return random cases numbered from `first`; a case depends on its number only."""
    return [_case(number, vocabulary) for number in range(first, first + count)]


def _case(number: int, vocabulary: int) -> EditCase:
    dice = random.Random(seed_of("speed", number))

    def text(tokens: int) -> str:
        return " ".join(word(dice.randrange(2, vocabulary)) for _ in range(tokens))

    length = TARGETS[number % len(TARGETS)]
    prompt, target = text(PROMPT), text(length)
    request = EditRequest(f"speed/test/{number}", "speed", prompt, target, prompt.split()[0])
    probes = []
    for role, times in PROBES.items():
        for _ in range(times):
            question = prompt if role == "reliability" else text(PROMPT)
            answer = target if role in ("reliability", "generalization") else text(length)
            probes.append(Probe(role, role, question, (answer,)))
    return EditCase(request, tuple(probes))


def instructed(cases: Sequence[EditCase], vocabulary: int) -> list[EditCase]:
    """Return the cases with one of the task's instructions in their requests; `Input:` adds one more token."""
    found = []
    for case in cases:
        number = seed_of("speed", case.request.case_id) % INSTRUCTIONS
        dice = random.Random(seed_of("speed", "instruction", number))
        words = " ".join(word(dice.randrange(2, vocabulary)) for _ in range(INSTRUCTION - 1))
        found.append(replace(case, request=replace(case.request, instruction=words)))
    return found


def timed_editors(chosen: Sequence[str] = ()) -> list[str]:
    """Return the editors to time, all with a reference or the chosen ones; `InputError` if one of these has none."""
    known = [name for name in REFERENCES if name in EDITORS]
    for name in chosen:
        EDITORS.get(name)  # refuses an unknown one
        if name not in known:
            raise InputError(
                f"The editor '{name}' cannot be timed; {', '.join(known)} have a reference to compare with."
            )
    return [name for name in known if not chosen or name in chosen]


def prepare(name: str, model: LanguageModel, cases: Sequence[EditCase]) -> tuple[Editor[Any], list[EditCase]]:
    """Return an editor that is ready to edit, and the cases as it receives them.

    A hypernetwork has random weights; its running statistics are those of the cases' own tokens.
    """
    editor = make(EDITORS.get(name), OPTIONS.get(name, {}))
    own = instructed(cases, model.model.config.vocab_size) if editor.instructed else list(cases)
    if isinstance(editor, TrainedEditor):
        editor.build(model)
        editor.observe(model, [[case.request] for case in own])
    return editor, own
