"""What the data put between prompt and answer, where they say it: a task's option `joint`, or a field of a record.

A record's field `joint` holds for all texts of the record, and takes precedence over the option. Without either the
text decides: `instructedit.editors.scripts.joint_of`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from instructedit.editors import EditCase
from instructedit.editors.scripts import Joint

from .parse import Row

FIELD = "joint"
"""Field of a record, and option of a task."""


def with_joints(cases: Iterable[EditCase], rows: Sequence[Row], option: Joint | None) -> Iterator[EditCase]:
    """Yield cases with the joint that their records, or else the option, put between prompt and answer.

    Args:
        cases: The cases, with the index of their record at the end of their ids.
        rows: The records.
        option: The task's option; None where the text decides.

    Raises:
        InputError: If a record's joint is neither empty nor one space.
    """
    own = {str(row.index): joint for row in rows if (joint := _joint(row)) is not None}
    for case in cases:
        joint = own.get(case.request.case_id.rsplit("/", 1)[-1], option)
        if joint is None:
            yield case
            continue
        probes = tuple(replace(probe, joint=joint) for probe in case.probes)
        yield EditCase(replace(case.request, joint=joint), probes)


def _joint(row: Row) -> Joint | None:
    match row.fields.get(FIELD):
        case None:
            return None
        case "":
            return ""
        case " ":
            return " "
    raise row.error(FIELD, 'an empty string or " "')
