"""The references of a trial: plain passes of transformers over short sequences, with and without random edits."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..edits import Edits
from ..errors import InputError
from ..models.structure import Site
from ..models.tokens import TokenSequence
from ..patches import LowRank

if TYPE_CHECKING:
    from .model import LanguageModel

LENGTHS = 13, 13, 11
"""Tokens of the three sequences; the first or the second is packed before the third."""
LONG = 100
"""Tokens of a sequence that begins like the first, to show what depends on length (Reformer's buckets)."""
LEAK, COARSE_LEAK = 1e-5, 0.02
"""Largest change of a sequence's logits by another one in its pass, relative to their spread (standard deviation): for
float32 and wider dtypes, and for those of 16 bits. It is 0.0 for all dense families whose sequences can be packed; in
mixtures the number of tokens that an expert receives decides how sums are rounded. Leaks are larger by orders."""
FINE, COARSE = 1e-3, 0.1
"""Largest difference from a plain forward pass that counts as rounding, relative to the spread; dtypes as above."""
VISIBLE = 3
"""Least effect of the random edits, in tolerances; smaller ones are scaled up by eight and tried again."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A random edit of one block, and the logits of the first sequence under it, [tokens, vocabulary]."""

    block: int
    edits: Edits
    wanted: Tensor


class Reference:
    """Plain passes of a model over three sequences: their logits, [tokens, vocabulary], and blocks not run on text.

    `inputs` and `outputs` are the root mean squares of each site's input and output. Differences of logits are relative
    to the standard deviation of the first sequence's, `spread`.
    """

    def __init__(self, model: "LanguageModel") -> None:
        self.model, self.runner, self.kind = model, model.engine.runner, type(model.model).__name__
        self.modules = dict(model.model.named_modules())
        self.text_tokens = _text_tokens(model)
        self.inputs: dict[str, float] = {}
        self.outputs: dict[str, float] = {}
        self.rows: list[TokenSequence] = []
        for step, length in zip((7, 11, 5), LENGTHS, strict=True):
            ids = self.ids(step, min(length, model.context))
            end = min(6, len(ids) - 1)
            self.rows.append(TokenSequence(ids, tuple(range(end, len(ids))), end))
        ran, first = self._watched()
        self.unread = self._unread(ran)
        self.logits = [first, *(self.run(row.ids) for row in self.rows[1:])]
        for logits in self.logits:
            if not logits.amax(-1).isfinite().all():  # NaN, an infinity, or nothing but masks
                raise InputError(
                    f"{self.kind}: the logits of the unedited model are not finite in {model.model.dtype}, though its "
                    "weights are; another dtype (float32) may help."
                )
        self.spread = float(self.logits[0][self._unmasked(self.logits[0])].std())
        coarse = model.model.dtype.itemsize < 4
        self.tolerance, self.leak = (COARSE, COARSE_LEAK) if coarse else (FINE, LEAK)

    def use(self, **changed: Any) -> None:
        """Let the engine compute in other ways."""
        self.runner.ways = replace(self.runner.ways, **changed)

    def ids(self, step: int, length: int) -> tuple[int, ...]:
        """Return token ids of text."""
        return tuple(self.text_tokens[(step * i + 3) % len(self.text_tokens)] for i in range(length))

    def run(self, ids: Sequence[int], hooks: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None) -> Tensor:
        """Return the logits of a plain call, [tokens, vocabulary]; hooks make new outputs of modules, by name."""
        with ExitStack() as stack:
            for name, new in (hooks or {}).items():

                def hook(_: nn.Module, given: Any, output: Tensor, new: Any = new) -> Tensor:
                    return new(given[0], output)  # type: ignore[no-any-return]

                stack.callback(self.modules[name].register_forward_hook(hook).remove)
            try:
                options = {"use_cache": False} if "use_cache" in self.runner.named else {}
                line = torch.tensor([ids], device=self.model.device)
                logits: Tensor = self.model.model(input_ids=line, **options).logits[0].float()
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise InputError(
                    f"{self.kind}: a plain forward pass over {len(ids)} tokens of text fails: {reason}"
                ) from error
        if logits.dim() != 2 or len(logits) != len(ids):
            raise InputError(f"{self.kind}: it gives no logits for each token; a causal language model was expected.")
        return logits

    def _watched(self) -> tuple[set[nn.Module], Tensor]:
        """Run the first sequence; return the modules that were run and the logits.

        The runner learns which sites run more than once, and the form of the blocks' outputs. A site whose module does
        not take and return vectors of its weight's widths is dropped (DeepSeek-V4's output projection works on groups).
        """
        ran: set[nn.Module] = set()
        odd: set[str] = set()
        model, runner = self.model, self.runner

        def measure(site: Site, _: nn.Module, given: Any, output: Any) -> None:
            if site.name in self.inputs:
                runner.repeated.add(site.name)
            if (given[0].shape[-1], output.shape[-1]) != (site.d_in, site.d_out):
                odd.add(site.name)
            self.inputs[site.name], self.outputs[site.name] = (_rms(t) for t in (given[0], output))

        with ExitStack() as stack:
            for module in self.modules.values():
                stack.callback(module.register_forward_hook(lambda module, _x, _y: ran.add(module)).remove)
            for site in (site for own in model.structure.sites for site in own if site.name in self.modules):
                stack.callback(self.modules[site.name].register_forward_hook(partial(measure, site)).remove)
            for block, passing in zip(model.structure.blocks, runner.passing, strict=True):
                stack.callback(block.register_forward_hook(partial(_set_form, passing)).remove)
            logits = self.run(self.rows[0].ids)
        model.structure.forget(odd)
        return ran, logits

    def _unread(self, ran: set[nn.Module]) -> list[int]:
        """Return the blocks that are not run on text, as those that attend to a picture, and drop their sites."""
        structure = self.model.structure
        if not ran.intersection(structure.blocks):
            raise InputError(f"{self.kind}: its longest list of blocks, {structure.blocks_name}, is not run on text.")
        unread = [index for index, block in enumerate(structure.blocks) if block not in ran]
        structure.forget({site.name for index in unread for site in structure.sites[index]})
        idle = [part for block in structure.blocks for part in block.children() if not ran.intersection(part.modules())]
        takes_encoder = any(name.startswith("encoder_") for name in self.runner.named)
        if takes_encoder and any(map(_is_attention, idle)):
            raise InputError(
                f"{self.kind} is the decoder of an encoder-decoder model: its blocks attend to an encoder that is not "
                "there; instructedit edits decoder-only language models."
            )
        return unread

    def check_causal(self) -> None:
        """Refuse a model whose later tokens change earlier logits."""
        row, logits = self.rows[0].ids, self.logits[0]
        longer = (*row, *self.ids(7, min(LONG, self.model.context))[len(row) :])
        whole, part = self.run(longer), self.run(longer[: (len(longer) + len(row)) // 2])
        pairs = (whole[: len(row)], logits), (part[: len(row)], logits), (part, whole[: len(part)])
        if not all(self.close(found, wanted) for found, wanted in pairs):
            raise InputError(
                f"{self.kind}: later tokens change the logits of earlier ones, so that an answer would be scored in "
                "sight of itself; a causal language model was expected."
            )

    def random_edits(self) -> list[Tried]:
        """Return edits of the first, the middle and the last block with a site that is run on text."""
        own = self.model.structure.sites
        found = [index for index, sites in enumerate(own) if any(site.name in self.outputs for site in sites)]
        if not found:
            raise InputError(f"{self.kind}: none of the layers that could be edited is run on text.")
        blocks = sorted({found[0], found[len(found) // 2], found[-1]})
        middle = blocks[len(blocks) // 2]
        return [self._random_edit(block, ("down",) if block == middle else ("up", "down")) for block in blocks]

    def _random_edit(self, block: int, parts: Sequence[str]) -> Tried:
        """Return a low-rank edit of a block that is large enough to see in the logits."""
        ran = [site for site in self.model.structure.sites[block] if site.name in self.outputs]
        sites = dict.fromkeys(next((site for site in ran if site.part == part), ran[0]) for part in parts)
        draw = torch.Generator().manual_seed(block)
        scale = 1.0
        for _ in range(4):
            patches = []
            for site in sites:
                a = torch.randn(site.d_in, 1, generator=draw) / (site.d_in**0.5 * (self.inputs[site.name] or 1))
                b = torch.randn(1, site.d_out, generator=draw) * scale * (self.outputs[site.name] or 1)
                place, dtype = self.model.site_device(site), self.model.edit_dtype
                patches.append(LowRank(site.name, block, a.to(place, dtype), b.to(place, dtype)))
            wanted = self.run(self.rows[0].ids, {patch.site: partial(patch, spans=()) for patch in patches})
            if (effect := self.distance(wanted, self.logits[0])) >= VISIBLE * self.tolerance:
                break
            scale *= 8
        if effect == 0:
            raise InputError(f"{self.kind}: a change of {next(iter(sites)).name} does not reach the logits.")
        return Tried(block, Edits((tuple(patches),)), wanted)

    def equals(
        self,
        run: Callable[[], dict[int, Tensor]],
        wanted: Sequence[Tensor],
        rows: Sequence[TokenSequence] | None = None,
    ) -> bool:
        """Tell whether a run gives the wanted logits, of `rows` at their scored positions; an exception means no."""
        try:
            found = run()
        except Exception:
            return False
        if rows is not None:
            wanted = [logits[list(row.scored)] for logits, row in zip(wanted, rows, strict=True)]
        return len(found) == len(wanted) and all(self.close(found[i], logits) for i, logits in enumerate(wanted))

    def close(self, found: Tensor, wanted: Tensor) -> bool:
        """Tell whether logits differ by rounding only."""
        return found.shape == wanted.shape and self.distance(found, wanted) <= self.tolerance

    def leaks(self, one: Tensor, two: Tensor) -> bool:
        """Tell whether the third sequence's logits differ by what is packed before it."""
        return not self.distance(one, two) <= self.leak

    def distance(self, one: Tensor, two: Tensor) -> float:
        """Return the largest difference relative to the spread; infinite where a value is NaN."""
        gap = (one.float() - two.float()).abs()[self._unmasked(two).to(one.device)]
        return float(gap.nan_to_num(nan=float("inf")).max()) / self.spread if gap.numel() else 0.0

    def _unmasked(self, logits: Tensor) -> Tensor:
        """Return which logits are no masks: some models give tokens they never generate the least number."""
        return logits.abs() < 0.5 * torch.finfo(self.model.model.dtype).max


def _text_tokens(model: "LanguageModel") -> list[int]:
    configs = model.model.config, model.model.config.get_text_config(decoder=True)
    named = [
        value
        for config in configs
        for key, value in config.to_dict().items()
        if key.endswith(("_token_id", "_token_index"))
    ]
    special = {token for value in named for token in (value if isinstance(value, list | tuple) else [value])}
    special |= {*model.tokenizer.all_special_ids, *model.tokenizer.added_tokens_decoder}
    return [token for token in range(model.vocabulary) if token not in special] or [0]


def _set_form(passing: Any, _: nn.Module, __: Any, output: Any) -> None:
    passing.items = len(output) if isinstance(output, tuple | list) else None


def _is_attention(module: nn.Module) -> bool:
    """Tell whether a module may be an attention, with projections to queries, keys and values."""
    return sum(parameter.dim() > 1 for parameter in module.parameters()) >= 3


def _rms(values: Tensor) -> float:
    return float(values.float().square().mean().sqrt())
