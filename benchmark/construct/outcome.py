"""What a loop comes to: its controls, the chosen descriptions, the one test, and the bank with its history."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instructedit.editors import InputError, seed_of

from ..instructions import InstructionBank, TaskInstructions
from ..results import read_record
from ..store import write_record
from .journal import BANK, CONTROLS, FINAL, LOOP, Final, LoopFile
from .records import ranked
from .rules import words_of

if TYPE_CHECKING:
    from .loop import Loop

CHOSEN = 9
"""Descriptions of the task in the resulting bank, besides the one that is kept from training."""
RANDOM = 9
"""Random texts that the chosen descriptions are held against."""


def try_controls(loop: "Loop") -> None:
    """Try the hand-written descriptions and random words on the cases for trials, once."""
    path = loop.journal.folder / CONTROLS
    if not path.is_file():
        write_record(path, loop.trials((*hand_written(loop), *random_texts(loop)), "controls"))


def finish(loop: "Loop") -> Final:
    """Test what the loop came to, once, and write its bank.

    Raises:
        InputError: If no candidate was tried.
    """
    path, winners = loop.journal.folder / FINAL, chosen(loop)
    if not winners:
        raise InputError(f"{loop.journal.folder}: no candidate was tried, so there is no bank to write.")
    if not path.is_file():
        groups = {
            "chosen": winners,
            "first round": tuple(trial.text for trial in loop.journal.rounds()[0][1].trials),
            "hand-written": hand_written(loop),
            "random": random_texts(loop),
            "unseen": (loop.unseen,),
        }
        rounds = {number: ranked(trials.trials) for number, (_, trials) in enumerate(loop.journal.rounds())}
        firsts = {number: order[0].text for number, order in rounds.items() if order}
        texts = tuple(dict.fromkeys([*(text for group in groups.values() for text in group), *firsts.values()]))
        trials = loop.trials(texts, "test", test=True)
        by_text = {trial.text: trial for trial in trials.trials}
        found = {name: tuple(by_text[text] for text in group) for name, group in groups.items() if group}
        best = {number: by_text[text] for number, text in firsts.items()}
        write_record(path, Final(groups=found, best=best, seconds=trials.seconds))
    write_record(loop.journal.folder / BANK, bank(loop, winners))
    return read_record(path, Final)


def chosen(loop: "Loop") -> tuple[str, ...]:
    """Return the best descriptions of all rounds by their trials, best first."""
    tried = [trial for _, trials in loop.journal.rounds() for trial in trials.trials]
    return tuple(trial.text for trial in ranked(tried)[:CHOSEN])


def hand_written(loop: "Loop") -> tuple[str, ...]:
    """Return the descriptions that the bank has for the task, without the unseen one; none for a task of one's own."""
    own = loop.material.bank.tasks.get(loop.material.task)
    return tuple(own.descriptions[index] for index in own.seen) if own else ()


def random_texts(loop: "Loop") -> tuple[str, ...]:
    """Return random words of the bank, as many as a hand-written description has, or one of the first round."""
    words, seed = loop.material.bank.words, loop.config.seed
    models = hand_written(loop) or loop.propose(0).admitted or (loop.material.brief.about,)
    found = []
    for number in range(RANDOM):
        length = len(words_of(models[number % len(models)]))
        drawn = [words[seed_of(seed, "random", number, place) % len(words)] for place in range(length)]
        found.append(" ".join([*drawn, *loop.material.brief.placeholders]))
    return tuple(found)


def bank(loop: "Loop", descriptions: Sequence[str]) -> InstructionBank:
    """Return the loop's bank: the given descriptions of the task, best first, and the unseen one.

    Other tasks keep theirs. Its history has every prompt, reply, candidate and score.
    """
    base = loop.material.bank
    own = TaskInstructions(
        title=loop.material.brief.title, descriptions=(*descriptions, loop.unseen), unseen=len(descriptions)
    )
    rounds = [
        {
            "proposal": proposal.model_dump(mode="json"),
            "scores": {trial.text: trial.means() for trial in trials.trials},
            "seconds": trials.seconds,
        }
        for proposal, trials in loop.journal.rounds()
    ]
    history: dict[str, Any] = {
        "task": loop.material.task,
        "from": base.digest,
        "loop": read_record(loop.journal.folder / LOOP, LoopFile).model_dump(mode="json"),
        "rounds": rounds,
    }
    return base.model_copy(
        update={
            "name": f"{base.name} + {loop.material.task} of {loop.proposer.model}",
            "tasks": {**base.tasks, loop.material.task: own},
            "history": (*base.history, history),
        }
    )
