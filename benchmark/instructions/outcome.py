"""What a loop comes to: its controls, the chosen descriptions, the one test, and the bank with its history."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instructedit.editors import InputError, seed_of

from ..results.loop_results import BANK, CONTROLS, FINAL, LOOP, UNSEEN, Final, LoopFile, Trials, Unseen, ranked
from ..results.records import digest_of, read_record
from ..results.run_folder import write_record
from ..setup.banks import InstructionBank, TaskInstructions
from .rules import words_of

if TYPE_CHECKING:
    from .loop import Loop

CHOSEN = 9
"""Descriptions of the task in the resulting bank, besides the one that is kept from training."""
RANDOM = 9
"""Random texts that the chosen descriptions are held against."""


def finish(loop: "Loop") -> Final:
    """Try the controls, test what the loop came to, once, and write its bank.

    Raises:
        InputError: If no candidate was tried.
    """
    folder, winners = loop.journal.folder, chosen(loop)
    if not winners:
        raise InputError(f"{folder}: no candidate was tried, so there is no bank to write.")
    by_hand, words = hand_written(loop), random_texts(loop, winners)
    if not (folder / CONTROLS).is_file():
        write_record(folder / CONTROLS, loop.trials((*by_hand, *words), "controls"))
    if not (folder / FINAL).is_file():
        rounds = {number: ranked(trials.trials) for number, (_, trials) in enumerate(loop.journal.rounds())}
        firsts = {number: order[0].text for number, order in rounds.items() if order}
        groups = {
            "chosen": winners,
            "first round": tuple(trial.text for trial in rounds[0]),
            "hand-written": by_hand,
            "random": words,
            # an editor that is trained for each description would have seen this one
            "unseen": (loop.unseen,) if loop.config.anew is None else (),
        }
        texts = tuple(dict.fromkeys([*(text for group in groups.values() for text in group), *firsts.values()]))
        trials = loop.trials(texts, "test", test=True)
        by_text = {trial.text: trial for trial in trials.trials}
        found = {name: tuple(by_text[text] for text in group) for name, group in groups.items() if group}
        best = {number: by_text[text] for number, text in firsts.items()}
        write_record(folder / FINAL, Final(groups=found, best=best, seconds=trials.seconds))
    final = read_record(folder / FINAL, Final)
    write_record(folder / BANK, bank(loop, winners, final))
    return final


def chosen(loop: "Loop") -> tuple[str, ...]:
    """Return the best descriptions of all rounds by their trials, best first."""
    tried = [trial for _, trials in loop.journal.rounds() for trial in trials.trials]
    return tuple(trial.text for trial in ranked(tried)[:CHOSEN])


def hand_written(loop: "Loop") -> tuple[str, ...]:
    """Return the descriptions that the bank has for the task, without the unseen one; none for a task of one's own."""
    own = loop.material.bank.tasks.get(loop.material.task)
    return tuple(own.descriptions[index] for index in own.seen) if own else ()


def random_texts(loop: "Loop", models: Sequence[str]) -> tuple[str, ...]:
    """Return random words of the bank, each text with as many words as one of the models, and its placeholders."""
    words, marks, seed = loop.material.bank.words, loop.material.brief.placeholders, loop.config.seed
    found = []
    for number in range(RANDOM):
        length = len(words_of(models[number % len(models)])) - len(marks)
        drawn = [words[seed_of(seed, "random", number, place) % len(words)] for place in range(length)]
        found.append(" ".join([*drawn, *marks]))
    return tuple(found)


def bank(loop: "Loop", descriptions: Sequence[str], final: Final) -> InstructionBank:
    """Return the loop's bank: the given descriptions of the task, best first, and the unseen one.

    Other tasks keep theirs. Its history has every prompt, reply, candidate and score; its version is the first bank's
    and the digest of what the loop was asked for.
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
    file, unseen = read_record(loop.journal.folder / LOOP, LoopFile), read_record(loop.journal.folder / UNSEEN, Unseen)
    controls = read_record(loop.journal.folder / CONTROLS, Trials)
    history: dict[str, Any] = {
        "task": loop.material.task,
        "from": base.digest,
        "loop": file.model_dump(mode="json"),
        "unseen": unseen.model_dump(mode="json"),
        "rounds": rounds,
        "controls": {trial.text: trial.means() for trial in controls.trials},
        "test": {name: {trial.text: trial.means() for trial in group} for name, group in final.groups.items()},
    }
    return base.model_copy(
        update={
            "name": f"{base.name} + {loop.material.task} by {loop.proposer.model}, seed {loop.config.seed}",
            "version": f"{base.version}+{digest_of(file)[:8]}",
            "tasks": {**base.tasks, loop.material.task: own},
            "history": (*base.history, history),
        }
    )
