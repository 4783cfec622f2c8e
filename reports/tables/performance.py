"""The measurements of `instructedit speed`, on the terminal and as the page docs/performance.md."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from instructedit.benchmark.speed.record import GrowthRow, Phase, SpeedRecord, SpeedRow
from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import write_whole

from ..render import markdown, terminal
from ..render.report import Block, Cell, Report, Table
from .scores import cell_table

PHASES: dict[Phase, str] = {
    "loop": "Whole loop",
    "edit": "Edit",
    "score": "Scores",
    "base": "Base pass",
    "train": "Training",
    "generate": "Texts",
}
HEADS = ("At once", "ms", "Slow, ms", "Ratio", "At most", "GFLOP", "GFLOP/s", "Share", "Peak, MB")
SLOWED = 0.9
"""Share of a smaller shape's rate below which something else must have slowed a shape's rate."""
CARD = ("Cases/s", "Busy")
"""Further columns, of measurements on a GPU."""
TEXT = (
    "Each time is per case: the median over the repeats, with the quartiles in brackets, at the fastest chunk size. "
    "A whole loop is an edit, the scores of the edited model, and a share of the base pass, which runs the unedited "
    "model once for all editors of a run. Training is one edit of a step. Texts are the greedy answers and the "
    "sampled text of the edited model, and a share of those of the unedited model.",
    "A case is a request with a prompt of 17 tokens and a target of 2 or 3, and eight probes: one reliability, one "
    "generalization, three locality and three portability. InstructEdit's request has one of nine instructions of 34 "
    "tokens as a prefix. Weights are random; the cost of an operation does not depend on them.",
    "The slow path does the same work one request and one sequence at a time through plain transformers: every "
    "sequence unpadded through all blocks, the edit dense in the weights, a base pass for each editor. Its ratio is "
    "taken repeat by repeat in one process, and only where both give the same numbers: log-probabilities, scores and "
    "losses within 0.001, texts word for word.",
    "GFLOP are the operations that the mathematics needs, counted from shapes: a linear layer for each token that "
    "has to pass it, everything after the first patched layer, logits at scored positions. The share is their rate "
    "relative to the rate at which the same machine multiplies x [512, d] with w [d, 4d] in the same run; at most is "
    "the ratio that the full rate would give.",
    "Peak memory is what a call took above what was allocated before it: the model, the networks of trained editors, "
    "and the slow path's copy of the model. Scores have one peak for all editors, which are scored together.",
)
EASYEDIT = {
    ("ft-l", "S"): 0.413,
    ("ft-l", "M"): 6.22,
    ("mend", "S"): 0.161,
    ("mend", "M"): 2.09,
    ("instructedit", "S"): 0.246,
    ("instructedit", "M"): 3.16,
    ("grace", "S"): 2.55,
    ("grace", "M"): 28.6,
}
"""CPU seconds per request in EasyEdit, whole loop, one request at a time: the same shapes and questions, one thread,
measured once on a machine of the kind of docs/performance.md."""
BESIDE = (
    "EasyEdit's seconds are per request, one at a time, with the same shapes and questions on one thread. They were "
    "measured once on a machine of this kind and not in this run, so the quotient is a projection. GRACE takes 200 "
    "steps in both."
)
HOW = """
## How to run it

```bash
instructedit speed --quick                                             # S and a part of M, within a minute
instructedit speed --json speed.json --page speed.md                   # everything
instructedit speed --shape S --editor mend --editor grace              # a shape, some editors
instructedit speed --device cuda --shape gpt2-xl --json speed.json     # on a GPU, in bfloat16
instructedit speed --read docs/runs/performance.json --page docs/performance.md    # this page again, from its numbers
```

On a CPU it uses one thread and counts processor time. On a GPU it synchronises, counts wall-clock time and records the
utilisation; the slow path is left out where its copy of the model does not fit.
"""
NO_CARD = "No GPU was available for this page: `--device cuda` was not run.\n"


def report(record: SpeedRecord) -> Report:
    """Return the measurements as tables."""
    machine = record.machine
    rates = ", ".join(
        f"{shape} {rate.median:.0f} [{rate.low:.0f}, {rate.high:.0f}]" for shape, rate in record.gemm.items()
    )
    header = [
        ("Machine", f"{machine.processor}, {machine.device}, threads: {machine.threads}"),
        ("Software", f"Python {machine.python}, torch {machine.torch}, transformers {machine.transformers}"),
        ("Rate", f"{rates} GFLOP/s in matrix products"),
        ("Not timed", ", ".join(record.untimed) or "none"),
        ("Took", f"{record.seconds:.0f} s{', a quick run' if record.quick else ''}"),
    ]
    blocks = [_block(record, shape) for shape in record.gemm]
    if record.machine.device == "cpu" and (beside := _beside(record)) is not None:
        blocks.append(beside)
    if record.growth:
        blocks.append(_growth(record.growth))
    return Report("Performance", (), tuple(header), tuple(blocks), TEXT)


def draw(record: SpeedRecord, console: Console) -> None:
    """Print the tables."""
    terminal.draw(report(record), console)


def page(record: SpeedRecord) -> str:
    """Return the Markdown page; all its numbers are the record's."""
    return markdown.render(report(record)) + HOW + (NO_CARD if record.machine.device == "cpu" else "")


def write_page(record: SpeedRecord, path: Path) -> Path:
    """Write the page.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page(record))
    except OSError as error:
        raise InputError(f"{path}: the page cannot be written ({error.strerror}).") from error
    return path


def _block(record: SpeedRecord, shape: str) -> Block:
    rows = [row for row in record.rows if row.shape == shape]
    best = [_best(rows, editor, phase) for phase in PHASES for editor in dict.fromkeys(row.editor for row in rows)]
    shown = [row for row in best if row is not None]
    table = Table(
        f"{shape}: one case",
        "Editor",
        HEADS if record.machine.device == "cpu" else HEADS + CARD,
        tuple(row.editor for row in shown),
        tuple(_cells(row) if record.machine.device == "cpu" else _cells(row) + _card(row) for row in shown),
        tuple(PHASES[row.phase] for row in shown),
    )
    tables = [table]
    chunks = sorted({row.chunk for row in rows if row.phase == "loop"})
    if len(chunks) > 1:
        tables.append(_chunks(shape, chunks, [row for row in rows if row.phase == "loop"]))
    count = record.sharing[shape]
    text = "One editor has its own base pass." if count == 1 else f"{count} editors share the base pass of a run."
    return Block(f"Shape {shape}", tuple(tables), text=(text, *_slowed(record, shape), *_differences(rows)))


def _slowed(record: SpeedRecord, shape: str) -> Sequence[str]:
    """Return a warning where another process ran while a shape's rate was taken."""
    size = {row.shape: row.model_bytes for row in record.rows}
    own, smaller = record.gemm[shape].median, [name for name in record.gemm if size[name] < size[shape]]
    most = max((record.gemm[name].median for name in smaller), default=0.0)
    if own > SLOWED * most:
        return ()
    return (
        f"The rate, {own:.0f} GFLOP/s, is {100 * (1 - own / most):.0f} % below that of a smaller shape, though larger "
        "products are no slower by themselves: another process ran on the machine. Ratios compare neighbouring "
        "measurements and hold; shares are too high, because the rate was too low, and 'at most' is too low.",
    )


def _beside(record: SpeedRecord) -> Block | None:
    """Return whole loops beside those of EasyEdit."""
    found = [
        (f"{editor}, {shape}", seconds, row)
        for (editor, shape), seconds in EASYEDIT.items()
        if (row := _best([row for row in record.rows if row.shape == shape], editor, "loop")) is not None
        and record.sharing[shape] > 1
    ]
    if not found:
        return None
    cells = tuple(
        (Cell(_milli(seconds)), Cell(_milli(row.cpu_seconds)), Cell(f"{seconds / row.cpu_seconds:.1f}"))
        for _, seconds, row in found
    )
    heads = ("EasyEdit, ms", "Here, ms", "Quotient")
    table = Table("Whole loop beside EasyEdit", "Editor, shape", heads, tuple(name for name, _, _ in found), cells)
    return Block("Beside EasyEdit", (table,), text=(BESIDE,))


def _best(rows: Sequence[SpeedRow], editor: str, phase: Phase) -> SpeedRow | None:
    """Return an editor's row of the fastest chunk size."""
    found = [row for row in rows if (row.editor, row.phase) == (editor, phase)]
    return min(found, key=lambda row: row.cpu_seconds, default=None)


def _cells(row: SpeedRow) -> tuple[Cell | None, ...]:
    ratio = most = None
    if row.ratio is not None and row.ratio_low is not None and row.ratio_high is not None:
        ratio = Cell(f"{row.ratio:.1f}", f"[{row.ratio_low:.1f}, {row.ratio_high:.1f}]")
        most = Cell(f"{row.ratio / row.gemm_share:,.1f}")
    return (
        Cell(str(row.chunk)),
        Cell(_milli(row.cpu_seconds), f"[{_milli(row.cpu_low)}, {_milli(row.cpu_high)}]"),
        None if row.slow_seconds is None else Cell(_milli(row.slow_seconds)),
        ratio,
        most,
        Cell(f"{row.gflop:.2f}"),
        Cell(f"{row.gflop_per_second:.0f}"),
        Cell(f"{100 * row.gemm_share:.0f} %"),
        None if row.peak_bytes is None else Cell(_mega(row.peak_bytes)),
    )


def _card(row: SpeedRow) -> tuple[Cell | None, ...]:
    busy = None if row.utilisation is None else Cell(f"{row.utilisation:.0f} %")
    return Cell(f"{1 / row.cpu_seconds:.1f}"), busy


def _chunks(shape: str, chunks: Sequence[int], rows: Sequence[SpeedRow]) -> Table:
    editors = list(dict.fromkeys(row.editor for row in rows))
    cells = {
        (row.chunk, row.editor): Cell(_milli(row.cpu_seconds), f"[{_milli(row.cpu_low)}, {_milli(row.cpu_high)}]")
        for row in rows
    }
    heads = {chunk: str(chunk) for chunk in chunks}
    return cell_table(f"{shape}: whole loop, ms, by cases at once", "Editor", heads, editors, cells)


def _differences(rows: Sequence[SpeedRow]) -> list[str]:
    """Return the largest differences between engine and slow path."""
    numbers = [row.largest_difference for row in rows if row.largest_difference is not None]
    if not numbers:
        return ["The slow path was not run."]
    differing = sum(row.differing or 0 for row in rows if row.phase not in ("edit", "score"))
    return [
        f"Largest difference between engine and slow path: {max(numbers):.1e}; most likely tokens, and texts, that "
        f"differ: {differing}."
    ]


def _growth(rows: Sequence[GrowthRow]) -> Block:
    tables = []
    for of, title in (
        ("cases", "One case, as a run has more cases"),
        ("model", "One case, as the model has more weights (whole loop)"),
        ("edits", "One more edit, after so many"),
    ):
        own = [row for row in rows if row.of == of]
        if own:
            heads = {size: f"{size:,}" for size in sorted({row.size for row in own})}
            editors = list(dict.fromkeys(row.editor for row in own))
            cells = {(row.size, row.editor): _grown(row) for row in own}
            tables.append(cell_table(title, "Editor", heads, editors, cells))
    text = (
        "Each cell has milliseconds; in brackets GFLOP where they grow, the edit's size, and peak memory. Accumulated "
        "edits are made one at a time, FT-L's in 10 steps and GRACE's in 20, because a thousand take long."
    )
    return Block("Growth", tuple(tables), text=(text,))


def _grown(row: GrowthRow) -> Cell:
    parts = [
        *([] if row.gflop is None else [f"{row.gflop:.1f} GFLOP"]),
        *([] if row.edit_bytes is None else [f"edit {_mega(row.edit_bytes)} MB"]),
        *([] if row.peak_bytes is None else [f"peak {_mega(row.peak_bytes)} MB"]),
    ]
    return Cell(_milli(row.cpu_seconds), f"({', '.join(parts)})" if parts else "")


def _milli(seconds: float) -> str:
    """Return seconds as milliseconds of three digits."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _mega(size: int) -> str:
    return f"{size / 1e6:,.0f}" if size >= 1e7 else f"{size / 1e6:.2g}"
