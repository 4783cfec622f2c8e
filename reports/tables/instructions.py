"""A construction loop on the terminal: its rounds, its best descriptions, and the test."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

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

from .columns import Column, interval, p_words
from .suite_comparisons import VERDICTS

SCORE = Column("reliability", False, "teacher_forced_exact")
"""A score is written like reliability: percent, higher is better."""
HAND_WRITTEN, RANDOM, CHOSEN, FIRST = "hand-written", "random", "chosen", "first round"


def draw_loop(folder: Path, console: Console | None = None) -> None:
    """Print a loop, finished or not.

    Raises:
        InputError: If the folder holds none.
    """
    console = console or Console()
    file = read_record(folder / LOOP, LoopFile)
    config = file.config
    console.print(
        Text.assemble(
            ("Loop ", "bold"),
            f"{config.task}, written by {file.proposer}, seed {config.seed}. Score: mean of reliability, "
            "generalization, locality and portability (facts: exact match, teacher forced; attitudes: edit success), "
            "percent, with its 95 % interval over cases.",
        )
    )
    rounds = finished_rounds(folder)
    final = read_record(folder / FINAL, Final) if (folder / FINAL).is_file() else None
    console.print()
    console.print(_rounds(rounds, final.best if final else {}))
    console.print()
    if tried := ranked(trial for _, trials in rounds for trial in trials.trials):
        console.print(_trials(tried[:5], "Best descriptions on the cases for trials"))
    if (folder / CONTROLS).is_file():
        controls = read_record(folder / CONTROLS, Trials).trials
        console.print(_trials(ranked(controls)[:3], "Best controls (hand-written and random) on the same cases"))
    if final:
        console.print(_groups(final.groups))
        console.print()
        for sentence in verdicts(final.groups):
            console.print(Text(sentence))


def draw_trials(trials: Sequence[Trial], console: Console | None = None) -> None:
    """Print trials, best first."""
    (console or Console()).print(_trials(ranked(trials), "Trials"))


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
    heads = ("Round", "Tried", "Mean score", "Best score", "The best, tested", "Tokens", "Seconds")
    table = _table("Rounds, cases for trials", heads)
    for number, (proposal, trials) in enumerate(rounds):
        order = ranked(trials.trials)
        groups = (order, order[:1], [tested[number]] if number in tested else [])
        table.add_row(
            str(number),
            str(len(order)),
            *(_cell(group, "\n") for group in groups),
            f"{proposal.input_tokens + proposal.output_tokens:,}",
            f"{proposal.seconds + trials.seconds:.0f}",
        )
    return table


def _trials(trials: Sequence[Trial], title: str) -> Group:
    """Return the scores of trials, and below them the descriptions."""
    table = _table(title, ("No.", "Score", *(measure.capitalize() for measure in MEASURES)))
    for number, trial in enumerate(trials, 1):
        means = trial.means()
        cells = (f"{means[measure]:.1f}" if measure in means else "-" for measure in MEASURES)
        table.add_row(str(number), _cell([trial], " "), *cells)
    return Group(table, *(Text(f"{number:4}. {trial.text}") for number, trial in enumerate(trials, 1)), Text())


def _groups(groups: dict[str, tuple[Trial, ...]]) -> Table:
    heads = [f"{name}\n{len(trials)} text{'s' if len(trials) > 1 else ''}" for name, trials in groups.items()]
    table = _table("Test split, mean over the texts of a group", ("Measure", *heads))
    table.columns[0].justify = "left"
    words = [sum(len(trial.text.split()) for trial in trials) / len(trials) for trials in groups.values()]
    table.add_row("Words", *(f"{count:.0f}" for count in words))
    for measure in ("score", *MEASURES):
        if any(mean(trials, measure) for trials in groups.values()):
            table.add_row(
                measure.capitalize(), *(_cell(trials, "\n", measure, narrow=True) for trials in groups.values())
            )
    return table


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=Text(title, "italic"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.pad_edge, table.collapse_padding = False, True
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _cell(trials: Sequence[Trial], between: str, measure: str = "score", *, narrow: bool = False) -> Text:
    """Return a mean with its interval."""
    found = mean(trials, measure)
    if found is None:
        return Text("-", "dim")
    ends = interval(SCORE, found.low, found.high)
    return Text.assemble(f"{100 * found.mean:.1f}{between}", (ends.replace(" ", "") if narrow else ends, "dim"))
