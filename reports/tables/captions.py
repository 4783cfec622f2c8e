"""The words around a run's tables: what was run, what is wrong with it, how to read the numbers."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from instructedit.benchmark.results.consistency import sentence
from instructedit.benchmark.results.decision import family_sizes
from instructedit.benchmark.results.forms import form
from instructedit.benchmark.results.records import (
    Comparison,
    EditorSpec,
    Method,
    Protocol,
    RunFile,
    RunSummary,
    TaskData,
    TrainingSpec,
)
from instructedit.benchmark.results.suite_results import SeedComparison, SeedPair, SuiteGroup, SuiteSummary

from .joint import sizes, trained_lines

CONTROL = "none"
"""The method that edits nothing: a row of it is a control, never a winner, whatever its name."""
DAGGER = "†"
"""Marks derived prompts."""

AGGREGATION = (
    "A number is the mean over n cases with its 95 % interval; within a case it is the mean over the probes of a "
    "subset, then over subsets."
)
_ACROSS = (
    "A number is the mean over seeds and n cases with its 95 % interval over both, the same cases under every seed; n "
    "counts the cases scored under all of them. Of one seed it is the number of its run, and says nothing of others."
)
_SPREAD = "'sd' is the standard deviation of the means of the seeds, in the units of its number."
METHODS: dict[Method, str] = {
    "clopper_pearson": "Clopper-Pearson where every case is 0 or 1",
    "bootstrap": "the percentile bootstrap over cases where some are neither 0 nor 1",
    "rule_of_three": "where all cases are equal, what a share of 1 - 0.025^(1/n) of other cases could make of it (the "
    "rule of three, exact)",
    "crossed_wilson": "Wilson's with the variance of crossed seeds and cases and the quantile of t (Satterthwaite)",
    "crossed_t": "of entropy, KL and differences t with the variance of crossed seeds and cases (Satterthwaite)",
    "bonett_price": "of differences of -1, 0 and 1 Bonett and Price's, with 0 where the sign-flip test has p >= 0.05",
    "sign_flip": "of differences of one run with other values that of the sign-flip test",
    "two_level": "the bootstrap of seeds and cases of an older version",
    "definition": "'by definition' is a number of the unedited model that cannot be another, and has none",
    "none": "'no interval' is said where all cases are equal, or few, and a value has no bound",
}
"""How intervals are made; a footer says those that its tables have, so each has to be understood without the others."""
_VERDICTS = (
    "'Ahead' and 'behind' mean that a difference is shown. Sentences count exact match and edit success, of given and "
    "of derived prompts."
)
_DROPS = (
    "Where training is on another task than the tested one, the paired difference from the row that is trained on the "
    "tested one stands behind the number, in points."
)
PROTOCOLS: dict[Protocol, str] = {
    "teacher_forced_exact": (
        "Exact match, teacher forced: every answer token is the most likely one behind the right tokens before it; for "
        "locality, the same tokens as the unedited model."
    ),
    "teacher_forced_token": (
        "Token share, teacher forced: the share of such tokens; partial credit, so it is above 0 without any edit."
    ),
    "free_generation": (
        "Free generation: greedy text up to its natural stop equals an accepted answer after normalisation; for "
        "locality, the unedited model's answer."
    ),
    "edit_success": "ES: SERAC's edit success, z_sent times z_topic.",
    "z_sent": "z_sent: sigmoid of the mean log-probability of replies of the edited sentiment less the opposite one's.",
    "z_topic": "z_topic: likelihood of the replies of the edited sentiment relative to before the edit, at most 100.",
    "kl_divergence": "KL: divergence of next-token distributions from those of the unedited model; 0 is no change.",
    "ngram_entropy": "Fluency: entropy of 2- and 3-grams of sampled text, times 100; falls when text repeats itself.",
}
_DERIVED = f"{DAGGER} Prompts made by a stated rule because the data gives none; never averaged with given ones."
MARKS = (
    "Best of a column (bold; * on the terminal): of the rows that are shown to be better than the unedited model, that "
    "of the highest mean (of KL the lowest) and every one that is not shown to be worse than it; '=' stands behind "
    "those that tie. Where the unedited model has its number by definition (locality, z_topic), the rows are those "
    "that are shown to be better than it in reliability. Second (underlined; _ on the terminal): the next one, if it "
    "is shown to be better than all others left. Nothing is marked where more than half of the rows tie for best, nor "
    "in fluency, nor where the leading row was not compared with all others. Without a row that edits nothing, none "
    "has to be beaten."
)
_BY_LINE = (
    "The editors of a line are compared: each line has one protocol, said where it is not the title's, one schedule "
    "and one stage. What is said of a column below holds for a line here."
)
_NOT_RANKED = "Nothing is marked as best."
_NO_MARKS = "Nothing is marked as best: rows are not compared by subset."
_SEVERAL = (
    "Rows of several runs stand side by side; behind a name that more than one of them has stands its run. Rows of two "
    "runs are not compared with each other, so a column in which the leading row would have to be is not marked."
)
_PAIRED = (
    "A difference is paired by case{seed}, over the n cases that both rows have. It is shown where p < 0.05; p is from "
    "{test}, adjusted by Holm over the {pairs} that were compared in a column. The interval is of that "
    "difference alone, not adjusted."
)
_OF_RUN = "a two-sided sign-flip test"
_OF_SEEDS = "t with the variance of crossed seeds and cases"
_SEVERAL_ROWS = "Comparisons with the mean of several rows are adjusted among themselves."
_LEFT_OUT = (
    "A failed or skipped case takes no part in its editor's means, so rows with different n are over different cases."
)


def controls(run: RunFile) -> frozenset[str]:
    """Return the names of the rows that edit nothing."""
    return frozenset(editor.name for editor in run.spec.editors if editor.method == CONTROL)


def warnings(run: RunFile, summary: RunSummary) -> tuple[str, ...]:
    """Return what makes the numbers unfit for use, loudest first."""
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


def header(run: RunFile) -> tuple[tuple[str, str], ...]:
    """Return what was run, as pairs of a word and its value."""
    spec, origin = run.spec, run.provenance
    settings = [
        spec.setting,
        f"split {spec.split}",
        f"schedule {spec.schedule}",
        *([f"batches of {spec.batch_size}"] if spec.batch_size else []),
        *([f"scored after {', '.join(map(str, spec.at))} edits"] if spec.at else []),
        *([f"edits of {', '.join(spec.edited)} alone"] if spec.edited else []),
        f"seed {spec.seed}",
        f"chunk {spec.chunk}",
        f"limit {'none' if spec.limit is None else spec.limit}",
    ]
    versions = [
        f"instructedit-bench {origin.version}" + _revision(origin.git_revision),
        f"python {origin.python}",
        *(f"{name} {version}" for name, version in sorted(origin.packages.items())),
    ]
    return (
        ("Run", f"{run.digest} ({run.name})"),
        ("Model", model(run)),
        *(("Data", _data(data)) for data in run.data),
        ("Setting", ", ".join(settings)),
        *([("Edits", text)] if (text := sizes(run)) else []),
        *([("Texts", f"prompt and answer joined by the rule {spec.joints}")] if spec.joints else []),
        *rows(spec.editors),
        *row_notes([run]),
        ("Versions", ", ".join(versions)),
    )


def suite_footer(summary: SuiteSummary) -> tuple[str, ...]:
    """Return how the numbers of a suite are to be read, and what is not in them."""
    means = [mean for group in summary.groups for mean in group.means]
    used = {mean.protocol for mean in means}
    asked = {comparison.question for group in summary.groups for comparison in group.comparisons}
    failed = [
        f"{group.label}, {task}, cases that failed or were skipped, over all seeds: {_listed(counts)}."
        for group in summary.groups
        for task, counts in group.failed.items()
    ]
    return (
        _ACROSS,
        *_over(summary.groups),
        *([_VERDICTS] if asked else []),
        *([_SEVERAL_ROWS] if any(_is_mean(c) for group in summary.groups for c in group.comparisons) else []),
        *([_DROPS] if "drop" in asked else []),
        *(text for protocol, text in PROTOCOLS.items() if protocol in used),
        *([_DERIVED] if any(mean.derived for mean in means) else []),
        *([MARKS] if any(group.pairs for group in summary.groups) else []),
        *([_LEFT_OUT] if failed else []),
        *failed,
    )


def paper_footer(
    groups: Sequence[SuiteGroup], protocols: Collection[Protocol], *, derived: bool, ranked: bool | None = None
) -> tuple[str, ...]:
    """Return how the numbers of one of the paper's tables are to be read.

    Args:
        groups: The runs that it is made of.
        protocols: Those of its numbers.
        derived: Whether any is of derived prompts.
        ranked: Whether best and second best are marked, line by line; None says nothing of it.
    """
    return (
        _ACROSS,
        *_over(groups),
        *(text for protocol, text in PROTOCOLS.items() if protocol in protocols),
        *([_DERIVED] if derived else []),
        *([_BY_LINE, MARKS] if ranked else [] if ranked is None else [_NOT_RANKED]),
    )


def run_footer(
    summaries: Sequence[RunSummary], protocols: Collection[Protocol], *, derived: bool, ranked: bool, several: bool
) -> tuple[str, ...]:
    """Return how the numbers of a table of runs are to be read: see `paper_footer`.

    Args:
        summaries: Of the runs that it is made of.
        protocols: Those of its numbers.
        derived: Whether any is of derived prompts.
        ranked: Whether best and second best are marked.
        several: Whether its rows are of several runs.
    """
    return (
        AGGREGATION,
        *intervals(mean.method for summary in summaries for mean in summary.means if mean.protocol in protocols),
        *(text for protocol, text in PROTOCOLS.items() if protocol in protocols),
        *([_DERIVED] if derived else []),
        *([MARKS, *_paired([c for summary in summaries for c in summary.comparisons])] if ranked else [_NO_MARKS]),
        *([_SEVERAL] if several else []),
    )


def runs_header(runs: Sequence[RunFile]) -> Iterator[tuple[str, str]]:
    """Yield what several runs were, as pairs of a word and its value; what they share is said once."""
    for line in dict.fromkeys(model(run) for run in runs):
        yield "Model", line
    for line in dict.fromkeys(_data(data) for run in runs for data in run.data):
        yield "Data", line
    for run in runs:
        spec = run.spec
        limit = "none" if spec.limit is None else spec.limit
        words = f"{spec.setting}, split {spec.split}, schedule {spec.schedule}, seed {spec.seed}, limit {limit}"
        yield "Run", f"{run.digest} ({run.name}): {words}"
        if text := sizes(run):
            yield "Edits", f"{run.digest}: {text}"
    yield from rows([row.model_copy(update={"tasks": None}) for run in runs for row in run.spec.editors])
    yield from row_notes(runs)


def row_notes(runs: Sequence[RunFile]) -> Iterator[tuple[str, str]]:
    """Yield what the trial of their models found, and what the schedule of runs makes of their methods."""
    for line in dict.fromkeys(line for run in runs if run.provenance.trial for line in run.provenance.trial.notes):
        yield "Note", line
    found: dict[tuple[str, str], dict[str, None]] = {}
    for run in runs:
        for row, note in run.notes.items():
            found.setdefault((run.spec.schedule, note), {})[row] = None
    for (schedule, note), names in found.items():
        yield "Note", f"{', '.join(names)}, schedule {schedule}: {note}"


def task_options(runs: Sequence[RunFile]) -> Iterator[tuple[str, str]]:
    """Yield the options of tasks, each once."""
    found = dict.fromkeys(
        f"{task}: {', '.join(f'{key} = {value}' for key, value in options.items())}"
        for run in runs
        for task, options in run.spec.task_options.items()
    )
    if found:
        yield "Task options", "; ".join(found)


def rows(editors: Sequence[EditorSpec]) -> Iterator[tuple[str, str]]:
    """Yield what the rows of a run were trained on, their instructions and form, and on which tasks they are tested.

    Rows of one training that differ in what they are told stand together as `NAME#*`.
    """
    trained: dict[str, dict[str, None]] = {}
    told: dict[str, dict[str, None]] = {}
    forms: dict[str, dict[str, None]] = {}
    tested: dict[str, dict[str, None]] = {}
    for row in editors:
        front, marked, mark = row.name.partition("#")
        if row.training:
            trained.setdefault(_training(row.training), {})[f"{front}{'#*' if marked else ''}"] = None
        if row.instruction:
            forms.setdefault(form(row), {})[f"{front}{'#*' if marked else ''}"] = None
        # A row that is called by its description or control need not be explained.
        if row.instruction and not (marked and row.instruction == mark):
            told.setdefault(row.instruction, {})[row.name] = None
        if row.tasks is not None:
            tested.setdefault(", ".join(row.tasks), {})[row.name] = None
    yield from (("Training", f"{', '.join(names)}: {training}") for training, names in trained.items())
    yield from trained_lines(editors)
    if told:
        yield "Instruction", "; ".join(f"{', '.join(names)}: {condition}" for condition, names in told.items())
    if forms:
        yield "Form", "; ".join(f"{', '.join(names)}: {words}" for words, names in forms.items())
    if len(tested) > 1:
        yield "Tested on", "; ".join(f"{', '.join(names)}: {tasks}" for tasks, names in tested.items())


def _training(training: TrainingSpec) -> str:
    tasks = ", ".join(
        f"{task} {training.cases[task]:,} (and {training.validation[task]:,} for validation), "
        f"{100 * training.weights[task]:.0f} % of draws"
        for task in training.tasks
    )
    return tasks if training.label == "+".join(training.tasks) else f"{training.label}: {tasks}"


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


def footer(run: RunFile, summary: RunSummary) -> tuple[str, ...]:
    """Return how the numbers are to be read, and what is not in them."""
    used = {mean.protocol for mean in summary.means}
    control = ", ".join(f"'{editor.name}'" for editor in run.spec.editors if editor.name in controls(run))
    left_out = any(counts.get(status) for counts in summary.counts.values() for status in ("failed", "skipped"))
    methods = {mean.method for mean in summary.means} | {pair.method for pair in summary.comparisons}
    return (
        AGGREGATION,
        *intervals(methods),
        *(text for protocol, text in PROTOCOLS.items() if protocol in used),
        *([_DERIVED] if any(mean.derived for mean in summary.means) else []),
        MARKS,
        *_paired(summary.comparisons),
        *([f"Control, without any edit: {control}; never marked, paired only in summary.json."] if control else []),
        *([_LEFT_OUT] if left_out else []),
        *(said for found in summary.consistency if (said := sentence(found)) is not None),
        *(f"{task}, lines (a case under an editor): {_listed(counts)}." for task, counts in summary.counts.items()),
        *(
            f"{data.task}, rows or probes left out or derived, of the whole file, before any limit: "
            f"{_listed(data.skipped)}."
            for data in run.data
            if data.skipped
        ),
    )


def intervals(methods: Iterable[Method]) -> Iterator[str]:
    """Yield how the intervals are made that were used."""
    used = set(methods)
    if words := [text for method, text in METHODS.items() if method in used]:
        yield f"Intervals: {'; '.join(words)}."


def _over(groups: Sequence[SuiteGroup]) -> Iterator[str]:
    """Yield how numbers over seeds are to be read: spread, intervals, tests."""
    several = any(len(group.seeds) > 1 for group in groups)
    if several:
        yield _SPREAD
    methods = {mean.method for group in groups for mean in group.means}
    methods |= {pair.method for group in groups for pair in group.pairs}
    yield from intervals(methods | {one.method for group in groups for one in group.comparisons})
    tests = dict.fromkeys(_OF_SEEDS if len(group.seeds) > 1 else _OF_RUN for group in groups)
    yield from _paired([pair for group in groups for pair in group.pairs], " and seed", " or ".join(tests))


def _paired(compared: Sequence[Comparison | SeedPair], seed: str = "", test: str = _OF_RUN) -> Iterator[str]:
    least, most = family_sizes(compared)
    if most:
        count = f"{most}" if least == most else f"{least} to {most}"
        yield _PAIRED.format(seed=seed, test=test, pairs=f"{count} pair{'' if most == 1 else 's'} of rows")


def _is_mean(comparison: SeedComparison) -> bool:
    return len(comparison.rows) > 1 or len(comparison.others) > 1


def _data(data: TaskData) -> str:
    return ", ".join(
        [
            f"{data.task} from {data.source}",
            *([f"revision {data.revision}"] if data.revision else []),
            f"reader {data.version}",
            *(f"{key} = {value}" for key, value in data.options.items()),
            f"{data.cases} cases of {data.rows} rows",
            *(f"{name} {digest[:12]}" for name, digest in sorted(data.sha256.items())),
        ]
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())


def _revision(commit: str | None) -> str:
    """Return a commit in short, with the `+` of a changed source tree."""
    return "" if commit is None else f" (git {commit[:12]}{'+' if commit.endswith('+') else ''})"
