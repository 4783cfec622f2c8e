"""What `instructedit speed` measured: on the terminal, and as the page docs/performance.md."""

from instructedit.benchmark.results.speed_results import Phase, SpeedRecord, SpeedRow

from ..render import markdown
from ..render.report import Block, Cell, Report, Table
from .scores import cell_table

PHASES: dict[Phase, str] = {
    "loop": "Whole loop",
    "edit": "Edit",
    "score": "Scores",
    "base": "Base pass",
    "train": "Training",
    "generate": "Scores with texts",
}
HEADS = ("At once", "ms", "Reference, ms", "Ratio", "Peak, MB", "Difference")
TEXT = (
    "Each time is of one case: the median over the repeats, with the quartiles in brackets, at the number of cases "
    "processed together that is fastest. A whole loop is that of a run with one editor: the base pass of the "
    "unedited model, an edit, and the teacher-forced scores of the edited model. Several editors share a base pass. "
    "Training is of one edit of a step. Scores with texts add the greedy answers and the sampled text.",
    "A case is a request with a prompt of 17 tokens and a target of 2 or 3, and eight probes: one reliability, one "
    "generalization, three locality and three portability. InstructEdit's prompt follows one of nine instructions of "
    "34 tokens, and so do its probes except locality, as published. Weights are random: they do not change the cost.",
    "The reference does the same work one request and one sequence at a time through a plain transformers model: every "
    "sequence unpadded through all blocks, the edit dense in the weights, the unedited model read again for each "
    "editor. Its ratio is taken repeat by repeat in one process, and only where both give the same numbers. Difference "
    "is the largest one of scores, log-probabilities and losses (at most 0.001); texts have to be equal.",
    "Peak memory is what a call needs in addition to the model, the networks of trained editors, and the reference's "
    "copy of the model. Base pass and scores have one peak.",
)
HOW = """
## How to run it

```bash
instructedit speed --quick                                             # S and a part of M, within a minute
instructedit speed --json speed.json --page speed.md                   # everything
instructedit speed --shape S --editor mend --editor grace              # a shape, some editors
instructedit speed --device cuda --shape gpt2-xl --json speed.json     # on a card, in bfloat16
instructedit speed --read docs/runs/performance.json --page docs/performance.md    # this page again, from its numbers
```

On a CPU it uses one thread and counts processor time. On a GPU it counts wall-clock time between synchronisations; the
reference is left out where its copy of the model does not fit.
"""
NO_CARD = "This page was made without a GPU: `--device cuda` was not run.\n"


def report(record: SpeedRecord) -> Report:
    """Return what was measured as tables."""
    machine = record.machine
    header = [
        ("Machine", f"{machine.processor}, {machine.device}, threads: {machine.threads}"),
        ("Software", f"Python {machine.python}, torch {machine.torch}, transformers {machine.transformers}"),
        ("Not timed", ", ".join(record.untimed) or "none"),
        ("Took", f"{record.seconds:.0f} s{', a quick run' if record.quick else ''}"),
    ]
    blocks = [_block(record, shape) for shape in dict.fromkeys(row.shape for row in record.rows)]
    return Report("Performance", (), tuple(header), tuple(blocks), TEXT)


def page(record: SpeedRecord) -> str:
    """Return the page in Markdown; all numbers on it are the record's."""
    return markdown.render(report(record)) + HOW + (NO_CARD if record.machine.device == "cpu" else "")


def _block(record: SpeedRecord, shape: str) -> Block:
    rows = [row for row in record.rows if row.shape == shape]
    shown = [
        min(own, key=lambda row: row.cpu_seconds)  # at the number of cases at once that takes least
        for phase in PHASES
        for editor in dict.fromkeys(row.editor for row in rows)
        if (own := [row for row in rows if (row.editor, row.phase) == (editor, phase)])
    ]
    table = Table(
        f"{shape}: one case",
        "Editor",
        HEADS,
        tuple(row.editor for row in shown),
        tuple(_cells(row) for row in shown),
        tuple(PHASES[row.phase] for row in shown),
    )
    tables = [table]
    loops = [row for row in rows if row.phase == "loop"]
    chunks = {row.chunk: str(row.chunk) for row in sorted(loops, key=lambda row: row.chunk)}
    if len(chunks) > 1:
        times = {(row.chunk, row.editor): _time(row) for row in loops}
        title = f"{shape}: whole loop, ms, by cases at once"
        tables.append(cell_table(title, "Editor", chunks, list(dict.fromkeys(row.editor for row in loops)), times))
    without = [] if any(row.slow_seconds is not None for row in rows) else ["The reference was not run."]
    return Block(f"Shape {shape}", tuple(tables), text=tuple(without))


def _cells(row: SpeedRow) -> tuple[Cell | None, ...]:
    ratio = difference = None
    if row.ratio is not None and row.ratio_low is not None and row.ratio_high is not None:
        ratio = Cell(f"{row.ratio:.1f}", f"[{row.ratio_low:.1f}, {row.ratio_high:.1f}]")
    if row.largest_difference is not None:
        difference = Cell(f"{row.largest_difference:.0e}")
    elif row.differing is not None:
        difference = Cell("none" if not row.differing else f"{row.differing} texts")
    return (
        Cell(str(row.chunk)),
        _time(row),
        None if row.slow_seconds is None else Cell(_milli(row.slow_seconds)),
        ratio,
        None
        if (peak := row.peak_bytes) is None
        else Cell(f"{peak / 1e6:,.0f}" if peak >= 1e7 else f"{peak / 1e6:.2g}"),
        difference,
    )


def _time(row: SpeedRow) -> Cell:
    return Cell(_milli(row.cpu_seconds), f"[{_milli(row.cpu_low)}, {_milli(row.cpu_high)}]")


def _milli(seconds: float) -> str:
    """Return seconds as milliseconds of three digits."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
