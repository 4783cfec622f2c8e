"""How the numbers of a report are to be read: protocols, intervals, tests, marks, and cases that were left out."""

from collections.abc import Iterable, Iterator, Sequence

from instructedit.benchmark.results.consistency import sentence
from instructedit.benchmark.results.decision import family_sizes
from instructedit.benchmark.results.records import Comparison, Mean, Method, Protocol, RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SeedMean, SeedPair, SuiteGroup, SuiteSummary

from .run_facts import controls

DAGGER = "†"
"""Marks derived prompts."""
AGGREGATION = (
    "A number is the mean over n cases with its 95 % interval; within a case it is the mean over the probes of a "
    "subset, then over subsets."
)
_OVER_SEEDS = (
    "A number is the mean over seeds and n cases with its 95 % interval over both, the same cases under every seed; n "
    "counts the cases scored under all of them. With one seed it is the number of its run and does not cover other "
    "trainings."
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
    "definition": "'by definition' marks a number of the unedited model that cannot differ, and has none",
    "none": "'no interval' means that all cases are equal, or few, and a value has no bound",
}
"""How intervals are made. A footer lists the methods of its tables, so each phrase must stand alone."""
_VERDICTS = (
    "'Better' and 'worse' mean that a difference is shown. Sentences count exact match and edit success, of "
    "dataset-provided and of derived prompts."
)
_DROPS = (
    "Where training is on another task than the tested one, the number is followed by the paired difference from the "
    "row that is trained on the tested task, in points."
)
PROTOCOLS: dict[Protocol, str] = {
    "teacher_forced_exact": (
        "Exact match, teacher forced: every answer token is the most likely one after the correct tokens before it; "
        "for locality, the same tokens as the unedited model."
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
    "probability_order": (
        "P(new) > P(old): under the edited model the new answer has a lower mean negative log-likelihood of a token "
        "than the old one (ROME's efficacy and paraphrase score); cases with an old answer alone."
    ),
    "reversion": (
        "Reversion: free generation of the edited model is the old answer again; of the unedited model how often it "
        "gives it at all."
    ),
    "ngram_entropy": "Fluency: entropy of 2- and 3-grams of sampled text, times 100; falls when text repeats itself.",
    "known_before": (
        "Known before: the unedited model has every token of the old answer, teacher forced; a property of case and "
        "model, the same in every row."
    ),
}
_DERIVED = (
    f"{DAGGER} Prompts derived by a documented rule because the data has none; never averaged with "
    "dataset-provided prompts."
)
MARKS = (
    "Best of a column (bold; * on the terminal): of the rows that are shown to be better than the unedited model, "
    "the one with the highest mean (of KL and reversion the lowest) and every one that is not shown to be worse than "
    "it; '=' follows those that tie. Where the unedited model has its number by definition (locality, z_topic), the "
    "rows are those that are shown to be better than it in reliability. Second (underlined; _ on the terminal): the "
    "next row, if it is shown to be better than all others of the rest. Nothing is marked where more than half of "
    "the rows tie for best, in fluency, or where the leading row was not compared with all others. Without a row "
    "that edits nothing, every row may be marked."
)
_BY_LINE = (
    "The editors of a line are compared: each line has one protocol, named where it is not the title's, one schedule "
    "and one stage. What is said of a column below holds for a line here."
)
_NOT_RANKED = "Nothing is marked as best."
_NOT_COMPARED = "Nothing is marked as best: rows are not compared by subset."
_SEVERAL_RUNS = (
    "Rows of several runs stand side by side; a name that more than one of them has is followed by its run. Rows of "
    "two runs are not compared with each other, so a column is not marked where the leading row would need that."
)
_PAIRED = (
    "A difference is paired by case{seed}, over the n cases that both rows have. It is shown where p < 0.05; p is from "
    "{test}, adjusted by Holm over the {pairs} that were compared in a column. The interval is of that "
    "difference alone, not adjusted."
)
_TEST_OF_RUN = "a two-sided sign-flip test"
_TEST_OVER_SEEDS = "t with the variance of crossed seeds and cases"
_SEVERAL_ROWS = "Comparisons with the mean of several rows are adjusted among themselves."
_LEFT_OUT = (
    "A failed or skipped case is left out of its editor's means, so rows with different n are over different cases."
)


def footer(run: RunFile, summary: RunSummary) -> tuple[str, ...]:
    """Return how to read the numbers of one run, and what they leave out."""
    methods = {mean.method for mean in summary.means} | {pair.method for pair in summary.comparisons}
    control = ", ".join(f"'{editor.name}'" for editor in run.spec.editors if editor.name in controls(run))
    left_out = any(counts.get(status) for counts in summary.counts.values() for status in ("failed", "skipped"))
    return (
        AGGREGATION,
        *intervals(methods),
        *protocols(summary.means),
        MARKS,
        *_paired(summary.comparisons),
        *([f"Control, without any edit: {control}; never marked, paired only in summary.json."] if control else []),
        *([_LEFT_OUT] if left_out else []),
        *(text for found in summary.consistency if (text := sentence(found)) is not None),
        *(f"{task}, lines (a case under an editor): {_listed(counts)}." for task, counts in summary.counts.items()),
        *(
            f"{data.task}, of the whole file, before any limit: {_listed(others)}."
            for data in run.data
            if (others := {reason: n for reason, n in data.skipped.items() if reason not in data.left_out})
        ),
    )


def runs_footer(summaries: Sequence[RunSummary], shown: Sequence[Mean], *, ranked: bool) -> tuple[str, ...]:
    """Return how to read the numbers of a table of runs; ranked if best and second are marked."""
    comparisons = [comparison for summary in summaries for comparison in summary.comparisons]
    used = {mean.protocol for mean in shown}
    return (
        AGGREGATION,
        *intervals(mean.method for summary in summaries for mean in summary.means if mean.protocol in used),
        *protocols(shown),
        *([MARKS, *_paired(comparisons)] if ranked else [_NOT_COMPARED]),
        *([_SEVERAL_RUNS] if len(summaries) > 1 else []),
    )


def suite_footer(summary: SuiteSummary) -> tuple[str, ...]:
    """Return how to read the numbers of a suite, and what they leave out."""
    groups = summary.groups
    compared = [comparison for group in groups for comparison in group.comparisons]
    failed = [
        f"{group.label}, {task}, cases that failed or were skipped, over all seeds: {_listed(counts)}."
        for group in groups
        for task, counts in group.failed.items()
    ]
    return (
        _OVER_SEEDS,
        *_over_seeds(groups),
        *([_VERDICTS] if compared else []),
        *([_SEVERAL_ROWS] if any(len(one.rows) > 1 or len(one.others) > 1 for one in compared) else []),
        *([_DROPS] if any(one.question == "drop" for one in compared) else []),
        *protocols([mean for group in groups for mean in group.means]),
        *([MARKS] if any(group.pairs for group in groups) else []),
        *([_LEFT_OUT] if failed else []),
        *failed,
    )


def paper_footer(
    groups: Sequence[SuiteGroup], shown: Sequence[SeedMean], *, ranked: bool | None = None
) -> tuple[str, ...]:
    """Return how to read one of the paper's tables; ranked if best and second of a line are marked, None is silent."""
    marks = {True: (_BY_LINE, MARKS), False: (_NOT_RANKED,), None: ()}[ranked]
    return (_OVER_SEEDS, *_over_seeds(groups), *protocols(shown), *marks)


def intervals(methods: Iterable[Method]) -> Iterator[str]:
    """Yield how the intervals of some methods are made."""
    used = set(methods)
    if words := [text for method, text in METHODS.items() if method in used]:
        yield f"Intervals: {'; '.join(words)}."


def protocols(shown: Sequence[Mean | SeedMean]) -> Iterator[str]:
    """Yield what the protocols of some means are, and what derived prompts are if any has them."""
    used = {mean.protocol for mean in shown}
    yield from (text for protocol, text in PROTOCOLS.items() if protocol in used)
    if any(mean.derived for mean in shown):
        yield _DERIVED


def _over_seeds(groups: Sequence[SuiteGroup]) -> Iterator[str]:
    if any(len(group.seeds) > 1 for group in groups):
        yield _SPREAD
    methods = {mean.method for group in groups for mean in group.means}
    methods |= {pair.method for group in groups for pair in group.pairs}
    yield from intervals(methods | {one.method for group in groups for one in group.comparisons})
    tests = dict.fromkeys(_TEST_OVER_SEEDS if len(group.seeds) > 1 else _TEST_OF_RUN for group in groups)
    yield from _paired([pair for group in groups for pair in group.pairs], " and seed", " or ".join(tests))


def _paired(compared: Sequence[Comparison | SeedPair], seed: str = "", test: str = _TEST_OF_RUN) -> Iterator[str]:
    least, most = family_sizes(compared)
    if most:
        count = f"{most}" if least == most else f"{least} to {most}"
        yield _PAIRED.format(seed=seed, test=test, pairs=f"{count} pair{'' if most == 1 else 's'} of rows")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())
