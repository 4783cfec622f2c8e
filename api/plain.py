"""Edits on a plain model of transformers: `load_edits`, and the folder that it reads."""

import hashlib
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from instructedit.editors import Edits, InputError, Span, Structure
from instructedit.editors.engine.hooks import patched
from instructedit.editors.engine.packed_batch import Segment
from instructedit.editors.files.state import parsed, read_object
from instructedit.editors.models.experts import device_of, plain_experts
from instructedit.editors.patches import Replacing

FORMAT = "instructedit-export-1"
EDITS, ABOUT = "edits.safetensors", "edits.json"
"""Files of an edit: its patches, and what it was made for."""


@contextmanager
def load_edits(model: PreTrainedModel, folder: str | Path) -> Iterator[PreTrainedModel]:
    """Let a plain model of transformers compute as the edited one within the context; its weights are not touched.

        with instructedit.load_edits(model, "my-edit"):
            model.generate(**tokenizer("The capital of X is", return_tensors="pt"))

    `forward` and `generate` are both the edited model's. A codebook (GRACE) queries each sequence at the end of its
    prompt: in `generate` that of its input, padded on the left; in a forward pass the token before the first label that
    is not -100, else the last token that the attention mask keeps.

    Args:
        model: The model that the edit was made for, in any dtype.
        folder: What `save_pretrained(folder, "edits")` wrote.

    Yields:
        The model.

    Raises:
        InputError: If the folder holds no edit, or the model is another one.
        DamagedError: If a file is not what was written.
    """
    path = Path(folder) / ABOUT
    if not path.is_file():
        raise InputError(f"{path}: no such file; a folder written as `edits` was expected.")
    about = read_object(path)
    with parsed(path):
        form, wanted, kind, name = (str(about[key]) for key in ("format", "weights", "architecture", "model"))
        if form != FORMAT:
            raise ValueError(f"format {form}, {FORMAT} was expected")
    if (found := weights_digest(model)) != wanted:
        raise InputError(
            f"{folder}: the edit was made for {name} ({kind}, weights {wanted[:12]}), but the given model is "
            f"another one ({type(model).__name__}, weights {found[:12]})."
        )
    edits = Edits.load(Path(folder) / EDITS)
    with parsed(Path(folder) / EDITS):
        if len(edits) != 1:
            raise ValueError(f"{len(edits)} edits, one was expected")
    with applied(model, edits):
        yield model


@contextmanager
def applied(model: PreTrainedModel, edits: Edits) -> Iterator[None]:
    """Apply one edit to all passes of a plain model within the context."""
    assert len(edits) == 1 and edits.contexts[0] is None, "one edit, of patches"
    placed = tuple(
        replace(patch, **{name: t.to(device_of(model, patch.site)) for name, t in patch.tensors().items()})  # type: ignore[arg-type]
        for patch in edits.patches[0]
    )
    edits = Edits((placed,))
    passes = _Passes(edits)
    structure = Structure(model)
    with ExitStack() as stack:
        if any(patch.site in structure.routers for patch in placed):
            stack.enter_context(_one_by_one(model))
        stack.enter_context(passes.watched(model))
        stack.enter_context(patched(model, edits, passes.segments, structure.routers))
        yield


class _Passes:
    """Follows the passes of a plain model: the sequences of the current one, and where their prompts end."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self._looks = any(isinstance(patch, Replacing) for patch in edits.patches[0])
        self._spans: tuple[Span, ...] = ()
        self._width: int | None = None  # of the prompts of `generate`, padded
        self._total = 0  # tokens of each sequence that `generate` has run

    def segments(self, tokens: int) -> list[Segment]:
        return [Segment(0, 0, tokens, self._spans)]

    @contextmanager
    def watched(self, model: PreTrainedModel) -> Iterator[None]:
        names = list(inspect.signature(model.forward).parameters)
        before = vars(model).get("generate")
        inner: Any = model.generate

        def begin(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            if self._looks:
                self._begin({**dict(zip(names, given, strict=False)), **named})

        def generate(*given: Any, **named: Any) -> Any:
            inputs = [*given[:1], *(named.get(key) for key in ("inputs", "input_ids", "inputs_embeds"))]
            self._width = next((own.shape[1] for own in inputs if own is not None), 1)
            self._total = 0
            try:
                return inner(*given, **(named | {"use_cache": False} if self._edits.by_row else named))
            finally:
                self._width = None

        hook = model.register_forward_pre_hook(begin, with_kwargs=True)
        vars(model)["generate"] = generate
        try:
            yield
        finally:
            hook.remove()
            del vars(model)["generate"]
            if before is not None:
                vars(model)["generate"] = before

    def _begin(self, named: dict[str, Any]) -> None:
        inputs = next(named[key] for key in ("input_ids", "inputs_embeds") if named.get(key) is not None)
        count, length = inputs.shape[:2]
        ends: list[int | None]
        if self._width is not None:
            # without a cache each pass runs the sequences from their beginning, one token longer than before
            start = 0 if length > self._total else self._total
            self._total = start + length
            end = self._width - 1 - start
            if self._edits.whole_prompts and end >= length:
                raise InputError("The edit changes all of a prompt, which was read in parts; read it in one pass.")
            ends = [end if 0 <= end < length else None] * count
        elif (cache := named.get("cache", named.get("past_key_values"))) is not None and int(cache.get_seq_length()):
            if self._edits.by_row:
                raise InputError("The edit depends on whole sequences; a pass without a cache was expected.")
            ends = [None] * count
        else:
            ends = [*_prompt_ends(named, count, length)]
        lines = enumerate(ends)
        self._spans = tuple(
            Span(n * length, (n + 1) * length, None if end is None else n * length + end, n) for n, end in lines
        )


def _prompt_ends(named: dict[str, Any], count: int, length: int) -> list[int]:
    mask, labels = named.get("attention_mask"), named.get("labels")
    ends = [length - 1] * count
    if isinstance(mask, Tensor) and mask.dim() == 2:
        ends = [int(row.nonzero()[-1]) for row in mask]
    if labels is not None:
        firsts = [(row != -100).nonzero().flatten().tolist() for row in labels]
        ends = [first[0] - 1 if first and first[0] else end for first, end in zip(firsts, ends, strict=True)]
    return ends


@contextmanager
def _one_by_one(model: PreTrainedModel) -> Iterator[None]:
    """Run routed experts one after another, so that the products of each can be recognised."""
    configs = {id(own): own for module in model.modules() if (own := getattr(module, "config", None)) is not None}
    before = {key: getattr(own, "_experts_implementation_internal", None) for key, own in configs.items()}
    plain_experts(model)
    try:
        yield
    finally:
        for key, own in configs.items():
            if hasattr(own, "_experts_implementation_internal"):
                own._experts_implementation_internal = before[key]


def weights_digest(model: PreTrainedModel) -> str:
    """Return the sha256 over names, shapes and values of all weights, rounded to bfloat16.

    A model of bfloat16 has the same digest when it is loaded in float32, and the other way round.

    Raises:
        InputError: If weights are not in memory (offloaded to disk).
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, weight in sorted(model.named_parameters()):
        if weight.is_meta:
            raise InputError(f"The weight {name} is not in memory; a model without weights on disk was expected.")
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        rounded = weight.detach().to(torch.bfloat16).cpu().contiguous()
        digest.update(rounded.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
