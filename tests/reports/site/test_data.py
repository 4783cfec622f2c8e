"""The data files: nothing of the lines is lost, nothing is said of them that they do not say."""

import json

import pytest

from instructedit.benchmark.results.records import CaseRecord, RunSummary
from instructedit.editors.errors import InputError
from instructedit.reports.site import cases as cases_module
from instructedit.reports.site.cases import Cases
from instructedit.reports.site.collect import collect
from instructedit.reports.site.means import table
from instructedit.reports.site.write import data_script

from ..suites import trained, write_index
from ..suites import write_run as write_suite_run
from .runs import HOSTILE, make_case, make_run, ordinary, write_run


def loaded(folder):
    return Cases(collect(folder).runs[0])


def lines_of(folder):
    return [CaseRecord.model_validate_json(line) for line in (folder / "cases.jsonl").read_text().splitlines()]


def decoded(index, chunks):
    """Undo the numbering: by case, editor and stage what a line said."""
    found = {}
    for number, chunk in enumerate(chunks):
        texts = [*chunk["texts"]]

        def text(place, texts=texts):
            return None if place is None else texts[place]

        for offset, case in enumerate(chunk["cases"]):
            place = number * index["chunk"] + offset
            for row in case["rows"]:
                answers = []
                for probe, generated, *flat in row.get("answers", []):
                    role, subset, prompt, before, accepted, opposed, derived = case["probes"][probe]
                    scores = {index["kinds"][kind][3]: value for kind, value in zip(flat[::2], flat[1::2], strict=True)}
                    said = (role, text(subset), bool(derived), text(prompt), text(before), text(generated))
                    answers.append((*said, [*map(text, accepted)], [*map(text, opposed)], scores))
                found[index["ids"][place], *index["rows"][row["row"]]] = (
                    row.get("status", "done"),
                    text(row.get("reason")),
                    {text(name): value for name, value in row.get("edit", [])},
                    {text(name): value for name, value in row.get("unscored", [])},
                    answers,
                )
    return found


def test_script_is_json_and_ends_no_script():
    text = data_script("0/1", [*HOSTILE])
    assert "<" not in text
    assert "\u2028" not in text
    assert "\u2029" not in text
    assert json.loads(text.removeprefix('siteData["0/1"]=').removesuffix(";\n")) == [*HOSTILE]


def test_script_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="not JSON compliant"):
        data_script("0/1", [float("nan")])


def test_chunks_hold_every_line(tmp_path, monkeypatch):
    monkeypatch.setattr(cases_module, "CHUNK", 2)
    folder = ordinary(tmp_path / "run")
    found = loaded(folder)
    chunks = list(found.chunks())
    assert [len(chunk["cases"]) for chunk in chunks] == [2, 1]
    lines = decoded(found.index(), chunks)
    expected = {}
    for line in lines_of(folder):
        answers = [
            (
                *(answer.role, answer.subset, answer.derived, answer.prompt, answer.before, answer.generated),
                list(answer.accepted),
                list(answer.opposed),
                {score.protocol: score.value for score in line.scores if score.probe == number},
            )
            for number, answer in enumerate(line.answers)
        ]
        expected[line.case_id, line.editor, line.stage] = (line.status, line.reason, line.edit, line.unscored, answers)
    assert lines == expected


def test_index_says_what_became_of_each_case(tmp_path):
    found = loaded(ordinary(tmp_path / "run"))
    list(found.chunks())
    index = found.index()
    assert index["ids"] == ["zsre/test/0", "zsre/test/1", "zsre/test/2"]
    assert [*map(list, index["rows"])] == [["none", "single"], ["ft-l", "single"], ["grace", "single"]]
    assert index["status"] == ["ddd", "ddd", "ddf"]
    assert index["measures"] == ["reliability", "locality"]
    # yes 1, no 2, a failure 0: none is wrong and kept, FT-L is right in two and keeps one
    outcomes = {"reliability": ["222", "112", "110"], "locality": ["111", "122", "110"]}
    assert index["outcomes"] == {"teacher_forced_exact": outcomes, "free_generation": outcomes}
    assert index["controls"] == ["none"]


def test_case_is_not_right_by_halves(tmp_path):
    run = make_run(editors=("ft-l",))
    line = make_case(run, "zsre/test/0", "ft-l", right=True, kept=True)
    half = line.scores[0].model_copy(update={"value": 0.5})
    found = loaded(write_run(tmp_path / "run", run, [line.model_copy(update={"scores": (*line.scores, half)})]))
    list(found.chunks())
    by_protocol = {protocol: found["reliability"] for protocol, found in found.index()["outcomes"].items()}
    assert by_protocol == {"teacher_forced_exact": ["2"], "free_generation": ["1"]}


def test_scores_are_rounded_as_the_terminal_does(tmp_path):
    run = make_run(editors=("ft-l",))
    line = make_case(run, "zsre/test/0", "ft-l", right=True, kept=True)
    scores = [
        line.scores[0].model_copy(update={"protocol": "teacher_forced_token", "value": value})
        for value in (0.125, 2 / 3)
    ]
    found = loaded(write_run(tmp_path / "run", run, [line.model_copy(update={"scores": tuple(scores)})]))
    (chunk,) = found.chunks()
    _, _, *flat = chunk["cases"][0]["rows"][0]["answers"][0]
    assert flat[1::2] == [float(f"{0.125:.2f}"), 0.67]


def changed(lines, **changes):
    return [lines[0], lines[1].model_copy(update=changes)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda lines: changed(lines, run="f" * 16),
            "run: 0123456789abcdef was expected, found ffff",
        ),
        (lambda lines: changed(lines, editor="mend"), "row: a row and task of run.json was expected, found row 'mend'"),
        (
            lambda lines: changed(lines, editor="ft-l"),
            "'ft-l': case: one line for each case, row and stage",
        ),
        (
            lambda lines: changed(lines, target="Oslo"),
            "under 'grace': field 'target': 'Oslo', 'Paris' was expected, as in its first line",
        ),
        (
            lambda lines: changed(lines, answers=lines[1].answers[:1]),
            "probe: one of 1 answers was expected, found 1",
        ),
        (
            lambda lines: changed(lines, task="other", case_id="o"),
            "row: a row and task of run.json was expected, found row 'grace', task 'other'",
        ),
    ],
)
def test_lines_that_do_not_fit_are_refused(change, words, tmp_path):
    run = make_run(editors=("ft-l", "grace"))
    lines = [make_case(run, "zsre/test/0", editor, right=True, kept=True) for editor in ("ft-l", "grace")]
    folder = write_run(tmp_path / "run", run, lines)
    (folder / "cases.jsonl").write_text("".join(line.model_dump_json() + "\n" for line in change(lines)))
    with pytest.raises(InputError, match=r"cases\.jsonl, ") as error:
        list(loaded(folder).chunks())
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"schema_version": 2, "run": ', "line 10: not valid JSON"),
        ('{"schema_version": 3}', "line 10: schema version 3, but this program reads version 2"),
        ('{"schema_version": 2, "run": "0123456789abcdef", "editor": "none"}', "line 10: field 'task': Field required"),
        (
            '{"schema_version": 2, "run": "0123456789abcdef", "editor": "none", "case_id": "new"}',
            "line 10: field 'task': Field required",
        ),
    ],
)
def test_broken_line_is_one_sentence(line, words, tmp_path):
    folder = ordinary(tmp_path / "run")
    with (folder / "cases.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError) as error:
        list(loaded(folder).chunks())
    assert words in str(error.value)


def test_missing_lines_are_said(tmp_path):
    folder = ordinary(tmp_path / "run")
    (folder / "cases.jsonl").unlink()
    with pytest.raises(InputError, match=r"cases\.jsonl: cannot be read"):
        loaded(folder)


def rows_of(site):
    found = table(site)
    texts = {name: [column["values"][code] for code in column["codes"]] for name, column in found["texts"].items()}
    columns = {**texts, **found["numbers"]}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_every_mean_is_a_row_as_it_is_printed(tmp_path):
    folder = ordinary(tmp_path / "run")
    path = folder / "summary.json"
    summary = RunSummary.model_validate_json(path.read_text())
    # 6.25 is rounded to the even digit by Python, and up by a browser.
    first = summary.means[0].model_copy(update={"mean": 0.0625, "low": 0.0, "high": 0.1875})
    path.write_text(summary.model_copy(update={"means": (first, *summary.means[1:])}).model_dump_json())
    rows = rows_of(collect(folder))
    assert len(rows) == len(summary.means)
    (row,) = (row for row in rows if row["mean"] == 6.2)
    assert row == {
        "runs": "0123456789abcdef",
        "label": "single-task",
        "model": "tiny_gpt2",
        "split": "test",
        "seeds": "7",
        "stage": "single",
        "task": first.task,
        "measure": first.measure,
        "subset": "over subsets",
        "protocol": "exact match, teacher forced",
        "editor": first.editor,
        "interval": "",
        "mean": 6.2,
        "low": 0.0,
        "high": 18.8,
        "sd": None,
        "n": first.n,
    }


def test_a_mean_without_an_interval_says_why_in_the_words_of_the_tables(tmp_path):
    folder = ordinary(tmp_path / "run")
    path = folder / "summary.json"
    summary = RunSummary.model_validate_json(path.read_text())
    none = {"low": None, "high": None}
    first, second = (
        mean.model_copy(update={**none, "method": method, "mean": value})
        for mean, method, value in zip(summary.means, ("definition", "none"), (0.111, 0.222), strict=False)
    )
    path.write_text(summary.model_copy(update={"means": (first, second, *summary.means[2:])}).model_dump_json())
    words = {row["mean"]: row["interval"] for row in rows_of(collect(folder)) if row["mean"] in (11.1, 22.2)}
    assert words == {11.1: "by definition", 22.2: "no interval"}


def test_means_of_an_invalid_run_say_so(tmp_path):
    folder = ordinary(tmp_path / "run")
    path = folder / "summary.json"
    summary = RunSummary.model_validate_json(path.read_text())
    path.write_text(summary.model_copy(update={"valid": False, "invalid_reason": "It broke."}).model_dump_json())
    assert {row["label"] for row in rows_of(collect(folder))} == {"single-task (INVALID)"}


def test_means_over_seeds_name_every_run(tmp_path):
    from instructedit.benchmark.results.run_folder import write_record
    from instructedit.benchmark.results.suite_summary import summarise_suite

    rows = [trained("mend", "recent")]
    entries = [
        write_suite_run(tmp_path, "multi-task", rows, seed, lambda row, task, seed, index: float(index < 5 + seed))
        for seed in (0, 1)
    ]
    suite = write_index(tmp_path, *entries)
    write_record(tmp_path / "suite.json", summarise_suite(tmp_path, suite))
    found = rows_of(collect(tmp_path))
    together = [row for row in found if row["seeds"] == "0, 1"]
    assert [(row["mean"], row["n"], row["runs"]) for row in together] == [
        (55.0, 10, f"{entries[0].digest} {entries[1].digest}")
    ]
    apart = {row["seeds"]: row["mean"] for row in found if row["subset"] == "over subsets" and row not in together}
    assert apart == {"0": 50.0, "1": 60.0}
