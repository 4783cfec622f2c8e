"""Finished runs as files, with answers: an ordinary one, one whose every text is hostile, and one of any size."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from instructedit.benchmark.results.records import (
    Answer,
    CaseRecord,
    EditorSpec,
    RunFile,
    RunSummary,
    Score,
    TaskData,
    TrainingSpec,
)
from instructedit.benchmark.results.summary import summarise

from ..conftest import line, run_file

HOSTILE = (
    "<script>window.__hit = 1</script>",
    '"><img src=x onerror="window.__hit = 1">',
    "</script><svg onload='window.__hit = 1'>",
    "javascript:window.__hit=1//",
    "line\u2028separator\u2029paragraph",
    "\u202eright to left\u202c and \u0000 nothing",
    "{{ 7 * 7 }} {% raw %} ${window.__hit = 1}",
    "__proto__",
    "&lt;b&gt; & <!-- ' ` \\ \\u003c",
    "W" * 600,
)
"""Texts that a page must show literally. `__hit` is set if any of them is executed."""


DIGEST = "0123456789abcdef"
"""Digest of a run, unless another one is given."""


def make_run(
    name: str = DIGEST,
    editors: Sequence[str] = ("none", "ft-l", "grace"),
    tasks: Sequence[str] = ("zsre",),
    cases: int = 1,
) -> RunFile:
    """A run of single edits; `none` is its control."""
    base = run_file()
    spec = base.spec.model_copy(
        update={
            "editors": tuple(EditorSpec(name=editor, method=editor) for editor in editors),
            "tasks": tuple(tasks),
            "data": {task: {"data.json": "ab" * 32} for task in tasks},
            "readers": dict.fromkeys(tasks, "1"),
            "limit": None,
        }
    )
    data = tuple(base.data[0].model_copy(update={"task": task, "cases": cases, "skipped": {}}) for task in tasks)
    return base.model_copy(update={"digest": name, "spec": spec, "data": data})


def make_case(run: RunFile, case: str, editor: str, *, right: bool, kept: bool, **changes: object) -> CaseRecord:
    """A line with a reliability and a locality probe, each read by exact match and by free generation.

    The unedited model says `Rome.` and `Old town.`; a right edit says `Paris.`, a lost locality `New town.`
    """
    scores = [
        Score(measure=measure, subset=subset, protocol=protocol, value=float(value), probe=probe)
        for probe, (measure, subset, value) in enumerate((("reliability", "edit", right), ("locality", "other", kept)))
        for protocol in ("teacher_forced_exact", "free_generation")
    ]
    told = {"role": "reliability", "subset": "edit", "prompt": "The capital of A is", "accepted": ("Paris",)}
    asked = {"role": "locality", "subset": "other", "prompt": "The oldest part of B is its", "accepted": ("Old town",)}
    answers = (
        Answer(**told, before=" Rome.", generated=" Paris." if right else " Rome."),
        Answer(**asked, derived=True, before=" Old town.", generated=" Old town." if kept else " New town."),
    )
    made = line(run, run.spec.tasks[0], 0, editor, scores, case_id=case, target="Paris", answers=answers)
    return made.model_copy(update=changes)


def write_run(folder: Path, run: RunFile, lines: Sequence[CaseRecord], summary: RunSummary | None = None) -> Path:
    """Write the files of a finished run and return their folder."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    (folder / "cases.jsonl").write_text("".join(line.model_dump_json() + "\n" for line in lines), encoding="utf-8")
    summary = summary or summarise(run, lines)
    (folder / "summary.json").write_text(summary.model_dump_json(), encoding="utf-8")
    return folder


def ordinary(folder: Path) -> Path:
    """Three cases under three rows: FT-L is right in the first two and keeps the first, GRACE fails the third."""
    run = make_run(cases=3)
    edited = {
        "none": [(False, True)] * 3,
        "ft-l": [(True, True), (True, False), (False, False)],
        "grace": [(True, True)] * 3,
    }
    lines = [
        make_case(run, f"zsre/test/{number}", editor, right=right, kept=kept)
        for editor, outcomes in edited.items()
        for number, (right, kept) in enumerate(outcomes)
    ]
    lines[-1] = lines[-1].model_copy(
        update={"status": "failed", "reason": "The loss is not a number.", "scores": (), "answers": ()}
    )
    return write_run(folder, run, lines)


def hostile(folder: Path) -> Path:
    """One case for each hostile text, in every free field: names, prompts, answers, reasons."""
    editors = tuple(f"editor {text}" for text in HOSTILE[:3])
    run = make_run(editors=editors, tasks=HOSTILE[:2], cases=len(HOSTILE))
    trained = TrainingSpec(
        label=HOSTILE[1],
        tasks=(HOSTILE[0],),
        weights={HOSTILE[0]: 1.0},
        cases={HOSTILE[0]: 1},
        validation={HOSTILE[0]: 1},
        digest="0",
        checkpoint=HOSTILE[0],
    )
    rows = tuple(row.model_copy(update={"training": trained, "instruction": HOSTILE[2]}) for row in run.spec.editors)
    origin = run.provenance.model_copy(
        update={"model": HOSTILE[0], "command": list(HOSTILE[:9]), "platform": HOSTILE[1]}
    )
    data = tuple(
        TaskData.model_validate({**of.model_dump(), "licence": HOSTILE[0], "source": HOSTILE[1]}) for of in run.data
    )
    run = run.model_copy(
        update={
            "name": HOSTILE[0],
            "provenance": origin,
            "data": data,
            "spec": run.spec.model_copy(update={"editors": rows, "setting": HOSTILE[2]}),
        }
    )
    lines = [
        _hostile(make_case(run, f"{text}/{number}", editor, right=True, kept=True), text)
        for editor in editors
        for number, text in enumerate(HOSTILE)
    ]
    summary = summarise(run, lines).model_copy(update={"valid": False, "invalid_reason": HOSTILE[0]})
    return write_run(folder, run, lines, summary)


def _hostile(line: CaseRecord, text: str) -> CaseRecord:
    answers = tuple(
        answer.model_copy(
            update={
                "prompt": text,
                "subset": text,
                "accepted": (text,),
                "opposed": (text,),
                "before": f"before {text}",
                "generated": f"after {text}",
            }
        )
        for answer in line.answers
    )
    scores = tuple(score.model_copy(update={"subset": text}) for score in line.scores)
    changes = {
        **dict.fromkeys(("prompt", "target", "subject", "instruction", "text"), text),
        "unscored": {text: 1},
        "edit": {text: 1.0},
        "answers": answers,
        "scores": scores,
    }
    return line.model_copy(update=changes)


def large(folder: Path, cases: int, editors: int, tell: Callable[[str], object] = lambda _: None) -> Path:
    """A run of any size, with ten probes a case and fluency texts as long as the runner's; written line by line.

    It has a digest of its own, which names its folder in the given one.
    """
    run = make_run(editors=("none", *(f"editor-{number}" for number in range(1, editors))), cases=cases)
    run = run.model_copy(update={"digest": run.spec.digest})
    folder /= run.digest
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    few = []
    with (folder / "cases.jsonl").open("w", encoding="utf-8") as file:
        for line in _large(run, cases):
            file.write(line.model_dump_json() + "\n")
            if int(line.case_id.rpartition("/")[2]) < 20:
                few.append(line)
    tell(f"{(folder / 'cases.jsonl').stat().st_size / 1e6:.0f} MB of lines")
    # The means of twenty cases do for a table; of all it would take minutes that are not the site's.
    (folder / "summary.json").write_text(summarise(run, few).model_dump_json(), encoding="utf-8")
    return folder


def _large(run: RunFile, cases: int) -> Iterator[CaseRecord]:
    roles = ("reliability", *["generalization"] * 2, *["portability"] * 3, *["locality"] * 4)
    for editor_number, editor in enumerate(run.spec.editors):
        for case in range(cases):
            subject = f"Person {case * 7919 % 100_003} of Town {case % 977}"
            answers, scores = [], []
            for probe, role in enumerate(roles):
                hit = (case * 31 + probe * 17 + editor_number * 13) % 10 < 6
                before = f" Answer {case % 89}-{probe} of old times. It was said before."
                after = (
                    f" Answer {case % 97}-{probe}-{editor_number} of new times. It was said after." if hit else before
                )
                answers.append(
                    Answer(
                        role=role,
                        subset=f"{role}-{probe % 2}",
                        prompt=f"What number {probe} is asked about {subject}, who has been there for years, is",
                        accepted=(f"Answer {case % 89}-{probe}", f"The answer {case % 89}-{probe}"),
                        before=before,
                        generated=after,
                    )
                )
                scores += [
                    Score(measure=role, subset=f"{role}-{probe % 2}", protocol=protocol, value=value, probe=probe)
                    for protocol, value in (
                        ("teacher_forced_token", (case % 7) / 7),
                        ("teacher_forced_exact", float(hit)),
                        ("free_generation", float(not hit)),
                    )
                ]
            words = " ".join(f"word{(case * 13 + word * editor_number) % 5003}" for word in range(60))
            yield CaseRecord(
                run=run.digest,
                task=run.spec.tasks[0],
                case_id=f"zsre/test/{case}",
                editor=editor.name,
                prompt=f"The place where {subject} was born is",
                target=f"Town {case % 1013}",
                subject=subject,
                scores=(
                    *scores,
                    Score(measure="fluency", subset="text", protocol="ngram_entropy", value=500.0 + case % 90),
                ),
                answers=tuple(answers),
                text=words,
                edit={"delta_norm": 0.5 + editor_number},
            )
