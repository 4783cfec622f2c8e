"""What was run, from `run.json` alone: model, data, settings and rows, as pairs of a word and a value."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from instructedit.benchmark.results.forms import form, trained_for
from instructedit.benchmark.results.records import EditorSpec, RunFile, RunSummary, TaskData, TrainingSpec
from instructedit.benchmark.results.suite_results import SuiteGroup

CONTROL = "none"
"""The method that edits nothing. Its rows are controls and never marked as best, whatever their names."""
Facts = Iterator[tuple[str, str]]
K = TypeVar("K", bound=Hashable)


def controls(run: RunFile) -> frozenset[str]:
    """Return the names of the rows that edit nothing."""
    return frozenset(editor.name for editor in run.spec.editors if editor.method == CONTROL)


def warnings(run: RunFile, summary: RunSummary) -> tuple[str, ...]:
    """Return what makes the numbers unfit for use, most serious first."""
    found = []
    if not summary.valid:
        found.append(f"INVALID RUN, DO NOT USE THESE NUMBERS: {summary.invalid_reason or 'no reason was recorded.'}")
    if not summary.complete:
        found.append("INCOMPLETE RUN: not every case has been run under every editor.")
    scored = {(mean.editor, mean.task) for mean in summary.means}
    for editor in run.spec.editors:
        for task in run.spec.tasks:
            if editor.evaluates(task) and (editor.name, task) not in scored:
                failed = summary.counts.get(task, {}).get(f"failed under {editor.name}", 0)
                found.append(f"'{editor.name}' has no number for {task}: {failed} cases failed, none was scored.")
    return tuple(found)


def header(run: RunFile, group: SuiteGroup | None = None) -> Facts:
    """Yield the facts of a run, or of all runs of its group."""
    spec, origin = run.spec, run.provenance
    if group is None:
        yield "Run", f"{run.digest} ({run.name})"
    yield "Model", model(run)
    yield from (("Data", _data(data)) for data in run.data)
    yield from left_out(run)
    seeds = [f"seed {spec.seed}"]
    if group is not None:
        seeds = [f"seed {seed} run {digest}" for seed, digest in zip(group.seeds, group.digests, strict=True)]
    settings = [
        spec.setting if group is None or group.label == spec.setting else f"{group.label}: {spec.setting}",
        f"split {spec.split}",
        f"schedule {spec.schedule}",
        *([f"batches of {spec.batch_size}"] if spec.batch_size else []),
        *([f"scored after {', '.join(map(str, spec.at))} edits"] if spec.at else []),
        *([f"edits of {', '.join(spec.edited)} alone"] if spec.edited else []),
        *seeds,
        f"chunk {spec.chunk}",
        f"limit {'none' if spec.limit is None else spec.limit}",
    ]
    yield "Setting", ", ".join(settings)
    if text := sizes(run):
        yield "Edits", text if group is None else f"{group.label}: {text}"
    if spec.joints:
        yield "Texts", f"prompt and answer joined by the rule {spec.joints}"
    if spec.chat:
        yield "Context", f"{spec.chat.name}: every prompt is written as {spec.chat.around('{prompt}')!r}"
    if spec.rescored:
        what = f"saved answers of run {spec.rescored.run}, free generation by the rule {spec.rescored.rule}"
        yield "Rescored", what + (f", code {spec.rescored.code[:12]}" if spec.rescored.code else "")
    for task, options in spec.task_options.items():
        yield "Task options", f"{task}: {', '.join(f'{key} = {value}' for key, value in options.items())}"
    yield from rows(spec.editors)
    yield from (("Note", line) for line in (origin.trial.notes if origin.trial else ()))
    notes = grouped((note, row) for row, note in run.notes.items())
    yield from (("Note", f"{', '.join(names)}, schedule {spec.schedule}: {note}") for note, names in notes.items())
    commit = origin.git_revision
    revision = "" if commit is None else f" (git {commit[:12]}{'+' if commit.endswith('+') else ''})"
    packages = [f"{name} {version}" for name, version in sorted(origin.packages.items())]
    software = [f"instructedit-bench {origin.version}{revision}", f"python {origin.python}", *packages]
    yield "Versions", ", ".join(software)


def unscored(summary: RunSummary) -> Facts:
    """Yield by task which probes have no score, and why, over all cases and rows."""
    for task, counts in summary.counts.items():
        mark = "unscored: "
        if found := {reason.removeprefix(mark): n for reason, n in counts.items() if reason.startswith(mark)}:
            yield "Not scored", f"{task}, over all rows: {counted(found)}"


def counted(counts: Mapping[str, int]) -> str:
    """Return reasons with their counts."""
    return ", ".join(f"{reason} ({count:,})" for reason, count in counts.items())


def runs_header(runs: Sequence[RunFile]) -> tuple[tuple[str, str], ...]:
    """Return the facts of several runs; shared facts once."""
    return tuple(dict.fromkeys(fact for run in runs for fact in header(run)))


def suite_header(groups: Sequence[SuiteGroup]) -> tuple[tuple[str, str], ...]:
    """Return the facts of the settings of a suite; shared facts once."""
    return tuple(dict.fromkeys(fact for group in groups for fact in header(group.run, group)))


def left_out(run: RunFile) -> Facts:
    """Yield what the data have that is not evaluated, by task."""
    yield from (("Left out", f"{data.task}: {counted(data.left_out)}") for data in run.data if data.left_out)


def model(run: RunFile) -> str:
    """Return which model a run edits."""
    spec, origin = run.spec, run.provenance
    parts = [
        origin.model,
        *([f"revision {origin.model_revision}"] if origin.model_revision else []),
        f"{origin.model_type} with {origin.parameters:,} parameters in {spec.dtype}",
        f"weights {spec.model_fingerprint[:12]}",
    ]
    return ", ".join(parts)


def rows(editors: Sequence[EditorSpec]) -> Facts:
    """Yield the training, instructions, form and tested tasks of rows.

    Rows of one training that differ in their instruction are written as one, `NAME#*`.
    """
    named = [(row, f"{row.name.partition('#')[0]}#*" if "#" in row.name else row.name) for row in editors]
    # Rows whose names are those of their instructions need no line.
    told = [row for row in editors if row.instruction and row.instruction != row.name.partition("#")[2]]
    tested = _lines((", ".join(row.tasks), row.name) for row in editors if row.tasks is not None)
    facts = {
        "Trained for": _lines((_joint(row), name) for row, name in named if row.training),
        "Instruction": _lines((row.instruction or "", row.name) for row in told),
        "Form": _lines((form(row), name) for row, name in named if row.instruction),
        "Tested on": tested if len(tested) > 1 else [],
    }
    trainings = _lines((_training(row.training), name) for row, name in named if row.training)
    yield from (("Training", line) for line in trainings)
    yield from ((word, "; ".join(lines)) for word, lines in facts.items() if lines)


def sizes(run: RunFile) -> str | None:
    """Return how many requests one edit of the run carries, and which rows were trained for another number.

    None where each case is edited separately and every row was trained for that.
    """
    spec = run.spec
    total = edited_cases(run)
    if spec.schedule == "single":
        size, what, text = 1, "an edit", "Each case is edited separately."
    elif spec.schedule == "sequential":
        size, what, text = total, "the sequence", f"{total} edits follow one another on one model."
    else:
        size, what = min(spec.batch_size or total, total), "a joint edit"
        count, rest = divmod(total, size) if size else (0, 0)
        joint = f"{count} joint edits of {size}" if count != 1 else f"one joint edit of {size}"
        text = f"The {total} edited cases make {joint}{f', and one of the last {rest}' if rest else ''}."
    others = [
        f"{row.name} (for {trained_for(row)})" for row in spec.editors if row.training and trained_for(row) != size
    ]
    if others:
        return f"{text} Trained for another number of requests than the {size} of {what}: {', '.join(others)}."
    return text if spec.schedule != "single" else None


def edited_cases(run: RunFile) -> int:
    """Return how many cases the joint or accumulated edits of a run carry."""
    spec = run.spec
    edited = [data for data in run.data if data.task in (spec.edited or spec.tasks)]
    return sum(min(data.cases, spec.limit or data.cases) for data in edited)


def grouped(pairs: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    """Return names by what they share, each once."""
    found: dict[K, dict[str, None]] = {}
    for shared, name in pairs:
        found.setdefault(shared, {})[name] = None
    return {shared: list(names) for shared, names in found.items()}


def _lines(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{', '.join(names)}: {shared}" for shared, names in grouped(pairs).items()]


def _joint(row: EditorSpec) -> str:
    count = trained_for(row)
    return "one request per edit" if count == 1 else f"joint edits of {count} requests ({row.config.get('joint')})"


def _training(training: TrainingSpec) -> str:
    tasks = ", ".join(
        f"{task} {training.cases[task]:,} (and {training.validation[task]:,} for validation), "
        f"{100 * training.weights[task]:.0f} % of draws"
        for task in training.tasks
    )
    return tasks if training.label == "+".join(training.tasks) else f"{training.label}: {tasks}"


def _data(data: TaskData) -> str:
    parts = [
        f"{data.task} from {data.source}",
        *([f"revision {data.revision}"] if data.revision else []),
        f"reader {data.version}",
        *(f"{key} = {value}" for key, value in data.options.items()),
        f"{data.cases} cases of {data.rows} rows",
        *(f"{name} {digest[:12]}" for name, digest in sorted(data.sha256.items())),
    ]
    return ", ".join(parts)
