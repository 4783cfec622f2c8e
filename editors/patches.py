"""Patches: an edit as data, by which the outputs of a few named linear layers are replaced.

A patch takes the input `x` and the output `y` of a module and returns the new output. The base model is never written
to, so nothing leaks from one edit to the next, and sequences under different edits share a forward pass.

| patch | new output | editors |
| --- | --- | --- |
| `LowRank` | y + (x A) B | MEND, KE, InstructEdit, LoRA, ROME |
| `Dense` | y + x D | FT-L and other fine-tuning |
| `Codebook` | y, or a stored value where a key is near | GRACE |
| `Slots` | y + act(x K) V, gated y + (act(x G) * (x K)) V | CaliNet |
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from transformers.activations import ACT2FN

from .products import by_rows


class Span(NamedTuple):
    """The tokens [first, stop) of one sequence within the tokens of an edit.

    `prompt_end` is the index of the prompt's last token, None once the prompt has been read; `row` is the index of the
    sequence, None while it is generated.
    """

    first: int
    stop: int
    prompt_end: int | None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Patch(ABC):
    """A new output of the module `site` (a dotted name), which is in the block of index `block`."""

    site: str
    block: int

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        # as files hold them, so that an edit gives the same bytes before and after it is saved and loaded
        for name, tensor in self.tensors().items():
            object.__setattr__(self, name, tensor.contiguous())

    @property
    def source(self) -> str:
        """Dotted name of the module whose input is `x`; by default the patched one."""
        return self.site

    @property
    def late(self) -> bool:
        """Whether only the output at a prompt's last token changes, so that earlier tokens need no replay."""
        return False

    @property
    def whole_prompts(self) -> bool:
        """Whether the outputs at a prompt's tokens depend on its end, so that equal beginnings are not shared."""
        return False

    @property
    def by_row(self) -> bool:
        """Whether the output at a token depends on its whole sequence, which each decoding step then reads again."""
        return False

    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:
        """Return the new output for the tokens of one edit, [tokens, d_out], of y's dtype.

        x is the input of `source`, [tokens, d_in], y the output of `site`; `spans` are the sequences of the tokens.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Return the patch's tensors by field name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def options(self) -> dict[str, str | int]:
        """Return the patch's other fields by name, without those that are None."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if not isinstance(value, Tensor | None)}

    def delta(self) -> Tensor | None:
        """Return the update of the weight, [d_in, d_out]; None if the patch is none."""
        return None


@dataclass(frozen=True, slots=True)
class LowRank(Patch):
    """y + (x A) B with A [d_in, r] and B [r, d_out]."""

    a: Tensor
    b: Tensor
    kind: ClassVar[str] = "low_rank"

    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:  # noqa: D102
        return y + by_rows(lambda x: (x @ self.a) @ self.b, x.to(self.a.dtype)).to(y.dtype)

    def delta(self) -> Tensor:  # noqa: D102
        return self.a @ self.b


@dataclass(frozen=True, slots=True)
class Dense(Patch):
    """y + x D with D [d_in, d_out]."""

    d: Tensor
    kind: ClassVar[str] = "dense"

    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:  # noqa: D102
        return y + by_rows(lambda x: x @ self.d, x.to(self.d.dtype)).to(y.dtype)

    def delta(self) -> Tensor:  # noqa: D102
        return self.d


Replaced = Literal["last", "prompt", "all"]
"""Tokens whose output is replaced: the prompt's last one, all before it, or all of the sequence."""


class Replacing(Patch):
    """A patch that replaces a module's output at the tokens that `replace` names."""

    __slots__ = ()
    replace: Replaced

    @property
    def late(self) -> bool:  # noqa: D102
        return self.replace == "last"

    @property
    def whole_prompts(self) -> bool:  # noqa: D102
        return self.replace != "last"

    @property
    def by_row(self) -> bool:  # noqa: D102
        # an answer's token depends on the end of its own prompt
        return self.replace == "all"

    def receiving(self, span: Span) -> range:
        """Return the tokens of a sequence that receive a value; its prompt's end is within the span."""
        assert span.prompt_end is not None
        match self.replace:
            case "last":
                return range(span.prompt_end, span.prompt_end + 1)
            case "prompt":
                return range(span.first, span.prompt_end)
        return range(span.first, span.stop)


@dataclass(frozen=True, slots=True)
class Codebook(Replacing):
    """GRACE's discrete key-value store (arXiv 2211.11031, section 3).

    The query of a sequence is the module's input at its last prompt token, so teacher forcing and generation agree.
    Where it is within the radius of the nearest key, the stored value replaces the module's output at that token
    (`last`), at all tokens before it (`prompt`), or at all tokens of the sequence, including the answer's (`all`).

    Attributes:
        keys: [n, d_in].
        values: [n, d_out].
        radii: [n], in units of the module's input (Euclidean distance).
        replace: Which tokens receive the value.
        labels: Target tokens of each entry, [n, longest], padded with -1: an editor needs them to add entries.
    """

    keys: Tensor
    values: Tensor
    radii: Tensor
    replace: Replaced = "last"
    labels: Tensor | None = None
    kind: ClassVar[str] = "codebook"

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entry nearest to each query [queries, d_in], and whether the query is within its radius."""
        gaps, entry = distances(queries.to(self.keys.dtype), self.keys).min(dim=1)
        return entry, gaps <= self.radii[entry]

    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:  # noqa: D102
        prompts = [span for span in spans if span.prompt_end is not None]
        if not prompts:
            return y
        entry, hit = self.nearest(x[[span.prompt_end for span in prompts]])
        tokens: list[int] = []
        entries: list[int] = []
        for span, index, near in zip(prompts, entry.tolist(), hit.tolist(), strict=True):
            if near:
                own = self.receiving(span)
                tokens += own
                entries += [index] * len(own)
        if not tokens:
            return y
        where = torch.tensor(tokens, device=y.device)
        return y.index_copy(0, where, self.values[torch.tensor(entries, device=y.device)].to(y.dtype))


@dataclass(frozen=True, slots=True)
class Slots(Patch):
    """y + act(x K) V, or gated y + (act(x G) * (x K)) V: calibration slots beside a feed-forward network.

    x is the network's input and y its output, so slots are neurons added to it (CaliNet, arXiv 2210.03329, section 4).

    Attributes:
        source_site: Dotted name of the network's (first) up projection, whose input is x.
        activation: Name of the activation as in a model's configuration, e.g. `gelu_new`.
        k: [d, slots].
        v: [slots, d].
        g: Gate of the slots of a gated network, [d, slots]; None for a plain one.
    """

    source_site: str
    activation: str
    k: Tensor
    v: Tensor
    g: Tensor | None = None
    kind: ClassVar[str] = "slots"

    @property
    def source(self) -> str:  # noqa: D102
        return self.source_site

    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:  # noqa: D102
        act = ACT2FN[self.activation]

        def slots(x: Tensor) -> Tensor:
            inner: Tensor = act(x @ self.k) if self.g is None else act(x @ self.g) * (x @ self.k)
            return inner @ self.v

        return y + by_rows(slots, x.to(self.k.dtype)).to(y.dtype)


DIFFERENCES = 1 << 24
"""Maximum number of differences in memory when keys are looked up (64 MB in float32)."""
KINDS: dict[str, type[Patch]] = {patch.kind: patch for patch in (LowRank, Dense, Codebook, Slots)}


def distances(queries: Tensor, keys: Tensor) -> Tensor:
    """Return Euclidean distances [queries, keys], by differences.

    The expanded form |q|^2 - 2qk + |k|^2 loses the small distances that a radius is compared with. Queries are taken in
    groups, because thousands of keys and hundreds of queries would fill a card.
    """
    group = max(1, DIFFERENCES // max(1, keys.numel()))
    gaps = [torch.linalg.vector_norm(some[:, None, :] - keys[None, :, :], dim=-1) for some in queries.split(group)]
    return torch.cat(gaps)
