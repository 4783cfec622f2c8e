"""Tokenizer and training of the small GPT-2 that knows the world.

Muon trains the weight matrices of the blocks and AdamW the rest, with five times the loss weight on answers. AdamW
alone with uniform weights learned less than 16 % of the facts in the time in which this learns nearly all of them.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from .corpus import Text, epoch
from .opinions import opinions
from .world import World, stream

EOS = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Size of the model and of its training; equal recipes, threads included, give equal weights on one machine.

    `vocabulary` counts entries of the byte-level BPE, `batch_tokens` tokens of one step, padding included. `muon_lr` is
    the learning rate of the block matrices, `adam_lr` that of embeddings, norms and biases.
    """

    vocabulary: int = 2048
    context: int = 192
    width: int = 192
    layers: int = 4
    heads: int = 4
    epochs: int = 28
    batch_tokens: int = 3072
    muon_lr: float = 0.03
    adam_lr: float = 4e-3
    threads: int = 2


class Muon(torch.optim.Optimizer):
    """Nesterov momentum on matrices, made orthogonal by five Newton-Schulz steps (Jordan et al., 2024).

    The learning rate is scaled by sqrt(max(1, rows / columns)).
    """

    def __init__(self, params: Sequence[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all matrices once."""
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                u = orthogonal(p.grad.lerp(m, group["momentum"]))
                p.add_(u, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(g: torch.Tensor) -> torch.Tensor:
    """Return an approximation of U V^T, [rows, columns], for the singular value decomposition g = U S V^T."""
    a, b, c = 3.4445, -4.7750, 2.0315  # the quintic of Muon: singular values end between 0.7 and 1.2
    x: torch.Tensor = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        y = x @ x.T
        x = a * x + (b * y + c * y @ y) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def train_tokenizer(texts: Sequence[Text], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE; its only special token ends a text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((plain(text) for text in texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=EOS, pad_token=EOS)


def plain(text: Text) -> str:
    """Return a text without its weights."""
    return "".join(piece for piece, _ in text)


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text]) -> list[tuple[list[int], list[float]]]:
    """Return the token ids and the loss weight of every token, the end of text included, for each text."""
    batch = tokenizer([plain(text) for text in texts], return_offsets_mapping=True)
    rows = []
    for text, ids, offsets in zip(texts, batch["input_ids"], batch["offset_mapping"], strict=True):
        by_character = [weight for piece, weight in text for _ in piece]
        weights = [by_character[end - 1] for _, end in offsets]
        rows.append(([*ids, tokenizer.eos_token_id], [*weights, text[-1][1]]))
    return rows


def batches(
    rows: Sequence[tuple[list[int], list[float]]], budget: int, pad: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield `(ids, weights)`, both [rows, tokens], of rows of about equal length, in random order.

    A batch has at most `budget` tokens, padding included, whose weight is zero.
    """
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]), rng.random()))
    groups: list[list[int]] = [[]]
    for i in order:
        if (len(groups[-1]) + 1) * len(rows[i][0]) > budget:
            groups.append([])
        groups[-1].append(i)
    rng.shuffle(groups)
    for group in groups:
        length = max(len(rows[i][0]) for i in group)
        yield (
            torch.tensor([rows[i][0] + [pad] * (length - len(rows[i][0])) for i in group]),
            torch.tensor([rows[i][1] + [0.0] * (length - len(rows[i][0])) for i in group]),
        )


def train(world: World, recipe: Recipe, max_steps: int | None = None) -> tuple[GPT2LMHeadModel, Any, dict[str, Any]]:
    """Train a model on a world.

    Returns:
        The model in float32, its tokenizer, and a report: `losses` by step, `tokens`, `seconds`, `parameters`.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(world.seed)
    rng = stream(world.seed, "training")
    views = opinions(world)
    tokenizer = train_tokenizer([text for _ in range(3) for text in epoch(world, views, rng)], recipe.vocabulary)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=recipe.vocabulary,
            n_positions=recipe.context,
            n_embd=recipe.width,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            activation_function="gelu_pytorch_tanh",  # gelu_new in one kernel: a fifth off every step
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    ).train()
    matrices = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    peaks = [recipe.muon_lr, recipe.adam_lr]
    adam = torch.optim.AdamW(rest, recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
    optimizers = [Muon(matrices, recipe.muon_lr), adam]
    losses: list[float] = []
    tokens, start = 0, time.perf_counter()

    def steps() -> Iterator[tuple[float, torch.Tensor, torch.Tensor]]:
        """Yield the share of the training that is done, and a batch."""
        for turn in tqdm(range(recipe.epochs), desc="epochs", disable=max_steps is not None):
            rows = encode(tokenizer, epoch(world, views, rng))
            found = list(batches(rows, recipe.batch_tokens, tokenizer.eos_token_id, rng))
            for index, batch in enumerate(found):
                yield (turn + index / len(found)) / recipe.epochs, *batch

    for done, ids, weights in islice(steps(), max_steps):
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = schedule(done) * peak
        # a random offset trains the late positions, which few texts of this world reach
        slack = recipe.context - ids.shape[1]
        first = rng.randint(0, slack) if slack > 0 and rng.random() < 0.25 else 0
        loss = weighted_loss(model, ids, weights, first)
        model.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        tokens += ids.numel()
    report = {
        "losses": losses,
        "tokens": tokens,
        "seconds": round(time.perf_counter() - start, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return model.eval(), tokenizer, report


def schedule(done: float) -> float:
    """Return the fraction of the peak rate at a fraction of the training: 2 % warm-up, flat to 40 %, linear to zero."""
    return min(1.0, done / 0.02 + 0.02, max(0.0, (1 - done) / 0.6))


def weighted_loss(model: GPT2LMHeadModel, ids: torch.Tensor, weights: torch.Tensor, first: int) -> torch.Tensor:
    """Return the weighted mean of the next-token loss in nats.

    Tokens and their weights as targets are [rows, tokens]; the first token has position `first`. Padding on the right
    needs no mask, as attention looks left.
    """
    # with explicit positions, transformers builds a mask for packed rows, which costs a fifth of a step
    positions = torch.arange(first, first + ids.shape[1] - 1)[None] if first else None
    logits = model(input_ids=ids[:, :-1], position_ids=positions, use_cache=False).logits
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    w = weights[:, 1:].flatten()
    return (nll * w).sum() / w.sum()
