"""The reference edit of one request, for each editor that has one: autograd, dense weights, torch's optimisers."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.activations import ACT2FN
from transformers.optimization import Adafactor

from instructedit.editors import Editor, EditRequest, Site, TokenSequence, seed_of

from .reference import Hook, ReferenceEdit, ReferenceModel

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""By the name of a linear layer: its inputs x [tokens, d_in] and the gradients of its outputs delta [tokens, d_out]."""


def fine_tuned(reference: ReferenceModel, editor: Editor[Any], request: EditRequest, seed: int) -> ReferenceEdit:
    """FT-L and FT-M: Adam on one weight, which is clamped to an L-infinity box after each step."""
    config = editor.config
    (site,) = reference.base.sites("down", [config.block])
    row = editor.encode(reference.base, request)
    labels, end = reference.labels(row), row.prompt_end
    if config.objective == "prompt_last":
        row = TokenSequence(row.ids[: end + 1], (end,), end)
    weight = reference.weight(site.name)
    start = weight.clone()
    box = (-math.inf, math.inf) if config.clamp is False else (-config.clamp, config.clamp)
    lower, upper = start + box[0], start + box[1]
    adam = torch.optim.Adam([weight.requires_grad_()], lr=config.lr)
    for _ in range(config.steps):
        log_p = reference.logits(row).log_softmax(dim=-1).expand(len(labels), -1)
        loss = -log_p.gather(1, labels[:, None]).mean()
        if loss.item() < config.stop_loss:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            weight.clamp_(lower, upper)
    change = ReferenceEdit({site.name: weight.detach().clone()})
    weight.requires_grad_(False).copy_(start)
    weight.grad = None
    return change


def factors(reference: ReferenceModel, row: TokenSequence, sites: Sequence[Site]) -> Factors:
    """Return the factors of the gradient of a sequence's loss, captured by hooks, without zero tokens."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def capture(name: str) -> Hook:
        def hook(_: nn.Module, arguments: Any, output: Tensor) -> Tensor:
            inputs[name] = arguments[0].detach()
            outputs[name] = output if output.requires_grad else output.requires_grad_()
            return outputs[name]

        return hook

    with torch.enable_grad(), ExitStack() as stack:
        for site in sites:
            stack.callback(reference.model.get_submodule(site.name).register_forward_hook(capture(site.name)).remove)
        loss = cross_entropy(reference.logits(row).to(reference.base.edit_dtype), reference.labels(row))
        deltas = torch.autograd.grad(loss, [outputs[site.name] for site in sites])
    found = {}
    for site, delta in zip(sites, deltas, strict=True):
        x, y = inputs[site.name][0].to(reference.base.edit_dtype), delta[0].to(reference.base.edit_dtype)
        kept = (x != 0).any(dim=1) & (y != 0).any(dim=1)
        found[site.name] = x[kept], y[kept]
    return found


def transformed(editor: Any, found: Factors) -> dict[str, Tensor]:
    """MEND and InstructEdit: return the change of each weight, [d_in, d_out], from the hypernetwork."""
    z = {site.name: editor.network.of(site).normalised(*found[site.name]) for site in editor.shape.sites}
    return {name: x.T @ delta for name, (x, delta) in editor.network(z).items()}


def changes_of(editor: Any, found: Factors, row: TokenSequence) -> dict[str, Tensor]:
    """Return the change of each weight, [d_in, d_out], from the hypernetwork of MEND, InstructEdit or KE."""
    return gated(editor, found, row) if editor.name == "ke" else transformed(editor, found)


def gated(editor: Any, found: Factors, row: TokenSequence) -> dict[str, Tensor]:
    """KE: return the change of each weight, [d_in, d_out], by the gates of equation 5 on the dense gradient."""
    h = editor.network([row.ids])
    changes = {}
    for site, conditioner in zip(editor.shape.sites, editor.network.conditioners, strict=True):
        r_a, c_a, r_b, c_b, eta = (part[0] for part in conditioner(h))
        x, delta = found[site.name]
        gradient = x.T @ delta
        gates = torch.outer(c_a, r_a) * gradient + torch.outer(c_b, r_b)
        changes[site.name] = editor.config.max_scale * eta * gates
    return changes


@torch.no_grad()
def from_gradient(reference: ReferenceModel, editor: Editor[Any], request: EditRequest, seed: int) -> ReferenceEdit:
    """MEND, InstructEdit and KE: one gradient, transformed by the editor's hypernetwork."""
    row, sites = editor.encode(reference.base, request), cast(Any, editor).shape.sites
    changes = changes_of(editor, factors(reference, row, sites), row)
    return ReferenceEdit({site.name: reference.plus(site, changes[site.name]) for site in sites})


def stored(reference: ReferenceModel, editor: Editor[Any], request: EditRequest, seed: int) -> ReferenceEdit:
    """GRACE: one value, trained through the whole model; a hook puts it in where the key is within the radius."""
    config = editor.config
    site = reference.base.sites(config.part, [config.block])[0]
    row = editor.encode(reference.base, request)
    keys: list[Tensor] = []
    module = reference.model.get_submodule(site.name)
    with torch.no_grad():
        handle = module.register_forward_pre_hook(lambda _, arguments: keys.append(arguments[0][0, row.prompt_end]))
        reference.logits(row)
        handle.remove()
        key = keys[0].to(reference.base.edit_dtype)
        if config.init == "cold":
            generator = torch.Generator().manual_seed(seed_of(seed, editor.name, request.case_id))
            value = torch.rand(site.d_out, generator=generator).to(key)
        else:
            value = cast(Tensor, module(keys[0])).to(key.dtype)

    def replace(_: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        end = reference.prompt_end
        if end >= output.shape[1] or float((arguments[0][0, end].to(key.dtype) - key).norm()) > config.radius:
            return output
        first, stop = (end, end + 1) if config.replace == "last" else (0, end)
        put = value.to(output.dtype).expand(1, stop - first, -1)
        return torch.cat([output[:, :first], put, output[:, stop:]], dim=1)

    labels = reference.labels(row)
    adam = torch.optim.Adam([value.requires_grad_()], lr=config.lr)
    with reference.edited(ReferenceEdit(hooks={site.name: replace})):
        for _ in range(config.steps):
            loss = cross_entropy(reference.logits(row).to(key.dtype), labels)
            adam.zero_grad()
            loss.backward()
            adam.step()
    value.requires_grad_(False)
    return ReferenceEdit(hooks={site.name: replace})


def calibrated(reference: ReferenceModel, editor: Editor[Any], request: EditRequest, seed: int) -> ReferenceEdit:
    """CaliNet: calibration slots added to the MLP of each block, trained by Adafactor."""
    config, model = editor.config, reference.base
    row = editor.encode(model, request)
    labels, width = reference.labels(row), model.structure.width
    slots = config.slots or max(config.least_slots, math.ceil(config.slots_per_100_edits / 100))
    generator = torch.Generator().manual_seed(seed_of(seed, editor.name, request.case_id))

    def draw(inputs: int, outputs: int) -> Tensor:
        drawn = (2 * torch.rand(inputs, outputs, generator=generator) - 1) / math.sqrt(inputs)
        return drawn.to(model.device, model.edit_dtype)

    settings = cast(Any, reference.model.config)
    name = config.activation or getattr(settings, "activation_function", None) or settings.hidden_act
    act = ACT2FN[name]
    variables: list[Tensor] = []
    hooks: dict[str, Hook] = {}
    for block in config.blocks:
        ups = model.sites("up", [block])
        k = draw(width, slots)
        v = torch.zeros(slots, width).to(k) if config.zero_init else draw(slots, width)
        own = [k, v, draw(width, slots)] if len(ups) == 2 else [k, v]
        variables += own

        def add_slots(_: nn.Module, arguments: Any, output: Tensor, own: Sequence[Tensor] = tuple(own)) -> Tensor:
            x, (k, v, *gate) = arguments[0].to(own[0].dtype), own
            inner: Tensor = act(x @ gate[0]) * (x @ k) if gate else act(x @ k)
            return output + (inner @ v).to(output.dtype)

        hooks[ups[0].name.rpartition(".")[0]] = add_slots
    optimiser = Adafactor(
        [tensor.requires_grad_() for tensor in variables], lr=config.lr, scale_parameter=False, relative_step=False
    )
    with reference.edited(ReferenceEdit(hooks=hooks)):
        for _ in range(config.steps):
            loss = cross_entropy(reference.logits(row).to(model.edit_dtype), labels)
            if loss.item() < config.stop_loss:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for tensor in variables:
        tensor.requires_grad_(False)
    return ReferenceEdit(hooks=hooks)


REFERENCES: dict[str, Callable[[ReferenceModel, Editor[Any], EditRequest, int], ReferenceEdit]] = {
    "ft-l": fine_tuned,
    "ft-m": fine_tuned,
    "ke": from_gradient,
    "mend": from_gradient,
    "instructedit": from_gradient,
    "grace": stored,
    "calinet": calibrated,
}
"""Reference edits by the name of the editor; an editor without one is not timed."""
