"""What a pass does at chosen modules: patches in place of outputs, and inputs and gradients kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..edits import Edits
from ..models.experts import Hook, group, routed
from ..patches import Patch
from .block_view import Halt
from .packed_batch import Segment


@contextmanager
def patched(
    model: PreTrainedModel,
    edits: Edits,
    layout: Callable[[int], Sequence[Segment]],
    routers: Mapping[str, str],
) -> Iterator[None]:
    """Let the model compute with the edits' patches as long as the context is open.

    Args:
        model: The base model; its weights are not touched.
        edits: The edits.
        layout: From the number of tokens of a pass (a module may flatten the batch), the segments that edits own.
        routers: For each layer of a routed expert, the module that routes tokens to it (`Structure.routers`).
    """
    by_site: dict[str, dict[int, list[Patch]]] = {}
    for number, edit in enumerate(edits.patches):
        for patch in edit:
            by_site.setdefault(patch.site, {}).setdefault(number, []).append(patch)
    with ExitStack() as stack:
        experts: dict[str, Hook] = {}
        for site, owners in by_site.items():
            if site in routers:
                experts[site] = _routed(owners, layout)
                continue
            inputs: dict[str, Tensor] = {}
            for source in {patch.source for patches in owners.values() for patch in patches} - {site}:
                stack.callback(model.get_submodule(source).register_forward_pre_hook(_remember(inputs, source)).remove)
            stack.callback(
                model.get_submodule(site).register_forward_hook(_replace(site, owners, inputs, layout)).remove
            )
        if experts:
            stack.enter_context(routed(model, routers, experts, lambda tokens: _owners(layout(tokens), tokens)))
        yield


def _owners(segments: Sequence[Segment], tokens: int) -> list[int]:
    """Return the edit of each token, -1 for those of none."""
    found = [-1] * tokens
    for segment in segments:
        found[segment.start : segment.stop] = [segment.edit] * (segment.stop - segment.start)
    return found


def _routed(owners: dict[int, list[Patch]], layout: Callable[[int], Sequence[Segment]]) -> Hook:
    """Return what patches do at an expert's map, whose tokens are all of one edit."""
    assert not any(patch.late or patch.by_row for own in owners.values() for patch in own), "changes of weights"

    def hook(x: Tensor, y: Tensor) -> Tensor:
        now = group()
        assert now is not None
        if not len(x):
            return y
        edit = _owners(layout(now.total), now.total)[int(now.tokens[0])]
        for patch in owners.get(edit, ()):
            y = patch(x, y, ())
        return y

    return hook


def _now(layout: Callable[[int], Sequence[Segment]], tokens: int) -> Sequence[Segment]:
    """Return the segments of the tokens that a module gets; in a router these may be some of the pass's."""
    now = group()
    if now is None or len(now.tokens) == now.total:
        return layout(tokens)
    found: list[Segment] = []
    owners = _owners(layout(now.total), now.total)
    for number, edit in enumerate(owners[token] for token in now.tokens.tolist()):
        if found and found[-1].edit == edit and found[-1].stop == number:
            found[-1] = Segment(edit, found[-1].start, number + 1, ())
        elif edit >= 0:
            found.append(Segment(edit, number, number + 1, ()))
    return found


def _remember(inputs: dict[str, Tensor], source: str) -> Callable[[nn.Module, Any], None]:
    def hook(_: nn.Module, arguments: Any) -> None:
        inputs[source] = arguments[0]

    return hook


def _replace(
    site: str, owners: dict[int, list[Patch]], inputs: dict[str, Tensor], layout: Callable[[int], Sequence[Segment]]
) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(_: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        inputs[site] = arguments[0]
        y = output.reshape(-1, output.shape[-1])
        found = _now(layout, len(y))
        # split and not slices: the gradient of a slice is as large as what it was cut from
        sizes, edits = _pieces(found, len(y))
        parts = {n: t.reshape(-1, t.shape[-1]).split(sizes) for n, t in inputs.items()}
        pieces = list(y.split(sizes))
        if not torch.is_grad_enabled():
            return _written(y, pieces, parts, edits, owners, sizes).reshape(output.shape)
        for number, segment in edits:
            for patch in owners.get(segment.edit, ()):
                pieces[number] = patch(parts[patch.source][number], pieces[number], segment.spans)
        return torch.cat(pieces).reshape(output.shape)

    return hook


def _written(
    y: Tensor,
    pieces: Sequence[Tensor],
    parts: dict[str, Sequence[Tensor]],
    edits: Sequence[tuple[int, Segment]],
    owners: dict[int, list[Patch]],
    sizes: Sequence[int],
) -> Tensor:
    """Return what patches make of pieces of y, written to one new tensor."""
    out = torch.empty_like(y)
    segments = dict(edits)
    for number, (piece, place) in enumerate(zip(pieces, out.split(sizes), strict=True)):
        patches = owners.get(segments[number].edit, ()) if number in segments else ()
        if not patches:
            place.copy_(piece)
        for patch in patches:
            patch.write(parts[patch.source][number], piece, segments[number].spans, place)
            piece = place  # noqa: PLW2901 - a second patch of the map adds to what the first made
    return out


def _pieces(found: Sequence[Segment], tokens: int) -> tuple[list[int], list[tuple[int, Segment]]]:
    """Return the sizes of all pieces of a pass, and which of them are segments."""
    sizes: list[int] = []
    edits: list[tuple[int, Segment]] = []
    done = 0
    for segment in found:
        if segment.start > done:
            sizes.append(segment.start - done)
        edits.append((len(sizes), segment))
        sizes.append(segment.stop - segment.start)
        done = segment.stop
    return [*sizes, tokens - done], edits


@dataclass(slots=True)
class Tapped:
    """What a map of a routed expert showed in a pass, one piece for each time it was called.

    Attributes:
        inputs: Inputs, [tokens, d_in].
        leaves: Zeros that were added to the outputs, [tokens, d_out].
        rows: The row of each piece.
    """

    inputs: list[Tensor] = field(default_factory=list)
    leaves: list[Tensor] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


@contextmanager
def tapped_experts(
    model: PreTrainedModel,
    routers: Mapping[str, str],
    rows: Callable[[int], Sequence[int]],
    found: Mapping[str, Tapped],
) -> Iterator[None]:
    """Keep the inputs of some experts' maps, and add a zero leaf to their outputs, call by call.

    Args:
        model: The model.
        routers: By the names of the maps, the module that routes their tokens.
        rows: From the number of tokens of a pass, the row of each.
        found: Takes what each of these maps shows.
    """

    def tap(into: Tapped) -> Hook:
        def hook(x: Tensor, y: Tensor) -> Tensor:
            now = group()
            assert now is not None
            leaf = torch.zeros_like(y, requires_grad=True)
            into.inputs.append(x.detach())
            into.leaves.append(leaf)
            into.rows.append(rows(now.total)[int(now.tokens[0])])
            return y + leaf

        return hook

    with routed(model, routers, {name: tap(own) for name, own in found.items()}, rows):
        yield


@contextmanager
def tapped(
    model: PreTrainedModel,
    names: Sequence[str],
    inputs: dict[str, Tensor],
    leaves: dict[str, Tensor],
    halt: bool = False,
) -> Iterator[None]:
    """Keep the inputs of some modules, and add a zero leaf to their outputs whose gradient is that of the output.

    With `halt` the pass ends there.
    """

    def tap(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(_: nn.Module, arguments: Any, output: Tensor) -> Tensor:
            inputs[name] = arguments[0].detach()
            if halt:
                raise Halt
            leaves[name] = torch.zeros_like(output, requires_grad=torch.is_grad_enabled())
            return output + leaves[name]

        return hook

    with ExitStack() as stack:
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_hook(tap(name)).remove)
        yield
