"""The cases of a run as data for the browser: an index in columns, and chunks of cases, loaded one at a time.

`cases.jsonl` is ordered by editor as much as by case, so it is read twice: first for the offset of each line, then case
by case. Only the offsets are kept.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from instructedit.benchmark.results.records import Answer, CaseRecord, Measure, Protocol, Score
from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.editors.errors import InputError

from ..tables.columns import stages
from ..tables.run_facts import controls
from .collect import SiteRun
from .means import NAMES

CHUNK = 50
"""Cases of a data file: a third of a megabyte under nine editors, which a browser reads in some 10 ms."""
JUDGED: tuple[Protocol, ...] = ("teacher_forced_exact", "free_generation")
"""Protocols with scores of 0 or 1, by which the list of cases can be filtered."""
MEASURES: tuple[Measure, ...] = ("reliability", "generalization", "portability", "locality")
"""Measures by which it can be filtered."""
SHARED = ("task", "prompt", "target", "subject")
"""Fields in which all lines of a case agree."""


class Row(NamedTuple):
    """A row of a run at a stage; a case has one line of each."""

    editor: str
    stage: str


class Texts(dict[str, int]):
    """Texts of a chunk without repetition; the chunk refers to them by index."""

    def number(self, text: str | None) -> int | None:
        """Return the index of a text, None for none."""
        return None if text is None else self.setdefault(text, len(self))


class Cases:
    """The cases of one run.

    Attributes:
        rows: The rows that have lines, stage by stage, editors in the order of the run.

    Raises:
        InputError: If its lines cannot be read.
    """

    def __init__(self, run: SiteRun) -> None:
        self.run = run
        self._store = RunFolder(run.folder)
        self._places: dict[str, list[int]] = defaultdict(list)  # offsets of the lines of a case
        found = set()
        for key, offset in self._store.offsets(run.file).items():
            found.add(Row(key.editor, key.stage))
            self._places[key.case].append(offset)
        known = [name for name, _ in stages(mean.stage for mean in run.summary.means)]
        ordered = dict.fromkeys([*known, *sorted(row.stage for row in found)])
        every = [Row(row.name, stage) for stage in ordered for row in run.file.spec.editors]
        self.rows = [row for row in every if row in found]
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._columns: dict[str, list[str]] = {name: [] for name in ("case_id", *SHARED)}
        self._status: list[list[str]] = [[] for _ in self.rows]
        self._outcomes: dict[tuple[Protocol, Measure], list[list[str]]] = {
            (protocol, measure): [[] for _ in self.rows] for protocol in JUDGED for measure in MEASURES
        }

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self._places)

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Yield the content of each data file, `CHUNK` cases in each, and fill the index.

        Numbers in `cases` are indices into the chunk's `texts`, and into `rows` and `kinds` of the index.

        Raises:
            InputError: If a line cannot be read, or two lines of a case differ in what all of them share.
        """
        left = iter(self._places.values())
        while places := list(islice(left, CHUNK)):
            texts = Texts()
            cases = [self._case(self._store.read(of_case), texts) for of_case in places]
            yield {"texts": list(texts), "cases": cases}

    def index(self) -> dict[str, Any]:
        """Return the columns of the list of cases; complete once all chunks have been made.

        A character of `status` is the status of a case in a row: d(one), f(ailed), s(kipped), or - where there is no
        line. A digit of `outcomes`, by protocol and measure, is 1 where all scores of a case in a row are 1, 2 where
        some are not, and 0 where there are none; only measures with any score are there.
        """
        spec = self.run.file.spec
        places = {task: number for number, task in enumerate(spec.tasks)}
        found = {key: ["".join(column) for column in columns] for key, columns in self._outcomes.items()}
        measures = [m for m in MEASURES if any(text.strip("0") for p in JUDGED for text in found[p, m])]
        trained = {row.name: row.training.label if row.training else None for row in spec.editors}
        return {
            "size": len(self),
            "chunk": CHUNK,
            "rows": self.rows,
            "trained": [trained[row.editor] for row in self.rows],
            "stages": list(dict.fromkeys(row.stage for row in self.rows)),
            "controls": sorted(controls(self.run.file)),
            "protocols": [NAMES[protocol] for protocol in JUDGED],
            "judged": JUDGED,
            "measures": measures,
            "tasks": spec.tasks,
            "ids": self._columns["case_id"],
            **{name: self._columns[name] for name in ("prompt", "target", "subject")},
            "task": [places[task] for task in self._columns["task"]],
            "status": ["".join(column) for column in self._status],
            "outcomes": {protocol: {measure: found[protocol, measure] for measure in measures} for protocol in JUDGED},
            "kinds": list(self._kinds),
        }

    def _case(self, records: Sequence[CaseRecord], texts: Texts) -> dict[str, Any]:
        for record in records:
            for field in SHARED:
                if (value := getattr(record, field)) != (expected := getattr(records[0], field)):
                    raise InputError(
                        f"{self._store.cases}, case '{record.case_id}' under '{record.editor}': field '{field}': "
                        f"{value!r}, {expected!r} was expected, as in its first line."
                    )
        for name, column in self._columns.items():
            column.append(getattr(records[0], name))
        by_row = {Row(record.editor, record.stage): record for record in records}
        probes: dict[tuple[Any, ...], int] = {}
        rows = []
        for number, row in enumerate(self.rows):
            own = by_row.get(row)
            self._status[number].append(own.status[0] if own else "-")
            found = _outcomes(own.scores if own else ())
            for key, columns in self._outcomes.items():
                columns[number].append(found.get(key, "0"))
            if own:
                rows.append({"row": number, **self._line(own, probes, texts)})
        old = texts.number(records[0].old)
        case = {"probes": [_numbered(probe, texts) for probe in probes], "rows": rows}
        return case if old is None else {**case, "old": old}

    def _line(self, record: CaseRecord, probes: dict[tuple[Any, ...], int], texts: Texts) -> dict[str, Any]:
        """Return what a line adds to its case; empty fields are omitted."""
        scores: dict[int | None, list[float]] = defaultdict(list)
        for score in record.scores:
            scores[score.probe] += (self._kind(score), _rounded(score))
        answers = [
            (probes.setdefault(_probe(answer), len(probes)), texts.number(answer.generated), *scores.get(number, ()))
            for number, answer in enumerate(record.answers)
        ]
        line = {
            "status": record.status if record.status != "done" else None,
            "reason": texts.number(record.reason),
            "instruction": texts.number(record.instruction),
            "text": texts.number(record.text),
            "edit": [(texts.number(name), float(f"{value:.4g}")) for name, value in record.edit.items()],
            "unscored": [(texts.number(name), count) for name, count in record.unscored.items()],
            "scores": scores.get(None),
            "answers": answers,
        }
        return {name: value for name, value in line.items() if value not in (None, [])}

    def _kind(self, score: Score) -> int:
        kind = (score.measure, score.subset, score.derived, score.protocol, _digits(score.protocol))
        return self._kinds.setdefault(kind, len(self._kinds))


def _probe(answer: Answer) -> tuple[Any, ...]:
    """Return a probe without the row's answer: rows with the same probe share it."""
    own = (answer.prompt, answer.accepted, answer.opposed, answer.before, answer.reference)
    return (answer.role, answer.subset, answer.derived, *own)


def _numbered(probe: tuple[Any, ...], texts: Texts) -> tuple[Any, ...]:
    role, subset, derived, prompt, accepted, opposed, before, reference = probe
    read = [] if reference is None else [texts.number(reference)]
    one = map(texts.number, (subset, prompt, before))
    return (role, *one, [*map(texts.number, accepted)], [*map(texts.number, opposed)], int(derived), *read)


def _digits(protocol: Protocol) -> int:
    return {"kl_divergence": 3, "ngram_entropy": 1}.get(protocol, 2)


def _rounded(score: Score) -> float:
    value = round(score.value, _digits(score.protocol)) + 0.0
    return int(value) if value.is_integer() else value


def _outcomes(scores: Iterable[Score]) -> dict[tuple[Protocol, Measure], str]:
    """Return 1 for each protocol and measure all of whose values are one, 2 for the others that were scored."""
    found: dict[tuple[Protocol, Measure], str] = {}
    for score in scores:
        key = score.protocol, score.measure
        found[key] = "1" if score.value == 1.0 and found.get(key) != "2" else "2"
    return found
