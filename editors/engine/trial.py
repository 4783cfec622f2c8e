"""A short trial of a model when it is loaded: which ways of computing give the numbers of its own plain forward pass.

The references are plain calls of transformers, each on one unpadded row; edits are plain forward hooks. What fails a
check is refused with one sentence (`InputError`) where nothing else would be right, or replaced by what is right:
replay by full forward passes, packed rows by a mask or by one row a pass, our cache by recomputation. An exception
within a check means that this way cannot be used.

A check costs a pass over a dozen tokens, and the trial 20 to 40 of them: less than reading the weights for their
fingerprint does. So it is made again at each load and never taken from a file.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor

from ..edits import Edits
from ..errors import InputError
from ..models.structure import Cut
from ..models.tokens import Row
from ..patches import Codebook, LowRank
from .decoding import decode, read_prompts
from .generation import generate
from .runner import Generation, Packing, Ways

if TYPE_CHECKING:
    from .model import LanguageModel

LENGTHS = 13, 13, 11
"""Tokens of the rows that are tried; the first two stand before the third in a packed pass."""
LONG = 100
"""Tokens of a longer row that begins like the first: what picks or cuts by length shows there (Reformer's buckets)."""
LEAK, COARSE_LEAK = 1e-5, 0.02
"""Most that a row may change, as a share of the spread of its logits, when another row is packed before it: for float32
and wider types, and for those of 16 bits. It is 0.0 for all dense families whose rows can be packed, bfloat16 included;
in mixtures the number of tokens that an expert gets decides how sums are rounded. What leaks is larger by orders."""
FINE, COARSE = 1e-3, 0.1
"""Largest difference from a plain forward pass, as a share of the spread of its logits, that is rounding: for float32
and wider types, and for those of 16 bits."""
VISIBLE = 3
"""Least effect of the edits that are tried, in tolerances; smaller ones are tried again, eight times as large."""


@dataclass(frozen=True, slots=True)
class Trial(Ways):
    """What a trial found.

    Attributes:
        sites: Number of sites by part, e.g. `{"up": 12, "down": 12}`.
        notes: A sentence on each way that cannot be used, and what is done instead.
    """

    sites: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


def try_out(model: "LanguageModel") -> Trial:
    """Try a model and set `model.engine.runner.ways` to what gives its own numbers.

    Raises:
        InputError: If weights or logits are not finite, tokens have no embedding, a plain forward pass fails, a later
            token changes an earlier logit, the decoder waits for an encoder, an edit does not reach the logits, or no
            way of running its blocks gives its own numbers.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return _Trial(model).run()


@dataclass(frozen=True, slots=True)
class _Tried:
    """A random edit of one block, and the logits of a plain forward pass under it, [tokens, vocabulary]."""

    block: int
    edits: Edits
    wanted: Tensor

    @property
    def cut(self) -> Cut:
        """Where its replays start."""
        assert self.edits.cut is not None
        return self.edits.cut


class _Trial:
    def __init__(self, model: "LanguageModel") -> None:
        self.model, self.engine, self.hf = model, model.engine.runner, model.model
        self.kind = type(model.model).__name__
        self.modules = dict(model.model.named_modules())
        self._sites = [site for own in model.structure.sites for site in own if site.name in self.modules]
        self._ordinary = _ordinary(model)
        self._unread: list[int] = []
        self.rows: list[Row] = []
        self.plain: list[Tensor] = []
        self.inputs: dict[str, float] = {}
        self.outputs: dict[str, float] = {}

    def run(self) -> Trial:
        self._check_weights()
        self._check_vocabulary()
        self._read_plainly()
        self._check_causal()
        blocks = self._blocks()
        middle = len(blocks) // 2
        tried = [self._edit(block, ("down",) if block == blocks[middle] else ("up", "down")) for block in blocks]
        self._use(Ways(*self._packing(tried)))
        self._use(starts=self._starts(tried))
        own = [one for one in tried if one.block in self.ways.starts]
        if self.ways.packing != "rows" or tried[middle] not in own or not self._late(tried[middle]):
            self._use(late=False)
        self._use(generation=self._generation(tried[middle]))
        found = Counter(site.part for own in self.model.structure.sites for site in own)
        trial = Trial(**asdict(self.ways), sites=tuple(found.items()), notes=tuple(self._notes()))
        self.engine.ways = trial
        return trial

    @property
    def ways(self) -> Ways:
        """The ways that the engine uses at the moment."""
        return self.engine.ways

    def _use(self, ways: Ways | None = None, **changed: Any) -> None:
        self.engine.ways = replace(ways or self.engine.ways, **changed)

    def _notes(self) -> Iterator[str]:
        count, usable = len(self.model.structure), len({*self.ways.starts, *self._unread})
        if self._unread:
            yield f"{self.kind}: {len(self._unread)} of its {count} blocks are not run on text and have no parts."
        if self.ways.packing == "mask":
            yield f"{self.kind}: its attention cannot be told which tokens make a row; rows share a pass by a mask."
        elif self.ways.packing == "single":
            yield f"{self.kind}: rows that share a pass would change each other; each row has a pass of its own."
        if usable < count:
            yield (
                f"{self.kind}: replays cannot start from {count - usable} of its {count} blocks; edits of these are "
                "replayed from an earlier block or from the embeddings."
            )
        if self.ways.generation == "recompute":
            yield f"{self.kind}: its cache gives other logits than plain passes; texts are generated without a cache."
        elif self.ways.generation == "alone":
            yield f"{self.kind}: a left-padded batch differs from its rows alone; texts are generated one by one."

    # What a model has to be.

    def _check_weights(self) -> None:
        for name, weight in self.hf.named_parameters():
            if weight.is_meta or not weight.is_floating_point() or weight.dtype.itemsize < 2:
                continue  # kept on disk, or quantised: the logits are looked at below
            if not torch.isfinite(weight).all():
                raise InputError(
                    f"{self.kind}: the weight {name} holds numbers that are not finite (NaN or infinite); "
                    "the checkpoint is damaged."
                )

    def _check_vocabulary(self) -> None:
        own = self.model.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
        name, largest = max(own.items(), key=lambda item: item[1], default=("", -1))
        if largest >= self.model.vocabulary:
            raise InputError(
                f"{self.kind}: its tokenizer has the token '{name}' of id {largest}, but its embedding has only "
                f"{self.model.vocabulary} rows; tokenizer and model do not belong together."
            )

    def _read_plainly(self) -> None:
        """Read the rows by plain calls; learn which modules are run and what form the blocks' outputs have."""
        for step, length in zip((7, 11, 5), LENGTHS, strict=True):
            tokens = self._tokens(step, min(length, self.model.context))
            end = min(6, len(tokens) - 1)
            self.rows.append(Row(tokens, tuple(range(end, len(tokens))), end))
        ran: set[nn.Module] = set()
        blocks = self.model.structure.blocks
        with ExitStack() as stack:
            for module in self.modules.values():
                stack.callback(module.register_forward_hook(lambda module, _x, _y: ran.add(module)).remove)
            for site in self._sites:
                stack.callback(self.modules[site.name].register_forward_hook(partial(self._see, site.name)).remove)
            for block, passing in zip(blocks, self.engine.passing, strict=True):
                stack.callback(block.register_forward_hook(partial(_form, passing)).remove)
            self.plain.append(self._plainly(self.rows[0].ids))
        if not ran.intersection(blocks):
            raise InputError(
                f"{self.kind}: its longest list of blocks, {self.model.structure.blocks_name}, is not run on text."
            )
        # as blocks that attend to a picture: what an editor would change there reaches no text
        self._unread = [index for index, block in enumerate(blocks) if block not in ran]
        self.model.structure.forget({site.name for i in self._unread for site in self.model.structure.sites[i]})
        self._sites = [site for site in self._sites if site.block not in self._unread]
        idle = [part for block in blocks for part in block.children() if not ran.intersection(part.modules())]
        if any(name.startswith("encoder_") for name in self.engine.named) and any(map(_attention, idle)):
            raise InputError(
                f"{self.kind} is the decoder of an encoder-decoder model: its blocks attend to an encoder that is not "
                "there; instructedit edits decoder-only language models."
            )
        self.plain += [self._plainly(row.ids) for row in self.rows[1:]]
        for logits in self.plain:
            if logits.isnan().any() or (logits == float("inf")).any() or (logits == float("-inf")).all(-1).any():
                raise InputError(
                    f"{self.kind}: the logits of the unedited model are not finite in {self.hf.dtype}, though its "
                    "weights are; another dtype (float32) may help."
                )

    def _plainly(self, ids: Sequence[int]) -> Tensor:
        """Return the logits of a plain call, [tokens, vocabulary]."""
        try:
            options = {"use_cache": False} if "use_cache" in self.engine.named else {}
            line = torch.tensor([ids], device=self.model.device)
            logits: Tensor = self.hf(input_ids=line, **options).logits[0].float()
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{self.kind}: a plain forward pass over {len(ids)} tokens of text fails: {reason}"
            ) from error
        if logits.dim() != 2 or len(logits) != len(ids):
            raise InputError(f"{self.kind}: it gives no logits for each token; a causal language model was expected.")
        return logits

    def _see(self, name: str, _: nn.Module, given: Any, output: Any) -> None:
        if name in self.inputs:
            self.engine.repeated.add(name)
        self.inputs[name], self.outputs[name] = (float(t.float().square().mean().sqrt()) for t in (given[0], output))

    def _check_causal(self) -> None:
        row, plain = self.rows[0].ids, self.plain[0]
        longer = (*row, *self._tokens(7, min(LONG, self.model.context))[len(row) :])
        whole, part = self._plainly(longer), self._plainly(longer[: (len(longer) + len(row)) // 2])
        pairs = (whole[: len(row)], plain), (part[: len(row)], plain), (part, whole[: len(part)])
        if not all(self._close(found, wanted) for found, wanted in pairs):
            raise InputError(
                f"{self.kind}: later tokens change the logits of earlier ones, so that an answer would be scored in "
                "sight of itself; a causal language model was expected."
            )

    def _tokens(self, step: int, length: int) -> tuple[int, ...]:
        """Return tokens of text."""
        return tuple(self._ordinary[(step * i + 3) % len(self._ordinary)] for i in range(length))

    # How rows share a pass.

    def _packing(self, tried: Sequence[_Tried]) -> tuple[Packing, bool]:
        """Return how rows share a pass, and whether the last block may treat only what is read."""
        ways: tuple[tuple[Packing, bool], ...] = (("rows", True), ("rows", False), ("mask", False), ("single", False))
        for packing, partial_ in ways:
            self._use(Ways(packing, partial_))
            if self.engine.can_pack(packing) and self._packs() and self._edits_hold(tried):
                return packing, partial_
        raise InputError(
            f"{self.kind}: no way of running its blocks, not even one row at a time, gives the logits of plain forward "
            "passes with and without an edit."
        )

    def _packs(self) -> bool:
        """Tell whether a row is as it is alone, and the same whatever row stands before it.

        A mask may depend on the length of a pass, as Doge's, which lets a token attend to the best of all others only:
        such passes are tried at the length that they may have.
        """
        front, other, row = self.rows
        whole = replace(row, scored=tuple(range(len(row))))
        masked = self.ways.packing == "mask"
        copies = (self.engine.limit - len(row)) // len(front) if masked else 1
        read = tuple(range(0 if masked else len(front) - 1, len(front)))  # few where the last block treats what is read

        def packed(first: Row) -> list[Tensor]:
            rows = [replace(first, scored=read)] * copies + [whole]
            return [logits for _, logits in self.model.forward(rows)]

        try:
            one, two = packed(front), packed(other)
        except Exception:
            return False
        leak = _gap(one[-1], two[-1], self._extremes(self.plain[2]))
        wanted = [*[self.plain[0][list(read)]] * copies, self.plain[2]]
        fits = all(map(self._close, one, wanted))
        return fits and leak <= (COARSE_LEAK if self.hf.dtype.itemsize < 4 else LEAK) * self._spread(self.plain[2])

    # Edits, and replays of them.

    def _blocks(self) -> list[int]:
        """Return the first, the middle and the last block with a site that is run on text."""
        own = self.model.structure.sites
        found = [index for index, sites in enumerate(own) if any(site.name in self.outputs for site in sites)]
        if not found:
            raise InputError(f"{self.kind}: none of the layers that could be edited is run on text.")
        return sorted({found[0], found[len(found) // 2], found[-1]})

    def _edit(self, block: int, parts: Sequence[str]) -> _Tried:
        """Return a random edit of a block that is plain to see in the logits."""
        ran = [site for site in self.model.structure.sites[block] if site.name in self.outputs]
        sites = [next((site for site in ran if site.part == part), ran[0]) for part in parts]
        draw = torch.Generator().manual_seed(block)
        scale, tolerance = 1.0, VISIBLE * self._tolerance(self.plain[0])
        for _ in range(4):
            patches = []
            for site in dict.fromkeys(sites):
                a = torch.randn(site.d_in, 1, generator=draw) / (site.d_in**0.5 * (self.inputs[site.name] or 1))
                b = torch.randn(1, site.d_out, generator=draw) * scale * (self.outputs[site.name] or 1)
                place, dtype = self.model.site_device(site), self.model.edit_dtype
                patches.append(LowRank(site.name, block, a.to(place, dtype), b.to(place, dtype)))
            with self._hooked({patch.site: partial(_added, patch.a, patch.b) for patch in patches}):
                wanted = self._plainly(self.rows[0].ids)
            effect = _gap(wanted, self.plain[0], self._extremes(self.plain[0]))
            if effect >= tolerance:
                break
            scale *= 8
        if effect == 0:
            raise InputError(f"{self.kind}: a change of {sites[0].name} does not reach the logits.")
        return _Tried(block, Edits((tuple(patches),)), wanted)

    @contextmanager
    def _hooked(self, outputs: dict[str, Callable[[Tensor, Tensor], Tensor]]) -> Iterator[None]:
        """Let the model compute with plain hooks, each of which makes an output from input and output."""
        with ExitStack() as stack:
            for name, made in outputs.items():

                def hook(_: nn.Module, given: Any, output: Tensor, made: Any = made) -> Tensor:
                    return made(given[0], output)  # type: ignore[no-any-return]

                stack.callback(self.modules[name].register_forward_hook(hook).remove)
            yield

    def _edits_hold(self, tried: Sequence[_Tried]) -> bool:
        """Tell whether rows that share a pass, each under its own edit, are what plain hooks make of them."""
        rows, owners = [self.rows[0]] * (len(tried) + 1), [*range(len(tried)), None]
        edits = Edits.join([one.edits for one in tried])
        wanted = [*(one.wanted for one in tried), self.plain[0]]
        return self._holds(lambda: dict(self.model.forward(rows, edits, owners)), wanted, rows)

    def _starts(self, tried: Sequence[_Tried]) -> tuple[int, ...]:
        """Return the blocks from which replays give the numbers of a full pass."""
        everywhere = tuple(range(len(self.model.structure)))
        self._use(starts=everywhere)
        if self._replays(tried, [Cut(one.block) for one in tried]):
            return everywhere
        last = tried[-1]
        return tuple(block for block in everywhere[: last.block + 1] if self._replays([last], [Cut(block)]))

    def _replays(self, tried: Sequence[_Tried], cuts: Sequence[Cut]) -> bool:
        """Tell whether replays after one base pass give the numbers of plain passes, of edited and unedited rows."""
        rows, owners = [self.rows[0], self.rows[2], self.rows[0]], [0, None, None]
        wanted = [logits for one in tried for logits in (one.wanted, self.plain[2], self.plain[0])]

        def replayed() -> dict[int, Tensor]:
            base = self.model.base_pass(rows, cuts)
            runs = [dict(self.model.replay(base, one.edits, owners)) for one in tried]
            return dict(enumerate(run[row] for run in runs for row in range(len(rows))))

        return self._holds(replayed, wanted, rows * len(tried))

    def _late(self, tried: _Tried) -> bool:
        """Tell whether an edit of a prompt's last token is the same when only what follows it is run again."""
        self._use(late=True)
        row, patch = self.rows[0], tried.edits.patches[0][0]
        value = patch.tensors()["b"]
        seen: list[Tensor] = []

        def overwritten(x: Tensor, y: Tensor) -> Tensor:
            flat = y.reshape(-1, y.shape[-1]).clone()
            seen.append(x.reshape(-1, x.shape[-1])[row.prompt_end])
            flat[row.prompt_end] = value[0].to(flat.dtype)
            return flat.reshape(y.shape)

        with self._hooked({patch.site: overwritten}):
            wanted = self._plainly(row.ids)
        key = seen[0][None].to(value.dtype)
        radius = 0.5 * torch.linalg.vector_norm(key)[None]
        book = _Tried(tried.block, Edits(((Codebook(patch.site, tried.block, key, value, radius),),)), wanted)

        def replayed() -> dict[int, Tensor]:
            base = self.model.base_pass([row, row], [book.cut], late=0)
            return dict(self.model.replay(base, book.edits, [0, None]))

        return self._holds(replayed, [wanted, self.plain[0]], [row, row])

    # Texts.

    def _generation(self, tried: _Tried) -> Generation:
        """Return the first kind of generation whose logits at each step are those of plain passes."""
        kinds: tuple[Generation, ...] = ("cache",) if self.ways.packing == "rows" else ("batch", "alone")
        for kind in kinds:
            self._use(generation=kind)
            if self._generates(tried):
                return kind
        return "recompute"

    def _generates(self, tried: _Tried) -> bool:
        """Tell whether two rows of unlike length, one edited, give plain logits as they grow by their own tokens."""
        full, owners = [self.rows[0], self.rows[2]], [0, None]
        starts = [self.rows[0].prompt_end, 0]  # a prompt of one token, too
        steps = min(3, *(len(row) - start - 1 for row, start in zip(full, starts, strict=True)))
        prompts = [Row(row.ids[: end + 1], (end,), end) for row, end in zip(full, starts, strict=True)]
        forced = [row.ids[end + 1 : end + 1 + steps] for row, end in zip(full, starts, strict=True)]
        wanted = [logits[end : end + steps] for logits, end in zip((tried.wanted, self.plain[2]), starts, strict=True)]

        def grown(read: bool) -> dict[int, Tensor]:
            said = _Forced(forced)
            if self.ways.generation == "cache":
                known = read_prompts(self.model, prompts, [tried.cut]) if read else None

                def choose(_: Sequence[int], logits: Tensor, step: int) -> Tensor:
                    return said.next(logits, step)

                never = lambda _row, _new: False  # noqa: E731
                decode(self.model, prompts, tried.edits, owners, steps=steps, choose=choose, ended=never, prompts=known)
            else:
                settings = GenerationConfig(do_sample=False, max_new_tokens=steps)
                generate(self.model, prompts, tried.edits, owners, settings, batch=2, noise=said.of)
            return {row: torch.stack(found) for row, found in said.heard.items()}

        # twice, as some models keep a state that a text leaves behind
        prefills = [self.ways.generation == "cache" and self.ways.late, False]
        return steps > 0 and all(self._holds(partial(grown, read), wanted) for read in prefills)

    # Comparisons.

    def _holds(
        self, run: Callable[[], dict[int, Tensor]], wanted: Sequence[Tensor], rows: Sequence[Row] | None = None
    ) -> bool:
        """Tell whether a run gives wanted logits, of rows at their scored positions; an exception means no."""
        try:
            found = run()
        except Exception:
            return False
        if rows is not None:
            wanted = [logits[list(row.scored)] for logits, row in zip(wanted, rows, strict=True)]
        return len(found) == len(wanted) and all(self._close(found[i], logits) for i, logits in enumerate(wanted))

    def _close(self, found: Tensor, wanted: Tensor) -> bool:
        if found.shape != wanted.shape:
            return False
        return _gap(found, wanted, self._extremes(wanted)) <= self._tolerance(self.plain[0] if self.plain else wanted)

    def _tolerance(self, logits: Tensor) -> float:
        return (COARSE if self.hf.dtype.itemsize < 4 else FINE) * self._spread(logits)

    def _spread(self, logits: Tensor) -> float:
        return float(logits[self._extremes(logits)].std())

    def _extremes(self, logits: Tensor) -> Tensor:
        """Return which logits are numbers and no masks: some models put the least number for tokens they never say."""
        return logits.abs() < 0.5 * torch.finfo(self.hf.dtype).max


class _Forced(LogitsProcessor):
    """Says given tokens and keeps the logits that another token could have been said by."""

    def __init__(self, tokens: Sequence[Sequence[int]]) -> None:
        self.tokens = tokens
        self.heard: dict[int, list[Tensor]] = {}
        self.chosen: Sequence[int] = range(len(tokens))
        self.step = 0

    def of(self, chosen: Sequence[int]) -> "_Forced":
        """Return the processor of a batch of some rows."""
        self.chosen, self.step = chosen, 0
        return self

    def next(self, logits: Tensor, step: int) -> Tensor:
        """Keep logits [rows, vocabulary] and return the tokens that follow."""
        for line, row in enumerate(self.chosen):
            self.heard.setdefault(row, []).append(logits[line].float().clone())
        return torch.tensor([self.tokens[row][step] for row in self.chosen], device=logits.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See transformers."""
        chosen = self.next(scores, self.step)
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter(1, chosen[:, None], 0.0)


def _ordinary(model: "LanguageModel") -> list[int]:
    """Return the ids of tokens that stand for text and for nothing else (no image, no padding)."""
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


def _form(passing: Any, _: nn.Module, __: Any, output: Any) -> None:
    passing.items = len(output) if isinstance(output, tuple) else None


def _attention(module: nn.Module) -> bool:
    """Tell whether a module may be an attention: it holds maps to queries, keys and values."""
    return sum(parameter.dim() > 1 for parameter in module.parameters()) >= 3


def _added(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return y + ((x.to(a.dtype) @ a) @ b).to(y.dtype)


def _gap(one: Tensor, two: Tensor, where: Tensor) -> float:
    """Return the largest difference; infinite where a number is none."""
    gap = (one.float() - two.float()).abs()[where.to(one.device)]
    return float(gap.nan_to_num(nan=float("inf")).max()) if gap.numel() else 0.0
