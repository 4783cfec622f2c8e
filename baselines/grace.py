"""GRACE: a codebook of keys, values and radii at one module (arXiv 2211.11031, section 3, algorithm 1).

A key is the module's input at the edit's last prompt token; its value is trained to make the model say the target and
stands in place of the module's output whenever a query falls within the key's radius. A stream of edits grows one
codebook: with q the query, (d, i) the nearest key and its distance, and eps the first radius,

* d > eps + eps_i: a new entry with radius eps;
* else, another label: a new entry, and the two radii are split, eps_i <- min(eps_i, d/2 - 1e-5), eps_new <- d/2;
* else, the same label and d > eps_i: the entry is expanded, eps_i <- d (and a hair, so that rounding keeps the query
  in); with the release's `moving_average` its key moves as well, k_i <- (k_i + q) / 2.

A query on a key itself (d = 0) with another label takes the entry over: the newest edit of a prompt holds.

An attitude edit with several replies is one entry: their prompt is the key, the value is trained on all of them, and
the first wanted reply is the label.

Labels are compared token by token. (The released code compares the means of the token ids, which collide.) The released
code also sets eps_i to d/2 when that is larger than before; a split that widens a radius would let it swallow an older
neighbour, hence the minimum.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from instructedit.editors import (
    BasePass,
    CaseError,
    Choice,
    Codebook,
    Cost,
    Cut,
    Editor,
    EditorConfig,
    EditRequest,
    Edits,
    InputError,
    LanguageModel,
    LogUniform,
    Published,
    Range,
    Scaled,
    Site,
    Sketch,
    seed_of,
)
from instructedit.editors.cost import ADAM, FLOAT, descent
from instructedit.editors.models.parts import Unrouted
from instructedit.editors.patches import Replaced, Replacing, Span, distances
from instructedit.editors.search import DEPTH
from instructedit.editors.texts import EPSILON, EditRows, EditTexts, counted, token_losses

PADDING = -1
"""Fills up the labels of a patch; no token has this number."""
ROUNDING = 1e-5
"""Relative to a key's length, a distance this small is rounding: the same prompt in another packing."""


ENOUGH = math.log(2)
"""GRACE has no criterion to stop by: a value counts as converged if the target's tokens have a probability of more than
a half, their geometric mean."""


class GRACEConfig(EditorConfig):
    """Hyper-parameters; the defaults' module (block 35 of 48, MLP up) and radius are those published for GPT2-XL.

    The original trains 100 steps and replaces the tokens in front (`prompt`); EasyEdit trains 200 and replaces the
    last. Both expand by `coverage`; the release of the original has `all` and `moving average` as well.
    """

    published: ClassVar[Published | None] = Published("GPT2-XL", "gpt2", 48, 1600, ("block", "radius", "lr"))

    block: int | float = 0.73
    """Block of the codebook's module: an index (negative counts from the end) or a share of the depth."""
    part: Unrouted = "up"
    """Which MLP map carries the codebook (a gated MLP's first up)."""
    radius: float = Field(default=1.0, gt=0)
    """First radius of a key, in units of the module's input.

    It has to be measured for a model: distances differ by orders.
    """
    steps: int = Field(default=100, ge=1)
    """Steps of Adam on a value."""
    lr: float = Field(default=1.0, gt=0)
    """Learning rate of Adam."""
    init: Literal["cold", "warm"] = "cold"
    """First value: uniform in [0, 1) (`cold`), or what the module puts out (`warm`)."""
    replace: Replaced = "last"
    """Tokens that receive the value: the last prompt token, all in front of it (`prompt`), or all of the text, those
    of the answer included (`all`, the release's `replace_all`)."""
    expand: Literal["coverage", "moving average"] = "coverage"
    """What a query of the same label does to an entry whose radius is too small. `coverage`: the radius grows to reach
    it. `moving average`: the key moves halfway towards it as well."""


@dataclass(slots=True)
class Book:
    """A codebook that grows. Its tensors are never written to: a patch may hold them.

    Attributes:
        keys: [n, d_in]; None while there is no entry.
        values: [n, d_out]; None while there is no entry.
        radii: n radii.
        labels: n tuples of target tokens.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
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
        """Make room for an edit and return the entry that is to carry it.

        Args:
            query: [d_in].
            value: First value of a new entry, [d_out].
            label: Target tokens.
            radius: First radius of a new entry.
            expand: See `GRACEConfig`.
        """
        if self.keys is not None:
            gaps = distances(query[None], self.keys)[0]
            i = int(gaps.argmin())
            d = float(gaps[i])
            if d <= radius + self.radii[i]:
                slack = ROUNDING * (1 + float(query.norm()))
                if label == self.labels[i]:
                    if expand == "moving average" and d > self.radii[i]:
                        self.keys = self.keys.clone()
                        self.keys[i] = (self.keys[i] + query) / 2
                    self.radii[i] = max(self.radii[i], d + slack)
                    return i
                if d <= slack:
                    self.labels[i] = label
                    self.store(i, value)
                    return i
                self.radii[i] = min(self.radii[i], d / 2 - ROUNDING)
                radius = d / 2
        self.keys = query[None] if self.keys is None else torch.cat([self.keys, query[None]])
        self.values = value[None] if self.values is None else torch.cat([self.values, value[None]])
        self.radii.append(radius)
        self.labels.append(label)
        return len(self.radii) - 1

    def value(self, entry: int) -> Tensor:
        """Return what an entry carries, [d_out]."""
        assert self.values is not None
        return self.values[entry]

    def store(self, entry: int, value: Tensor) -> None:
        """Let an entry carry a value, [d_out]."""
        assert self.values is not None
        self.values = self.values.clone()
        self.values[entry] = value

    def patch(self, site: Site, replaced: Replaced) -> Codebook:
        """Return the codebook as a patch."""
        keys, values = self.keys, self.values
        assert keys is not None and values is not None, "an entry at least"
        radii = torch.tensor(self.radii, dtype=keys.dtype, device=keys.device)
        longest = max(map(len, self.labels))
        labels = torch.tensor([[*label, *[PADDING] * (longest - len(label))] for label in self.labels])
        return Codebook(site.name, site.block, keys, values, radii, replaced, labels.to(keys.device))

    @staticmethod
    def of(patch: Codebook) -> "Book":
        """Return the codebook of a patch, to go on with."""
        assert patch.labels is not None, "without labels nobody can tell an old entry from a new one"
        labels = [tuple(token for token in label if token != PADDING) for label in patch.labels.tolist()]
        return Book(patch.keys, patch.values, patch.radii.tolist(), labels)


@dataclass(frozen=True, slots=True)
class Values(Replacing):
    """What the entry of each row's request does to it.

    Attributes:
        values: [requests, d_out].
        requests: For each row the index of its request, [rows].
        replace: See `Codebook`.
    """

    values: Tensor
    requests: Tensor
    replace: Replaced
    kind: ClassVar[str] = "values"

    @property
    def by_row(self) -> bool:  # noqa: D102
        return True

    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:  # noqa: D102
        own = [(span.row, token) for span in spans if span.prompt_end is not None for token in self.receiving(span)]
        rows, where = torch.tensor(own, dtype=torch.long, device=y.device).reshape(-1, 2).unbind(1)
        return y.index_copy(0, where, self.values[self.requests.to(y.device)[rows]].to(y.dtype))


def _backward(logits: Sequence[Tensor], labels: Tensor, shares: Tensor, opposed: Tensor) -> None:
    """Send the gradient of a weighted sum of token losses back.

    It is written out, share * (softmax - 1 at the label), because autograd would fill two more tensors of the size of
    the logits for it, which is much of a step that runs two or three tokens of a row. Where the label's probability p
    is to fall, the loss -log(1 - p + e) has the same gradient times -p / (1 - p + e).

    Args:
        logits: [tokens, vocabulary] of each pass.
        labels: Tokens, of all passes behind one another.
        shares: Weights of their terms.
        opposed: Which terms are of opposed texts.
    """
    counts = [len(own) for own in logits]
    gradients = []
    parts = zip(logits, labels.split(counts), shares.split(counts), opposed.split(counts), strict=True)
    for own, label, share, unlikely in parts:
        places, weights = label.to(own.device)[:, None], share.to(own.device)[:, None]
        gradient = own.detach().to(shares.dtype).softmax(dim=-1)
        if bool(unlikely.any()):
            p = gradient.gather(1, places)
            weights = torch.where(unlikely.to(own.device)[:, None], -weights * p / (1 - p + EPSILON), weights)
        gradient = gradient.mul_(weights).scatter_add_(1, places, -weights)
        gradients.append(gradient.to(own.dtype))
    torch.autograd.backward(list(logits), gradients)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Requests before their values are trained.

    Attributes:
        site: The codebook's module.
        texts: The texts of each request, which have the prompt and so the key in common.
        flat: The same texts as one list.
        base: A pass over them.
        queries: For each request its query, [d_in].
        first: For each request its first value, [d_out].
    """

    site: Site
    texts: list[EditTexts]
    flat: EditRows
    base: BasePass
    queries: list[Tensor]
    first: list[Tensor]


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

    def cost(self, model: Sketch, requests: int = 1) -> Cost:
        """See `Editor.cost`; all steps for the value, one edit at a time; the key is read in the first pass."""
        site = model.sites(self.config.part, [self.config.block])[0]
        passes, head_passes = descent(model.share(site.block), self.config.steps)
        return Cost(
            sites=(site,),
            patch_bytes=FLOAT * (site.d_in + site.d_out) * requests,
            edit_bytes=FLOAT * (site.d_in + site.d_out) * requests + ADAM * FLOAT * site.d_out,
            passes=passes,
            head_passes=head_passes,
            late=self.config.replace == "last",
        )

    def unit(self, option: str, model: LanguageModel, requests: Sequence[EditRequest]) -> float:
        """See `Editor.unit`; the radius is measured in median distances between the keys of two subjects.

        The distances of one model's modules differ by orders, and so do those of two models at one block.
        """
        if option != "radius":
            return super().unit(option, model, requests)
        keys = torch.stack(self._prepare(model, requests, 0).queries)
        names = [request.subject for request in requests]
        others = [(i, j) for i in range(len(names)) for j in range(i) if names[i] != names[j]]
        if not others:
            raise InputError("GRACE's radius is measured between the keys of two subjects; two were expected.")
        return float(distances(keys, keys)[tuple(zip(*others, strict=True))].median())

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one codebook of one entry per request; all values are trained side by side."""
        prepared = self._prepare(model, requests, seed)
        return self._admit(model, prepared, [Book() for _ in requests])

    def sites(self, model: LanguageModel | Sketch) -> Sequence[Site]:
        """See `Editor.sites`."""
        return model.sites(self.config.part, [self.config.block])

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one codebook that took in the requests one after another."""
        edits = Edits.none(1)
        each: list[Mapping[str, float]] = []
        for request in requests:
            edits = self.edit_next(model, request, edits, seed)
            each += edits.facts
        # of all requests, each as it was when it was taken in; `entries` are those at the end
        means = {name: fmean(facts[name] for facts in each) for name in ("steps", "final_loss") if each}
        converged = {"converged": min(facts["converged"] for facts in each)} if each else {}
        return replace(edits, facts=({**edits.facts[0], **means, **converged},))

    def edit_next(self, model: LanguageModel, request: EditRequest, before: Edits, seed: int = 0) -> Edits:
        """Return the codebook with one more request taken in.

        Queries come from the unedited model: a codebook does not change the input of its own module.
        """
        assert len(before.patches[0]) <= 1, "one codebook"
        prepared = self._prepare(model, [request], seed)
        books = [Book.of(patch) for patch in before.patches[0] if isinstance(patch, Codebook)] or [Book()]
        return self._admit(model, prepared, books)

    def _prepare(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int) -> "Prepared":
        site = model.sites(self.config.part, [self.config.block])[0]
        texts = [self.texts(model, request) for request in requests]
        flat = EditRows.of(texts)
        if self.config.replace == "prompt" and site.block == len(model.structure) - 1:
            raise InputError(
                "GRACE with replace = 'prompt' changes tokens in front of a prompt's last one; in the last block, "
                f"{site.block}, nothing that is read depends on them. An earlier block was expected."
            )
        if self.config.replace == "prompt" and any(row.prompt_end == 0 for row in flat.rows):
            raise CaseError("The prompt has one token; replace = 'prompt' needs one in front of the last.")
        # a value at the last prompt token leaves all in front of it as it was: steps run the tokens from there on
        late = self.config.replace == "last"
        cut = Cut(site.block, late)
        base = model.base_pass(flat.rows, [cut], site.block if late else None)
        found = [x[row.prompt_end] for x, row in zip(model.inputs(base, site), flat.rows, strict=True)]
        inputs = [found[flat.requests.index(number)] for number in range(len(requests))]
        if self.config.init == "warm":
            first = [model.output(site, x).to(model.edit_dtype) for x in inputs]
        else:
            first = [
                torch.rand(
                    site.d_out, generator=torch.Generator().manual_seed(seed_of(seed, self.name, request.case_id))
                )
                .to(model.edit_dtype)
                .to(x.device)
                for request, x in zip(requests, inputs, strict=True)
            ]
        return Prepared(site, texts, flat, base, [x.to(model.edit_dtype) for x in inputs], first)

    def _admit(self, model: LanguageModel, prepared: "Prepared", books: Sequence[Book]) -> Edits:
        """Take one request into each book and train its value by the loss over the request's texts.

        All values start anew together, so that one Adam is as good as one for each.
        """
        site, base, flat = prepared.site, prepared.base, prepared.flat
        entries = [
            book.admit(query, value, own.wanted[0].labels, self.config.radius, self.config.expand)
            for book, own, query, value in zip(books, prepared.texts, prepared.queries, prepared.first, strict=True)
        ]
        # a row falls on its own entry, so that while it is trained the rest of the codebook need not be asked
        values = torch.stack([book.value(entry) for book, entry in zip(books, entries, strict=True)]).requires_grad_()
        requests = torch.tensor(flat.requests, dtype=torch.long)
        edits = Edits(((Values(site.name, site.block, values, requests, self.config.replace),),))
        labels = torch.tensor([label for row in flat.rows for label in row.labels], device=model.device)
        counts = [len(row.labels) for row in flat.rows]
        tokens = torch.tensor(flat.tokens, dtype=model.edit_dtype).repeat_interleave(torch.tensor(counts))
        shares = (1 / tokens).to(model.device)
        opposed = torch.tensor(flat.opposed).repeat_interleave(torch.tensor(counts)).to(model.device)
        adam = torch.optim.Adam([values], lr=self.config.lr, fused=True)

        def run() -> list[Tensor]:
            # rows share nothing, so that what is read is in their order
            return [logits for _, logits in model.replay_passes(base, edits, [0] * len(flat.rows))]

        for _ in range(self.config.steps):
            with torch.enable_grad():
                found = run()
            adam.zero_grad()
            _backward(found, labels, shares, opposed)
            adam.step()
        with torch.no_grad():
            found = run()
        log_p = [
            -cross_entropy(logits.to(shares.dtype), own.to(logits.device), reduction="none").to(labels.device)
            for logits, own in zip(found, labels.split([len(logits) for logits in found]), strict=True)
        ]
        terms = token_losses(torch.cat(log_p), opposed) * shares
        of_token = requests.repeat_interleave(torch.tensor(counts))
        losses = torch.zeros(len(books), dtype=terms.dtype).index_add_(0, of_token, terms.cpu()).tolist()
        for book, entry, value in zip(books, entries, values.detach(), strict=True):
            book.store(entry, value)
        patches = tuple((book.patch(site, self.config.replace),) for book in books)
        facts = tuple(
            {
                "steps": float(self.config.steps),
                "final_loss": loss,
                "converged": float(loss < ENOUGH),
                "entries": float(len(book.radii)),
            }
            for book, loss in zip(books, losses, strict=True)
        )
        return counted(Edits(patches, facts), prepared.texts)
