"""One edit of one request by plain means, for each editor that the slow path knows."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.activations import ACT2FN
from transformers.optimization import Adafactor

from instructedit.editors import Editor, EditRequest, Row, Site, seed_of

from .slow import Change, Hook, Twin

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""By the name of a map its inputs x [tokens, d_in] and the gradients of its outputs delta [tokens, d_out]."""


def fine_tuned(twin: Twin, editor: Editor[Any], request: EditRequest, seed: int) -> Change:
    """FT-L and FT-M: Adam on one weight, which is clamped to a box after each step."""
    config = editor.config
    (site,) = twin.base.sites("down", [config.block])
    row = editor.encode(twin.base, request)
    labels, end = twin.labels(row), row.prompt_end
    if config.objective == "prompt_last":
        row = Row(row.ids[: end + 1], (end,), end)
    weight, steps = twin.weight(site.name), 0
    start = weight.clone()
    box = (-math.inf, math.inf) if config.clamp is False else (-config.clamp, config.clamp)
    lower, upper = start + box[0], start + box[1]
    adam = torch.optim.Adam([weight.requires_grad_()], lr=config.lr)
    for _ in range(config.steps):
        log_p = twin.logits(row).log_softmax(dim=-1).expand(len(labels), -1)
        loss = -log_p.gather(1, labels[:, None]).mean()
        if loss.item() < config.stop_loss:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        steps += 1
        with torch.no_grad():
            weight.clamp_(lower, upper)
    change = Change({site.name: weight.detach().clone()}, steps=steps)
    weight.requires_grad_(False).copy_(start)
    weight.grad = None
    return change


def factors(twin: Twin, row: Row, sites: Sequence[Site]) -> Factors:
    """Return the factors of the gradient of a row's loss by hooks, without the tokens that say nothing."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def tap(name: str) -> Hook:
        def hook(_: nn.Module, arguments: Any, output: Tensor) -> Tensor:
            inputs[name] = arguments[0].detach()
            outputs[name] = output if output.requires_grad else output.requires_grad_()
            return outputs[name]

        return hook

    with torch.enable_grad(), ExitStack() as stack:
        for site in sites:
            stack.callback(twin.model.get_submodule(site.name).register_forward_hook(tap(site.name)).remove)
        loss = cross_entropy(twin.logits(row).to(twin.base.edit_dtype), twin.labels(row))
        deltas = torch.autograd.grad(loss, [outputs[site.name] for site in sites])
    found = {}
    for site, delta in zip(sites, deltas, strict=True):
        x, y = inputs[site.name][0].to(twin.base.edit_dtype), delta[0].to(twin.base.edit_dtype)
        said = (x != 0).any(dim=1) & (y != 0).any(dim=1)
        found[site.name] = x[said], y[said]
    return found


def transformed(editor: Any, found: Factors) -> dict[str, Tensor]:
    """MEND and InstructEdit: return the change of each map, [d_in, d_out], that the hypernetwork makes of factors."""
    z = {site.name: editor.network.normalised(site, *found[site.name]) for site in editor.shape.sites}
    return {name: x.T @ delta for name, (x, delta) in editor.network(z).items()}


def gated(editor: Any, found: Factors, row: Row) -> dict[str, Tensor]:
    """KE: return the change of each map, [d_in, d_out], by the gates of equation 5 on the whole gradient."""
    h = editor.network([row.ids])
    changes = {}
    for site, conditioner in zip(editor.shape.sites, editor.network.conditioners, strict=True):
        r_a, c_a, r_b, c_b, eta = (part[0] for part in conditioner(h))
        x, delta = found[site.name]
        gradient = x.T @ delta
        gates = torch.outer(c_a, r_a) * gradient + torch.outer(c_b, r_b)
        changes[site.name] = editor.config.max_scale * eta * gates
    return changes


def changes_of(twin: Twin, editor: Any, request: EditRequest) -> dict[str, Tensor]:
    """Return the changes that a trained editor makes of one request; while it trains, its statistics take it in."""
    row = editor.encode(twin.base, request)
    found = factors(twin, row, editor.shape.sites)
    if editor.name == "ke":
        return gated(editor, found, row)
    if editor.network.training:
        for site in editor.shape.sites:
            editor.network.observe(site, *found[site.name])
    return transformed(editor, found)


@torch.no_grad()
def from_gradient(twin: Twin, editor: Editor[Any], request: EditRequest, seed: int) -> Change:
    """MEND, InstructEdit and KE: one gradient, made an edit by the editor's network."""
    sites = {site.name: site for site in cast(Any, editor).shape.sites}
    changes = changes_of(twin, editor, request)
    return Change({name: twin.plus(sites[name], change) for name, change in changes.items()})


def stored(twin: Twin, editor: Editor[Any], request: EditRequest, seed: int) -> Change:
    """GRACE: one value, trained by passes through the whole model, which a hook puts in where the key is near."""
    config = editor.config
    site = twin.base.sites(config.part, [config.block])[0]
    row = editor.encode(twin.base, request)
    keys: list[Tensor] = []
    module = twin.model.get_submodule(site.name)
    with torch.no_grad():
        handle = module.register_forward_pre_hook(lambda _, arguments: keys.append(arguments[0][0, row.prompt_end]))
        twin.logits(row)
        handle.remove()
        key = keys[0].to(twin.base.edit_dtype)
        if config.init == "cold":
            generator = torch.Generator().manual_seed(seed_of(seed, editor.name, request.case_id))
            value = torch.rand(site.d_out, generator=generator).to(key)
        else:
            value = cast(Tensor, module(keys[0])).to(key.dtype)

    def put_in(_: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        end = twin.prompt_end
        if end >= output.shape[1] or float((arguments[0][0, end].to(key.dtype) - key).norm()) > config.radius:
            return output
        first, stop = (end, end + 1) if config.replace == "last" else (0, end)
        put = value.to(output.dtype).expand(1, stop - first, -1)
        return torch.cat([output[:, :first], put, output[:, stop:]], dim=1)

    labels = twin.labels(row)
    adam = torch.optim.Adam([value.requires_grad_()], lr=config.lr)
    with twin.under(Change(hooks={site.name: put_in})):
        for _ in range(config.steps):
            loss = cross_entropy(twin.logits(row).to(key.dtype), labels)
            adam.zero_grad()
            loss.backward()
            adam.step()
    value.requires_grad_(False)
    return Change(hooks={site.name: put_in}, steps=config.steps)


def calibrated(twin: Twin, editor: Editor[Any], request: EditRequest, seed: int) -> Change:
    """CaliNet: slots beside the MLP of each block, trained by Adafactor."""
    config, model = editor.config, twin.base
    row = editor.encode(model, request)
    labels, width = twin.labels(row), model.structure.width
    slots = config.slots or max(config.least_slots, math.ceil(config.slots_per_100_edits / 100))
    generator = torch.Generator().manual_seed(seed_of(seed, editor.name, request.case_id))

    def draw(inputs: int, outputs: int) -> Tensor:
        drawn = (2 * torch.rand(inputs, outputs, generator=generator) - 1) / math.sqrt(inputs)
        return drawn.to(model.device, model.edit_dtype)

    settings = cast(Any, twin.model.config)
    name = config.activation or getattr(settings, "activation_function", None) or settings.hidden_act
    act = ACT2FN[name]
    free: list[Tensor] = []
    hooks: dict[str, Hook] = {}
    for block in config.blocks:
        ups = model.sites("up", [block])
        k = draw(width, slots)
        v = torch.zeros(slots, width).to(k) if config.zero_init else draw(slots, width)
        own = [k, v, draw(width, slots)] if len(ups) == 2 else [k, v]
        free += own

        def beside(_: nn.Module, arguments: Any, output: Tensor, own: Sequence[Tensor] = tuple(own)) -> Tensor:
            x, (k, v, *gate) = arguments[0].to(own[0].dtype), own
            inner: Tensor = act(x @ gate[0]) * (x @ k) if gate else act(x @ k)
            return output + (inner @ v).to(output.dtype)

        hooks[ups[0].name.rpartition(".")[0]] = beside
    optimiser = Adafactor(
        [tensor.requires_grad_() for tensor in free], lr=config.lr, scale_parameter=False, relative_step=False
    )
    steps = 0
    with twin.under(Change(hooks=hooks)):
        for _ in range(config.steps):
            loss = cross_entropy(twin.logits(row).to(model.edit_dtype), labels)
            if loss.item() < config.stop_loss:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps += 1
    for tensor in free:
        tensor.requires_grad_(False)
    return Change(hooks=hooks, steps=steps)


REFERENCES: dict[str, Callable[[Twin, Editor[Any], EditRequest, int], Change]] = {
    "ft-l": fine_tuned,
    "ft-m": fine_tuned,
    "ke": from_gradient,
    "mend": from_gradient,
    "instructedit": from_gradient,
    "grace": stored,
    "calinet": calibrated,
}
"""By the name of an editor how the slow path edits; an editor without one is not timed."""
