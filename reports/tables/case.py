"""One case in the terminal: its prompts, and the model's answers before the edit and under each editor."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from instructedit.benchmark.results.integrity import LineChecks, read_run
from instructedit.benchmark.results.records import CaseRecord, Score, parse_record
from instructedit.editors.errors import InputError

from ..render.literal import literal
from ..render.terminal import plain
from .run_facts import controls


@dataclass(frozen=True, slots=True)
class Case:
    """The records of one case of a run.

    Attributes:
        records: Its records, editor by editor in the order of the file.
        controls: The run's editors that edit nothing.
    """

    records: tuple[CaseRecord, ...]
    controls: frozenset[str]

    def label(self, record: CaseRecord) -> str:
        """Return the name of a record: its editor and, where the case has several stages, its stage."""
        several = len({other.stage for other in self.records}) > 1
        return f"{record.editor}, {record.stage}" if several else record.editor


def load_case(directory: Path, case: str) -> Case:
    """Read one case of a run.

    Raises:
        InputError: If the run has no such case, or its files cannot be read.
    """
    run = read_run(directory / "run.json")
    path = directory / "cases.jsonl"
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the case records of a run.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    # The text after the last line end is an unfinished line of a killed run.
    lines = content.split(b"\n")[:-1]
    admission = LineChecks(run)
    places = ((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1))
    records = [admission.checked(parse_record(line, CaseRecord, place), place) for place, line in places]
    found = [record for record in records if record.case_id == case]
    if not found:
        known = list(dict.fromkeys(record.case_id for record in records))
        near = get_close_matches(case, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise InputError(f"{path}: no case '{case}' among {len(known)}.{hint}")
    return Case(tuple(found), controls(run))


def draw_case(case: Case, console: Console) -> None:
    """Print a case's edit, then for each probe the accepted answers, and the answer and scores of each edited model.

    Where no row of the case is a control, a row `before` shows the answer of the unedited model, without scores.
    """
    records = case.records
    first = records[0]
    console.print(Text.assemble(("case    ", "bold"), first.case_id, ("   run ", "bold"), first.run))
    console.print(
        Text.assemble(("edit    ", "bold"), literal(first.prompt), " ", (literal(first.target), "bold green"))
    )
    if first.old is not None:
        known = next((score.value for score in first.scores if score.protocol == "known_before"), None)
        words = "" if known is None else " (known before the edit)" if known else " (not known before the edit)"
        console.print(Text.assemble(("old     ", "bold"), literal(first.old), (words, "dim")))
    if first.subject:
        console.print(Text.assemble(("subject ", "bold"), literal(first.subject)))
    for record in records:
        if record.status != "done":
            console.print(plain(f"{case.label(record)}: {record.status}: {record.reason}", "red"))
    done = [record for record in records if record.status == "done"]
    for number in range(max((len(record.answers) for record in done), default=0)):
        _draw_probe(case, done, number, console)
    for record in done:
        if record.text is not None:
            entropy = next((f"{s.value:.1f}" for s in record.scores if s.measure == "fluency"), "-")
            console.print()
            console.print(
                Text.assemble(
                    (f"{case.label(record)} continues (entropy {entropy}): ", "bold"),
                    literal(" ".join(record.text.split())),
                )
            )


def _draw_probe(case: Case, records: list[CaseRecord], number: int, console: Console) -> None:
    probe = records[0].answers[number]
    mark = " (derived)" if probe.derived else ""
    console.print()
    console.print(Text.assemble((f"{probe.role} / {probe.subset}{mark}: ", "bold"), literal(probe.prompt)))
    own = "" if probe.reference is None else f"none; read along: {probe.reference.strip()!r}, the unedited model's own"
    console.print(Text.assemble(("accepted: ", "dim"), (literal(own or " | ".join(probe.accepted) or "none"), "dim")))
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    grid.add_column("editor", no_wrap=True)
    grid.add_column("answer (free generation)", ratio=1)
    grid.add_column("scores", justify="right")
    if probe.before is not None and not any(record.editor in case.controls for record in records):
        grid.add_row(Text("before", "italic"), _said(probe.before), "")
    for record in records:
        scores = [s for s in record.scores if s.probe == number and s.protocol != "known_before"]
        answer = _said(record.answers[number].generated)
        grid.add_row(Text(case.label(record)), answer, Text("  ".join(_short(score) for score in scores)))
    console.print(grid)


def _said(text: str | None) -> Text:
    return Text("not generated", "dim") if text is None else plain(" ".join(text.split()) or "(nothing)")


def _short(score: Score) -> str:
    words = {
        "teacher_forced_token": "token",
        "teacher_forced_exact": "exact",
        "free_generation": "free",
        "edit_success": "ES",
        "kl_divergence": "KL",
        "probability_order": "order",
        "reversion": "reverted",
    }
    return f"{words.get(score.protocol, score.protocol)} {score.value:.2f}"
