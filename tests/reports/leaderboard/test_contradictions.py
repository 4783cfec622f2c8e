"""Submissions of one run with other answers, and records of a repetition beside a submission."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from instructedit.benchmark.results.records import CaseRecord, digest_of
from instructedit.cli.main import app
from instructedit.reports.leaderboard.agreement import agreement
from instructedit.reports.leaderboard.build import Built, build
from instructedit.reports.leaderboard.pack import pack
from instructedit.reports.leaderboard.reruns import Rerun, compare_rerun, place_of, write_rerun
from instructedit.reports.leaderboard.validate import validate

from .made import spec_of, write
from .test_site import numbers, page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An honest submission, a copy of the same run, and one in which MEND has another case right."""
    for name, right in (("honest", 1), ("copy", 1), ("forged", 2)):
        run = write(tmp_path / name, spec_of(("recent",)), {"mend": right})
        pack(run, tmp_path / "s" / f"{name}.zip", name=name, authors=["Ada"] if name == "honest" else ["Grace"])
    return tmp_path / "s"


def built(folder: Path) -> Built:
    out = folder.parent / "site"
    shutil.rmtree(out, ignore_errors=True)
    return build(folder, out)


def kinds(folder: Path) -> dict[str, str]:
    """The kind of each submission's row of MEND, by the number of cases it has right and by its submission."""
    rows = [row for row in numbers(folder.parent / "site") if row["row"] == "mend"]
    names = {verdict.id: path.stem for path in folder.glob("*.zip") if (verdict := validate(path))}
    return {names[row["submission"]]: row["kind"] for row in rows}


def repeat(folder: Path, name: str, right: int) -> Rerun:
    """Record a repetition of a submission that has so many cases of MEND right."""
    new = write(folder.parent / f"again-{name}", spec_of(("recent",)), {"mend": right})
    found = compare_rerun(validate(folder / f"{name}.zip"), {new.name: new}, seed=7)
    write_rerun(found, folder / f"{name}.zip")
    return found


def test_submissions_of_one_run_with_other_answers_are_shown_without_a_rank(folder: Path):
    remarks = built(folder).remarks
    assert kinds(folder) == dict.fromkeys(("honest", "copy", "forged"), "contradicted")
    assert all(row["rank"] is None for row in numbers(folder.parent / "site"))
    # one of three cases: reliability and generalization, each one text and three protocols
    assert any(text.startswith("forged.zip: ") and "'honest' by Ada (mend: " in text for text in remarks)
    text = page(folder.parent / "site", "<title>Recent: leaderboard")
    assert "is not ranked. <bdi>Run" in text


def test_equal_answers_of_one_run_do_not_contradict(folder: Path):
    (folder / "forged.zip").unlink()
    assert built(folder).remarks == ()
    assert kinds(folder) == {"honest": "current", "copy": "current"}


def test_a_repetition_decides_which_one_is_ranked(folder: Path):
    assert repeat(folder, "honest", 1).agrees
    remarks = built(folder).remarks
    assert kinds(folder) == {"honest": "current", "copy": "current", "forged": "contradicted"}
    (text,) = remarks
    assert text.startswith("forged.zip: ")
    assert text.endswith("that one came out the same when it was run again.")


def test_a_repetition_that_differs_decides_nothing_and_says_so(folder: Path):
    found = repeat(folder, "forged", 1)
    assert not found.agrees
    assert "too few of mend (" in str(found)
    built(folder)
    assert set(kinds(folder).values()) == {"contradicted"}
    texts = [path.read_text() for path in folder.parent.glob("site/submissions/*/index.html")]
    assert sum("re-run, differs" in text or "Re-run, differs" in text for text in texts) == 1


def test_two_repetitions_that_agree_with_other_answers_rank_neither(folder: Path):
    repeat(folder, "honest", 1)
    repeat(folder, "forged", 2)
    built(folder)
    assert set(kinds(folder).values()) == {"contradicted"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 8}, "it was changed after it was written, its content has another digest than recorded"),
        ({"submission": "0" * 64, "content": None}, "it is of a submission with the manifest 000000000000"),
        ({"rows": {}, "content": None}, "it compares no line"),
        ({"cases": {"0" * 16: ["x"]}, "content": None}, "it is of runs that the submission does not have, 1 (0000"),
        ({"date": None}, "field 'date'"),
        (None, "not valid JSON"),
    ],
)
def test_a_record_that_is_damaged_or_of_other_content_is_ignored_and_said(change, sentence: str, folder: Path):
    repeat(folder, "honest", 1)
    path = place_of(folder / "honest.zip")
    record = json.loads(path.read_text())
    if change is not None and "content" in change:  # by somebody who knows how it is made
        change = {
            **change,
            "content": digest_of(Rerun.model_validate({**record, **change, "content": ""}), {"content"}),
        }
    path.write_text("{" if change is None else json.dumps({**record, **change}))
    remarks = built(folder).remarks
    (ignored,) = (text for text in remarks if text.startswith("honest.zip.rerun.json is ignored: "))
    assert sentence in ignored
    assert len(ignored.splitlines()) == 1
    assert kinds(folder)["honest"] == "contradicted"


def test_agreement_counts_answers_and_scores_within_the_tolerance(results: Path):
    lines = [CaseRecord.model_validate_json(line) for line in (results / "cases.jsonl").read_text().splitlines()]
    line = next(line for line in lines if line.editor == "ft-l" and line.answers[0].generated)
    key = (line.case_id, line.editor, line.stage)
    (same,) = agreement({key: line}, [line]).values()
    assert same.equal_answers == same.answers == sum(a.generated is not None for a in line.answers) + 1
    assert same.equal_scores == same.scores == len(line.scores)

    def moved(by: float) -> int:
        score = line.scores[0]
        other = score.model_copy(update={"value": score.value + by})
        changed = line.model_copy(update={"scores": (other, *line.scores[1:])})
        return agreement({key: line}, [changed])["ft-l"].equal_scores

    assert (moved(0.0009), moved(0.0011)) == (same.scores, same.scores - 1)
    other = line.answers[0].model_copy(update={"generated": "other"})
    changed = line.model_copy(update={"answers": (other, *line.answers[1:])})
    assert agreement({key: line}, [changed])["ft-l"].equal_answers == same.answers - 1
    failed = line.model_copy(update={"status": "failed", "answers": (), "scores": (), "text": None})
    assert agreement({key: line}, [failed])["ft-l"].equal_answers == 0


def test_a_damaged_pack_is_refused_in_one_sentence(folder: Path):
    path = folder / "forged.zip"
    path.write_bytes(path.read_bytes()[:200])
    (refused,) = built(folder).refused
    (finding,) = refused.findings.found
    assert str(finding) == "forged.zip: format: a zip file or a folder was expected, found File is not a zip file."


def test_a_refused_submission_is_not_run_again(folder: Path):
    path = folder / "forged.zip"
    path.write_bytes(path.read_bytes()[:200])
    stopped = CliRunner().invoke(app, ["leaderboard", "rerun", str(path)])
    assert stopped.exit_code == 2
    assert "is refused, and so not run again. forged.zip: format: " in " ".join(stopped.output.split())
    assert not place_of(path).exists()
