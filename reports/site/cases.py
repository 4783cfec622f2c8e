"""The cases of a run as data for the browser: an index in columns, and chunks of cases that are loaded one at a time.

`cases.jsonl` is ordered by editor as much as by case, so it is read twice: once for where the lines of each case stand,
and then case by case. What is held in memory is one chunk, the index, and two integers for each line.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic import ConfigDict

from instructedit.benchmark.results import Answer, CaseRecord, Protocol, Record, Score, parse_record
from instructedit.editors.errors import InputError

from ..notes import controls
from ..tables import stages
from .collect import SiteRun
from .means import NAMES, stage

CHUNK = 50
"""Cases of a data file: a third of a megabyte under nine editors, which a browser reads in some 10 ms."""
JUDGED: tuple[Protocol, ...] = ("teacher_forced_exact", "free_generation")
"""Protocols whose scores are right or wrong, so that a list of cases can be filtered by them."""

_FIELDS = ("task", "prompt", "target", "subject")
"""What all lines of a case agree in."""


class _Line(Record):
    """The part of a line that says whose it is."""

    model_config = ConfigDict(extra="ignore")

    run: str
    case_id: str
    editor: str
    stage: str = "single"


class _Place(NamedTuple):
    offset: int
    line: int


class _Row(NamedTuple):
    """A column of outcomes: an editor at a stage."""

    editor: str
    stage: str


class Chunk(NamedTuple):
    """Cases `CHUNK * number` and on.

    Attributes:
        number: Its place.
        content: `texts` and `cases`; numbers in the cases are places in the texts, in the index' rows, and in its kinds
            of scores.
    """

    number: int
    content: dict[str, Any]


class Cases:
    """The cases of one run.

    Args:
        run: The run.

    Raises:
        InputError: If its lines cannot be read, are of another run, or one stands twice.
    """

    def __init__(self, run: SiteRun) -> None:
        self.run = run
        self.path = run.folder / "cases.jsonl"
        self._places, found = self._look()
        ordered = dict.fromkeys([*(name for name, _ in stages(run.summary.means)), *sorted(row.stage for row in found)])
        every = [_Row(row.name, name) for name in ordered for row in run.file.spec.editors]
        self.rows = [row for row in every if row in found]
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._columns: dict[str, list[str]] = {name: [] for name in ("ids", *_FIELDS)}
        self._status: list[list[str]] = [[] for _ in self.rows]
        self._outcomes: list[list[list[str]]] = [[[] for _ in self.rows] for _ in JUDGED]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self._places)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all cases, `CHUNK` at a time, and fill the index.

        Raises:
            InputError: If a line is no case record, or two lines of a case differ in what all of them have.
        """
        ids = list(self._places)
        with self._open() as file:
            for number, start in enumerate(range(0, len(ids), CHUNK)):
                texts: dict[str, int] = {}
                cases = [self._case(file, case, texts) for case in ids[start : start + CHUNK]]
                yield Chunk(number, {"texts": list(texts), "cases": cases})

    def index(self) -> dict[str, Any]:
        """Return the columns of the list of cases; complete once all chunks have been made.

        A character of `status` is the status of a case in a row: d(one), f(ailed), s(kipped), or - where there is no
        line. A digit of `outcomes` is 3 edited + kept, each 0 where it was not scored, 1 for yes and 2 for no.
        """
        spec = self.run.file.spec
        places = {task: number for number, task in enumerate(spec.tasks)}
        found = {row.stage: stage(spec, row.stage) for row in self.rows}
        trained = {row.name: row.training.label if row.training else None for row in spec.editors}
        return {
            "size": len(self),
            "chunk": CHUNK,
            "rows": [[row.editor, found[row.stage]] for row in self.rows],
            "trained": [trained[row.editor] for row in self.rows],
            "stages": list(found.values()),
            "controls": sorted(controls(self.run.file)),
            "protocols": [NAMES[protocol] for protocol in JUDGED],
            "tasks": list(spec.tasks),
            **{name: self._columns[name] for name in ("ids", "prompt", "target", "subject")},
            "task": [places[task] for task in self._columns["task"]],
            "status": ["".join(column) for column in self._status],
            "outcomes": [["".join(column) for column in of_protocol] for of_protocol in self._outcomes],
            "kinds": [list(kind) for kind in self._kinds],
        }

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read ({error.strerror}); the case records of a run were expected."
            ) from error

    def _look(self) -> tuple[dict[str, list[_Place]], set[_Row]]:
        """Return where the lines of each case stand, cases in the order of the file, and which rows there are."""
        places: dict[str, list[_Place]] = defaultdict(list)
        seen: set[tuple[str, str, str]] = set()
        editors = {row.name for row in self.run.file.spec.editors}
        found: set[_Row] = set()
        offset = 0
        with self._open() as file:
            for number, content in enumerate(file, start=1):
                line = parse_record(content, _Line, f"{self.path}, line {number}")
                place = f"{self.path}, line {number}: case '{line.case_id}' under '{line.editor}'"
                if line.run != self.run.digest:
                    raise InputError(f"{place}: field 'run': {line.run}, {self.run.digest} was expected.")
                if line.editor not in editors:
                    raise InputError(f"{place}: field 'editor': no such row in run.json.")
                key = (line.case_id, line.editor, line.stage)
                if key in seen:
                    raise InputError(f"{place}: stands twice; one line per case, editor and stage was expected.")
                seen.add(key)
                places[line.case_id].append(_Place(offset, number))
                found.add(_Row(line.editor, line.stage))
                offset += len(content)
        return dict(places), found

    def _case(self, file: BinaryIO, case: str, texts: dict[str, int]) -> dict[str, Any]:
        records = list(self._records(file, self._places[case]))
        for name, value in zip(("ids", *_FIELDS), (case, *(getattr(records[0], field) for field in _FIELDS)), strict=True):
            self._columns[name].append(value)
        by_row = {_Row(record.editor, record.stage): record for record in records}
        probes: dict[tuple[Any, ...], int] = {}
        rows = []
        for number, row in enumerate(self.rows):
            record = by_row.get(row)
            self._status[number].append(record.status[0] if record else "-")
            for protocol, columns in zip(JUDGED, self._outcomes, strict=True):
                columns[number].append(_outcome(record.scores, protocol) if record else "0")
            if record:
                rows.append({"row": number, **self._line(record, probes, texts)})
        return {"probes": [_numbered(probe, texts) for probe in probes], "rows": rows}

    def _records(self, file: BinaryIO, places: Sequence[_Place]) -> Iterator[CaseRecord]:
        first: CaseRecord | None = None
        for place in places:
            file.seek(place.offset)
            record = parse_record(file.readline(), CaseRecord, f"{self.path}, line {place.line}")
            if first is None:
                first = record
                if record.task not in self.run.file.spec.tasks:
                    raise InputError(f"{self.path}, line {place.line}: field 'task': no such task in run.json.")
            for field in _FIELDS:
                if (value := getattr(record, field)) != (expected := getattr(first, field)):
                    raise InputError(
                        f"{self.path}, line {place.line}: field '{field}': {value!r}, {expected!r} was expected, as in "
                        f"line {places[0].line} of the same case."
                    )
            yield record

    def _line(self, record: CaseRecord, probes: dict[tuple[Any, ...], int], texts: dict[str, int]) -> dict[str, Any]:
        """Return what a line adds to its case; what is not there is left out."""
        scores: dict[int | None, list[float]] = defaultdict(list)
        for score in record.scores:
            scores[score.probe] += (self._kind(score), _rounded(score))
        answers = [
            [
                probes.setdefault(_probe(answer), len(probes)),
                _number(answer.generated, texts),
                *scores.get(number, ()),
            ]
            for number, answer in enumerate(record.answers)
        ]
        beyond = [probe for probe in scores if probe is not None and probe >= len(record.answers)]
        if beyond:
            raise InputError(
                f"{self.path}: case '{record.case_id}' under '{record.editor}': field 'probe': {beyond[0]}, but there are "
                f"{len(record.answers)} answers."
            )
        line = {
            "status": record.status if record.status != "done" else None,
            "reason": _number(record.reason, texts),
            "instruction": _number(record.instruction, texts),
            "text": _number(record.text, texts),
            "edit": [[_number(name, texts), float(f"{value:.4g}")] for name, value in record.edit.items()],
            "unscored": [[_number(name, texts), count] for name, count in record.unscored.items()],
            "scores": scores.get(None),
            "answers": answers,
        }
        return {name: value for name, value in line.items() if value not in (None, [])}

    def _kind(self, score: Score) -> int:
        kind = (score.measure, score.subset, score.derived, score.protocol, _digits(score.protocol))
        return self._kinds.setdefault(kind, len(self._kinds))


def _probe(answer: Answer) -> tuple[Any, ...]:
    return (answer.role, answer.subset, answer.derived, answer.prompt, answer.accepted, answer.opposed, answer.before)


def _numbered(probe: tuple[Any, ...], texts: dict[str, int]) -> list[Any]:
    role, subset, derived, prompt, accepted, opposed, before = probe
    return [
        role,
        *(_number(text, texts) for text in (subset, prompt, before)),
        *([_number(text, texts) for text in several] for several in (accepted, opposed)),
        int(derived),
    ]


def _number(text: str | None, texts: dict[str, int]) -> int | None:
    """Return a text's place among those of the chunk; most stand there several times."""
    return None if text is None else texts.setdefault(text, len(texts))


def _digits(protocol: Protocol) -> int:
    return {"kl_divergence": 3, "ngram_entropy": 1}.get(protocol, 2)


def _rounded(score: Score) -> float:
    value = round(score.value, _digits(score.protocol)) + 0.0
    return int(value) if value.is_integer() else value


def _outcome(scores: Iterable[Score], protocol: Protocol) -> str:
    edited, kept = (
        [score.value for score in scores if score.protocol == protocol and score.measure == measure]
        for measure in ("reliability", "locality")
    )
    return str(3 * _yes(edited) + _yes(kept))


def _yes(values: Sequence[float]) -> int:
    """Return 0 for no values, 1 where all of them are one, else 2."""
    return 0 if not values else 1 if min(values) == 1.0 else 2
