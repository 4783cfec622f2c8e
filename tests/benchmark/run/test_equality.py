"""On real cases and trained models: the fast path against one unpadded forward per prompt with dense edited weights."""

from pathlib import Path

import pytest
import torch

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.scoring.probe_batch import make_probe_batch
from instructedit.benchmark.setup.config import EMBEDDED_MODEL
from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sampling import choose
from instructedit.benchmark.tasks.sources import open_source
from instructedit.editors import LanguageModel


def largest_differences(model: LanguageModel, data: Path | None, task: str, cases: int) -> tuple[float, int, int]:
    """Return the largest difference in logits, the number of differing most likely tokens, and of compared positions.

    Fast: all rows of all cases packed, all edits at once, replayed from the first patched block. Slow: each row alone
    and unpadded through a copy of the model whose weights carry the edit; of hundreds of rows a sample.
    """
    source = open_source(None if data is None else str(data))
    chosen = choose(TASKS.get(task)().load(source).cases, cases)
    plan = make_probe_batch(model, chosen, GenerationSpec(), fluency=False)
    edits = FTM(FTMConfig(block=1, lr=3e-3, clamp=0.03, steps=5)).edit(model, [case.request for case in chosen])
    base = model.base_pass(plan.forced.rows, [edits.cut])
    with torch.no_grad():
        fast = dict(model.replay(base, edits, plan.forced.owners))
    largest, differing, compared, owner, edited = 0.0, 0, 0, None, None
    rows = plan.forced.rows
    for index in range(0, len(rows), max(1, len(rows) // 60)):
        row = rows[index]
        if plan.forced.owners[index] != owner:
            owner = plan.forced.owners[index]
            edited = edits.apply_to(model.model, owner)
        with torch.no_grad():
            slow = edited(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)]
        largest = max(largest, float((fast[index] - slow).abs().max()))
        differing += int((fast[index].argmax(-1) != slow.argmax(-1)).sum())
        compared += len(row.scored)
    return largest, differing, compared


@pytest.mark.parametrize("task", ["recent", "counterfact", "zsre", "convsent"])
def test_on_the_embedded_model(task):
    largest, differing, compared = largest_differences(LanguageModel.load(EMBEDDED_MODEL, device="cpu"), None, task, 6)
    assert compared > 50
    assert differing == 0
    assert largest < 1e-3


@pytest.mark.parametrize("task", ["recent", "counterfact", "zsre", "convsent"])
def test_on_knowedit(shared, task):
    model = LanguageModel.load(shared / "data" / "models" / "knowedit-gpt2", device="cpu")
    largest, differing, compared = largest_differences(model, shared / "data" / "knowedit", task, 4)
    assert compared > 20
    assert differing == 0
    assert largest < 1e-3
