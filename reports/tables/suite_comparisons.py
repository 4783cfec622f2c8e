"""Two rows of a suite over its seeds: verdicts, tables of differences, and a sentence for each setting."""

from collections.abc import Iterator, Sequence

from instructedit.benchmark.results.decision import Decision, decided
from instructedit.benchmark.results.forms import form
from instructedit.benchmark.results.records import Protocol
from instructedit.benchmark.results.suite_results import Question, SeedComparison, SuiteGroup

from ..render.report import Block, Cell, Table
from .columns import column_of, deviation, interval, p_words, stages
from .protocol_choice import short

View = tuple[Protocol, ...]
"""Protocols that are shown together, each in a table of its own."""
MAIN: View = ("teacher_forced_exact", "edit_success")
"""The protocols that answer the questions of a suite."""
FREE: View = ("free_generation",)
"""The same questions by free generation; a detail that the terminal leaves out."""
VERDICTS: dict[Decision, str] = {"better": "better", "worse": "worse", "tie": "no difference shown"}


def verdict(comparison: SeedComparison) -> str:
    """Return the verdict on the first side of a comparison; empty for fluency."""
    if comparison.protocol == "ngram_entropy":
        return ""
    return "not tested" if comparison.p_holm is None else VERDICTS[decided(comparison)]


def seeds_of(group: SuiteGroup) -> str:
    """Return the number of seeds in words."""
    return f"{len(group.seeds)} seed{'' if len(group.seeds) == 1 else 's'}"


def training_name(group: SuiteGroup, row: str) -> str:
    """Return the name of a row's training in its setting; in task-scaling it is the number of tasks."""
    training = next(r.training for r in group.run.spec.editors if r.name == row)
    assert training is not None
    count = len(training.tasks)
    scaling = group.run.spec.setting == "task-scaling"
    return f"{count} task{'' if count == 1 else 's'}" if scaling else training.label


def against_mend(groups: Sequence[SuiteGroup]) -> Iterator[Block]:
    """Yield the blocks of InstructEdit against MEND, if any run has both: a table for each pair of forms."""
    compared = [group for group in groups if any(comparison.question == "mend" for comparison in group.comparisons)]
    for view, suffix in ((MAIN, ""), (FREE, " Free generation")):
        tables = tuple(
            table
            for group in compared
            for names, chosen in _by_form(group)
            for table in _tables(group, chosen, f"{group.label}: {' minus '.join(names)}", view)
        )
        if tables:
            text = () if suffix else tuple(text for group in compared for text in sentences(group))
            yield Block(f"Does InstructEdit beat MEND?{suffix}", tables, text=text, detail=bool(suffix))


def comparison_tables(group: SuiteGroup, question: Question, title: str, view: View) -> Iterator[Table]:
    """Yield the differences with their verdicts, one in a row; a table for each stage and protocol."""
    yield from _tables(group, [found for found in group.comparisons if found.question == question], title, view)


def sentences(group: SuiteGroup) -> Iterator[str]:
    """Yield the results of the comparisons with MEND, for each pair of forms, each pair of rows and each stage."""
    forms = [(names, [c for c in chosen if c.protocol in MAIN]) for names, chosen in _by_form(group)]
    for stage, suffix in stages(c.stage for _, chosen in forms for c in chosen):
        for names, chosen in forms:
            for sides in dict.fromkeys(_sides(group, c) for c in chosen):
                found = [c for c in chosen if c.stage == stage and _sides(group, c) == sides]
                words = (name + side.removeprefix(_editor(side)) for name, side in zip(names, sides, strict=True))
                if found:
                    yield _sentence(f"{group.label}{suffix}: {' against '.join(words)}", group, found)


def _sentence(start: str, group: SuiteGroup, found: Sequence[SeedComparison]) -> str:
    of_verdict = {word: [c for c in found if verdict(c) == word] for word in VERDICTS.values()}
    counts = ", ".join(f"{word} in {len(of_verdict[word])}" for word in VERDICTS.values())
    cases = sorted({c.n for c in found})
    n = f"n = {cases[0]}" if len(cases) == 1 else f"n = {cases[0]} to {cases[-1]}"
    parts = [f"{start}: {counts} of {len(found)} comparisons ({n} cases, {seeds_of(group)})."]
    if equal := sum(c.difference == 0 and c.method == "rule_of_three" for c in found):
        parts.append(f"In {equal} both have the same value in every case.")
    for word, pick in (("better", max), ("worse", min)):
        if decided := of_verdict[word]:
            most = pick(decided, key=lambda c: c.difference)
            column = column_of(most)
            place = ", ".join([most.task, *_marks(group, most, found)])
            parts.append(
                f"Largest difference, {word}: {column.head[0].lower()}{column.head[1:]} on {place}, "
                f"{column.number(most.difference, '+')} points {interval(column, most.low, most.high, '+')}, "
                f"n = {most.n}."
            )
    if len(group.seeds) == 1:
        parts.append("One seed does not cover other trainings.")
    return " ".join(parts)


def _by_form(group: SuiteGroup) -> Iterator[tuple[tuple[str, str], list[SeedComparison]]]:
    """Yield the comparisons with MEND by the editors' names, each with the form of its rows in words."""
    forms = {row.name: form(row) for row in group.run.spec.editors}
    found: dict[tuple[str, str], list[SeedComparison]] = {}
    for comparison in (c for c in group.comparisons if c.question == "mend"):
        sides = zip(_sides(group, comparison), (comparison.rows[0], comparison.others[0]), strict=True)
        first, second = (f"{_editor(side)} ({forms[row]})" for side, row in sides)
        found.setdefault((first, second), []).append(comparison)
    yield from found.items()


def _tables(group: SuiteGroup, chosen: Sequence[SeedComparison], title: str, view: View) -> Iterator[Table]:
    heads = ("Difference", "95 % interval", "n", "p", *(["Seeds"] if len(group.seeds) > 1 else []), "Verdict")
    for stage, suffix in stages(c.stage for c in chosen):
        for protocol in view:
            found = [c for c in chosen if c.stage == stage and c.protocol == protocol]
            found.sort(key=lambda c: column_of(c).order())
            if found:
                yield Table(
                    title=f"{title}, {short(protocol)} (points), {seeds_of(group)}{suffix}",
                    stub="Task",
                    heads=heads,
                    rows=tuple(f"{column_of(c).head}: {', '.join([c.task, *_marks(group, c, chosen)])}" for c in found),
                    cells=tuple(tuple(map(Cell, _words(c))) for c in found),
                )


def _words(comparison: SeedComparison) -> Iterator[str]:
    column = column_of(comparison)
    yield column.number(comparison.difference, "+")
    yield interval(column, comparison.low, comparison.high, "+")
    yield str(comparison.n)
    yield p_words(comparison.p_holm)
    if len(comparison.per_seed) > 1:
        yield deviation(column, comparison.per_seed)
    yield verdict(comparison)


def _marks(group: SuiteGroup, comparison: SeedComparison, beside: Sequence[SeedComparison]) -> Iterator[str]:
    """Yield what distinguishes a comparison from others of its task: training, instruction, editor."""
    if len({_label(group, other) for other in beside}) > 1:
        yield f"trained on {training_name(group, comparison.rows[0])}"
    sides = {_sides(group, other) for other in beside}
    first, second = _sides(group, comparison)
    if len({_editor(side) for side, _ in sides}) > 1:
        yield first
    elif len({side for side, _ in sides}) > 1 or comparison.question == "control":
        yield first.removeprefix(_editor(first)).lstrip("#, ")
    if len({_editor(side) for _, side in sides}) > 1:
        yield f"against {second}"


def _label(group: SuiteGroup, comparison: SeedComparison) -> str:
    return next(r.training.label for r in group.run.spec.editors if r.training and r.name == comparison.rows[0])


def _sides(group: SuiteGroup, comparison: SeedComparison) -> tuple[str, str]:
    """Return the two sides without their training, which is the same for both."""
    mark = f"@{_label(group, comparison)}"
    return comparison.first.replace(mark, ""), comparison.second.replace(mark, "")


def _editor(side: str) -> str:
    return side.partition("#")[0].partition(", ")[0]
