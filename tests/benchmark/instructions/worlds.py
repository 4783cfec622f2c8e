"""A loop on a tiny model and a few hand-made records."""

from collections.abc import Sequence

import pytest

from instructedit.benchmark.instructions.loop import Loop
from instructedit.benchmark.instructions.material import gather
from instructedit.benchmark.instructions.proposer import Brief, BudgetError, Proposer
from instructedit.benchmark.results.loop_results import Candidate, LoopConfig, Proposal
from instructedit.benchmark.setup.config import make_config

EDITOR = {
    "rank": 8,
    "blocks": (-1,),
    "training": {
        "steps": 3,
        "batch": 2,
        "accumulate": 1,
        "lr": 1e-3,
        "warmup": 2,
        "validate_every": 3,
        "validation_cases": 4,
        "patience": 3,
    },
}

TEXTS = [
    "Replace a single place of birth by another one.",
    "This fact is edited, so answer it with the new value.",
    "Give the changed object of the sentence and nothing besides.",
    "What stands here must from now on end in another name.",
    "Invented objects belong behind these statements, other statements keep theirs.",
    "Memorise one altered completion without any harm to its neighbours.",
]


class Scripted(Proposer):
    """Returns scripted replies, and keeps its briefs and seeds."""

    name = "scripted"

    def __init__(self, *replies: Sequence[str] | Exception) -> None:
        self.replies = list(replies)
        self.briefs: list[Brief] = []
        self.seeds: list[int] = []

    @property
    def model(self) -> str:
        return "scripted"

    def propose(self, brief, count, seed, report=lambda _: None):
        self.briefs.append(brief)
        self.seeds.append(seed)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Proposal(
            prompt="asked",
            text="\n".join(reply),
            model="scripted",
            seed=seed,
            candidates=tuple(Candidate(text=text) for text in reply),
            input_tokens=10,
            output_tokens=5,
            seconds=0.1,
        )


def budget() -> BudgetError:
    return BudgetError("The budget of 100 tokens is spent.")


@pytest.fixture(scope="session")
def loop_in(place, loaded):
    def make(folder, proposer, told=None, data=None, **options):
        small = {"candidates": 3, "rounds": 2, "cases": 2, "test_cases": 2}
        config = LoopConfig(**{"task": "counterfact", "proposer": "scripted", **small, **options})
        given = make_config({"data": str(data or place / "data"), "model": str(place / "model")}, "test")
        return Loop(
            config=config,
            material=gather(given, config),
            model=loaded,
            options=EDITOR,
            proposer=proposer,
            folder=folder,
            chunk=2,
            report=(told if told is not None else []).append,
        )

    return make


@pytest.fixture
def make_loop(loop_in, tmp_path):
    return lambda proposer, folder=None, **options: loop_in(folder or tmp_path / "loop", proposer, **options)
