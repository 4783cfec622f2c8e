"""The reference of the comparison: a copy of a model that the engine never touches, with the edit in its weights."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from . import zoo  # first: it sets the environment  # isort: skip

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from instructedit.editors import Codebook, Patch, Slots, TokenSequence


class Plain:
    """A copy of a model that the engine never touches; everything is a forward pass over one whole sequence."""

    def __init__(self, name: str) -> None:
        self.model = zoo.build(name).requires_grad_(False)

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Return [tokens, vocabulary]."""
        with torch.no_grad():
            return self.differentiated(ids)

    def differentiated(self, ids: Sequence[int]) -> Tensor:
        """Return [tokens, vocabulary], differentiable."""
        return self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]

    def scored(self, rows: Sequence[TokenSequence]) -> list[Tensor]:
        """Return the logits at the scored positions of each row."""
        return [self.logits(row.ids)[list(row.scored)] for row in rows]

    def greedy(self, row: TokenSequence, steps: int, end: Sequence[int]) -> list[int]:
        """Return the new tokens, each from a pass over the whole text so far."""
        new: list[int] = []
        for _ in range(steps):
            token = int(self.logits([*row.ids, *new])[-1].argmax())
            if token in end:
                break
            new.append(token)
        return new

    @contextlib.contextmanager
    def under(self, patches: Sequence[Patch], row: TokenSequence) -> Iterator[None]:
        """Apply an edit to the copy: to its weights if possible, else through hooks for one sequence."""
        kept: list[tuple[Tensor, Tensor]] = []
        hooks = []
        try:
            for patch in patches:
                delta = patch.delta()
                if delta is not None:
                    place, straight = self.place(patch.site, len(delta))
                    kept.append((place, place.clone()))
                    place += delta if straight else delta.T
                elif isinstance(patch, Codebook):
                    hooks.append(self._hooked(patch.site, partial(_look_up, patch, row)))
                else:
                    assert isinstance(patch, Slots), f"no reference for {type(patch).__name__}"
                    seen: list[Tensor] = []
                    source = self.model.get_submodule(patch.source)
                    hooks.append(source.register_forward_pre_hook(partial(see, seen)))
                    hooks.append(self._hooked(patch.site, partial(_add_slots, patch, seen)))
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for place, before in reversed(kept):
                place.copy_(before)

    def _hooked(self, site: str, change: Callable[..., Tensor]) -> Any:
        return self.model.get_submodule(site).register_forward_hook(change)

    def place(self, site: str, d_in: int) -> tuple[Tensor, bool]:
        """Return the weight of a site as a matrix, and whether it is [d_in, d_out].

        A site that is no module is one expert's matrix in a 3-D parameter, named `...PARAMETER.EXPERT`.
        """
        try:
            module = self.model.get_submodule(site)
        except AttributeError:
            path, name, expert = site.rsplit(".", 2)
            weight = getattr(self.model.get_submodule(path), name)[int(expert)]
            return weight, weight.shape[0] == d_in  # no expert of the zoo is square
        return module.weight, isinstance(module, Conv1D)  # type: ignore[return-value]


def _look_up(book: Codebook, row: TokenSequence, _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """Apply GRACE's codebook: the query is the input at the prompt's last token."""
    x, y = args[0].reshape(-1, args[0].shape[-1]), out.reshape(-1, out.shape[-1]).clone()
    gaps = (x[row.prompt_end] - book.keys).norm(dim=-1)
    entry = int(gaps.argmin())
    if gaps[entry] <= book.radii[entry]:
        first, stop = {"last": (row.prompt_end, row.prompt_end + 1), "prompt": (0, row.prompt_end), "all": (0, len(x))}[
            book.replace
        ]
        y[first:stop] = book.values[entry]
    return y.reshape(out.shape)


def see(seen: list[Tensor], _: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Keep the input of a module; a forward pre-hook."""
    seen[:] = [args[0]]


def _add_slots(slots: Slots, seen: list[Tensor], _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
    x, act = seen[0].reshape(-1, seen[0].shape[-1]), ACT2FN[slots.activation]
    inner = act(x @ slots.k) if slots.g is None else act(x @ slots.g) * (x @ slots.k)
    return out + (inner @ slots.v).reshape(out.shape)
