"""Each kind of tampering is refused with its reason; what is not tampered with passes."""

from pathlib import Path
from typing import Any

import pytest

from instructedit.benchmark.results.records import CaseRecord, RunFile
from instructedit.benchmark.scoring.matching import matches
from instructedit.reports.leaderboard.archive import MANIFEST
from instructedit.reports.leaderboard.line_checks import check_line
from instructedit.reports.leaderboard.validate import Verdict, validate

from .conftest import Files
from .tampers import Tamper, answer, score
from .tampers_files import CASES


def reasons(verdict: Verdict) -> str:
    return "\n".join(map(str, verdict.findings.found))


@pytest.mark.parametrize(("tamper", "words"), CASES)
def test_tampering_is_refused_with_its_reason(tamper: Tamper, words: tuple[str, ...], files: Files, tmp_path: Path):
    tamper(files)
    verdict = validate(files.write(tmp_path / "s"))
    assert not verdict.accepted
    for word in words:
        assert word in reasons(verdict)


@pytest.mark.parametrize("row", ["ft-l", "none"])
def test_a_probe_left_out_in_one_row_is_found_without_the_data(row: str, results: Path):
    lines = [CaseRecord.model_validate_json(line) for line in (results / "cases.jsonl").read_text().splitlines()]
    run = RunFile.model_validate_json((results / "run.json").read_text())
    spec = next(editor for editor in run.spec.editors if editor.name == row)
    line = next(line for line in lines if line.editor == row)
    first = next(other for other in lines if (other.case_id, other.editor) == (line.case_id, "mend"))
    last = len(line.answers) - 1
    scores = tuple(score for score in line.scores if score.probe != last)
    less = line.model_copy(update={"answers": line.answers[:-1], "scores": scores})
    assert list(check_line(line, spec, run.spec, first, None)) == []
    assert ("answers", f"{last + 1} entries", last) in list(check_line(less, spec, run.spec, first, None))


def test_what_is_not_tampered_with_passes(files: Files, tmp_path: Path):
    verdict = validate(files.write(tmp_path / "s"))
    assert reasons(verdict) == ""
    assert not [note for note in verdict.findings.notes if "not read again" in note]


def test_a_consistent_recomputation_of_the_same_passes(files: Files, tmp_path: Path):
    """What the tests above call consistent changes nothing by itself."""
    files.consistent()
    assert reasons(validate(files.write(tmp_path / "s"))) == ""


def test_the_order_of_lines_is_free_once_the_file_has_its_digest(files: Files, tmp_path: Path):
    files.lines = files.lines[::-1]
    assert "sha256" in reasons(validate(files.write(tmp_path / "other digest")))
    files.seal()
    assert reasons(validate(files.write(tmp_path / "sealed"))) == ""


def test_all_findings_are_listed_and_not_the_first_one(files: Files, tmp_path: Path):
    files.change("summary.json", lambda s: next(m for m in s["means"] if m["editor"] == "ft-l").update(mean=0.99))
    files.seal()
    a_score_above_one_at = score(files.lines[4], "reliability", "teacher_forced_token")
    assert a_score_above_one_at
    files.one(lambda line: line["scores"][0].update(value=1.5))
    files.change(MANIFEST, lambda manifest: manifest["runs"][0].update(seed=5))
    found = reasons(validate(files.write(tmp_path / "s")))
    for word in ("within 0 and 1", "seed: 0 was expected", "found 0.99", "sha256"):
        assert word in found


def test_a_base_model_that_says_something_else_is_found_by_a_reference(files: Files, results: Path, tmp_path: Path):
    """Changing the answers before the edit in every row fails no check of the submission itself."""

    def change(line: Any) -> None:
        if line["task"] == "counterfact":
            own = answer(line, "portability")
            own.update(before=" violet.", generated=" violet.")

    files.each(change)
    files.consistent()
    path = files.write(tmp_path / "s")
    assert reasons(validate(path)) == ""
    found = reasons(validate(path, against=results.parent))
    assert "base pass, answers before the edit: those of the reference was expected, found others in 3" in found
    assert "against run" in found


def test_the_same_base_model_passes_beside_a_reference(packed: Path, results: Path):
    for reference in (results, results.parent, packed):
        verdict = validate(packed, against=reference)
        assert reasons(verdict) == ""
        assert not [note for note in verdict.findings.notes if "not compared" in note]


def test_another_number_of_new_tokens_evades_no_reference(files: Files, results: Path, tmp_path: Path):
    """Teacher forcing does not depend on it and is compared anyway; that the texts were not is said."""
    files.change("run.json", lambda run: run["spec"]["generation"].update(max_new_tokens=33))
    files.consistent()
    verdict = validate(files.write(tmp_path / "same"), against=results)
    assert verdict.accepted
    assert any(
        "Answers and free generation of 'counterfact'" in note and "33 new tokens here, 32 there" in note
        for note in verdict.findings.notes
    )
    files.one(lambda line: score(line, "reliability", "teacher_forced_token").update(value=0.01), row="none")
    files.consistent()
    found = reasons(validate(files.write(tmp_path / "lower"), against=results))
    assert "scores under teacher forcing of the row without edit: those of the reference was expected" in found


@pytest.mark.parametrize(("off", "refused"), [(0.01, True), (0.0005, False)])
def test_likelihoods_without_edit_are_those_of_the_reference(
    off: float, refused: bool, files: Files, results: Path, tmp_path: Path
):
    def change(line: Any) -> None:
        for protocol in ("z_sent", "edit_success"):  # z_topic is 1
            score(line, "reliability", protocol).update(value=0.75 + off)

    files.one(change, row="none", task="convsent")
    files.consistent()
    path = files.write(tmp_path / "s")
    assert validate(path).accepted
    found = reasons(validate(path, against=results))
    assert ("base pass, z_sent of the row without edit: those of the reference within 0.001" in found) is refused


def test_a_reference_of_another_model_is_said_to_say_nothing(files: Files, results: Path, tmp_path: Path):
    files.change("run.json", lambda run: run["spec"].update(model_fingerprint="0" * 64))
    files.change("run.json", lambda run: run["spec"]["editors"].pop())
    files.lines = [line for line in files.lines if line["editor"] != "mend"]
    files.consistent()
    verdict = validate(files.write(tmp_path / "s"), against=results)
    assert verdict.accepted
    assert any("base pass of 'counterfact'" in note and "not compared" in note for note in verdict.findings.notes)


def test_another_text_beside_a_divergence_of_zero_is_said(files: Files, tmp_path: Path) -> None:
    """An honest edit may act after the answer, where no divergence is read."""

    def change(line: Any) -> None:
        kept = next(s for s in line["scores"] if (s["protocol"], s["value"]) == ("kl_divergence", 0.0))["probe"]
        line["answers"][kept].update(generated=" violet.")
        for own in line["scores"]:
            if (own["probe"], own["protocol"]) == (kept, "free_generation"):
                own.update(value=0.0)

    files.one(change)
    files.consistent()
    verdict = validate(files.write(tmp_path))
    assert not verdict.findings.found
    assert "texts are not those of before, though the KL of their answers is exactly 0" in " ".join(
        verdict.findings.notes
    )


def test_one_tie_in_a_thousand_is_counted_by_row(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the texts one in fifteen may tie: one row has too few of them for one, both rows together have enough."""
    monkeypatch.setattr("instructedit.reports.leaderboard.lines.TIES", 15)
    files.one(lambda line: answer(line, "reliability").update(generated=" violet."))
    files.one(lambda line: score(line, "reliability", "free_generation").update(value=0.0))
    exact = [
        line["editor"]
        for line in files.lines
        for s in line["scores"]
        if (s["protocol"], s["value"], s["measure"] == "locality") == ("teacher_forced_exact", 1.0, False)
    ]
    assert exact.count("ft-l") < 15 <= len(exact)
    files.consistent()
    assert "the text to begin with the answer" in reasons(validate(files.write(tmp_path / "s")))
    monkeypatch.setattr("instructedit.reports.leaderboard.lines.TIES", exact.count("ft-l"))
    verdict = validate(tmp_path / "s")
    assert verdict.accepted
    assert any(f"row 'ft-l', 1 of {exact.count('ft-l')} texts" in note for note in verdict.findings.notes)


def test_answers_that_the_most_new_tokens_cut_off_pass(files: Files, tmp_path: Path):
    """With two new tokens the model writes the beginning of an answer that it has right."""
    files.change("run.json", lambda run: run["spec"]["generation"].update(max_new_tokens=2))

    def cut(line: Any) -> None:
        for number, own in enumerate(line["answers"]):
            if own["generated"] is None:
                continue
            own.update(before=own["before"][:4], generated=own["generated"][:4])
            for s in line["scores"]:
                if (s["probe"], s["protocol"]) == (number, "free_generation") and own["role"] != "locality":
                    s.update(value=float(matches(own["generated"], own["accepted"])))

    files.each(cut)
    files.consistent()
    assert reasons(validate(files.write(tmp_path / "s"))) == ""


def test_the_split_that_options_are_chosen_on_may_be_of_the_training_file(files: Files, tmp_path: Path):
    def choose(run: Any) -> None:
        run["spec"]["split"] = "validation"
        run["training"].append(run["data"][0])

    files.change("run.json", choose)
    files.consistent()
    found = reasons(validate(files.write(tmp_path / "s")))
    assert "another file than a tested one" not in found


@pytest.mark.parametrize("field", ["data", "readers"])
def test_a_task_without_data_or_reader_is_a_finding_beside_a_reference_too(
    field: str, files: Files, results: Path, tmp_path: Path
):
    files.change("run.json", lambda run: run["spec"][field].pop("counterfact"))
    files.seal()
    assert "data of 'counterfact'" in reasons(validate(files.write(tmp_path / "s"), against=results))


def test_findings_have_no_characters_that_a_terminal_obeys(files: Files, tmp_path: Path):
    files.one(lambda line: line.update(target="\x1b[2J\u202eevil"))
    files.seal()
    found = reasons(validate(files.write(tmp_path / "s")))
    assert "\\x1b[2J\\u202eevil" in found
    assert "\x1b" not in found
