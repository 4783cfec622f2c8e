"""A construction loop on the terminal: its rounds, its best descriptions, and the test."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from instructedit.benchmark.results.decision import decide, holm
from instructedit.benchmark.results.loop_results import (
    CONTROLS,
    FINAL,
    LOOP,
    MEASURES,
    Final,
    LoopFile,
    Proposal,
    Trial,
    Trials,
    difference,
    finished_rounds,
    mean,
    ranked,
)
from instructedit.benchmark.results.records import read_record

from ..render import terminal
from ..render.report import Block, Cell, Report, Table
from .columns import Column, interval, p_words
from .suite_comparisons import VERDICTS

SCORE = Column("reliability", False, "teacher_forced_exact")
"""A score is written like reliability: percent, higher is better."""
HAND_WRITTEN, RANDOM, CHOSEN, FIRST = "hand-written", "random", "chosen", "first round"
_LEGEND = (
    "Score: mean of reliability, generalization, locality and portability (facts: exact match, teacher forced; "
    "attitudes: edit success), percent, with its 95 % interval over cases."
)


def draw_loop(folder: Path, console: Console | None = None) -> None:
    """Print a loop, finished or not.

    Raises:
        InputError: If the folder holds none.
    """
    file = read_record(folder / LOOP, LoopFile)
    rounds = finished_rounds(folder)
    final = read_record(folder / FINAL, Final) if (folder / FINAL).is_file() else None
    blocks = [Block("Rounds, cases for trials", (_rounds(rounds, final.best if final else {}),))]
    if tried := ranked(trial for _, trials in rounds for trial in trials.trials):
        blocks.append(_trials("Best descriptions on the cases for trials", tried[:5]))
    if (folder / CONTROLS).is_file():
        controls = ranked(read_record(folder / CONTROLS, Trials).trials)
        blocks.append(_trials("Best controls (hand-written and random) on the same cases", controls[:3]))
    if final:
        title = "Test split, mean over the texts of a group"
        blocks.append(Block(title, (_groups(final.groups),), notes=tuple(verdicts(final.groups))))
    loop = f"{file.config.task}, written by {file.proposer}, seed {file.config.seed}"
    terminal.draw(Report("Loop", (), (("Loop", loop),), tuple(blocks), (_LEGEND,)), console or Console())


def draw_trials(trials: Sequence[Trial], console: Console | None = None) -> None:
    """Print trials, best first."""
    terminal.draw(Report("Trials", (), (), (_trials("Trials", ranked(trials)),), (_LEGEND,)), console or Console())


def verdicts(groups: dict[str, tuple[Trial, ...]]) -> Iterator[str]:
    """Yield the test's verdict on the chosen descriptions against each other group."""
    tested = {
        other: found
        for other in (HAND_WRITTEN, RANDOM, FIRST)
        if other in groups and (found := difference(groups[CHOSEN], groups[other]))
    }
    for (other, found), p in zip(tested.items(), holm([found.p for found in tested.values()]), strict=True):
        word = VERDICTS[decide(found.difference, p, SCORE.protocol)]
        ends = interval(SCORE, found.low, found.high, "+")
        yield (
            f"Test: chosen against {other}: {word}, {100 * found.difference:+.1f} points {ends}, n = {found.n} cases, "
            f"{p_words(p)} (Holm)."
        )


def _rounds(rounds: Sequence[tuple[Proposal, Trials]], tested: dict[int, Trial]) -> Table:
    lines = []
    for number, (proposal, trials) in enumerate(rounds):
        order = ranked(trials.trials)
        groups = (order, order[:1], [tested[number]] if number in tested else [])
        numbers = (f"{proposal.input_tokens + proposal.output_tokens:,}", f"{proposal.seconds + trials.seconds:.0f}")
        lines.append((Cell(str(len(order))), *map(_cell, groups), *map(Cell, numbers)))
    heads = ("Tried", "Mean score", "Best score", "The best, tested", "Tokens", "Seconds")
    return Table("", "Round", heads, tuple(map(str, range(len(rounds)))), tuple(lines))


def _trials(title: str, trials: Sequence[Trial]) -> Block:
    """Return the scores of trials, and below them the descriptions."""
    means = [trial.means() for trial in trials]
    cells = (
        (_cell([trial]), *(Cell(f"{own[name]:.1f}") if name in own else None for name in MEASURES))
        for trial, own in zip(trials, means, strict=True)
    )
    rows = tuple(str(number) for number in range(1, len(trials) + 1))
    heads = ("Score", *(measure.capitalize() for measure in MEASURES))
    texts = tuple(f"{row}. {trial.text}" for row, trial in zip(rows, trials, strict=True))
    return Block(title, (Table("", "No.", heads, rows, tuple(cells)),), notes=texts)


def _groups(groups: dict[str, tuple[Trial, ...]]) -> Table:
    words = [sum(len(trial.text.split()) for trial in trials) / len(trials) for trials in groups.values()]
    shown = [name for name in ("score", *MEASURES) if any(mean(trials, name) for trials in groups.values())]
    cells = [tuple(_cell(trials, name) for trials in groups.values()) for name in shown]
    heads = (f"{name}\n{len(trials)} text{'s' if len(trials) > 1 else ''}" for name, trials in groups.items())
    rows = ("Words", *(name.capitalize() for name in shown))
    return Table("", "Measure", tuple(heads), rows, (tuple(Cell(f"{count:.0f}") for count in words), *cells))


def _cell(trials: Sequence[Trial], measure: str = "score") -> Cell | None:
    found = mean(trials, measure)
    return None if found is None else Cell(f"{100 * found.mean:.1f}", interval(SCORE, found.low, found.high))
