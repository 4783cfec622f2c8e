"""The files of a construction loop, as typed records. Each is written whole, as soon as its content is known.

loop.json       the configuration, and everything else that decides the numbers
unseen.json     the description that is held out of training
requests.jsonl  what each request to a server cost and returned
round-N/        proposal.json, then trials.json
controls.json   trials of the hand-written bank and of random words, on the same cases
final.json      the same and the chosen descriptions on the test split
bank.json       the bank that `instructedit run --instructions` takes
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from .records import FileRecord, Record, read_record
from .statistics import Interval, Paired, compare, mean_interval

LOOP, UNSEEN, PROPOSAL, TRIALS = "loop.json", "unseen.json", "proposal.json", "trials.json"
REQUESTS = "requests.jsonl"
CONTROLS, FINAL, BANK = "controls.json", "final.json", "bank.json"

MEASURES = ("reliability", "generalization", "locality", "portability")
"""What a trial measures, each as a share from 0 to 1."""


class LoopConfig(Record):
    """What decides the numbers of a loop."""

    task: str
    proposer: str = "offline"
    rounds: int = Field(default=5, ge=1)
    """Maximum number of rounds."""
    candidates: int = Field(default=10, ge=1)
    """Candidates requested in each round."""
    patience: int = Field(default=2, ge=1)
    """Rounds in a row without a better candidate after which the loop stops."""
    shown: int = Field(default=6, ge=2)
    """Earlier candidates that the proposer is shown, half of them the best and half the worst."""
    examples: int = Field(default=4, ge=1)
    """Training cases that the proposer is shown."""
    cases: int = Field(default=100, ge=2)
    """Most cases that candidates are tried on."""
    test_cases: int = Field(default=100, ge=2)
    """Most cases of the test split."""
    anew: int | None = Field(default=None, ge=1)
    """Steps of an editor that is trained for each candidate, under that candidate; None: one editor for all."""
    seed: int = 0


class Trial(Record):
    """The trial of one description.

    The score of a case is the mean of the measures that it has.
    """

    text: str
    cases: dict[str, dict[str, float]]
    """By case id the value of each measure, and `score`."""
    failed: int = 0
    """Cases that could not be edited; their score is 0."""

    def values(self, measure: str = "score") -> dict[str, float]:
        """Return a measure of the cases that have it, by case id."""
        return {case: found[measure] for case, found in self.cases.items() if measure in found}

    def means(self) -> dict[str, float]:
        """Return the mean over cases of each measure and of the score, in percent."""
        found = {measure: list(self.values(measure).values()) for measure in (*MEASURES, "score")}
        return {measure: 100 * sum(values) / len(values) for measure, values in found.items() if values}


class LoopFile(FileRecord):
    """What decides a loop's numbers."""

    config: LoopConfig
    model: str
    """Fingerprint of the base model."""
    data: str
    """Digest of the cases that are learnt from, tried on and tested on, and of their description for the proposer."""
    editor: dict[str, object]
    """Configuration of the trial editor."""
    bank: str
    """Digest of the bank that the hand-written instructions come from."""
    proposer: str
    """The model that writes, or `offline`."""
    settings: dict[str, object]
    """Other settings that decide its answers."""


class Candidate(Record):
    """One proposed description, and why it is not tried, if it is not."""

    text: str
    complaint: str | None = None


class Proposal(FileRecord):
    """Prompt and answer of a proposer in one round."""

    prompt: str
    text: str
    """The answer as it came."""
    model: str
    seed: int
    candidates: tuple[Candidate, ...]
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def admitted(self) -> tuple[str, ...]:
        """The descriptions that are tried."""
        return tuple(candidate.text for candidate in self.candidates if candidate.complaint is None)


class Trials(FileRecord):
    """The trials of one round, or of the controls."""

    trials: tuple[Trial, ...]
    seconds: float


class Unseen(FileRecord):
    """The description that is kept from training, and from every proposer."""

    text: str
    source: Literal["bank", "grammar"]


class Final(FileRecord):
    """Trials on the test split."""

    groups: dict[str, tuple[Trial, ...]]
    """`chosen`, `hand-written` (where the bank has the task), `random`, `first round`, `unseen`."""
    best: dict[int, Trial]
    """By number of a round the description that did best in its trials; rounds without any are left out."""
    seconds: float


def round_folder(folder: Path, number: int) -> Path:
    """Return the folder of a round."""
    return folder / f"round-{number}"


def finished_rounds(folder: Path) -> tuple[tuple[Proposal, Trials], ...]:
    """Return the finished rounds of a loop's folder."""
    found: list[tuple[Proposal, Trials]] = []
    while (round_folder(folder, len(found)) / TRIALS).is_file():
        place = round_folder(folder, len(found))
        found.append((read_record(place / PROPOSAL, Proposal), read_record(place / TRIALS, Trials)))
    return tuple(found)


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return trials by their mean score, best first, equal ones by their text; those without a case are left out."""
    scored = [trial for trial in trials if trial.cases]
    return sorted(scored, key=lambda trial: (-trial.means()["score"], trial.text))


def difference(first: Sequence[Trial], second: Sequence[Trial], measure: str = "score") -> Paired | None:
    """Compare two groups of descriptions by a measure over the cases that both have, as shares; None if there is none.

    A case's value in a group is the mean over the group's descriptions.
    """
    ours, theirs = _together(first, measure), _together(second, measure)
    differences = [ours[case] - theirs[case] for case in sorted(ours.keys() & theirs.keys())]
    return compare(differences) if differences else None


def mean(trials: Sequence[Trial], measure: str = "score") -> Interval | None:
    """Return a group's mean of a measure over cases with its 95 % interval, as shares; None if no case has it."""
    values = _together(trials, measure)
    key = f"trials|{measure}|{'|'.join(trial.text for trial in trials)}"
    return mean_interval(list(values.values()), key) if values else None


def _together(trials: Sequence[Trial], measure: str) -> dict[str, float]:
    found: list[dict[str, Any]] = [trial.values(measure) for trial in trials]
    shared = set.intersection(*(set(values) for values in found)) if found else set()
    return {case: sum(values[case] for values in found) / len(found) for case in sorted(shared)}
