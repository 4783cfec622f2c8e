"""A hyper-parameter search as a table, on the terminal or as Markdown."""

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from instructedit.benchmark.results.tuning_trail import TaskScore, Trail, Trial
from instructedit.editors.search import plain


def markdown(trail: Trail) -> str:
    """Return a search as a Markdown page: the result, the searched ranges, and every trial."""
    heads, *rows = _grid(trail)
    lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)], *rows]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    ranges = "\n".join(f"- `{name}`: {text}" for name, text in trail.ranges.items())
    return "\n\n".join([f"# {_title(trail)}", *_sentences(trail), ranges, table]) + "\n"


def draw(trail: Trail, console: Console) -> None:
    """Print a search."""
    heads, *rows = _grid(trail)
    grid = Table(title=Text(_title(trail), "italic"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for number, head in enumerate(heads):
        grid.add_column(Text(head), justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)
    for sentence in _sentences(trail):
        console.print(Text(sentence, "dim"))


def _title(trail: Trail) -> str:
    return f"{trail.row}: options searched in {trail.budget} trials"


def _sentences(trail: Trail) -> Iterator[str]:
    first, best = trail.trials[0], trail.winner
    if trail.best == 0:
        yield f"No trial scores higher than the current options of {trail.row}: {_percent(first.score)}."
    else:
        interval = ""
        if trail.gain is not None:
            low, high = _percent(trail.gain.low), _percent(trail.gain.high)
            interval = (
                f", a difference of {_percent(trail.gain.difference)} [{low}, {high}] over the same cases (95 % "
                "bootstrap; the options were chosen on these cases, which favours them)"
            )
        yield f"Score before {_percent(first.score)}, after {_percent(best.score)} (trial {trail.best}){interval}."
    training = f", each trial trained on {', '.join(trail.train)}" if trail.train else ""
    model = trail.model_fingerprint[:16]
    yield f"Split {trail.split}, seed {trail.seed}{training}; model {model}. No test case was used."
    yield f"Score, in percent: {trail.definition}. Cells of tasks are reliability / generalization / locality."


def _grid(trail: Trail) -> Iterator[list[str]]:
    """Yield the heads and a line for the unedited model and each trial."""
    yield ["trial", "options", *(f"{task}, {_n(trail, task)}" for task in trail.cases), "score"]
    unedited = {task.task: task for task in trail.unedited}
    mean = sum(task.score for task in trail.unedited) / len(trail.unedited)
    yield ["none", "unedited model", *(_cell(unedited.get(task)) for task in trail.cases), _percent(mean)]
    for trial in trail.trials:
        tasks = {task.task: task for task in trial.tasks}
        name = (
            f"{trial.number}{' (before)' if trial.number == 0 else ''}{' (best)' if trial.number == trail.best else ''}"
        )
        yield [name, _options(trial), *(_cell(tasks.get(task)) for task in trail.cases), _percent(trial.score)]


def _n(trail: Trail, task: str) -> str:
    """Return the numbers of cases: one, or one for each measure where they differ."""
    found = next((own for own in trail.unedited if own.task == task), None)
    if found is None:
        return f"n = {trail.cases[task]}"
    counts = [share.n for share in (found.reliability, found.generalization, found.locality)]
    return f"n = {counts[0]}" if len(set(counts)) == 1 else f"n = {' / '.join(map(str, counts))}"


def _cell(task: TaskScore | None) -> str:
    if task is None:
        return "-"
    cells = [f"{100 * share.mean:.0f}" for share in (task.reliability, task.generalization, task.locality)]
    return " / ".join(cells) + (f" ({task.failed} failed)" if task.failed else "")


def _options(trial: Trial) -> str:
    text = ", ".join(f"{name} = {plain(value)}" for name, value in trial.options.items())
    return text if trial.run is not None else f"{text}: {trial.reason}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
