"""Two rows of a suite over seeds: a verdict, tables, and a sentence on each setting."""

from collections.abc import Iterator, Sequence

from instructedit.benchmark.results.decision import Decision, decided
from instructedit.benchmark.results.forms import form
from instructedit.benchmark.results.records import Protocol
from instructedit.benchmark.results.suite_results import Question, SeedComparison, SuiteGroup

from ..render.table import Block, Cell, Table
from .columns import column_of, deviation, interval, p_words, stages

Readings = tuple[tuple[str, tuple[Protocol, ...]], ...]
"""Ways of reading an answer, each with its words for a title."""
MAIN: Readings = (("exact match", ("teacher_forced_exact",)), ("edit success", ("edit_success",)))
"""Those that the questions of a suite are answered by."""
FREE: Readings = (("free generation", ("free_generation",)),)
"""What asks the same questions once more; the terminal leaves it out."""
AHEAD, BEHIND, OPEN = "ahead", "behind", "no difference shown"
_WORDS: dict[Decision, str] = {"better": AHEAD, "behind": BEHIND, "tie": OPEN}


def verdict(comparison: SeedComparison) -> str:
    """Return what is shown of the first side of a comparison; nothing of fluency, and of what was not tested."""
    if comparison.protocol == "ngram_entropy":
        return ""
    return "not tested" if comparison.p_holm is None else _WORDS[decided(comparison)]


def seeds_of(group: SuiteGroup) -> str:
    """Return the number of seeds in words."""
    return f"{len(group.seeds)} seed{'' if len(group.seeds) == 1 else 's'}"


def beats(groups: Sequence[SuiteGroup]) -> Iterator[Block]:
    """Yield the blocks of InstructEdit against MEND, if any run has both: a table for each two forms of them."""
    asked = [group for group in groups if any(comparison.question == "mend" for comparison in group.comparisons)]
    for readings, extra in ((MAIN, ""), (FREE, " Free generation")):
        found = tuple(
            table
            for group in asked
            for names, chosen in _by_form(group)
            for table in _tables(group, chosen, f"{group.label}: {' minus '.join(names)}", readings)
        )
        if found:
            text = () if extra else tuple(text for group in asked for text in sentences(group))
            yield Block(f"Does InstructEdit beat MEND?{extra}", found, text=text, detail=bool(extra))


def tables(group: SuiteGroup, question: Question, title: str, readings: Readings) -> Iterator[Table]:
    """Yield the differences with their verdicts, one in a row, a table for each stage and way of reading."""
    chosen = [comparison for comparison in group.comparisons if comparison.question == question]
    yield from _tables(group, chosen, title, readings)


def _by_form(group: SuiteGroup) -> Iterator[tuple[tuple[str, str], list[SeedComparison]]]:
    """Yield the comparisons with MEND by the editors' names, each with the form of its rows in words."""
    forms = {row.name: form(row) for row in group.run.spec.editors}
    found: dict[tuple[str, str], list[SeedComparison]] = {}
    for comparison in (c for c in group.comparisons if c.question == "mend"):
        sides = zip(_who(group, comparison), (comparison.rows[0], comparison.others[0]), strict=True)
        first, second = (f"{_editor(side)} ({forms[row]})" for side, row in sides)
        found.setdefault((first, second), []).append(comparison)
    yield from found.items()


def _tables(group: SuiteGroup, chosen: Sequence[SeedComparison], title: str, readings: Readings) -> Iterator[Table]:
    heads = ("Difference", "95 % interval", "n", "p", *(["Seeds"] if len(group.seeds) > 1 else []), "Verdict")
    for stage, mark in stages(chosen):
        for name, protocols in readings:
            found = [c for c in chosen if c.stage == stage and c.protocol in protocols]
            found.sort(key=lambda c: column_of(c).order())
            rows = tuple(f"{column_of(c).head}: {', '.join([c.task, *_marks(group, c, chosen)])}" for c in found)
            if found:
                yield Table(
                    title=f"{title}, {name} (points), {seeds_of(group)}{mark}",
                    stub="Task",
                    heads=heads,
                    rows=rows,
                    cells=tuple(tuple(map(Cell, _words(c))) for c in found),
                )


def _words(comparison: SeedComparison) -> Iterator[str]:
    """Yield what the row of a comparison says, column by column."""
    column = column_of(comparison)
    yield column.number(comparison.difference, "+")
    yield interval(column, comparison.low, comparison.high, "+")
    yield str(comparison.n)
    yield p_words(comparison.p_holm)
    if len(comparison.per_seed) > 1:
        yield deviation(column, comparison.per_seed)
    yield verdict(comparison)


def sentences(group: SuiteGroup) -> Iterator[str]:
    """Yield what the comparisons with MEND result in, for each two forms, each side of them, and each stage."""
    counted = [protocol for _, protocols in MAIN for protocol in protocols]
    forms = [(names, [c for c in chosen if c.protocol in counted]) for names, chosen in _by_form(group)]
    for stage, mark in stages([c for _, chosen in forms for c in chosen]):
        for names, chosen in forms:
            for side in dict.fromkeys(_who(group, c) for c in chosen):
                of_side = [c for c in chosen if c.stage == stage and _who(group, c) == side]
                words = (name + one.removeprefix(_editor(one)) for name, one in zip(names, side, strict=True))
                if of_side:
                    yield _sentence(f"{group.label}{mark}: {' against '.join(words)}", group, of_side)


def _sentence(start: str, group: SuiteGroup, found: Sequence[SeedComparison]) -> str:
    counts = {word: sum(verdict(c) == word for c in found) for word in (AHEAD, BEHIND, OPEN)}
    cases = sorted({c.n for c in found})
    n = f"n = {cases[0]}" if len(cases) == 1 else f"n = {cases[0]} to {cases[-1]}"
    parts = [
        f"{start}: ahead in {counts[AHEAD]}, behind in {counts[BEHIND]}, no difference shown in {counts[OPEN]} of "
        f"{len(found)} comparisons ({n} cases, {seeds_of(group)})."
    ]
    if equal := sum(c.difference == 0 and c.method == "rule_of_three" for c in found):
        parts.append(f"In {equal} both have the same value in every case.")
    for word, pick in ((AHEAD, max), (BEHIND, min)):
        if decided := [c for c in found if verdict(c) == word]:
            most = pick(decided, key=lambda c: c.difference)
            column = column_of(most)
            marks = ", ".join([most.task, *_marks(group, most, found)])
            measure = column.head[0].lower() + column.head[1:]
            parts.append(
                f"Farthest {word}: {measure} on {marks}, {column.number(most.difference, '+')} points "
                f"{interval(column, most.low, most.high, '+')}, n = {most.n}."
            )
    if len(group.seeds) == 1:
        parts.append("One seed says nothing of other trainings.")
    return " ".join(parts)


def _marks(group: SuiteGroup, comparison: SeedComparison, beside: Sequence[SeedComparison]) -> Iterator[str]:
    """Yield what, besides the task, tells a comparison from those beside it: training, instruction, editor."""
    if len({_label(group, other) for other in beside}) > 1:
        yield f"trained on {arm_name(group, comparison.rows[0])}"
    sides = {_who(group, other) for other in beside}
    first, second = _who(group, comparison)
    if len({_editor(side) for side, _ in sides}) > 1:
        yield first
    elif len({side for side, _ in sides}) > 1 or comparison.question == "control":
        yield first.removeprefix(_editor(first)).lstrip("#, ")
    if len({_editor(side) for _, side in sides}) > 1:
        yield f"against {second}"


def arm_name(group: SuiteGroup, row: str) -> str:
    """Return what a row is trained on, where its setting has several trainings: their number counts in task-scaling."""
    training = next(r.training for r in group.run.spec.editors if r.name == row)
    assert training is not None
    count = len(training.tasks)
    scaling = group.run.spec.setting == "task-scaling"
    return f"{count} task{'' if count == 1 else 's'}" if scaling else training.label


def _label(group: SuiteGroup, comparison: SeedComparison) -> str:
    return next(r.training.label for r in group.run.spec.editors if r.training and r.name == comparison.rows[0])


def _who(group: SuiteGroup, comparison: SeedComparison) -> tuple[str, str]:
    """Return the two sides without what they are trained on, which is the same for both."""
    mark = f"@{_label(group, comparison)}"
    return comparison.first.replace(mark, ""), comparison.second.replace(mark, "")


def _editor(side: str) -> str:
    return side.partition("#")[0].partition(", ")[0]
