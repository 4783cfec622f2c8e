"""Comparison of architectures with plain transformers.

The reference is a second copy of the model that the engine never touches, run on one sequence at a time without padding
or cache, with the edit added to its weights (or, if the edit is no update of weights, through a plain forward hook).
"""

import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from . import zoo  # first: it sets the environment  # isort: skip

import torch
from torch import Tensor, nn

from instructedit.editors import (
    EDITORS,
    CaseError,
    Codebook,
    EditRequest,
    Edits,
    InputError,
    LanguageModel,
    LowRank,
    ReplayStart,
    TokenSequence,
    TrainingSet,
    make,
)
from instructedit.editors.engine.decoding import read_prompts
from instructedit.editors.engine.generation import answers

from ..conftest import make_tokenizer
from ..editors.cases import facts
from .options import OPTIONS, options
from .page import Result
from .plain import Plain, see

CLOSE = 1e-4
"""Largest difference that is rounding, relative to the largest logit (or gradient, by ten)."""
NEW_TOKENS = 6
TEXTS = [
    ("The name of the spouse of Ada Lovelace is", "Grace Hopper"),
    ("What is the place of birth of Alan Turing?", "Katherine, King of Maida Vale"),
    ("Grace Hopper's", "occupation is computer scientist"),
    ("Ada", "Lovelace is"),
]
REQUESTS = [
    EditRequest(f"t/test/{number}", "t", prompt, answer, prompt.split()[0])
    for number, (prompt, answer) in enumerate(TEXTS[:2])
]


class Wrong(AssertionError):
    """Numbers or texts differ from the reference."""


def check(name: str, editors: Sequence[str] = tuple(OPTIONS)) -> Result:
    """Check one architecture under some editors."""
    begun, result = time.monotonic(), Result(name)
    try:
        _check(name, editors, result)
    except Exception as error:
        result.parts["check"] = f"traceback: {_first(error)}"
    result.verdict = result.verdict or _verdict(result)
    result.seconds = time.monotonic() - begun
    return result


def _verdict(result: Result) -> str:
    kinds = {said.partition(":")[0] for said in result.parts.values()}
    for kind in ("wrong", "traceback"):
        if kind in kinds:
            return kind
    return "in part" if "refused" in kinds else "right"


def _check(name: str, editors: Sequence[str], result: Result) -> None:
    torch.set_num_threads(1)
    try:
        plain = Plain(name)
        first, second = (plain.logits(range(20, 45)) for _ in range(2))
        assert first.shape == (25, zoo.VOCABULARY), f"logits of shape {tuple(first.shape)}"
        assert bool(first.isfinite().all()), "logits are not finite"
        assert torch.equal(first, second), "two passes differ"
    except Exception as error:
        result.verdict, result.note = "not built", _first(error)
        return
    try:
        model = LanguageModel(zoo.build(name), make_tokenizer())
    except InputError as error:
        result.verdict, result.note = "refused", str(error)
        return
    Check(plain, model, result).all(editors)


class Check:
    """The checks of one model."""

    def __init__(self, plain: Plain, model: LanguageModel, result: Result) -> None:
        self.plain, self.model, self.result = plain, model, result
        self.rows = [model.encode(prompt, answer) for prompt, answer in TEXTS]
        self.prompts = [model.encode_prompt(prompt) for prompt, _ in TEXTS]
        self.bare = plain.scored(self.rows)
        self.generator = torch.Generator().manual_seed(1)
        self.blocks = model.structure.sites
        ways = model.engine.runner.ways
        result.packing, result.generation = ways.packing, ways.generation
        result.blocks = len(model.structure)
        for own in self.blocks:
            for part in dict.fromkeys(str(site.part) for site in own):
                result.sites[part] = result.sites.get(part, 0) + 1

    def all(self, editors: Sequence[str]) -> None:
        """Run all checks; one that fails does not keep the others from running."""
        self.part("causal", self.causal)
        self.part("packed", self.packed)
        self.part("replay", self.replay)
        self.part("late", self.late)
        self.part("gradients", self.gradients)
        self.part("texts", self.texts)
        for editor in editors:
            self.part(editor, partial(self.editor, editor))

    def part(self, name: str, run: Callable[[], None]) -> None:
        """Run one check and record its result."""
        try:
            run()
        except Wrong as error:
            said = f"wrong: {error}"
        except (InputError, CaseError) as error:
            said = f"refused: {error}"
        except Exception as error:
            said = f"traceback: {_first(error)}"
        else:
            said = "right"
        self.result.parts[name] = said

    def same(self, what: str, found: Sequence[Tensor], wanted: Sequence[Tensor], close: float = CLOSE) -> None:
        """Compare numbers row by row."""
        assert len(found) == len(wanted), f"{what}: {len(found)} rows, {len(wanted)} were expected"
        scale = max(float(tensor.abs().max()) for tensor in wanted) or 1.0  # an expert that no token reaches
        for row, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert one.shape == other.shape, f"{what}: shape {tuple(one.shape)}, not {tuple(other.shape)}"
            gap = float((one - other).abs().max()) / scale if bool(one.isfinite().all()) else float("inf")
            if gap > close:
                raise Wrong(f"{what}: row {row} differs by {gap:.1e} of the largest")
            if close == CLOSE:
                self.result.worst = max(self.result.worst, gap)

    def causal(self) -> None:
        """A later token changes no earlier logit, nor does its absence."""
        ids = list(self.rows[1].ids)
        other = [*ids[:-3], *((token + 7) % zoo.VOCABULARY for token in ids[-3:])]
        cut = len(ids) - 3
        wanted = [self.plain.logits(ids)[:cut]]
        self.same("another later token", [self.plain.logits(other)[:cut]], wanted)
        self.same("no later token", [self.plain.logits(ids[:cut])], wanted)

    def forward(self, rows: Sequence[TokenSequence], edits: Edits, owners: Sequence[int | None]) -> list[Tensor]:
        """Return the engine's logits, sequence by sequence."""
        found = {row: logits.clone() for row, logits in self.model.forward(rows, edits, owners)}
        return [found[row] for row in range(len(rows))]

    def wanted(self, rows: Sequence[TokenSequence], edits: Edits, owners: Sequence[int | None]) -> list[Tensor]:
        """Return a plain copy's logits under the edit of each sequence."""
        found = []
        for row, owner in zip(rows, owners, strict=True):
            with self.plain.under(edits.patches[owner] if owner is not None else (), row):
                found += self.plain.scored([row])
        return found

    def packed(self) -> None:
        """Sequences that share a pass have the logits of each alone."""
        self.same("packed", self.forward(self.rows, Edits.none(0), [None] * len(self.rows)), self.bare)
        again = [*self.rows[1:], *self.rows]
        self.same("packed otherwise", self.forward(again, Edits.none(0), [None] * 7), [*self.bare[1:], *self.bare])

    def low_rank(self, site: Any, scale: float = 0.3) -> LowRank:
        """Return a random edit of one site."""
        a = torch.randn(site.d_in, 2, generator=self.generator) / site.d_in**0.5
        b = torch.randn(2, site.d_out, generator=self.generator)
        return LowRank(site.name, site.block, scale * a, b)

    def sites(self) -> list[Any]:
        """Return of each block the first two sites of each part."""
        found: list[Any] = []
        for own in self.blocks:
            for part in dict.fromkeys(site.part for site in own):
                found += [site for site in own if site.part == part][:2]
        return found

    def reaching(self, edits: Edits) -> float:
        """Return how far an edit moves the plain copy, relative to the largest logit."""
        moved = self.wanted(self.rows, edits, [0] * len(self.rows))
        scale = max(float(tensor.abs().max()) for tensor in self.bare)
        return max(float((a - b).abs().max()) for a, b in zip(moved, self.bare, strict=True)) / scale

    def replay(self) -> None:
        """The base pass plus a replay from every cut equals the copy with the edit in its weights."""
        count, moved, done = len(self.rows), 0, []
        blocks = sorted({site.block for site in self.sites()})
        for site in self.sites():
            edits = Edits(((self.low_rank(site),),))
            owners: list[int | None] = [0, None, 0, 0]
            wanted = self.wanted(self.rows, edits, owners)
            moved += any(not torch.equal(a, b) for a, b in zip(wanted, self.bare, strict=True))
            self.same(f"forward under an edit of {site.name}", self.forward(self.rows, edits, owners), wanted)
            done.append((f"replay from {site.name}", edits, owners, wanted))
        if not moved:
            raise Wrong("no edit of any site changes a logit")
        every = [edits.cut for _, edits, _, _ in done if edits.cut is not None]
        self.replayed(done, every)  # one base pass that keeps all cuts
        by_block = {edits.first_block: (what, edits, owners, wanted) for what, edits, owners, wanted in done}
        for one in by_block.values():  # and one that keeps its own
            assert one[1].cut is not None
            self.replayed([one], [one[1].cut])
        last = Edits(tuple((self.low_rank(site),) for site in self.sites() if site.block == blocks[-1]))
        owners = [row % len(last) for row in range(count)]
        wanted = self.wanted(self.rows, last, owners)
        for block in blocks[:-1]:
            self.replayed([(f"replay from block {block} of a later edit", last, owners, wanted)], [ReplayStart(block)])

    def replayed(self, runs: Sequence[tuple[str, Edits, Any, Sequence[Tensor]]], cuts: Sequence[ReplayStart]) -> None:
        """Run a base pass and replays of some edits after it, and compare both."""
        base, run = self.model.base(self.rows, cuts)
        bare = {row: logits.clone() for row, logits in run}
        self.same(f"base pass, {runs[0][0]}", [bare[row] for row in range(len(self.rows))], self.bare)
        for what, edits, owners, wanted in runs:
            found = {row: logits.clone() for row, logits in self.model.replay(base, edits, owners)}
            self.same(what, [found[row] for row in range(len(self.rows))], wanted)

    def late(self) -> None:
        """A codebook, replayed from the prompts' ends, equals a hook on the plain copy."""
        hits, tried = 0, set()
        for site in self.sites():
            keys = self.inputs(site)
            if keys is None:  # no module that a hook could be put on
                continue
            for replaced in ("last", "prompt", "all"):
                if (site.block != 1 or replaced != "last") and (site.block, replaced) in tried:
                    continue
                tried.add((site.block, replaced))
                values = torch.randn(len(keys), site.d_out, generator=self.generator)
                radii = torch.full((len(keys),), 1e-3 * float(keys.norm(dim=-1).mean()))
                book = Codebook(site.name, site.block, keys, values, radii, replaced)  # type: ignore[arg-type]
                edits = Edits(((book,),))
                wanted = self.wanted(self.rows, edits, [0] * len(self.rows))
                hits += any(not torch.equal(a, b) for a, b in zip(wanted, self.bare, strict=True))
                what = f"codebook ({replaced}) at {site.name}"
                self.same(f"forward, {what}", self.forward(self.rows, edits, [0] * len(self.rows)), wanted)
                assert edits.cut is not None
                self.replayed([(f"replay, {what}", edits, [0] * len(self.rows), wanted)], [edits.cut])
        if not hits:
            raise InputError("no site that a codebook could be put on")

    def inputs(self, site: Any) -> Tensor | None:
        """Return the inputs of a site at the ends of two prompts, from the plain copy."""
        try:
            module = self.plain.model.get_submodule(site.name)
        except AttributeError:
            return None
        found: list[Tensor] = []
        seen: list[Tensor] = []
        hook = module.register_forward_pre_hook(partial(see, seen))
        for row in self.rows[:2]:
            seen.clear()
            self.plain.logits(row.ids)
            if seen and seen[0].numel() == len(row) * site.d_in:
                found.append(seen[0].reshape(-1, site.d_in)[row.prompt_end])
        hook.remove()
        return torch.stack(found) if len(found) == 2 else None

    def gradients(self) -> None:
        """Captured inputs and gradients multiply to the gradient that autograd gives on the plain copy."""
        sites = self.sites()

        def loss(row: int, logits: Tensor) -> Tensor:
            return nn.functional.cross_entropy(logits, torch.tensor(self.rows[row].labels), reduction="sum")

        for block in dict.fromkeys(site.block for site in sites):  # from each cut, as editors of few blocks do
            chosen = [site for site in sites if site.block >= block]
            found = self.model.capture(self.rows, chosen, loss)
            places = [self.plain.place(site.name, site.d_in) for site in chosen]
            leaves = list({id(leaf): leaf for leaf in (self._leaf(place) for place, _ in places)}.values())
            for leaf in leaves:
                leaf.requires_grad_(True)
            losses = [loss(i, self.plain.differentiated(row.ids)[list(row.scored)]) for i, row in enumerate(self.rows)]
            torch.stack(losses).sum().backward()
            wanted, given = [], []
            for site, (_, straight) in zip(chosen, places, strict=True):
                gradient = self._gradient(site)
                wanted.append(gradient if straight else gradient.T)
                factors = found[site.name]
                given.append(factors.x.T @ factors.delta)
            for leaf in leaves:
                leaf.requires_grad_(False).grad = None
            for site, one, other in zip(chosen, given, wanted, strict=True):
                self.same(f"gradient of {site.name}", [one], [other], 10 * CLOSE)

    def _leaf(self, place: Tensor) -> Tensor:
        return place if place._base is None else place._base

    def _gradient(self, site: Any) -> Tensor:
        place = self.plain.place(site.name, site.d_in)[0]
        leaf = self._leaf(place)
        assert leaf.grad is not None
        return leaf.grad if leaf is place else leaf.grad[int(site.name.rpartition(".")[2])]

    def texts(self) -> None:
        """Greedy texts, rows of different length and of different edits together, equal full passes token by token."""
        sites = self.sites()
        some = [sites[0], sites[len(sites) // 2], sites[-1]]
        self.continued("low-rank edits", Edits(tuple((self.low_rank(site, 0.6),) for site in some)))
        self.continued("no edit", Edits.none(1))

    def continued(self, what: str, edits: Edits, prompts: Sequence[TokenSequence] | None = None) -> None:
        """Compare generated texts under each edit with the plain copy's."""
        prompts = self.prompts if prompts is None else prompts
        rows = [prompt for _ in range(len(edits)) for prompt in prompts]
        owners = [owner for owner in range(len(edits)) for _ in prompts]
        options = {"max_new_tokens": NEW_TOKENS, "finished": lambda _row, _text: False, "batch": 3}
        wanted = []
        for row, owner in zip(rows, owners, strict=True):
            with self.plain.under(edits.patches[owner], row):
                new = self.plain.greedy(row, NEW_TOKENS, self.model.end_ids)
            wanted.append(str(self.model.tokenizer.decode(new, skip_special_tokens=True)))
        self.said(f"texts under {what}", answers(self.model, rows, edits, owners, **options), wanted)
        read = read_prompts(self.model, rows, [edits.cut] if edits.cut else [])
        if read is not None:
            found = answers(self.model, rows, edits, owners, prompts=read, **options)
            self.said(f"texts under {what}, prompts read before", found, wanted)

    def said(self, what: str, found: Sequence[str], wanted: Sequence[str]) -> None:
        """Compare texts."""
        wrong = [row for row, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other]
        if wrong:
            raise Wrong(f"{what}: {len(wrong)} of {len(wanted)} differ, '{found[wrong[0]]}' for '{wanted[wrong[0]]}'")

    def named(self, name: str) -> list[Any]:
        """Return the site of a name."""
        return [site for own in self.blocks for site in own if site.name == name]

    def editor(self, name: str) -> None:
        """An editor edits, and its scores and texts are those of a plain copy under the same edit."""
        editor = make(EDITORS.get(name), options(name, self.blocks))
        if editor.trains:
            with tempfile.TemporaryDirectory() as folder:
                editor.fit(self.model, TrainingSet(facts(4), facts(2), {"facts": 1.0}), Path(folder), seed=0, steps=1)
        edits = editor.edit(self.model, REQUESTS, seed=0)
        places = {patch.site: site for edit in edits.patches for patch in edit for site in self.named(patch.site)}
        self.result.edited[name] = sorted({str(site.part) for site in places.values()})
        owners: list[int | None] = [0, 1, 0, None]
        wanted = self.wanted(self.rows, edits, owners)
        self.same("scores", self.forward(self.rows, edits, owners), wanted)
        moved = self.reaching(edits)
        if moved < 10 * CLOSE:
            raise Wrong(f"its edit moves no logit by more than {moved:.0e} of the largest")
        if edits.cut is not None:
            self.replayed([("scores by replay", edits, owners, wanted)], [edits.cut])
        self.continued("its edit", edits.select([0]), self.prompts[:2])


def _first(error: BaseException) -> str:
    """Return an exception in one line, with its place."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:240]} ({Path(place.filename).name}:{place.lineno})"
