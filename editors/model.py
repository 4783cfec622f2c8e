"""A causal language model as editors and scoring see it: encode, forward, capture, replay."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import NewGELUActivation

from .attention import Keys
from .edits import Edits
from .engine import Engine, Kept
from .errors import InputError
from .hooks import patched, tapped
from .layout import Known, Layout, Segment
from .patches import Span
from .rows import Row, encode, encode_prompt, require_offsets
from .sketch import context_of, locate, read_config, unloadable
from .structure import Site, Structure, execution_device

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

PACK_TOKENS = {"cpu": 512, "cuda": 4096}
"""Most tokens of a packed row; the mask is quadratic in it.

On one CPU thread, 6.9 M parameters, KnowEdit's probes: 128 to 512 tokens are within 8 % of each other, 1,024 cost 1.2
times as much, one row a pass 1.4 (long replies) to 2.4 times (short facts). The value for CUDA is not measured yet.
"""


@dataclass(frozen=True, slots=True)
class BasePass:
    """What one pass of the unedited model left.

    Attributes:
        rows: The rows.
        paths: For each row the numbers of its tokens in what was kept; rows that begin alike share them.
        cuts: Blocks whose incoming hidden states were kept.
        keys_from: First block whose keys and values were kept; None if none were.
        kept: Hidden states, keys and values, by the tokens' numbers.
        layouts: How replays were laid out, so that the next one like them need not do it again.
    """

    rows: tuple[Row, ...]
    cuts: tuple[int, ...]
    keys_from: int | None
    paths: list[list[int]] = field(default_factory=list)
    kept: Kept = field(default_factory=Kept)
    layouts: dict[tuple[object, ...], list[Layout]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Factors:
    """Per-token factors of the gradient at one site: dL/dW = sum over tokens of x_t (outer) delta_t.

    Attributes:
        x: Inputs of the module, [tokens, d_in].
        delta: Gradients of the loss with respect to the module's output, [tokens, d_out].
        rows: For each token the index of the row it belongs to, [tokens].
    """

    x: Tensor
    delta: Tensor
    rows: Tensor


class LanguageModel:
    """A frozen causal language model with its tokenizer.

    Args:
        model: Any decoder-only model of transformers. It is set to evaluation mode, its parameters stop asking for
            gradients, and its generation settings are cleared of everything but its special tokens; its weights are
            never written to.
        tokenizer: A fast tokenizer.
        pack_tokens: Most tokens of a packed row; by default measured for the device.

    Raises:
        InputError: If the model is no decoder made of blocks, or the tokenizer gives no character offsets.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pack_tokens: int | None = None
    ) -> None:
        require_offsets(tokenizer)
        self.structure = Structure(model)
        self.model = model.eval().requires_grad_(False)
        _fuse_activations(self.model)
        self.tokenizer = tokenizer
        self.device = execution_device(model.get_input_embeddings())
        self.context = context_of(model)
        special = model.generation_config or GenerationConfig()
        end = special.eos_token_id if special.eos_token_id is not None else tokenizer.eos_token_id
        self.end_ids: tuple[int, ...] = (
            tuple(end) if isinstance(end, list | tuple) else () if end is None else (int(end),)
        )
        # A model's own file may ask for sampling or a repetition penalty; every editor is read with the same plain
        # decoder instead.
        model.generation_config = GenerationConfig(
            bos_token_id=special.bos_token_id, eos_token_id=list(self.end_ids) or None
        )
        limit = pack_tokens or PACK_TOKENS.get(self.device.type, PACK_TOKENS["cuda"])
        self.engine = Engine(self.model, self.structure, self.device, limit)
        self.standing: Edits | None = None

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        device: str | None = None,
        device_map: str | Mapping[str, int | str] | None = None,
        trust_remote_code: bool = False,
    ) -> "LanguageModel":
        """Load a model from a folder or the hub, from safetensors only.

        Args:
            name: Folder, or hub id.
            revision: Commit, branch or tag of a hub model.
            dtype: `float32`, `bfloat16` or `float16`.
            device: `cpu`, `cuda`, `cuda:1`; by default `cuda` where there is one.
            device_map: For models larger than one card, as in accelerate (`auto`, or a mapping); excludes `device`.
            trust_remote_code: Whether code in the model's repository may run.

        Raises:
            InputError: If there is no such model, or it cannot be used.
        """
        if device is not None and device_map is not None:
            raise InputError("device and device_map exclude each other; give one of them.")
        if dtype not in DTYPES:
            raise InputError(f"Unknown dtype '{dtype}'; one of {', '.join(DTYPES)} was expected.")
        name = locate(name)
        config = read_config(name, revision, trust_remote_code=trust_remote_code)
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name,
                config=config,
                revision=revision,
                dtype=DTYPES[dtype],
                device_map=device_map,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            raise unloadable(name, error) from error
        model, loading = loaded
        # transformers fills what a checkpoint lacks with random numbers.
        lacking = sorted([*loading["missing_keys"], *(str(key) for key in loading["mismatched_keys"])])
        if lacking:
            raise InputError(
                f"{name}: the checkpoint lacks {len(lacking)} weights of the model, the first is {lacking[0]}."
            )
        if device_map is None:
            place = device or ("cuda" if torch.cuda.is_available() else "cpu")
            try:
                torch.nn.Module.to(model, place)
            except (RuntimeError, AssertionError) as error:
                reason = str(error).strip().splitlines()[0]
                raise InputError(f"The model cannot be put on device '{place}': {reason}") from error
        return cls(model, tokenizer)

    def edited(self, edits: Edits) -> "LanguageModel":
        """Return a view of this model as one edit leaves it, to make the next edit on; the weights are shared.

        Contexts are no part of it: whoever asks puts them in front.
        """
        assert len(edits) == 1 and self.standing is None, "one edit, on the unedited model"
        view = copy.copy(self)
        view.standing = edits
        return view

    @cached_property
    def identity(self) -> str:
        """Fingerprint of the model when it was first asked for; its weights never change."""
        return self.fingerprint()

    @property
    def pack_tokens(self) -> int:
        """Most tokens of a pass; 1 where each row has its own."""
        return self.engine.limit

    @property
    def revision(self) -> str | None:
        """Resolved commit of a hub model, None for a folder."""
        return getattr(self.model.config, "_commit_hash", None)

    @property
    def edit_dtype(self) -> torch.dtype:
        """Type that edits are computed in: at least float32, because under bfloat16 small steps would round away."""
        return torch.promote_types(self.model.dtype, torch.float32)

    def embedding(self) -> Tensor:
        """Return the weight of the input embedding, [vocabulary, width], from wherever `device_map` keeps it."""
        weight = self.model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        if not weight.is_meta:
            return weight
        name = next(name for name, parameter in self.model.named_parameters() if parameter is weight)
        return _state(self.model)[name]

    def sites(self, part: str, blocks: Sequence[int | float]) -> list[Site]:
        """Return the `up` or `down` maps of some blocks; see `Structure.block` for what names a block."""
        assert part in ("up", "down")
        return [site for block in blocks for site in self.structure.find(block, part)]  # type: ignore[arg-type]

    def site_device(self, site: Site) -> torch.device:
        """Return the device on which a site computes, for an editor's tensors."""
        return execution_device(self.model.get_submodule(site.name))

    def encode(self, prompt: str, answer: str) -> Row:
        """Tokenise prompt and answer together; exactly the answer's tokens are scored. See `rows.encode`."""
        return encode(self.tokenizer, prompt, answer, self.context)

    def encode_prompt(self, prompt: str, room: int = 1) -> Row:
        """Tokenise a prompt to be continued; its last position is scored. See `rows.encode_prompt`."""
        return encode_prompt(self.tokenizer, prompt, self.context, room)

    def forward(
        self, rows: Sequence[Row], edits: Edits | None = None, owners: Sequence[int | None] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Run rows through the model, under the edit that owns each.

        Yields:
            Row index and logits at its scored positions, [scored, vocabulary]; row by row, so that a caller can drop
            them.
        """
        edits = edits or Edits.none(0)
        owners = owners if owners is not None else [None] * len(rows)
        for layout, logits in self.passes(rows, edits, owners):
            yield from by_row(layout, logits)

    def passes(
        self, rows: Sequence[Row], edits: Edits, owners: Sequence[int | None], keys: Keys | None = None
    ) -> Iterator[tuple[Layout, Tensor]]:
        """Yield each pass of `forward`, with logits of the tokens that are read.

        Args:
            rows: The rows.
            edits: The edits.
            owners: For each row the index of its edit, or None.
            keys: Takes keys and values of the latest pass.
        """
        for layout in self.engine.layouts(rows, owners, whole_prompts=self._whole_prompts(edits)):
            with self._patched(layout, edits, owners):
                logits = self.engine.run(layout, keys=keys)
            assert logits is not None
            yield layout, logits

    def base(
        self, rows: Sequence[Row], cuts: Sequence[int], late: int | None = None
    ) -> "tuple[BasePass, Iterator[tuple[int, Tensor]]]":
        """Run rows through the unedited model and keep what replay needs.

        Args:
            rows: The rows; those of one edit next to each other.
            cuts: Blocks from which a replay will start.
            late: First block of edits that change a row from the last token of its prompt on only (`Edits.late`); keys
                and values from there on let a replay leave out the tokens in front. None to keep none.

        Returns:
            The pass, which is complete once the iterator is exhausted, and an iterator as `forward` gives.
        """
        base = self._new_base(rows, cuts, late)
        return base, self._base(base, halt=False)

    def base_pass(self, rows: Sequence[Row], cuts: Sequence[int], late: int | None = None) -> BasePass:
        """Return a finished base pass whose logits nobody needs; see `base`."""
        base = self._new_base(rows, cuts, late)
        with torch.no_grad():
            for _ in self._base(base, halt=base.keys_from is None):
                pass
        return base

    def _new_base(self, rows: Sequence[Row], cuts: Sequence[int], late: int | None) -> BasePass:
        keys_from = late if self.engine.packing == "rows" else None
        return BasePass(tuple(rows), tuple(sorted(set(cuts))), keys_from)

    def _base(self, base: BasePass, halt: bool) -> Iterator[tuple[int, Tensor]]:
        cuts = {cut: base.kept.hidden.setdefault(cut, []) for cut in base.cuts}
        done = 0
        for layout in self.engine.layouts(base.rows, [0] * len(base.rows), whole_prompts=self._whole_prompts()):
            base.paths.extend([done + token for token in path] for path in layout.paths)
            done += len(layout.ids)
            keys: Keys | None = None if base.keys_from is None else {}
            with torch.no_grad(), self._patched(layout):
                logits = self.engine.run(layout, hidden=cuts, keys=keys, halt=halt)
            for module, pair in (keys or {}).items():
                if base.keys_from is not None and self.engine.block_of[module] >= base.keys_from:
                    base.kept.keys.setdefault(module, []).append(pair)
            if logits is not None:
                yield from by_row(layout, logits)

    def replay(self, base: BasePass, edits: Edits, owners: Sequence[int | None]) -> Iterator[tuple[int, Tensor]]:
        """Run the base pass's rows again under their edits, only from the first patched block.

        Where the edits are late and the base pass kept keys and values, only from the end of each prompt, too.
        Gradients flow to the patches' tensors if they ask for them.

        Args:
            base: A finished base pass with a cut at or before the edits' first block.
            edits: The edits.
            owners: For each row the index of its edit, or None.

        Yields:
            As `forward`. Equal to `forward(rows, edits, owners)` up to rounding.
        """
        if edits.first_block is None:
            yield from self.forward(base.rows)
            return
        for layout, logits in self.replay_passes(base, edits, owners):
            yield from by_row(layout, logits)

    def replay_passes(
        self,
        base: BasePass,
        edits: Edits,
        owners: Sequence[int | None],
        among: Sequence[int] | None = None,
        keys: Keys | None = None,
    ) -> Iterator[tuple[Layout, Tensor]]:
        """Yield each pass of `replay`, with logits of the tokens that are read; its graph may be freed before the next.

        Args:
            base: See `replay`.
            edits: See `replay`; one at least patches something.
            owners: See `replay`.
            among: Indices of the rows that are run again; all by default.
            keys: Takes keys and values of the latest pass, in late edits behind those of the base pass.
        """
        first = edits.first_block
        cut = max((c for c in base.cuts if first is not None and c <= first), default=None)
        if cut is None:
            raise ValueError(f"The base pass kept {base.cuts}, none of which is at or before block {first}.")
        late = edits.late and base.keys_from is not None and base.keys_from <= cut
        frozen = base.kept.keys_and_values() if late else None
        states = base.kept.states(cut)
        for layout in self._again(base, owners, among, self._whole_prompts(edits), len(states) if late else None):
            enter = states[torch.tensor(layout.sources, device=states.device)]
            with self._patched(layout, edits, owners):
                logits = self.engine.run(layout, cut=cut, enter=enter, frozen=frozen, keys=keys)
            assert logits is not None
            yield layout, logits

    def _again(
        self,
        base: BasePass,
        owners: Sequence[int | None],
        among: Sequence[int] | None,
        whole_prompts: bool,
        shared: int | None,
    ) -> list[Layout]:
        """Return the layouts of a replay; `shared` is the number of known keys if rows begin where prompts end."""
        key = tuple(owners), None if among is None else tuple(among), whole_prompts, shared
        if key not in base.layouts:
            some = range(len(base.rows)) if among is None else among
            rows = [base.rows[index] for index in some]
            starts = [0 if shared is None else min(row.prompt_end, *row.scored) for row in rows]
            known = Known([base.paths[index] for index in some], starts)
            options = {"whole_prompts": whole_prompts, "shared": shared or 0}
            base.layouts[key] = list(self.engine.layouts(rows, [owners[i] for i in some], known=known, **options))
            for layout in base.layouts[key]:
                layout.rows = [some[index] for index in layout.rows]
        return base.layouts[key]

    def inputs(self, base: BasePass, site: Site) -> list[Tensor]:
        """Return the inputs of one site, [tokens, d_in] for each row of a base pass that was cut at the site's block.

        Tokens behind a row's last scored position are left out.
        """
        states = base.kept.states(site.block)
        found: list[Tensor] = []
        known = Known(base.paths, [0] * len(base.rows))
        for layout in self.engine.layouts(base.rows, range(len(base.rows)), known=known):
            seen: dict[str, Tensor] = {}
            with torch.no_grad(), tapped(self.model, [site.name], seen, {}, halt=True), self._patched(layout):
                enter = states[torch.tensor(layout.sources, device=states.device)]
                self.engine.run(layout, cut=site.block, enter=enter, whole=True)
            found += seen[site.name].reshape(-1, site.d_in).split([len(own) for own in layout.own])
        return found

    def output(self, site: Site, x: Tensor) -> Tensor:
        """Return what a site makes of x [..., d_in]."""
        with torch.no_grad():
            return self.model.get_submodule(site.name)(x)  # type: ignore[no-any-return]

    def capture(
        self, rows: Sequence[Row], sites: Sequence[Site], loss: Callable[[int, Tensor], Tensor]
    ) -> dict[str, Factors]:
        """Return inputs and output gradients at some sites, per token, of the sum of the rows' losses.

        Tokens that cannot have a gradient are left out: those behind a row's last scored position, and in the last
        block those that are not scored.

        A zero leaf is added to each site's output; its gradient is delta. No parameter of the model takes part in the
        graph.

        Args:
            rows: The rows.
            sites: Where to capture.
            loss: From a row's index and its logits [scored, vocabulary], the row's loss (a scalar).

        Returns:
            Factors by site name; tokens of all rows one after another, on the site's device, in the model's type.
        """
        names = [site.name for site in sites]
        cut = min(site.block for site in sites)
        base = self.base_pass(rows, [cut])
        states, known = base.kept.states(cut), Known(base.paths, [0] * len(rows))
        # a map that is no part of an MLP may lie in front of a block's attention, which not all tokens get behind
        whole = not {site.name for own in self.structure.sites for site in own}.issuperset(names)
        parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in names}
        for layout in self.engine.layouts(rows, range(len(rows)), known=known):
            inputs: dict[str, Tensor] = {}
            leaves: dict[str, Tensor] = {}
            enter = states[torch.tensor(layout.sources, device=states.device)]
            with torch.enable_grad(), tapped(self.model, names, inputs, leaves), self._patched(layout):
                logits = self.engine.run(layout, cut=cut, enter=enter, whole=whole)
                assert logits is not None
                total = torch.stack([loss(index, own) for index, own in by_row(layout, logits)]).sum()
                gradients = torch.autograd.grad(total, [leaves[name] for name in names])
            owner = [index for index, own in zip(layout.rows, layout.own, strict=True) for _ in own]
            for site, gradient in zip(sites, gradients, strict=True):
                x = inputs[site.name].reshape(-1, site.d_in)
                of = owner if len(x) == len(owner) else [owner[token] for token in layout.read]
                parts[site.name].append((x, gradient.reshape(-1, site.d_out), torch.tensor(of, device=x.device)))
        found: dict[str, Factors] = {}
        for name in names:  # one after another, so that no more than one stands there twice
            pieces = parts.pop(name)
            found[name] = Factors(*(torch.cat([piece[i] for piece in pieces]) for i in range(3)))
        return found

    def _whole_prompts(self, edits: Edits | None = None) -> bool:
        return any(found is not None and found.whole_prompts for found in (edits, self.standing))

    @contextmanager
    def _patched(self, layout: Layout, edits: Edits | None = None, owners: Sequence[int | None] = ()) -> Iterator[None]:
        """Let the model compute a layout with what stands and with edits, as long as the context is open."""
        with ExitStack() as stack:
            if self.standing is not None:  # first, so that the edits at hand see what it leaves
                stack.enter_context(patched(self.model, self.standing, layout.segments([0] * len(layout.rows))))
            if edits is not None and len(edits):
                own = [owners[index] for index in layout.rows]
                stack.enter_context(patched(self.model, edits, layout.segments(own)))
            yield

    @contextmanager
    def patched_lines(self, edits: Edits) -> Iterator[list[Segment]]:
        """Let the model compute with edits, as long as the context is open, on whatever segments the list holds."""
        lines: list[Segment] = []

        def everywhere(tokens: int) -> Sequence[Segment]:
            return [Segment(0, 0, tokens, (Span(0, 1, None),))]

        with ExitStack() as stack:
            if self.standing is not None:
                stack.enter_context(patched(self.model, self.standing, everywhere))
            stack.enter_context(patched(self.model, edits, lambda _: lines))
            yield lines

    def fingerprint(self) -> str:
        """Return the sha256 over the configuration, and over names, shapes, types and bytes of all weights by name."""
        digest = hashlib.sha256(_configuration(self.model, self.end_ids).encode())
        for name, tensor in sorted(_state(self.model).items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def tokenizer_fingerprint(self) -> str:
        """Return the sha256 of the tokenizer's full definition."""
        backend = self.tokenizer.backend_tokenizer
        return hashlib.sha256(backend.to_str().encode()).hexdigest()


def by_row(layout: Layout, logits: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the logits of each row of a pass, [scored, vocabulary], from those of the tokens that are read."""
    if [token for tokens in layout.scored for token in tokens] == layout.read:
        # split and not slices: the gradient of a slice is as large as what it was cut from
        yield from zip(layout.rows, logits.split([len(tokens) for tokens in layout.scored]), strict=True)
        return
    place = {token: number for number, token in enumerate(layout.read)}
    for index, tokens in zip(layout.rows, layout.scored, strict=True):
        yield index, logits[[place[token] for token in tokens]]


def _fuse_activations(model: PreTrainedModel) -> None:
    """Let one kernel compute GPT-2's activation, which transformers writes as eight operations: a tenth of a pass.

    It is the same function, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is NewGELUActivation:
                setattr(parent, name, torch.nn.GELU(approximate="tanh"))


def _configuration(model: PreTrainedModel, end_ids: tuple[int, ...]) -> str:
    """Return what besides the weights decides what a model computes: heads, norms, rotations, its end tokens."""
    origin = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
    settings = {key: value for key, value in model.config.to_dict().items() if key not in origin}
    return json.dumps([type(model).__name__, settings, end_ids], sort_keys=True, default=str)


def _state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return all weights; those that `device_map` keeps on disk are read from there."""
    state = model.state_dict()
    if any(tensor.is_meta for tensor in state.values()):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        state = get_state_dict_offloaded_model(model)
    return dict(state)
