"""Forward hooks of a pass: patches on top of outputs, and captured inputs and output gradients.

Those of routed experts are in `models.experts`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..edits import Edits
from ..models.experts import Hook, group, routed
from ..patches import Patch
from .packed_batch import Segment, integers

Segments = Callable[[int], Sequence[Segment]]
"""From the number of tokens that a module receives (it may flatten the batch), the segments of the edits."""


@contextmanager
def patched(model: PreTrainedModel, edits: Edits, segments: Segments, routers: Mapping[str, str]) -> Iterator[None]:
    """Apply the edits' patches within the context, each to its segments; the model's weights are not touched.

    `routers` has for each layer of a routed expert the module that routes tokens to it (`Structure.routers`).
    """
    by_site: dict[str, dict[int, list[Patch]]] = {}
    for number, edit in enumerate(edits.patches):
        for patch in edit:
            by_site.setdefault(patch.site, {}).setdefault(number, []).append(patch)
    with ExitStack() as stack:
        experts: dict[str, Hook] = {}
        for site, owners in by_site.items():
            if site in routers:
                experts[site] = _expert_hook(owners, segments)
                continue
            inputs: dict[str, Tensor] = {}
            for source in {patch.source for patches in owners.values() for patch in patches} - {site}:

                def keep(_: nn.Module, given: Any, inputs: dict[str, Tensor] = inputs, source: str = source) -> None:
                    inputs[source] = given[0]

                stack.enter_context(model.get_submodule(source).register_forward_pre_hook(keep))
            hook = _patch_hook(site, owners, inputs, segments)
            stack.enter_context(model.get_submodule(site).register_forward_hook(hook))
        if experts:
            stack.enter_context(routed(model, routers, experts, lambda tokens: _edit_of(segments(tokens), tokens)))
        yield


def _patch_hook(
    site: str, owners: Mapping[int, Sequence[Patch]], inputs: dict[str, Tensor], segments: Segments
) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(_: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        inputs[site] = arguments[0]
        y = output.reshape(-1, output.shape[-1])
        sizes, edits, done = list[int](), list[Segment | None](), 0
        for segment in _segments_now(segments, len(y)):
            sizes += [segment.start - done, segment.stop - segment.start]
            edits += [None, segment]
            done = segment.stop
        sizes.append(len(y) - done)
        # split and not slices: the gradient of a slice is as large as the whole tensor
        x = {name: tensor.reshape(-1, tensor.shape[-1]).split(sizes) for name, tensor in inputs.items()}
        parts = list(y.split(sizes))
        for place, own in enumerate(edits):
            if own is not None:
                for patch in owners.get(own.edit, ()):
                    parts[place] = patch(x[patch.source][place], parts[place], own.spans)
        return torch.cat(parts).reshape(output.shape)

    return hook


def _edit_of(segments: Sequence[Segment], tokens: int) -> list[int]:
    """Return the edit of each token, -1 for none."""
    found = [-1] * tokens
    for segment in segments:
        found[segment.start : segment.stop] = [segment.edit] * (segment.stop - segment.start)
    return found


def _segments_now(segments: Segments, tokens: int) -> Sequence[Segment]:
    """Return the segments of the tokens that a module receives; in a router these may be some of the pass's."""
    now = group()
    if now is None or len(now.tokens) == now.total:
        return segments(tokens)
    found: list[Segment] = []
    edits = _edit_of(segments(now.total), now.total)
    for number, edit in enumerate(edits[token] for token in now.tokens.tolist()):
        if found and found[-1].edit == edit and found[-1].stop == number:
            found[-1] = Segment(edit, found[-1].start, number + 1, ())
        elif edit >= 0:
            found.append(Segment(edit, number, number + 1, ()))
    return found


def _expert_hook(owners: Mapping[int, Sequence[Patch]], segments: Segments) -> Hook:
    """Return the patches of an expert's layer, whose tokens are all of one edit."""
    assert not any(patch.late or patch.by_row for own in owners.values() for patch in own), "changes of weights"

    def hook(x: Tensor, y: Tensor) -> Tensor:
        now = group()
        assert now is not None
        if len(x):
            edit = _edit_of(segments(now.total), now.total)[int(now.tokens[0])]
            for patch in owners.get(edit, ()):
                y = patch(x, y, ())
        return y

    return hook


@dataclass(frozen=True, slots=True)
class Factors:
    """Per-token factors of the gradient at one site: dL/dW = sum over tokens of x_t (outer) delta_t.

    Attributes:
        x: Inputs of the module, [tokens, d_in].
        delta: Gradients of the loss with respect to the module's output, [tokens, d_out].
        rows: For each token the index of its sequence, [tokens].
    """

    x: Tensor
    delta: Tensor
    rows: Tensor


@contextmanager
def captured(
    model: PreTrainedModel, sites: Sequence[str], routers: Mapping[str, str], rows: Sequence[int]
) -> Iterator[dict[str, list[Factors]]]:
    """Capture the calls of some modules within the context.

    Args:
        model: The model.
        sites: Names of the modules, or of routed experts' layers.
        routers: For those that are called once for each sequence's tokens, the module that routes them.
        rows: The sequence of each token.

    Yields:
        By the modules' names one entry for each call; `delta` is zeros that were added to the outputs, of their shape,
        whose gradient is that of the outputs.
    """
    found: dict[str, list[Factors]] = {name: [] for name in sites}

    def capture(name: str, x: Tensor, y: Tensor, of: Sequence[int]) -> Tensor:
        leaf = torch.zeros_like(y, requires_grad=torch.is_grad_enabled())
        found[name].append(Factors(x.detach().reshape(-1, x.shape[-1]), leaf, integers(of).to(x.device)))
        return y + leaf

    def module_hook(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        return lambda _, given, y: capture(name, given[0], y, rows)

    def expert_hook(name: str) -> Hook:
        def hook(x: Tensor, y: Tensor) -> Tensor:
            now = group()
            assert now is not None
            return capture(name, x, y, [rows[token] for token in now.tokens[:1].tolist()] * len(x))

        return hook

    with ExitStack() as stack:
        for name in sites:
            if name not in routers:
                stack.enter_context(model.get_submodule(name).register_forward_hook(module_hook(name)))
        if routers:
            hooks = {name: expert_hook(name) for name in routers}
            stack.enter_context(routed(model, routers, hooks, lambda _: rows))
        yield found
