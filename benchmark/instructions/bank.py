"""The bank that a loop writes, with its history."""

from collections.abc import Sequence
from typing import Any

from instructedit.editors import seed_of

from ..results.loop_results import Final, LoopFile, Proposal, Trial, Trials, Unseen
from ..results.records import digest_of
from ..setup.banks import InstructionBank, TaskInstructions
from .material import Material
from .rules import words_of

RANDOM = 9
"""Random texts that the chosen descriptions are compared with."""


def random_texts(material: Material, like: Sequence[str], seed: int) -> tuple[str, ...]:
    """Return random words of the bank, each text as long as one of the given texts, with the task's placeholders."""
    words, marks = material.bank.words, material.brief.placeholders
    found = []
    for number in range(RANDOM):
        length = len(words_of(like[number % len(like)])) - len(marks)
        drawn = [words[seed_of(seed, "random", number, place) % len(words)] for place in range(length)]
        found.append(" ".join([*drawn, *marks]))
    return tuple(found)


def resulting_bank(
    material: Material,
    chosen: Sequence[str],
    file: LoopFile,
    unseen: Unseen,
    rounds: Sequence[tuple[Proposal, Trials]],
    controls: Trials,
    final: Final,
) -> InstructionBank:
    """Return the loop's bank: the chosen descriptions of the task, best first, then the unseen one.

    Other tasks keep theirs. The history holds every prompt, reply, candidate and score; the version is that of the
    first bank and the digest of the loop's configuration.
    """
    base, config = material.bank, file.config
    own = TaskInstructions(title=material.brief.title, descriptions=(*chosen, unseen.text), unseen=len(chosen))
    history: dict[str, Any] = {
        "task": config.task,
        "from": base.digest,
        "loop": file.model_dump(mode="json"),
        "unseen": unseen.model_dump(mode="json"),
        "rounds": [
            {"proposal": proposal.model_dump(mode="json"), "scores": _means(trials.trials), "seconds": trials.seconds}
            for proposal, trials in rounds
        ],
        "controls": _means(controls.trials),
        "test": {name: _means(group) for name, group in final.groups.items()},
    }
    return base.model_copy(
        update={
            "name": f"{base.name} + {config.task} by {file.proposer}, seed {config.seed}",
            "version": f"{base.version}+{digest_of(file)[:8]}",
            "tasks": {**base.tasks, config.task: own},
            "history": (*base.history, history),
        }
    )


def _means(trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    return {trial.text: trial.means() for trial in trials}
