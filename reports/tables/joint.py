"""How many requests the edits of a run carry, and how many its editors were trained for. From `run.json` alone."""

from collections.abc import Iterator, Sequence

from instructedit.benchmark.results.forms import trained_for
from instructedit.benchmark.results.records import EditorSpec, RunFile


def trained_lines(editors: Sequence[EditorSpec]) -> Iterator[tuple[str, str]]:
    """Yield for trained rows of how many requests an edit was in training, as a pair of a word and its value."""
    found: dict[str, dict[str, None]] = {}
    for row in editors:
        if row.training is None:
            continue
        count = trained_for(row)
        words = "one request an edit" if count == 1 else f"joint edits of {count} requests ({row.config.get('joint')})"
        front, marked, _ = row.name.partition("#")
        found.setdefault(words, {})[f"{front}{'#*' if marked else ''}"] = None
    if found:
        yield "Trained for", "; ".join(f"{', '.join(names)}: {words}" for words, names in found.items())


def edited_cases(run: RunFile) -> int:
    """Return how many cases the joint or accumulating edits of a run carry."""
    spec = run.spec
    return sum(
        min(data.cases, spec.limit or data.cases) for data in run.data if data.task in (spec.edited or spec.tasks)
    )


def sizes(run: RunFile) -> str | None:
    """Return how many requests an edit of the run carries, and which rows were trained for another number.

    None where each case is edited by itself and every row was trained for that.
    """
    spec = run.spec
    total = edited_cases(run)
    size = total
    if spec.schedule == "single":
        size, text = 1, "Each case is edited by itself."
    elif spec.schedule == "sequential":
        text = f"{total} edits follow one another on one model."
    else:
        size = min(spec.batch_size or total, total)
        count, rest = divmod(total, size) if size else (0, 0)
        last = f", and one of the last {rest}" if rest else ""
        joint = f"{count} joint edits of {size}" if count != 1 else f"one joint edit of {size}"
        text = f"The {total} edited cases make {joint}{last}."
    others = [row for row in spec.editors if row.training is not None and trained_for(row) != size]
    if not others:
        return text if spec.schedule != "single" else None
    listed = ", ".join(f"{row.name} (for {trained_for(row)})" for row in others)
    return f"{text} Trained for another number of requests than the {size} of {_WHAT[spec.schedule]}: {listed}."


_WHAT = {"single": "an edit", "batch": "a joint edit", "sequential": "the sequence"}
