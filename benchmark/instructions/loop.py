"""The construction loop: propose, check, try, report back, until trials no longer improve (arXiv:2402.16123).

The paper says neither which data the trials use nor when the loop stops. Here candidates are tried on training cases
that the trial editor was not trained on, and the loop ends when no round has significantly beaten the best candidate
(paired test, p < 0.05) for some rounds. Every round is on disk before the next begins.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from instructedit.editors import InputError, LanguageModel, seed_of
from instructedit.editors.files.atomic import sweep
from instructedit.editors.hypernet.saves import drop_saves
from instructedit.editors.instructedit import InstructEdit

from ..results.decision import decide
from ..results.loop_results import (
    BANK,
    CONTROLS,
    FINAL,
    LOOP,
    PROPOSAL,
    TRIALS,
    UNSEEN,
    Candidate,
    Final,
    LoopConfig,
    LoopFile,
    Proposal,
    Trial,
    Trials,
    Unseen,
    difference,
    finished_rounds,
    ranked,
    round_folder,
)
from ..results.records import FileRecord, digest_of, read_record, unlike
from ..results.run_folder import StorageError, write_record
from ..run.training import naming_storage_errors
from ..setup.banks import InstructionBank, TaskInstructions
from .material import Material
from .proposer import BudgetError, Proposer, Report
from .trials import try_all

R = TypeVar("R", bound=FileRecord)

CHOSEN = 9
"""Descriptions of the task in the resulting bank, in addition to the unseen one."""


@dataclass
class Loop:
    """A construction loop in a folder; `options` configure the trial editor, and `chunk` cases are edited in one pass.

    `results.loop_results` describes the files. Each is written whole as soon as its content is known, so a kill loses
    no result.
    """

    config: LoopConfig
    material: Material
    model: LanguageModel
    options: Mapping[str, Any]
    proposer: Proposer
    folder: Path
    chunk: int
    report: Report
    progress: bool = False

    def __post_init__(self) -> None:
        own = self.material.task in self.material.bank.tasks
        self.unseen = Unseen(text=self.material.held_out, source="bank" if own else "grammar")
        self.file = LoopFile(
            config=self.config,
            model=self.model.identity,
            data=_digest(self.material),
            editor=InstructEdit.Config(**self.options).model_dump(mode="json"),
            bank=self.material.bank.digest,
            proposer=self.proposer.model,
            settings=self.proposer.settings,
        )

    def run(self) -> Final:
        """Run the loop to its end; a loop that was interrupted resumes.

        Raises:
            InputError: If the folder holds another loop or another process works in it, or no round has a candidate
                that meets the rules.
        """
        with alone(self.folder):
            self.begin()
            if self.tested:
                # after the test nothing is chosen again, not even with more rounds
                self.report("This loop has ended and was tested; another one needs another folder.")
                return self._finish()
            if self.config.anew is None:
                self.editor()  # now, so that its training does not count in the first round
            while len(self.rounds) < self.config.rounds:
                if stopped := self._stopped():
                    self.report(stopped)
                    break
                try:
                    self.round(len(self.rounds))
                except BudgetError as error:
                    self.report(f"The loop ends after {len(self.rounds)} rounds. {error}")
                    break
            return self._finish()

    @property
    def rounds(self) -> tuple[tuple[Proposal, Trials], ...]:
        """The finished rounds."""
        return finished_rounds(self.folder)

    @property
    def tested(self) -> bool:
        """Whether the loop has ended and was tested."""
        return (self.folder / FINAL).is_file()

    def begin(self) -> None:
        """Write the configuration and the held-out description; `InputError` if the folder holds another loop."""
        found = _kept(self.folder / LOOP, LoopFile, lambda: self.file)
        if different := unlike(found, self.file):
            raise InputError(f"{self.folder / LOOP}: belongs to another loop ({different}); choose another folder.")
        _kept(self.folder / UNSEEN, Unseen, lambda: self.unseen)

    def next_round(self) -> int:
        """Return the number of the next round; `InputError` if the loop has ended."""
        number, folder = len(self.rounds), self.folder
        if self.tested:
            raise InputError(f"{folder}: this loop has ended and was tested; another one needs another folder.")
        if number >= self.config.rounds:
            raise InputError(f"{folder}: all {number} rounds are done; 'optimize' tests their result.")
        if stopped := self._stopped():
            raise InputError(f"{folder}: {stopped}")
        return number

    def round(self, number: int) -> None:
        """Run one round: propose and try."""
        proposal = self.propose(number)
        if not proposal.admitted:
            self.report(f"round {number}: no candidate meets the rules. {_complaints(proposal.candidates)}")
        trials = self.try_texts(proposal.admitted, f"round {number}")
        write_record(round_folder(self.folder, number) / TRIALS, trials)
        for trial in ranked(trials.trials)[:1]:
            self.report(f"round {number}: best {trial.means()['score']:.1f} in {trials.seconds:.0f} s: {trial.text}")

    def propose(self, number: int) -> Proposal:
        """Return the proposal of a round, new or from its file, with the complaint about each candidate."""
        return _kept(round_folder(self.folder, number) / PROPOSAL, Proposal, lambda: self._proposal(number))

    def _proposal(self, number: int) -> Proposal:
        tried = self._tried()
        known = tuple(trial.text for trial in tried)
        brief = replace(self.material.brief, tried=_shown(tried, self.config.shown), known=known)
        seed = seed_of(self.config.seed, number)
        proposal = self.proposer.propose(brief, self.config.candidates, seed, self.report)
        admitted, candidates = list(known), []
        for text in proposal.admitted[: self.config.candidates]:
            complaint = self.material.rules.complaint(text, admitted)
            if complaint is None:
                admitted.append(text)
            candidates.append(Candidate(text=text, complaint=complaint))
        return proposal.model_copy(update={"candidates": tuple(candidates)})

    def try_texts(self, texts: Sequence[str], name: str, *, test: bool = False) -> Trials:
        """Try descriptions on the cases for trials, or on the test split; `name` appears in the message to the user."""
        cases = self.material.test if test else self.material.trial
        self.report(f"{name}: {len(texts)} descriptions on {len(cases)} {'test' if test else 'trial'} cases")
        begun = perf_counter()
        found: list[Trial] = []
        # with an editor for each description, one after the other, so that only one is in memory
        for group in [tuple(texts)] if self.config.anew is None else [(text,) for text in texts]:
            editor = self.editor(None if self.config.anew is None else group)
            instructed = self.material.instructed
            found += try_all(self.model, editor, group, cases, instructed, seed=self.config.seed, chunk=self.chunk)
        return Trials(trials=tuple(found), seconds=round(perf_counter() - begun, 3))

    def editor(self, texts: Sequence[str] | None = None) -> InstructEdit:
        """Return the trial editor, trained or loaded: one for all descriptions, or one trained under the given ones."""
        texts = tuple(texts or self.material.training_descriptions(self.config.seed))
        # the checkpoint records everything else that the training depends on
        key = json.dumps([texts, self.material.brief.title, self.material.bank.digest])
        folder = self.folder / "editors" / hashlib.sha256(key.encode()).hexdigest()[:16]
        editor = InstructEdit(InstructEdit.Config(**self.options))
        with naming_storage_errors(folder):
            editor.fit(
                self.model,
                self.material.training_under(texts),
                folder,
                seed=self.config.seed,
                steps=self.config.anew,
                report=self.report,
                progress=self.progress,
            )
        return editor

    def _tried(self) -> list[Trial]:
        return [trial for _, trials in self.rounds for trial in trials.trials]

    def _stopped(self) -> str | None:
        """Return why the loop ends before the next round; None if it does not.

        A round improves if its best candidate is significantly better than that of the last round that did.
        """
        leader: Trial | None = None
        idle = 0
        for index, (_, trials) in enumerate(self.rounds):
            challenger = next(iter(ranked(trials.trials)), None)
            if challenger and (leader is None or _beats(challenger, leader)):
                leader, idle = challenger, 0
            else:
                idle += 1
            if idle >= self.config.patience:
                return (
                    f"The loop ends after round {index}: no candidate was significantly better than the best one for "
                    f"{idle} rounds."
                )
        return None

    def _finish(self) -> Final:
        """Try the controls, test them and the chosen ones once, and write the bank; `InputError` without candidates."""
        chosen = tuple(trial.text for trial in ranked(self._tried())[:CHOSEN])
        if not chosen:
            raise InputError(f"{self.folder}: no candidate was tried, so there is no bank to write.")
        hand_written = self.material.hand_written
        random = self.material.random_texts(chosen, self.config.seed)
        texts = (*hand_written, *random)
        controls = _kept(self.folder / CONTROLS, Trials, lambda: self.try_texts(texts, "controls"))
        final = _kept(self.folder / FINAL, Final, lambda: self._test(chosen, hand_written, random))
        write_record(self.folder / BANK, self._bank(chosen, controls, final))
        return final

    def _bank(self, chosen: Sequence[str], controls: Trials, final: Final) -> InstructionBank:
        """Return the loop's bank: the chosen descriptions of the task, best first, then the unseen one.

        Other tasks keep theirs. The history holds every prompt, reply, candidate and score; the version is that of the
        first bank and the digest of the loop's configuration.
        """
        base, config, unseen = self.material.bank, self.config, self.unseen
        own = TaskInstructions(title=self.material.brief.title, descriptions=(*chosen, unseen.text), unseen=len(chosen))
        history: dict[str, Any] = {
            "task": config.task,
            "from": base.digest,
            "loop": self.file.model_dump(mode="json"),
            "unseen": unseen.model_dump(mode="json"),
            "rounds": [
                {"proposal": made.model_dump(mode="json"), "scores": _means(trials.trials), "seconds": trials.seconds}
                for made, trials in self.rounds
            ],
            "controls": _means(controls.trials),
            "test": {name: _means(group) for name, group in final.groups.items()},
        }
        return base.model_copy(
            update={
                "name": f"{base.name} + {config.task} by {self.file.proposer}, seed {config.seed}",
                "version": f"{base.version}+{digest_of(self.file)[:8]}",
                "tasks": {**base.tasks, config.task: own},
                "history": (*base.history, history),
            }
        )

    def _test(self, chosen: Sequence[str], hand_written: Sequence[str], random: Sequence[str]) -> Final:
        rounds = [ranked(trials.trials) for _, trials in self.rounds]
        best = {number: order[0].text for number, order in enumerate(rounds) if order}
        groups = {
            "chosen": chosen,
            "first round": [trial.text for trial in rounds[0]],
            "hand-written": hand_written,
            "random": random,
            # an editor that is trained for each description would have seen this one
            "unseen": [self.unseen.text] if self.config.anew is None else [],
        }
        texts = dict.fromkeys([*(text for group in groups.values() for text in group), *best.values()])
        trials = self.try_texts(tuple(texts), "test", test=True)
        by_text = {trial.text: trial for trial in trials.trials}
        return Final(
            groups={name: tuple(by_text[text] for text in group) for name, group in groups.items() if group},
            best={number: by_text[text] for number, text in best.items()},
            seconds=trials.seconds,
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a loop's folder within the context, and remove what an earlier kill left unfinished.

    Raises:
        InputError: If another process holds the lock.
        StorageError: If the folder cannot be written to.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"{folder}: another process works on this loop.") from error
    except OSError as error:
        raise StorageError(f"{folder}: the loop cannot be written ({error.strerror}).") from error
    try:
        editors = tuple(folder.glob("editors/*"))
        for place in (folder, *folder.glob("round-*"), *editors):
            sweep(place)
        for place in editors:
            drop_saves(place)
        yield
    finally:
        lock.release()


def _kept(path: Path, kind: type[R], make: Callable[[], R]) -> R:
    """Return the record in a file, made and written first where there is none."""
    if not path.is_file():
        write_record(path, make())
    return read_record(path, kind)


def _means(trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    return {trial.text: trial.means() for trial in trials}


def _beats(challenger: Trial, leader: Trial) -> bool:
    found = difference([challenger], [leader])
    return found is not None and decide(found.difference, found.p, "teacher_forced_exact") == "better"


def _shown(tried: Sequence[Trial], count: int) -> tuple[Trial, ...]:
    order = ranked(tried)
    if len(order) > count:
        order = order[: count - count // 2] + order[-(count // 2) :]
    return tuple(order)


def _complaints(candidates: Sequence[Candidate]) -> str:
    found = [f"'{c.text}': {c.complaint}" for c in candidates if c.complaint]
    return "; ".join(found[:3]) + ("." if found else "It wrote no description.")


def _digest(material: Material) -> str:
    parts = [[case.content() for case in cases] for cases in (material.trial, material.test)]
    text = json.dumps([material.training.digest, parts, asdict(material.brief)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
