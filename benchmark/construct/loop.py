"""The loop: propose, check, try, tell the proposer, until trials no longer improve (InstructEdit, arXiv:2402.16123).

The paper says neither which data the trials use, nor when the loop stops. Here candidates are tried on training cases
that the trial editor has not learnt from, and the loop ends when the best candidate has not been beaten, by more than
the 95 % interval of the paired difference, for some rounds in a row. Every round is on disk before the next begins.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from instructedit.editors import InputError, LanguageModel, seed_of
from instructedit.editors.instructedit import InstructEdit

from ..results import read_record
from ..store import write_record
from .journal import (
    FINAL,
    PROPOSAL,
    TRIALS,
    UNSEEN,
    Candidate,
    Final,
    Journal,
    LoopFile,
    Proposal,
    Trials,
    Unseen,
)
from .material import Material
from .outcome import finish, try_controls
from .proposal import Brief, BudgetError, Proposer, Reply, Tried
from .records import LoopConfig, Trial, difference, ranked
from .rules import Rules
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
            InputError: If the folder holds another loop, or no round has anything that can be tried.
        """
        self.begin()
        if (self.journal.folder / FINAL).is_file():
            # what has been tested is not chosen anew, not even with a larger budget
            self.report("This loop has ended and was tested; another one needs another folder.")
            return finish(self)
        try_controls(self)
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
            )
        )
        if (self.journal.folder / UNSEEN).is_file():
            return
        if kept := self.material.rules.kept:
            write_record(self.journal.folder / UNSEEN, Unseen(text=kept[0], source="bank"))
            return
        reply, candidates = self._proposed(self.material.brief, 3, seed_of(self.config.seed, "unseen"))
        proposal = Proposal.of(reply, candidates)
        if not proposal.admitted:
            raise InputError(f"The proposer wrote nothing that can be kept from training. {_complaints(candidates)}")
        write_record(
            self.journal.folder / UNSEEN,
            Unseen(text=proposal.admitted[0], source="proposer", proposal=proposal),
        )

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
        reply, candidates = self._proposed(brief, self.config.candidates, seed_of(self.config.seed, number))
        proposal = Proposal.of(reply, candidates)
        write_record(path, proposal)
        return proposal

    def trials(self, texts: Sequence[str], what: str, *, test: bool = False) -> Trials:
        """Try descriptions, on the cases for trials or on the test split."""
        cases = self.material.test if test else self.material.trial
        self.report(f"{what}: {len(texts)} descriptions on {len(cases)} {'test' if test else 'trial'} cases")
        if self.config.anew is not None:
            editors = {text: self._editor((text,)) for text in texts}
        else:
            editors = dict.fromkeys(texts, self._editor(()))  # one and the same, so that edits are made together
        found, seconds = try_all(
            self.model, editors, cases, self.material.told, seed=self.config.seed, chunk=self.chunk
        )
        return Trials(trials=found, seconds=round(seconds, 3))

    def _round(self, number: int) -> None:
        proposal = self.propose(number)
        for note in proposal.notes:
            self.report(note)
        if not proposal.admitted:
            self.report(f"round {number}: nothing that can be tried. {_complaints(proposal.candidates)}")
        trials = self.trials(proposal.admitted, f"round {number}")
        write_record(self.journal.round(number) / TRIALS, trials)
        for trial in ranked(trials.trials)[:1]:
            self.report(f"round {number}: best {trial.means()['score']:.1f} in {trials.seconds:.0f} s: {trial.text}")

    def _proposed(self, brief: Brief, count: int, seed: int) -> tuple[Reply, tuple[Candidate, ...]]:
        """Ask for descriptions and check them, against what was tried before too."""
        reply = self.proposer.propose(brief, count, seed, self.report)
        rules, admitted, found = self._rules(), list(brief.known), []
        for text in reply.items[:count]:
            complaint = rules.complaint(text, admitted)
            if complaint is None:
                admitted.append(text)
            found.append(Candidate(text=text, complaint=complaint))
        return reply, tuple(found)

    def _rules(self) -> Rules:
        path = self.journal.folder / UNSEEN
        return replace(self.material.rules, kept=(self.unseen,)) if path.is_file() else self.material.rules

    def _editor(self, texts: tuple[str, ...]) -> InstructEdit:
        """Return the trial editor: one for all, or one that is trained under given descriptions alone."""
        name = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] if texts else "all"
        editor = InstructEdit(InstructEdit.Config(**self.options))
        editor.fit(
            self.model,
            self.material.taught(texts or self.material.varied(self.config.seed)),
            self.journal.folder / "editors" / name,
            seed=self.config.seed,
            steps=self.config.anew,
            report=self.report,
            progress=self.progress,
        )
        return editor

    def _stopped(self, number: int) -> str | None:
        """Return why the loop ends before a round; None if it does not."""
        rounds = [trials.trials for _, trials in self.journal.rounds()[:number]]
        best: Trial | None = None
        idle = 0
        for round_, trials in enumerate(rounds):
            challenger = _best(trials)
            if challenger is None:
                idle += 1
                continue
            won = best is None or (found := difference([challenger], [best])) is None or found.low > 0
            idle = 0 if won else idle + 1
            if best is None or challenger.means()["score"] > best.means()["score"]:
                best = challenger
            if idle >= self.config.patience:
                return (
                    f"The loop ends after round {round_}: the best score was not beaten by more than its interval for "
                    f"{idle} rounds."
                )
        return None


def _best(trials: Sequence[Trial]) -> Trial | None:
    found = ranked(trials)
    return found[0] if found else None


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
    """Return what the cases of a loop are named by."""
    parts = [[asdict(case) for case in cases] for cases in (material.trial, material.test)]
    text = json.dumps([material.training.digest, parts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
