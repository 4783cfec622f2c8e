"""The lines of `cases.jsonl` case by case, in constant memory.

The file is ordered by editor as much as by case, so it is read twice: once for where the lines of each case stand, then
case by case. Between the two there are an offset and a number for each line, some 30 MB for 180,000 lines.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pydantic import ConfigDict

from instructedit.benchmark.results.guard import Admission
from instructedit.benchmark.results.records import CaseRecord, Record, parse_record
from instructedit.editors.errors import InputError

from ..tables.columns import stages
from .collect import SiteRun

SHARED = ("task", "prompt", "target", "subject")
"""Fields that all lines of a case agree in."""


class Row(NamedTuple):
    """A row of a run at a stage: what a case has one line of."""

    editor: str
    stage: str


class _Whose(Record):
    """The part of a line that says whose it is."""

    model_config = ConfigDict(extra="ignore")

    run: str
    case_id: str
    editor: str
    stage: str = "single"


class _Place(NamedTuple):
    offset: int
    line: int


class Lines:
    """The lines of a run.

    Args:
        run: The run.

    Attributes:
        rows: The rows that have lines, stage by stage, editors in the order of the run.

    Raises:
        InputError: If a line cannot be read, is of another run, or stands twice.
    """

    def __init__(self, run: SiteRun) -> None:
        self.run = run
        self.path = run.folder / "cases.jsonl"
        self._places: dict[str, list[_Place]] = defaultdict(list)
        self._editors = {row.name: number for number, row in enumerate(run.file.spec.editors)}
        found = self._look()
        ordered = dict.fromkeys([*(name for name, _ in stages(run.summary.means)), *sorted(row.stage for row in found)])
        every = [Row(editor, stage) for stage in ordered for editor in self._editors]
        self.rows = [row for row in every if row in found]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self._places)

    def cases(self) -> Iterator[list[CaseRecord]]:
        """Yield the lines of each case, cases in the order in which they first come in the file.

        Raises:
            InputError: If a line is no case record, or two lines of a case differ in what all of them share.
        """
        admission = Admission(self.run.file)
        with self._open() as file:
            for places in self._places.values():
                yield list(self._records(file, places, admission))

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read ({error.strerror}); the case records of a run were expected."
            ) from error

    def _look(self) -> set[Row]:
        """Find where the lines of each case stand, and return which rows there are."""
        seen: set[tuple[str, Row]] = set()
        offset = 0
        with self._open() as file:
            for number, content in enumerate(file, start=1):
                whose = parse_record(content, _Whose, f"{self.path}, line {number}")
                where = f"{self.path}, line {number}: case '{whose.case_id}' under '{whose.editor}'"
                if whose.run != self.run.digest:
                    raise InputError(f"{where}: field 'run': {whose.run}, {self.run.digest} was expected.")
                if whose.editor not in self._editors:
                    raise InputError(f"{where}: field 'editor': no such row in run.json.")
                key = (whose.case_id, Row(whose.editor, whose.stage))
                if key in seen:
                    raise InputError(f"{where}: stands twice; one line per case, editor and stage was expected.")
                seen.add(key)
                self._places[whose.case_id].append(_Place(offset, number))
                offset += len(content)
        return {row for _, row in seen}

    def _records(self, file: BinaryIO, places: list[_Place], admission: Admission) -> Iterator[CaseRecord]:
        first: CaseRecord | None = None
        for place in places:
            file.seek(place.offset)
            where = f"{self.path}, line {place.line}"
            record = admission.checked(parse_record(file.readline(), CaseRecord, where), where)
            first = first or record
            for field in SHARED:
                if (value := getattr(record, field)) != (expected := getattr(first, field)):
                    raise InputError(
                        f"{where}: field '{field}': {value!r}, {expected!r} was expected, as in line "
                        f"{places[0].line} of the same case."
                    )
            for score in record.scores:
                if score.probe is not None and not 0 <= score.probe < len(record.answers):
                    raise InputError(
                        f"{where}: field 'scores.probe': {score.probe}, but there are {len(record.answers)} answers."
                    )
            yield record
