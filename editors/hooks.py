"""What a pass does at chosen modules: patches in place of outputs, and inputs and gradients kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .edits import Edits
from .layout import Segment
from .patches import Patch
from .stage import Halt


@contextmanager
def patched(model: PreTrainedModel, edits: Edits, layout: Callable[[int], Sequence[Segment]]) -> Iterator[None]:
    """Let the model compute with the edits' patches as long as the context is open.

    Args:
        model: The base model; its weights are not touched.
        edits: The edits.
        layout: From the number of tokens of a pass (a module may flatten the batch), the segments that edits own.
    """
    by_site: dict[str, dict[int, list[Patch]]] = {}
    for number, edit in enumerate(edits.patches):
        for patch in edit:
            by_site.setdefault(patch.site, {}).setdefault(number, []).append(patch)
    with ExitStack() as stack:
        for site, owners in by_site.items():
            inputs: dict[str, Tensor] = {}
            for source in {patch.source for patches in owners.values() for patch in patches} - {site}:
                stack.callback(model.get_submodule(source).register_forward_pre_hook(_remember(inputs, source)).remove)
            stack.callback(
                model.get_submodule(site).register_forward_hook(_replace(site, owners, inputs, layout)).remove
            )
        yield


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
        found = layout(len(y))
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
