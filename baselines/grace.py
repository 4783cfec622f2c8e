"""GRACE: a codebook of keys, values and radii at one module (arXiv 2211.11031, section 3, algorithm 1).

A key is the module's input at the last prompt token of an edit. Its value is trained to produce the target, and
replaces the module's output whenever a query is within the key's radius. Sequential edits grow one codebook. With q the
query, (i, d) the nearest key and its distance, and eps the initial radius:

* d > eps + eps_i: add an entry with radius eps;
* else, for another label: add an entry and split the radii, eps_i <- min(eps_i, d/2 - 1e-5), eps_new <- d/2;
* else, for the same label and d > eps_i: expand the entry, eps_i <- d (plus the size of rounding errors); under
  `moving average` (released code) the key moves as well, k_i <- (k_i + q) / 2.

A query at a key (d = 0) with another label replaces the entry: the latest edit of a prompt counts. An attitude edit
with several replies is one entry, whose value is trained on all of them and whose label is the first wanted reply.

Two things differ from the released code. Labels are compared token by token, not by the means of their token ids, which
collide. A split never widens a radius (the released code sets eps_i to d/2 even if larger), so that it cannot absorb an
older neighbour.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from instructedit.editors import (
    BasePass,
    CaseError,
    Choice,
    Codebook,
    Descent,
    Editor,
    EditorConfig,
    EditRequest,
    EditRows,
    Edits,
    InputError,
    LanguageModel,
    LogUniform,
    MetaModel,
    Patch,
    Published,
    Range,
    ReplayStart,
    Scaled,
    Site,
    Variables,
    minimise,
    seed_of,
)
from instructedit.editors.models.parts import Unrouted
from instructedit.editors.patches import Replaced, Replacing, Span, distances
from instructedit.editors.search import DEPTH
from instructedit.editors.texts import counted

PADDING = -1
"""Pads the labels of a codebook; not a token id."""
ROUNDING = 1e-5
"""Distances below this, relative to a key's norm, are rounding errors: the same prompt in another packed batch."""
CONVERGED = math.log(2)
"""GRACE has no stopping criterion. A value counts as converged if the geometric mean of the probabilities of the target
tokens exceeds a half."""


class GRACEConfig(EditorConfig):
    """Hyper-parameters; module (block 35 of 48, MLP up) and radius default to those published for GPT2-XL.

    The original trains 100 steps and replaces the tokens before the last (`prompt`); EasyEdit trains 200 and replaces
    the last. Both expand by `coverage`; the released code of the original also has `all` and `moving average`.
    """

    published: ClassVar[Published | None] = Published("GPT2-XL", "gpt2", 48, 1600, ("block", "radius", "lr"))

    block: int | float = 0.73
    """Block of the codebook's module: an index (negative counts from the end) or a fraction of the depth."""
    part: Unrouted = "up"
    """MLP layer with the codebook (of a gated MLP the first up projection)."""
    radius: float = Field(default=1.0, gt=0)
    """Initial radius of a key, in units of the module's input; to be tuned for each model, whose distances differ by
    orders of magnitude."""
    steps: int = Field(default=100, ge=1)
    """Adam steps for a value."""
    lr: float = Field(default=1.0, gt=0)
    """Learning rate of Adam."""
    init: Literal["cold", "warm"] = "cold"
    """Initial value: uniform in [0, 1) (`cold`), or the module's output (`warm`)."""
    replace: Replaced = "last"
    """Tokens whose output is replaced: the last prompt token (`last`), all before it (`prompt`), or all of the text
    including the answer (`all`; `replace_all` in the released code)."""
    expand: Literal["coverage", "moving average"] = "coverage"
    """How a query with the same label outside the radius expands an entry. `coverage`: the radius grows to reach it.
    `moving average`: the key also moves halfway towards it."""


@dataclass(frozen=True, slots=True)
class Value(Replacing):
    """The value of an entry while it is trained, [d_out]: it replaces the output without a query."""

    value: Tensor
    replace: Replaced
    kind: ClassVar[str] = "value"

    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:  # noqa: D102
        tokens = [token for span in spans if span.prompt_end is not None for token in self.receiving(span)]
        where = torch.tensor(tokens, device=y.device)
        return y.index_copy(0, where, self.value.to(y.dtype).expand(len(tokens), -1))


@dataclass(slots=True)
class Book:
    """A growing codebook: for each entry key [d_in], value [d_out], radius, and label (target tokens)."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    radii: list[float] = field(default_factory=list)
    labels: list[tuple[int, ...]] = field(default_factory=list)

    def admit(
        self,
        query: Tensor,
        value: Tensor,
        label: tuple[int, ...],
        radius: float,
        expand: Literal["coverage", "moving average"] = "coverage",
    ) -> int:
        """Add, split or expand an entry for an edit, and return its index.

        The query is [d_in]; value [d_out] and radius are the initial ones of a new entry.
        """
        if self.keys:
            gaps = distances(query[None], torch.stack(self.keys))[0]
            i = int(gaps.argmin())
            d = float(gaps[i])
            if d <= radius + self.radii[i]:
                slack = ROUNDING * (1 + float(query.norm()))
                if label == self.labels[i]:
                    if expand == "moving average" and d > self.radii[i]:
                        self.keys[i] = (self.keys[i] + query) / 2
                    self.radii[i] = max(self.radii[i], d + slack)
                    return i
                if d <= slack:
                    self.labels[i], self.values[i] = label, value
                    return i
                self.radii[i] = min(self.radii[i], d / 2 - ROUNDING)
                radius = d / 2
        self.keys.append(query)
        self.values.append(value)
        self.radii.append(radius)
        self.labels.append(label)
        return len(self.keys) - 1

    def patch(self, site: Site, replaced: Replaced) -> Codebook:
        """Return the codebook as a patch."""
        keys, values = torch.stack(self.keys), torch.stack(self.values)
        radii = torch.tensor(self.radii, dtype=keys.dtype, device=keys.device)
        labels = pad_sequence([torch.tensor(label) for label in self.labels], True, PADDING)
        return Codebook(site.name, site.block, keys, values, radii, replaced, labels.to(keys.device))

    @staticmethod
    def of(patch: Codebook) -> "Book":
        """Return the codebook of a patch."""
        assert patch.labels is not None, "a codebook cannot grow without its labels"
        labels = [tuple(token for token in label if token != PADDING) for label in patch.labels.tolist()]
        return Book([*patch.keys], [*patch.values], patch.radii.tolist(), labels)


class GRACE(Editor[GRACEConfig]):
    """Codebook editing."""

    name = "grace"
    title = "GRACE"
    source = "Hartvigsen et al. 2023, arXiv 2211.11031"
    Config = GRACEConfig
    search: ClassVar[Mapping[str, Range]] = {
        "block": DEPTH,
        "part": Choice(("up", "down")),
        "lr": LogUniform(0.1, 10.0),
        "steps": LogUniform(50, 400, whole=True),
        "radius": Scaled(LogUniform(0.1, 1.0), "the median distance between the keys of two subjects"),
    }

    def sites(self, model: LanguageModel | MetaModel) -> tuple[Site, ...]:  # noqa: D102
        return (model.sites(self.config.part, [self.config.block])[0],)

    def unit(self, option: str, model: LanguageModel, requests: Sequence[EditRequest]) -> float:
        """See `Editor.unit`; the radius is in units of the median distance between the keys of two subjects.

        These distances differ by orders of magnitude between modules and between models.
        """
        if option != "radius":
            return super().unit(option, model, requests)
        texts = EditRows.of([self.texts(model, request) for request in requests])
        keys = torch.stack(self._queries(model, texts)[1])
        names = [request.subject for request in requests]
        others = [(i, j) for i in range(len(names)) for j in range(i) if names[i] != names[j]]
        if not others:
            raise InputError("GRACE's radius is measured between the keys of two subjects; two were expected.")
        return float(distances(keys, keys)[tuple(zip(*others, strict=True))].median())

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one codebook of one entry per request; all values are trained side by side."""
        return self._grown(model, requests, [Book() for _ in requests], seed)

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one codebook, grown by one request at a time."""
        edits = Edits.none(1)
        each: list[Mapping[str, float]] = []
        for request in requests:
            edits = self.edit_next(model, request, edits, seed)
            each += edits.facts
        # means over the requests, each when it was added; `entries` is the final number
        means = {name: fmean(facts[name] for facts in each) for name in ("steps", "final_loss") if each}
        converged = {"converged": min(facts["converged"] for facts in each)} if each else {}
        return replace(edits, facts=({**edits.facts[0], **means, **converged},))

    def edit_next(self, model: LanguageModel, request: EditRequest, before: Edits, seed: int = 0) -> Edits:
        """Return the codebook with one more request.

        Queries come from the unedited model: a codebook does not change the input of its own module.
        """
        assert len(before.patches[0]) <= 1, "one codebook"
        books = [Book.of(patch) for patch in before.patches[0] if isinstance(patch, Codebook)] or [Book()]
        return self._grown(model, [request], books, seed)

    def _grown(self, model: LanguageModel, requests: Sequence[EditRequest], books: Sequence[Book], seed: int) -> Edits:
        """Add one request to each codebook and train its value on the request's texts."""
        config, (site,) = self.config, self.sites(model)
        texts = [self.texts(model, request) for request in requests]
        flat = EditRows.of(texts)
        base, queries = self._queries(model, flat)
        entries, variables = [], []
        for request, own, book, query in zip(requests, texts, books, queries, strict=True):
            initial = self._initial(model, site, request, query, seed)
            entry = book.admit(query, initial, own.wanted[0].labels, config.radius, config.expand)
            entries.append(entry)
            variables.append(self._value(site, book.values[entry]))
        edits = minimise(
            model,
            flat.rows,
            flat.requests,
            variables,
            Descent(config.steps, partial(torch.optim.Adam, lr=config.lr, fused=True)),
            flat.loss,
            requests=flat.requests,
            base=base,
        )
        facts = []
        for book, entry, (trained,), fitted in zip(books, entries, edits.patches, edits.facts, strict=True):
            book.values[entry] = trained.tensors()["value"]
            converged = float(fitted["final_loss"] < CONVERGED)
            facts.append({**fitted, "converged": converged, "entries": float(len(book.radii))})
        patches = tuple((book.patch(site, config.replace),) for book in books)
        return counted(Edits(patches, tuple(facts)), texts)

    def _queries(self, model: LanguageModel, texts: EditRows) -> tuple[BasePass, list[Tensor]]:
        """Return a base pass of all texts, and the query of each request, [d_in]; its texts have the same prompt."""
        (site,) = self.sites(model)
        if self.config.replace == "prompt" and site.block == len(model.structure) - 1:
            raise InputError(
                "GRACE with replace = 'prompt' changes the tokens before a prompt's last one; in the last block, "
                f"{site.block}, no scored token depends on them. An earlier block was expected."
            )
        if self.config.replace == "prompt" and any(row.prompt_end == 0 for row in texts.rows):
            raise CaseError("The prompt has one token; replace = 'prompt' needs one before the last.")
        # a value at the last prompt token changes no token before it, so steps run only the tokens from there on
        base = model.base_pass(texts.rows, [ReplayStart(site.block, self.config.replace == "last")])
        queries: dict[int, Tensor] = {}
        for request, row, x in zip(texts.requests, texts.rows, model.inputs(base, site), strict=True):
            queries.setdefault(request, x[row.prompt_end].to(model.edit_dtype))
        return base, list(queries.values())

    def _initial(self, model: LanguageModel, site: Site, request: EditRequest, query: Tensor, seed: int) -> Tensor:
        if self.config.init == "warm":
            return model.output(site, query.to(model.model.dtype)).to(model.edit_dtype)
        generator = torch.Generator().manual_seed(seed_of(seed, self.name, request.case_id))
        return torch.rand(site.d_out, generator=generator).to(query)

    def _value(self, site: Site, initial: Tensor) -> Variables:
        def patches(own: Sequence[Tensor]) -> tuple[Patch, ...]:
            return (Value(site.name, site.block, own[0], self.config.replace),)

        return Variables([initial.clone()], patches)
