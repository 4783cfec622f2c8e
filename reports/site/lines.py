"""The lines of `cases.jsonl` case by case, in constant memory.

The file is ordered by editor as much as by case, so it is read twice: first for the offset of each line, then case by
case. An offset and a number are kept for each line, some 30 MB for 180,000 lines.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pydantic import ConfigDict

from instructedit.benchmark.results.integrity import LineChecks
from instructedit.benchmark.results.records import CaseRecord, Record, parse_record
from instructedit.editors.errors import InputError

from ..tables.columns import stages
from .collect import SiteRun

SHARED = ("task", "prompt", "target", "subject")
"""Fields in which all lines of a case agree."""


class Row(NamedTuple):
    """A row of a run at a stage; a case has one line of each."""

    editor: str
    stage: str


class _Key(Record):
    """The fields of a line that identify it."""

    model_config = ConfigDict(extra="ignore")

    case_id: str
    editor: str
    stage: str = "single"


class Lines:
    """The lines of a run.

    Attributes:
        rows: The rows that have lines, stage by stage, editors in the order of the run.

    Raises:
        InputError: If a line cannot be read.
    """

    def __init__(self, run: SiteRun) -> None:
        self.run = run
        self.path = run.folder / "cases.jsonl"
        self._places: dict[str, list[tuple[int, int]]] = defaultdict(list)  # offset and number of the lines of a case
        found, offset = set[Row](), 0
        with self._open() as file:
            for number, content in enumerate(file, start=1):
                key = parse_record(content, _Key, f"{self.path}, line {number}")
                found.add(Row(key.editor, key.stage))
                self._places[key.case_id].append((offset, number))
                offset += len(content)
        known = [name for name, _ in stages(mean.stage for mean in run.summary.means)]
        ordered = dict.fromkeys([*known, *sorted(row.stage for row in found)])
        every = [Row(row.name, stage) for stage in ordered for row in run.file.spec.editors]
        self.rows = [row for row in every if row in found]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self._places)

    def cases(self) -> Iterator[list[CaseRecord]]:
        """Yield the lines of each case, cases in the order of their first lines.

        Raises:
            InputError: If a line is no case record or cannot be one of the run, or two lines of a case differ in what
                all of them share.
        """
        admission = LineChecks(self.run.file)
        with self._open() as file:
            for places in self._places.values():
                yield list(self._read(file, places, admission))

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read ({error.strerror}); the case records of a run were expected."
            ) from error

    def _read(self, file: BinaryIO, places: list[tuple[int, int]], admission: LineChecks) -> Iterator[CaseRecord]:
        first: CaseRecord | None = None
        for offset, number in places:
            file.seek(offset)
            where = f"{self.path}, line {number}"
            record = admission.checked(parse_record(file.readline(), CaseRecord, where), where)
            first = first or record
            for field in SHARED:
                if (value := getattr(record, field)) != (expected := getattr(first, field)):
                    raise InputError(
                        f"{where}: field '{field}': {value!r}, {expected!r} was expected, as in line {places[0][1]} of "
                        "the same case."
                    )
            for score in record.scores:
                if score.probe is not None and not 0 <= score.probe < len(record.answers):
                    raise InputError(
                        f"{where}: field 'scores.probe': {score.probe}, but there are {len(record.answers)} answers."
                    )
            yield record
