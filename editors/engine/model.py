"""A causal language model for editors and scoring: loading, identity, tokenisation and passes."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..chat import ChatFormat, end_token
from ..edits import Edits
from ..errors import InputError
from ..models.configuration import context_length
from ..models.experts import device_of, drop_unhookable, plain_experts, weight_of
from ..models.loading import Origin, code_of, load
from ..models.structure import ReplayStart, Site, Structure, execution_device
from ..models.threads import settle_threads
from ..models.tokens import TokenSequence, encode, encode_prompt, require_offsets
from ..writing_systems import Joint
from . import capture
from .engine import BasePass, Engine, Group, HiddenStates
from .forward_pass import Runner
from .hooks import Factors
from .trial import Trial, try_out
from .weights import fuse_gelu, space_rows, steady_products

MAX_BATCH_TOKENS = {"cpu": 512, "cuda": 4096}
"""Maximum number of tokens of a pass.

On one CPU thread, in CPU seconds of a base pass against 512 tokens: 64 cost 1.4 to 1.7 times as much, 128 1.1 to 1.2,
256 1.0 to 1.1, 384 and 1,024 the same (88 M parameters to 4.5 M). The value for CUDA is not measured yet.
"""


class LanguageModel:
    """A frozen causal language model with its tokenizer, which has to be a fast one; for one thread at a time.

    The model is any decoder-only one of transformers. It is set to evaluation mode, its parameters require no
    gradients, and its generation settings are reduced to its special tokens; its weights are never written to, though
    some of GPT-2's are copied with padded rows and its activation is torch's own (`weights.py`).

    Attributes:
        engine: Runs passes, of at most `pack_tokens` tokens (by default measured for the device).
        chat: What stands around every prompt, None for bare ones; see `in_chat`.
        trial: Which ways of computing give the model's own numbers.

    Raises:
        InputError: If the model is no decoder made of blocks, the tokenizer gives no character offsets, or the trial
            found that the model cannot be used (`trial.try_out`).
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pack_tokens: int | None = None
    ) -> None:
        settle_threads()
        require_offsets(tokenizer)
        self.structure = Structure(model)
        self.model = model.eval().requires_grad_(False)
        space_rows(self.structure.blocks)
        if self.model.dtype == torch.float32:
            fuse_gelu(self.structure.blocks)
        steady_products(self.model)
        self.tokenizer = tokenizer
        self.vocabulary = int(self.model.get_input_embeddings().weight.shape[0])
        self.device = execution_device(model.get_input_embeddings())
        plain_experts(self.model)
        drop_unhookable(self.model, self.structure, self.device)
        self.context = context_length(model.config)
        special = model.generation_config or GenerationConfig()
        end = special.eos_token_id if special.eos_token_id is not None else tokenizer.eos_token_id
        ids = end if isinstance(end, list | tuple) else () if end is None else (int(end),)
        embedding: Any = model.get_input_embeddings()
        size = len(embedding.weight)
        # one that has no embedding can never be generated
        self.end_ids: tuple[int, ...] = tuple(id_ for id_ in ids if id_ < size)
        self.chat: ChatFormat | None = None
        # a model's own file may set sampling or a repetition penalty; all editors are evaluated with plain decoding
        model.generation_config = GenerationConfig(
            bos_token_id=special.bos_token_id, eos_token_id=list(self.end_ids) or None
        )
        limit = pack_tokens or MAX_BATCH_TOKENS.get(self.device.type, MAX_BATCH_TOKENS["cuda"])
        self.engine = Engine(Runner(self.model, self.structure, self.device, limit, self.context))
        self._norms: dict[str, float] = {}
        self.trial: Trial = try_out(self)

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
        """Load a model from a folder or the hub, from safetensors or GGUF; see `loading`.

        Args:
            name: Folder, GGUF file, or hub id.
            revision: Commit, branch or tag of a hub model.
            dtype: `float32`, `bfloat16` or `float16`.
            device: `cpu`, `cuda`, `cuda:1`; by default `cuda` where there is one.
            device_map: For models larger than one card, as in accelerate (`auto`, or a mapping); excludes `device`.
            trust_remote_code: Whether code in the model's repository may run.

        Raises:
            InputError: If there is no such model or device, or it cannot be used.
        """
        origin = Origin(name, revision, trust_remote_code)
        loaded = load(origin, dtype, device, device_map)
        with origin.named():
            return cls(*loaded)

    def edited(self, edits: Edits) -> "LanguageModel":
        """Return a view of this model under one edit, to make the next edit on; the weights are shared.

        The edit's context is not part of it: callers put it before their prompts.
        """
        assert len(edits) == 1 and self.engine.active is None, "one edit, on the unedited model"
        view = copy.copy(self)
        view.engine = Engine(self.engine.runner, edits)
        return view

    def in_chat(self, chat: ChatFormat | None) -> "LanguageModel":
        """Return a view of this model whose prompts stand in a context; None for bare prompts. Weights are shared."""
        view = copy.copy(self)
        view.chat = chat
        return view

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a generated answer: those of the model, and the template's end of a turn."""
        end = end_token(self.tokenizer, self.chat) if self.chat and self.chat.special else None
        return self.end_ids if end is None or end in self.end_ids else (*self.end_ids, end)

    @cached_property
    def identity(self) -> str:
        """Fingerprint of the model, computed once; its weights never change."""
        return self.fingerprint()

    @property
    def pack_tokens(self) -> int:
        """Maximum number of tokens of a pass; 1 where each sequence has its own."""
        return self.engine.runner.limit

    @property
    def revision(self) -> str | None:
        """Resolved commit of a hub model, None for a folder."""
        return getattr(self.model.config, "_commit_hash", None)

    @property
    def edit_dtype(self) -> torch.dtype:
        """Dtype that edits are computed in: at least float32, because small steps would round away in bfloat16."""
        return torch.promote_types(self.model.dtype, torch.float32)

    def embedding(self) -> Tensor:
        """Return the weight of the input embedding, [vocabulary, width], wherever `device_map` keeps it."""
        weight = self.model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        if not weight.is_meta:
            return weight
        name = next(name for name, parameter in self.model.named_parameters() if parameter is weight)
        return _state(self.model)[name]

    def sites(self, part: str, blocks: Sequence[int | float]) -> list[Site]:
        """Return the sites of one part (`parts.py`) in some blocks; blocks are named as in `Structure.block`.

        Raises:
            InputError: If a block has no such part; the sentence lists the parts it has.
        """
        return [site for block in blocks for site in self.structure.find(block, part)]

    def site_device(self, site: Site) -> torch.device:
        """Return the device on which a site computes, for an editor's tensors."""
        return device_of(self.model, site.name)

    def encode(self, prompt: str, answer: str, joint: Joint | None = None, *, end: bool = False) -> TokenSequence:
        """Tokenise prompt and answer together; exactly the answer's tokens are scored. See `tokens.encode`.

        `end` adds the token that ends an answer (`chat.end_token`), which is scored too.
        """
        row = encode(self.tokenizer, prompt, answer, self.context - end, joint, self.chat)
        if not end:
            return row
        token = end_token(self.tokenizer, self.chat)
        if token is None:
            raise InputError("end_of_turn: the model has no token that ends an answer; one that has was expected.")
        return row.followed_by(token)

    def encode_prompt(self, prompt: str, room: int = 1) -> TokenSequence:
        """Tokenise a prompt to be continued; its last position is scored. See `tokens.encode_prompt`."""
        return encode_prompt(self.tokenizer, prompt, self.context, room, self.chat)

    def forward(
        self, rows: Sequence[TokenSequence], edits: Edits | None = None, owners: Sequence[int | None] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """See `Engine.forward`."""
        return self.engine.forward(rows, edits, owners)

    def base(
        self,
        rows: Sequence[TokenSequence],
        cuts: Sequence[ReplayStart],
        keys_from: int | None = None,
        groups: Sequence[Group] | None = None,
        known: HiddenStates | None = None,
    ) -> tuple[BasePass, Iterator[tuple[int, Tensor]]]:
        """See `Engine.base`."""
        return self.engine.base(rows, cuts, keys_from, groups, known)

    def base_pass(self, rows: Sequence[TokenSequence], cuts: Sequence[ReplayStart]) -> BasePass:
        """See `Engine.base_pass`."""
        return self.engine.base_pass(rows, cuts)

    def replay(
        self, base: BasePass, edits: Edits, owners: Sequence[int | None], among: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """See `Engine.replay`."""
        return self.engine.replay(base, edits, owners, among)

    def inputs(self, base: BasePass, site: Site) -> list[Tensor]:
        """See `capture.inputs`."""
        return capture.inputs(self.engine, base, site)

    def capture(
        self, rows: Sequence[TokenSequence], sites: Sequence[Site], loss: Callable[[int, Tensor], Tensor]
    ) -> dict[str, Factors]:
        """See `capture.capture`."""
        return capture.capture(self.engine, rows, sites, loss)

    def reached(self, base: BasePass, edits: Edits, owners: Sequence[int | None]) -> list[int]:
        """See `capture.reached`."""
        return capture.reached(self.engine, base, edits, owners)

    def output(self, site: Site, x: Tensor) -> Tensor:
        """Return the output of a site for x [..., d_in]."""
        with torch.no_grad():
            return self.model.get_submodule(site.name)(x)  # type: ignore[no-any-return]

    def weight_norm(self, site: str) -> float:
        """Return the Frobenius norm of a site's unedited weight; `site` is named as in a patch."""
        if site not in self._norms:
            weight = weight_of(self.model, site).value
            weights = {f"{site}.weight": weight} if not weight.is_meta else _state(self.model)
            for name, tensor in weights.items():
                stack = dict(enumerate(tensor)) if tensor.dim() == 3 else {}
                own = {f"{name}.{number}": expert for number, expert in stack.items()}
                own |= {name.removesuffix(".weight"): tensor} if name.endswith(".weight") else {}
                for one, value in own.items():
                    self._norms[one] = float(torch.linalg.vector_norm(value, dtype=self.edit_dtype))
        return self._norms[site]

    def fingerprint(self) -> str:
        """Return the sha256 over the configuration, and over names, shapes, dtypes and bytes of all weights."""
        digest = hashlib.sha256(_configuration(self.model, self.end_ids).encode())
        for name, tensor in sorted(_state(self.model).items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def weights_hash(self) -> int:
        """Return a hash over the bits of all weights in memory, where they are: less than `fingerprint`, but fast.

        It does not see weights that `device_map` keeps on disk, nor two changes that undo each other.
        """
        tensors = [tensor for tensor in self.model.state_dict().values() if not tensor.is_meta and tensor.numel()]
        return hash(tuple(int(torch.hash_tensor(tensor.detach()).view(torch.int64)) for tensor in tensors))

    def tokenizer_fingerprint(self) -> str:
        """Return the sha256 of the tokenizer's full definition."""
        backend = self.tokenizer.backend_tokenizer
        return hashlib.sha256(backend.to_str().encode()).hexdigest()


def _configuration(model: PreTrainedModel, end_ids: tuple[int, ...]) -> str:
    """Return what else determines the model's output: heads, norms, rotations, end tokens, own code."""
    origin = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
    settings = {key: value for key, value in model.config.to_dict().items() if key not in origin}
    code = code_of(model)
    return json.dumps([type(model).__name__, settings, end_ids] + [code] * bool(code), sort_keys=True, default=str)


def _state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return all weights; those that `device_map` keeps on disk are read from there."""
    state = model.state_dict()
    if any(tensor.is_meta for tensor in state.values()):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        state = get_state_dict_offloaded_model(model)
    return dict(state)
