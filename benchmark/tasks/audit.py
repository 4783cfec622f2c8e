"""What a user should know of a file that was read: fields that nobody read, repetitions, contradictions.

Nothing is left out for it. Each kind is counted in `TaskData.skipped` and said in one sentence of the file.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from instructedit.editors import EditCase, InputError

from .fields import Fields, repeated, unread
from .layouts import suggestion
from .parse import MOST_ITEMS, Row

REPEATED_KEY = "record: a key stands in it twice, the last value read"
REPEATED_RECORD = "record: the same prompt, target and subject as an earlier one"
OTHER_TARGET = "record: the same prompt as an earlier one, another target"
NO_SUBJECT = "edit: the prompt does not name the subject"


def audit(
    rows: Sequence[Row],
    cases: Sequence[EditCase],
    counts: Counter[str],
    *,
    known: Collection[str],
    read: Collection[str],
    task: str,
    name: str,
) -> tuple[str, ...]:
    """Count what is odd about a file that was read.

    Args:
        rows: The rows that were read.
        cases: The cases that were made of them.
        counts: Takes the counts.
        known: Fields that the task knows and needs not.
        read: Fields that it can read, for suggestions.
        task: Name of the task.
        name: Name of the file.

    Returns:
        Sentences for the user, at most one on unread fields and one on the rest.

    Raises:
        InputError: If a record has too many probes.
    """
    own: Counter[str] = Counter()
    for kind, number in ((REPEATED_KEY, sum(1 for row in rows if repeated(row.fields))), *_cases(cases).items()):
        own[kind] += number
    for case in cases:
        if len(case.probes) > MOST_ITEMS:
            place = f"{rows[0].file}, row {case.request.case_id.rpartition('/')[2]}"
            raise InputError(f"{place}: found {len(case.probes):,} probes, expected at most {MOST_ITEMS:,}.")
    records = [row.fields for row in rows if isinstance(row.fields, Fields)]
    fields = {field: count for field, count in unread(records).items() if field not in known}
    for kind, count in (*own.items(), *((f"field '{field}' not read", count) for field, count in fields.items())):
        if count:
            counts[kind] += count
    notes = []
    if fields:
        candidates = {*read, *(key for record in records for key in record.read)}
        listed = "; ".join(_field(field, count, suggestion(field, candidates, task)) for field, count in fields.items())
        notes.append(f"{task}: {name} has fields that are not read, by number of records: {listed}.")
    if said := [f"{kind.removeprefix('record: ')} ({count:,})" for kind, count in own.items() if count]:
        notes.append(f"{task}: {name}, of {len(rows):,} records: {'; '.join(said)}.")
    return tuple(notes)


def _field(field: str, count: int, hint: str) -> str:
    return f"'{field}' ({count:,}{', ' + hint if hint else ''})"


def _cases(cases: Sequence[EditCase]) -> Counter[str]:
    """Count repetitions, contradictions and prompts without their subject."""
    found: Counter[str] = Counter()
    edits: set[tuple[str, str, str]] = set()
    targets: dict[str, str] = {}
    for case in cases:
        request = case.request
        edit = request.prompt, request.target, request.subject
        if edit in edits:
            found[REPEATED_RECORD] += 1
        elif targets.setdefault(request.prompt, request.target) != request.target:
            found[OTHER_TARGET] += 1
        edits.add(edit)
        if request.subject not in request.prompt:
            found[NO_SUBJECT] += 1
    return found
