"""Trial of a model at each load: which fast ways of computing reproduce its own plain forward passes.

A fast way that differs by more than the tolerance, or that raises, is replaced: replay by full passes, packed sequences
by a mask or by one sequence a pass, the cache by recomputation. A model for which no way is right is refused. All takes
20 to 40 passes over a dozen tokens, less than reading the weights for their fingerprint.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..edits import Edits
from ..errors import InputError
from ..models.loading import check_vocabulary
from ..models.structure import ReplayStart
from ..models.tokens import TokenSequence
from ..patches import Codebook
from .decoding import decode, read_prompts
from .forward_pass import Generation, Packing, Ways
from .reference import Reference, Tried

if TYPE_CHECKING:
    from .model import LanguageModel


@dataclass(frozen=True, slots=True)
class Trial(Ways):
    """Result of a trial: the number of sites by part, and a sentence on each fast way that is not used."""

    sites: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


def try_out(model: "LanguageModel") -> Trial:
    """Try a model and set `model.engine.runner.ways` to the fastest ways that are right.

    Raises:
        InputError: If weights or logits are not finite, tokens have no embedding, a plain forward pass fails, a later
            token changes an earlier logit, the decoder attends to an encoder, an edit does not reach the logits, or no
            way of running its blocks is right.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        check_weights(model)
        check_vocabulary(model.model, model.tokenizer)
        reference = Reference(model)
        reference.check_causal()
        tried = reference.random_edits()
        middle = tried[len(tried) // 2]
        reference.runner.ways = find_packing(reference, tried)
        reference.use(starts=tuple(range(len(model.structure))))
        if not replays(reference, tried):
            reference.use(starts=())
        ways = reference.runner.ways
        reference.use(late=ways.packing == "rows" and bool(ways.starts) and replays_late(reference, middle))
        reference.use(generation=find_generation(reference, middle))
        sites = Counter(site.part for own in model.structure.sites for site in own)
        trial = Trial(**asdict(reference.runner.ways), sites=tuple(sites.items()), notes=tuple(notes(reference)))
        reference.runner.ways = trial
        return trial


def notes(reference: Reference) -> Iterator[str]:
    """Yield a sentence on each fast way that is not used."""
    ways, kind, unread = reference.runner.ways, reference.kind, reference.unread
    if unread:
        count = len(reference.model.structure)
        yield f"{kind}: {len(unread)} of its {count} blocks are not run on text and have no parts."
    if ways.packing == "mask":
        yield f"{kind}: its attention takes no sequence index; rows share a pass by a mask."
    elif ways.packing == "single":
        yield f"{kind}: rows that share a pass would change each other; each row has a pass of its own."
    if not ways.starts:
        yield f"{kind}: replays cannot start from its blocks; edits are replayed from the embeddings."
    if ways.generation == "recompute":
        yield f"{kind}: its cache gives other logits than plain passes; texts are generated without a cache."
    elif ways.generation == "alone":
        yield f"{kind}: a left-padded batch differs from its rows alone; texts are generated one by one."


def check_weights(model: "LanguageModel") -> None:
    """Refuse weights that are not finite."""
    for name, weight in model.model.named_parameters():
        if weight.is_meta or not weight.is_floating_point() or weight.dtype.itemsize < 2:
            continue  # on disk, or quantised: the logits show it
        if not torch.isfinite(weight).all():
            raise InputError(
                f"{type(model.model).__name__}: the weight {name} holds numbers that are not finite (NaN or infinite); "
                "the checkpoint is damaged."
            )


def find_packing(reference: Reference, tried: Sequence[Tried]) -> Ways:
    """Return the fastest way of sharing a pass that is right, with and without edits."""
    kinds: tuple[Packing, ...] = ("rows", "mask", "single")
    for packing in kinds:
        reference.runner.ways = Ways(packing)
        if reference.runner.can_pack(packing) and packs(reference) and packs_edits(reference, tried):
            return reference.runner.ways
    raise InputError(
        f"{reference.kind}: no way of running its blocks, not even one row at a time, gives the logits of plain "
        "forward passes with and without an edit."
    )


def packs(reference: Reference) -> bool:
    """Tell whether a sequence has its own logits, whatever sequence is packed before it.

    A mask may depend on the length of a pass (Doge's lets a token attend to the best of all others only), so such
    passes are as long as they may become.
    """
    runner = reference.runner
    first, other, last = (replace(row, scored=tuple(range(len(row)))) for row in reference.rows)
    copies = (runner.limit - len(last)) // len(first) if runner.ways.packing == "mask" else 1

    def packed(before: TokenSequence) -> list[Tensor]:
        return [logits for _, logits in reference.model.forward([before] * copies + [last])]

    try:
        one, two = packed(first), packed(other)
    except Exception:
        return False
    wanted = [*[reference.logits[0]] * copies, reference.logits[2]]
    return all(map(reference.close, one, wanted)) and not reference.leaks(one[-1], two[-1])


def packs_edits(reference: Reference, tried: Sequence[Tried]) -> bool:
    """Tell whether sequences that share a pass, each under its own edit, equal plain passes with hooks."""
    rows, owners = [reference.rows[0]] * (len(tried) + 1), [*range(len(tried)), None]
    edits = Edits.join([one.edits for one in tried])
    wanted = [*(one.wanted for one in tried), reference.logits[0]]
    return reference.equals(lambda: dict(reference.model.forward(rows, edits, owners)), wanted, rows)


def replays(reference: Reference, tried: Sequence[Tried]) -> bool:
    """Tell whether replays after one base pass equal plain passes, of edited and unedited sequences."""
    rows, owners = [reference.rows[0], reference.rows[2], reference.rows[0]], [0, None, None]
    wanted = [logits for one in tried for logits in (one.wanted, reference.logits[2], reference.logits[0])]

    def replayed() -> dict[int, Tensor]:
        base = reference.model.base_pass(rows, [ReplayStart(one.block) for one in tried])
        runs = [dict(reference.model.replay(base, one.edits, owners)) for one in tried]
        return dict(enumerate(run[row] for run in runs for row in range(len(rows))))

    return reference.equals(replayed, wanted, rows * len(tried))


def replays_late(reference: Reference, tried: Tried) -> bool:
    """Tell whether an edit of a prompt's last token is right when only the tokens after it are run again."""
    reference.use(late=True)
    row, patch = reference.rows[0], tried.edits.patches[0][0]
    value = patch.tensors()["b"]
    keys: list[Tensor] = []

    def overwrite(x: Tensor, y: Tensor) -> Tensor:
        flat = y.reshape(-1, y.shape[-1]).clone()
        keys.append(x.reshape(-1, x.shape[-1])[row.prompt_end])
        flat[row.prompt_end] = value[0].to(flat.dtype)
        return flat.reshape(y.shape)

    wanted = reference.run(row.ids, {patch.site: overwrite})
    key = keys[0][None].to(value.dtype)
    radius = 0.5 * torch.linalg.vector_norm(key)[None]
    edits = Edits(((Codebook(patch.site, tried.block, key, value, radius),),))

    def replayed() -> dict[int, Tensor]:
        base = reference.model.base_pass([row, row], [ReplayStart(tried.block, late=True)])
        return dict(reference.model.replay(base, edits, [0, None]))

    return reference.equals(replayed, [wanted, reference.logits[0]], [row, row])


def find_generation(reference: Reference, tried: Tried) -> Generation:
    """Return the fastest kind of generation whose logits at each step are those of plain passes."""
    packing = reference.runner.ways.packing
    kinds: tuple[Generation, ...] = ("cache",) if packing == "rows" else ("batch", "alone")
    for kind in kinds:
        reference.use(generation=kind)
        if generates(reference, tried):
            return kind
    return "recompute"


def generates(reference: Reference, tried: Tried) -> bool:
    """Tell whether two sequences of different length, one edited, have plain logits as they grow by their tokens."""
    model, ways = reference.model, reference.runner.ways
    full, owners = [reference.rows[0], reference.rows[2]], [0, None]
    ends = [reference.rows[0].prompt_end, 0]  # the second prompt has one token
    steps = min(3, *(len(row) - end - 1 for row, end in zip(full, ends, strict=True)))
    prompts = [TokenSequence(row.ids[: end + 1], (end,), end) for row, end in zip(full, ends, strict=True)]
    tokens = [row.ids[end + 1 : end + 1 + steps] for row, end in zip(full, ends, strict=True)]
    wanted = [logits[end : end + steps] for logits, end in zip((tried.wanted, reference.logits[2]), ends, strict=True)]

    def grown(read_before: bool) -> dict[int, Tensor]:
        found: list[list[Tensor]] = [[], []]

        def forced(chosen: Sequence[int], logits: Tensor, step: int) -> Tensor:
            for line, row in enumerate(chosen):
                found[row].append(logits[line].float().clone())
            return torch.tensor([tokens[row][step] for row in chosen], device=logits.device)

        prompts_read = read_prompts(model, prompts, [ReplayStart(tried.block)]) if read_before else None
        options: dict[str, Any] = {"steps": steps, "choose": forced, "ended": lambda *_: False}
        decode(model, prompts, tried.edits, owners, prompts=prompts_read, batch=2, **options)
        return {row: torch.stack(logits) for row, logits in enumerate(found)}

    # twice, since some models keep a state from the previous text
    reads = [ways.generation == "cache" and ways.late, False]
    return steps > 0 and all(reference.equals(partial(grown, read), wanted) for read in reads)
