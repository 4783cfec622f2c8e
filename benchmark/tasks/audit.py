"""Counts what is odd about a file that was read: unread fields, repetitions, contradictions.

Nothing is left out because of it. Each kind is counted in `TaskData.skipped` and reported in one sentence per file.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from instructedit.editors import EditCase, InputError

from .foreign_layouts import suggestion
from .parse import MOST_ITEMS, Fields, Row

REPEATED_KEY = "record: a key stands in it twice, the last value read"
REPEATED_RECORD = "record: the same prompt, target and subject as an earlier one"
OTHER_TARGET = "record: the same prompt as an earlier one, another target"
NO_SUBJECT = "edit: the prompt does not name the subject"


def audit(
    rows: Sequence[Row],
    cases: Sequence[EditCase],
    counts: Counter[str],
    *,
    read: Collection[str],
    ignored: Collection[str],
    task: str,
    name: str,
) -> tuple[str, ...]:
    """Count what is odd about a file that was read; if `read` names no fields, unread ones are not looked for.

    The sentences are for the user, at most one on unread fields and one on the rest. `InputError` if a record has too
    many probes.
    """
    for case in cases:
        if len(case.probes) > MOST_ITEMS:
            place = f"{rows[0].file}, row {case.request.case_id.rpartition('/')[2]}"
            raise InputError(f"{place}: found {len(case.probes):,} probes, expected at most {MOST_ITEMS:,}.")
    odd = {REPEATED_KEY: sum(1 for row in rows if _repeated_keys(row.fields)), **_odd_cases(cases)}
    odd = {kind: count for kind, count in odd.items() if count}
    unread = unread_fields(rows, {*read, *ignored}) if read else Counter()
    counts.update(odd)
    counts.update({f"field '{field}' not read": count for field, count in unread.items()})
    notes = []
    if unread:
        names = {inner for field in read for inner in field.split(".") if inner != "*"}
        hints = {field: suggestion(field, names, task) for field in unread}
        fields = (f"'{field}' ({n:,}{', ' + hints[field] if hints[field] else ''})" for field, n in unread.items())
        notes.append(f"{task}: {name} has fields that are not read, by number of records: {'; '.join(fields)}.")
    if odd:
        kinds = "; ".join(f"{kind.removeprefix('record: ')} ({count:,})" for kind, count in odd.items())
        notes.append(f"{task}: {name}, of {len(rows):,} records: {kinds}.")
    return tuple(notes)


def unread_fields(rows: Sequence[Row], known: Collection[str]) -> Counter[str]:
    """Count the records that have a field which is not known, by its name as in `Task.fields`."""
    found: Counter[str] = Counter()
    for row in rows:
        found.update(list(dict.fromkeys(_unknown(row.fields, known))))
    return found


def _unknown(value: object, known: Collection[str], outer: str = "") -> Iterator[str]:
    """Yield the unknown fields of a value; what is within one is not looked into."""
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item, known, outer)
    elif isinstance(value, dict):
        for key, item in value.items():
            name = f"{outer}.{key}" if outer else key
            pattern = f"{outer}.*" if f"{outer}.*" in known else name
            if name in known or pattern in known:
                yield from _unknown(item, known, pattern)
            else:
                yield name


def _repeated_keys(value: object) -> int:
    if isinstance(value, Fields):
        return value.repeated + sum(map(_repeated_keys, value.values()))
    return sum(map(_repeated_keys, value)) if isinstance(value, list) else 0


def _odd_cases(cases: Sequence[EditCase]) -> Counter[str]:
    found = Counter(kind for _, kind, _ in repeated_edits(cases))
    found[NO_SUBJECT] = sum(case.request.subject not in case.request.prompt for case in cases)
    return found


def repeated_edits(cases: Sequence[EditCase]) -> Iterator[tuple[int, str, int]]:
    """Yield the indices of cases with the prompt of an earlier one, what is odd about each, and the earlier index."""
    edits: dict[tuple[str, str, str], int] = {}
    prompts: dict[str, int] = {}
    for number, request in enumerate(case.request for case in cases):
        edit = request.prompt, request.target, request.subject
        first = prompts.setdefault(request.prompt, number)
        if edit in edits:
            yield number, REPEATED_RECORD, edits[edit]
        elif cases[first].request.target != request.target:
            yield number, OTHER_TARGET, first
        edits.setdefault(edit, number)
