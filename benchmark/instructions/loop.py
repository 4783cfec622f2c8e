"""The loop: propose, check, try, tell the proposer, until trials no longer improve (InstructEdit, arXiv:2402.16123).

The paper says neither which data the trials use, nor when the loop stops. Here candidates are tried on training cases
that the trial editor has not learnt from, and the loop ends when the best candidate has not been beaten, by more than
the 95 % interval of the paired difference, for some rounds in a row. Every round is on disk before the next begins.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

from instructedit.editors import InputError, LanguageModel, seed_of
from instructedit.editors.files.atomic import sweep
from instructedit.editors.instructedit import InstructEdit

from ..results.decision import decide
from ..results.records import read_record
from ..results.run_folder import write_record
from ..run.training import naming_storage_errors
from .journal import FINAL, PROPOSAL, TRIALS, UNSEEN, Candidate, Final, Journal, LoopFile, Proposal, Trials, Unseen
from .material import Material
from .outcome import finish
from .proposal import BudgetError, Proposer, Tried
from .records import LoopConfig, Trial, difference, ranked
from .trial import try_all


@dataclass(frozen=True, slots=True)
class Loop:
    """A construction loop that is being run.

    Attributes:
        config: What was asked for.
        material: Cases, rules and bank.
        model: The base model.
        options: The trial editor's configuration.
        proposer: Who writes.
        journal: The loop's folder.
        chunk: Cases in one pass.
        report: Takes sentences for the user.
        progress: Whether to show progress bars of trainings.
    """

    config: LoopConfig
    material: Material
    model: LanguageModel
    options: Mapping[str, Any]
    proposer: Proposer
    journal: Journal
    chunk: int
    report: Callable[[str], None]
    progress: bool = False

    def run(self) -> Final:
        """Run the loop to its end, or on from where it was.

        Raises:
            InputError: If the folder holds another loop or another process works in it, or no round has anything that
                can be tried.
        """
        with self.journal.alone():
            self.begin()
            if (self.journal.folder / FINAL).is_file():
                # what has been tested is not chosen anew, not even with a larger budget
                self.report("This loop has ended and was tested; another one needs another folder.")
                return finish(self)
            if self.config.anew is None:
                self._editor(())  # now, so that the time of the first round is that of its trials
            for number in range(self.config.rounds):
                if stopped := self._stopped(number):
                    self.report(stopped)
                    break
                if number < len(self.journal.rounds()):
                    continue
                try:
                    self._round(number)
                except BudgetError as error:
                    self.report(f"The loop ends after {number} rounds. {error}")
                    break
            return finish(self)

    def begin(self) -> None:
        """Write down what the loop is, and which description is kept from training."""
        self.journal.begin(
            LoopFile(
                config=self.config,
                model=self.model.identity,
                data=_digest(self.material),
                editor=InstructEdit.Config(**self.options).model_dump(mode="json"),
                bank=self.material.bank.digest,
                proposer=self.proposer.model,
                settings=self.proposer.settings,
            )
        )
        if not (self.journal.folder / UNSEEN).is_file():
            kept = self.material.kept
            own = self.material.task in self.material.bank.tasks
            write_record(self.journal.folder / UNSEEN, Unseen(text=kept, source="bank" if own else "grammar"))

    def following(self) -> int:
        """Return the number of the round that comes next.

        Raises:
            InputError: If none does, because the loop has come to its end.
        """
        number, folder = len(self.journal.rounds()), self.journal.folder
        if (folder / FINAL).is_file():
            raise InputError(f"{folder}: this loop has ended and was tested; another one needs another folder.")
        if number >= self.config.rounds:
            raise InputError(f"{folder}: all {number} rounds are done; 'optimize' tests what they came to.")
        if stopped := self._stopped(number):
            raise InputError(f"{folder}: {stopped}")
        return number

    @property
    def unseen(self) -> str:
        """The description that is kept from training."""
        return read_record(self.journal.folder / UNSEEN, Unseen).text

    def propose(self, number: int) -> Proposal:
        """Return the proposal of a round, made now or read."""
        path = self.journal.round(number) / PROPOSAL
        if path.is_file():
            return read_record(path, Proposal)
        tried = [trial for _, trials in self.journal.rounds() for trial in trials.trials]
        known = tuple(trial.text for trial in tried)
        brief = replace(self.material.brief, tried=_shown(tried, self.config.shown), known=known)
        seed = seed_of(self.config.seed, number)
        reply = self.proposer.propose(brief, self.config.candidates, seed, self.report)
        proposal = Proposal.of(reply, self._checked(reply.items[: self.config.candidates], known), seed)
        write_record(path, proposal)
        return proposal

    def trials(self, texts: Sequence[str], what: str, *, test: bool = False) -> Trials:
        """Try descriptions, on the cases for trials or on the test split."""
        cases = self.material.test if test else self.material.trial
        self.report(f"{what}: {len(texts)} descriptions on {len(cases)} {'test' if test else 'trial'} cases")
        begun = perf_counter()
        groups: list[tuple[str, ...]] = [tuple(texts)] if self.config.anew is None else [(text,) for text in texts]
        found: list[Trial] = []
        for group in groups:  # one editor after the other, so that no more than one is in memory
            editor = self._editor(() if self.config.anew is None else group)
            tried = try_all(
                self.model,
                dict.fromkeys(group, editor),
                cases,
                self.material.told,
                seed=self.config.seed,
                chunk=self.chunk,
            )
            found.extend(tried)
        return Trials(trials=tuple(found), seconds=round(perf_counter() - begun, 3))

    def _round(self, number: int) -> None:
        proposal = self.propose(number)
        if not proposal.admitted:
            self.report(f"round {number}: nothing that can be tried. {_complaints(proposal.candidates)}")
        trials = self.trials(proposal.admitted, f"round {number}")
        write_record(self.journal.round(number) / TRIALS, trials)
        for trial in ranked(trials.trials)[:1]:
            self.report(f"round {number}: best {trial.means()['score']:.1f} in {trials.seconds:.0f} s: {trial.text}")

    def _checked(self, texts: Sequence[str], known: Sequence[str]) -> tuple[Candidate, ...]:
        """Return candidates with what is wrong with each; what was tried before, and each other, count too."""
        admitted, found = list(known), []
        for text in texts:
            complaint = self.material.rules.complaint(text, admitted)
            if complaint is None:
                admitted.append(text)
            found.append(Candidate(text=text, complaint=complaint))
        return tuple(found)

    def _editor(self, texts: tuple[str, ...]) -> InstructEdit:
        """Return the trial editor: one for all, or one that is trained under given descriptions alone."""
        texts = texts or self.material.varied(self.config.seed)
        # the training checks all that it depends on but for what it is told
        told = json.dumps([texts, self.material.brief.title, self.material.bank.digest])
        folder = self.journal.folder / "editors" / hashlib.sha256(told.encode()).hexdigest()[:16]
        editor = InstructEdit(InstructEdit.Config(**self.options))
        if folder.is_dir():
            sweep(folder)
        with naming_storage_errors(folder):
            editor.fit(
                self.model,
                self.material.taught(texts),
                folder,
                seed=self.config.seed,
                steps=self.config.anew,
                report=self.report,
                progress=self.progress,
            )
        return editor

    def _stopped(self, number: int) -> str | None:
        """Return why the loop ends before a round; None if it does not.

        A round improves if its best candidate is better than that of the last round which did, by a
        paired difference that is shown, p < 0.05.
        """
        rounds = [trials.trials for _, trials in self.journal.rounds()[:number]]
        leader: Trial | None = None
        idle = 0
        for round_, trials in enumerate(rounds):
            challenger = next(iter(ranked(trials)), None)
            if challenger and (leader is None or _beats(challenger, leader)):
                leader, idle = challenger, 0
            else:
                idle += 1
            if idle >= self.config.patience:
                return (
                    f"The loop ends after round {round_}: no candidate was shown to be better than the best so far for "
                    f"{idle} rounds."
                )
        return None


def _beats(challenger: Trial, leader: Trial) -> bool:
    found = difference([challenger], [leader])
    return found is not None and decide(found.difference, found.p, "teacher_forced_exact") == "better"


def _shown(tried: Sequence[Trial], count: int) -> tuple[Tried, ...]:
    """Return the best and the worst candidates, best first."""
    order = ranked(tried)
    if len(order) > count:
        order = order[: count - count // 2] + order[-(count // 2) :]
    return tuple(Tried(trial.text, trial.means()) for trial in order)


def _complaints(candidates: Sequence[Candidate]) -> str:
    found = [f"'{c.text}': {c.complaint}" for c in candidates if c.complaint]
    return "; ".join(found[:3]) + ("." if found else "It wrote no description.")


def _digest(material: Material) -> str:
    """Return what the cases of a loop, and what a proposer is told of them, are named by."""
    parts = [[case.content() for case in cases] for cases in (material.trial, material.test)]
    text = json.dumps([material.training.digest, parts, asdict(material.brief)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
