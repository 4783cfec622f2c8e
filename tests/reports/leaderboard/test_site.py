"""Tables, ranks and pages of the leaderboard."""

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from instructedit.benchmark.results.records import CaseRecord, GenerationSpec, RunFile, RunSpec, digest_of, read_record
from instructedit.benchmark.results.suite_results import SuiteEntry, SuiteFile
from instructedit.benchmark.results.summary import Column, summarise
from instructedit.cli.main import app
from instructedit.editors import ChatFormat, InputError
from instructedit.reports.leaderboard.archive import MANIFEST
from instructedit.reports.leaderboard.build import build
from instructedit.reports.leaderboard.entries import Board, board_of
from instructedit.reports.leaderboard.pack import pack

from ..conftest import run_file
from .conftest import Files
from .made import spec_of, write

HOSTILE = "<script>document.title='owned'</script>\"'&\u202e"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two submissions, an earlier version of the first one, a hostile one, and one that is tampered with."""
    root = tmp_path_factory.mktemp("board")
    out = root / "submissions"
    for number, (name, started) in enumerate([("Ours", "2026-01-02"), ("Ours", "2026-03-04"), (HOSTILE, "2026-02-03")]):
        spec = spec_of(("recent",), seed=number)
        run = write(root / f"run{number}", spec, {"mend": number}, started=f"{started}T00:00:00+00:00")
        pack(run, out / f"{number}.zip", name=name, authors=["Ada", HOSTILE] if number == 2 else ["Ada"], notes=HOSTILE)
    (bad,) = (root / "run0").iterdir()
    (bad / "summary.json").write_text(
        (bad / "summary.json").read_text().replace('"n":3', '"n":4').replace(": 3", ": 4")
    )
    pack(bad, out / "bad&.zip", name="Bad", authors=["Ada"])
    return out


@pytest.fixture(scope="module")
def site(folder: Path) -> Path:
    out = folder.parent / "site"
    built = build(folder, out)
    assert (built.accepted, len(built.refused)) == (3, 1)
    return out


def page(site: Path, words: str) -> str:
    (text,) = (text for path in site.rglob("*.html") if words in (text := path.read_text()))
    return text


def rows(text: str) -> list[list[str]]:
    """The cells of each row of a page's first table, without markup."""
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]
    return [[" ".join(re.sub(r"<.*?>", " ", cell).split()) for cell in row] for row in cells]


def numbers(site: Path, measure: str = "reliability", protocol: str = "teacher_forced_exact") -> list[dict]:
    """The rows of the one table of a measure and protocol, with all digits."""
    tables = [table for path in site.glob("tasks/*.json") for table in json.loads(path.read_text())]
    (found,) = (t["rows"] for t in tables if (t["table"]["measure"], t["table"]["protocol"]) == (measure, protocol))
    return found


def test_a_page_has_a_row_for_each_entry_with_values_ranks_training_and_where_it_comes_from(site: Path):
    text = page(site, "<title>Recent: leaderboard")
    found = rows(text)
    assert len(found) == 9
    ours = next(row for row in found if row[0] == "MEND" and row[-1].startswith("Ours"))
    # three cases never separate anything
    assert ours[1] == "33.3 [0.8, 90.6] rank 1\N{EN DASH}4"
    assert ours[5:] == ["this task", "Ours unverified"]
    kinds = [row["kind"] for row in numbers(site)]
    assert sorted(kinds) == ["control"] * 3 + ["current"] * 4 + ["earlier"] * 2
    for link in re.findall(r'href="(\.\./submissions/[^"]+)"', text):
        assert (site / "tasks" / link).is_file()
    assert 'data-column="trained"' in text


def test_options_and_digests_are_on_the_page_of_a_task(site: Path):
    text = page(site, "<title>Recent: leaderboard")
    spec = spec_of(("recent",))
    for words in (spec.model_fingerprint, *spec.data["recent"].values(), "lr = 0.01", "edit_lr = 0.0001"):
        assert words in text
    for address in re.findall(r'<th scope="row" class="name"><a href="#([^"]+)"', text):
        assert f'id="{address}"' in text


def test_every_number_is_the_one_of_the_summary(site: Path, folder: Path):
    import zipfile

    with zipfile.ZipFile(folder / "1.zip") as file:
        (name,) = (name for name in file.namelist() if name.endswith("summary.json"))
        summary = json.loads(file.read(name))
    (mean,) = (
        m
        for m in summary["means"]
        if (m["editor"], m["measure"], m["protocol"], m["subset"]) == ("mend", "locality", "teacher_forced_token", None)
    )
    assert f'data-value="{mean["mean"]}"' in page(site, "<title>Recent: leaderboard")
    assert mean["mean"] in [row["mean"] for row in numbers(site, "locality", "teacher_forced_token")]


def test_texts_of_submissions_are_shown_and_do_nothing(site: Path):
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert "<script>" not in text
        assert "\u202e" not in text, path
        assert "onerror=" not in text
        assert "script-src 'self'" in text
    assert "&lt;script&gt;document.title" in (site / "index.html").read_text()


def test_refused_texts_do_nothing_and_stop_no_other_submission(results: Path, files: Files, tmp_path: Path):
    pack(results, tmp_path / "s" / "good.zip", name="Good", authors=["Ada"])
    files.change(MANIFEST, lambda manifest: manifest.update(name=HOSTILE))
    files.change("summary.json", lambda summary: summary.update(digest=HOSTILE))
    files.write(Path(os.fsdecode(os.fsencode(tmp_path / "s") + b"/bad\xff\xe2\x80\xae")))
    built = build(tmp_path / "s", tmp_path / "site")
    assert (built.accepted, len(built.refused)) == (1, 1)
    text = (tmp_path / "site" / "refused.html").read_text()
    assert "&lt;script&gt;document.title" in text
    assert "<script>" not in text
    assert "\u202e" not in text
    assert 'aria-label="Findings of bad\\udcff\\u202e"' in text
    assert 'bad<span class="control">U+DCFF</span>' in text
    shown = CliRunner().invoke(app, ["leaderboard", "build", str(tmp_path / "s"), "--out", str(tmp_path / "again")])
    assert "refused: bad\\udcff\\u202e" in shown.output


def test_the_refused_are_listed_with_their_reasons(site: Path):
    text = (site / "refused.html").read_text()
    assert "bad&amp;.zip" in text
    assert any(row[2].endswith(".n") and row[3] == "3" for row in rows(text))
    assert "1 refused" in (site / "index.html").read_text()


def test_versions_are_linked_and_files_are_the_packed_ones(site: Path, folder: Path):
    import zipfile

    pages_ = [path for path in site.glob("submissions/*/index.html") if "<h1><bdi>Ours" in path.read_text()]
    assert len(pages_) == 2
    for path in pages_:
        assert all(day in path.read_text() for day in ("2026-01-02", "2026-03-04"))
    with zipfile.ZipFile(folder / "1.zip") as file:
        manifests = {(path.parent / MANIFEST).read_bytes() for path in pages_}
        assert file.read(MANIFEST) in manifests


def test_the_same_submissions_give_the_same_bytes(site: Path, folder: Path, tmp_path: Path):
    build(folder, tmp_path / "again")
    files = {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    again = tmp_path / "again"
    assert files == {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}


DIFFERENT = {
    "data": {"data": {"counterfact": {"other.json": "0" * 64}}},
    "reader": {"readers": {"counterfact": "9"}},
    "model": {"model_fingerprint": "0" * 64},
    "tokenizer": {"tokenizer_fingerprint": "0" * 64},
    "dtype": {"dtype": "bfloat16"},
    "split": {"split": "validation"},
    "limit": {"limit": 2},
    "schedule": {"schedule": "batch", "edited": ("counterfact",)},
    "edited": {"schedule": "batch", "edited": ("counterfact", "recent")},
    "batch_size": {"schedule": "batch", "edited": ("counterfact",), "batch_size": 2},
    "decoding": {"generation": GenerationSpec(max_new_tokens=8)},
    "chat": {"chat": ChatFormat(name="wild", prefix="Q: ", suffix="\nA:")},
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_two_numbers_that_differ_in_one_field_never_share_a_table(field: str):
    first = spec_of(("counterfact", "recent"))
    if field in ("edited", "batch_size"):
        first = first.model_copy(update=DIFFERENT["schedule"])
    second = first.model_copy(update=DIFFERENT[field])
    if field == "data":
        second = second.model_copy(update={"data": {**first.data, **second.data}})
    column = Column("single", "reliability", False, "free_generation", None)
    files = [run_file().model_copy(update={"spec": spec}) for spec in (first, second)]
    boards = [board_of(file, "counterfact", column) for file in files]
    differ = {name for name in Board._fields if getattr(boards[0], name) != getattr(boards[1], name)}
    assert differ == ({field, "edited"} if field == "schedule" else {field})


def test_every_field_of_a_table_is_tried():
    told_by_the_number = {"task", "stage", "measure", "derived", "protocol"}
    assert {*DIFFERENT, *told_by_the_number} == set(Board._fields)


def test_two_limits_never_share_a_table(tmp_path: Path):
    out = tmp_path / "submissions"
    for limit in (2, 3):
        run = write(tmp_path / f"{limit}", spec_of(("counterfact",), limit=limit))
        pack(run, out / f"{limit}.zip", name=f"{limit}", authors=["Ada"])
    build(out, tmp_path / "site")
    tables = [t for path in (tmp_path / "site" / "tasks").glob("*.json") for t in json.loads(path.read_text())]
    assert {table["table"]["limit"] for table in tables} == {2, 3}
    assert all(len({row["submission"] for row in table["rows"]}) == 1 for table in tables)


def test_one_name_of_other_authors_is_no_earlier_version(tmp_path: Path):
    run = write(tmp_path / "run", spec_of(("counterfact",)))
    for author in ("Ada", "Grace"):
        pack(run, tmp_path / "s" / f"{author}.zip", name="Ours", authors=[author])
    build(tmp_path / "s", tmp_path / "site")
    assert [row["kind"] for row in numbers(tmp_path / "site") if row["row"] == "ft-l"] == ["current", "current"]


def test_rows_of_another_configuration_are_entries_of_their_own(tmp_path: Path):
    first = spec_of(("counterfact",))
    other = first.editors[1].model_copy(update={"config": {"lr": 0.5}})
    second = spec_of(("counterfact",), seed=1)
    second = second.model_copy(update={"editors": (second.editors[0], other, second.editors[2])})
    packed_suite(tmp_path, [first, second], [1, 3])
    found = {row[0]: row[1].split()[0] for row in rows(page(tmp_path / "site", COUNTERFACT)) if "FT-L" in row[0]}
    names = [f"FT-L options {digest_of(row)}" for row in (first.editors[1], other)]
    assert found == dict(zip(names, ("33.3", "100.0"), strict=True))


def packed_suite(out: Path, specs: list[RunSpec], rights: list[int]) -> list[Path]:
    """Pack runs as one submission; in each, `ft-l` gets so many cases right."""
    folders = [write(out / "runs", spec, {"ft-l": right}) for spec, right in zip(specs, rights, strict=True)]
    runs = tuple(
        SuiteEntry(label="x", setting=spec.setting, schedule="single", seed=spec.seed, digest=spec.digest)
        for spec in specs
    )
    (out / "runs" / "suites").mkdir()
    (out / "runs" / "suites" / "x.json").write_text(SuiteFile(name="x", runs=runs).model_dump_json())
    pack(out / "runs", out / "s" / "suite.zip", name="Suite", authors=["Ada"])
    build(out / "s", out / "site")
    return folders


COUNTERFACT = "<title>CounterFact: leaderboard"


def test_seeds_of_a_submission_are_one_entry(tmp_path: Path):
    folders = packed_suite(tmp_path, [spec_of(("counterfact",), seed=seed) for seed in (0, 1)], [1, 3])
    (row,) = (row for row in numbers(tmp_path / "site") if row["row"] == "ft-l")
    # right in 1 of 3 cases under seed 0, in 3 of 3 under seed 1: (1/3 + 1) / 2
    assert row["mean"] == pytest.approx(2 / 3)
    assert row["seeds"] == [0, 1]
    assert row["runs"] == [folder.name for folder in folders]


@pytest.mark.parametrize(
    ("field", "value"), [("instructions", "b" * 16), ("setting", "single-task"), ("chunk", 7), ("at", (2,))]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_runs_that_differ_in_more_than_the_seed_are_entries_of_their_own(
    field: str, value: object, seed: int, tmp_path: Path
):
    first = spec_of(("counterfact",))
    packed_suite(tmp_path, [first, spec_of(("counterfact",), seed=seed, **{field: value})], [1, 3])
    found = {row[0]: row[1].split()[0] for row in rows(page(tmp_path / "site", COUNTERFACT)) if "FT-L" in row[0]}
    assert found == {f"FT-L {field} {getattr(first, field)}".strip(): "33.3", f"FT-L {field} {value}": "100.0"}


def test_a_second_run_of_a_seed_is_named_and_not_counted(tmp_path: Path):
    first = spec_of(("counterfact",))
    folders = packed_suite(tmp_path, [first, first.model_copy(update={"editors": first.editors[:2]})], [1, 3])
    (row,) = (row for row in numbers(tmp_path / "site") if row["row"] == "ft-l")
    counted, other = sorted(folders, key=lambda folder: folder.name)
    assert row["mean"] == pytest.approx(1 / 3 if counted == folders[0] else 1.0)
    assert row["runs"] == [counted.name]
    text = page(tmp_path / "site", COUNTERFACT)
    assert re.search(rf'seed 0 again, not counted</span> <a href="[^"]+">run <code>{other.name}</code>', text)


def test_commands(results: Path, folder: Path, tmp_path: Path):
    run = CliRunner().invoke
    out = tmp_path / "s.zip"
    packed = run(app, ["leaderboard", "pack", str(results), "--out", str(out), "--name", "N", "--authors", "A"])
    assert packed.exit_code == 0, packed.output
    checked = run(app, ["leaderboard", "validate", str(out)])
    assert checked.exit_code == 0
    assert "accepted, 1 run(s)" in checked.output
    refused = run(app, ["leaderboard", "validate", str(folder / "bad&.zip")])
    assert refused.exit_code == 1
    assert "REFUSED" in refused.output
    missing = run(app, ["leaderboard", "validate", str(tmp_path / "none.zip")])
    assert missing.exit_code == 2


def test_a_site_needs_submissions_and_a_new_folder(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match="is there already"):
        build(folder, tmp_path)
    with pytest.raises(InputError, match="no submission in it"):
        build(tmp_path, tmp_path / "site")
    with pytest.raises(InputError, match="no such folder"):
        build(tmp_path / "none", tmp_path / "site")


def test_rows_whose_edits_did_not_take_carry_a_flag_and_keep_their_rank(tmp_path: Path):
    """FT-L gets nothing right and so is the unedited model; MEND misses its targets under one seed of two."""
    for seed in (0, 1):
        spec = spec_of(("counterfact",), seed=seed)
        folder = write(tmp_path / "runs", spec, {"ft-l": 0})
        lines = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
        for line in lines:
            if line["editor"] == "mend":
                line["edit"] = {"target_probability": 0.1 if seed else 0.9}
        (folder / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        run = read_record(folder / "run.json", RunFile)
        found = [CaseRecord.model_validate(line) for line in lines]
        (folder / "summary.json").write_text(summarise(run, found).model_dump_json())
    entries = [
        SuiteEntry(label="x", setting="multi-task", schedule="single", seed=seed, digest=folder.name)
        for seed, folder in enumerate(sorted((tmp_path / "runs").iterdir(), key=seed_in))
    ]
    (tmp_path / "runs" / "suites").mkdir()
    index = SuiteFile(name="x", runs=tuple(entries))
    (tmp_path / "runs" / "suites" / "x.json").write_text(index.model_dump_json())
    pack(tmp_path / "runs", tmp_path / "s" / "one.zip", name="Ours", authors=["Ada"])
    build(tmp_path / "s", tmp_path / "site")
    tables = [t for path in (tmp_path / "site" / "tasks").glob("*.json") for t in json.loads(path.read_text())]
    assert tables
    same = "made no edit: equal to the unedited model in every reliability score."
    missed = "Seed 1: 3 of 3 edits did not reach the target (p < 0.5)."
    for table in tables:
        assert {row["row"]: (row["flag"], row["flag_sentence"]) for row in table["rows"]} == {
            "none": ("", ""),
            "ft-l": ("no edit", f"Seed 0: {same} Seed 1: {same}"),
            "mend": ("target missed", missed),
        }
    text = page(tmp_path / "site", COUNTERFACT)
    assert f'<span class="mark" title="{missed.replace("<", "&lt;")}">target missed</span>' in text
    ranks = [row["rank"] for row in numbers(tmp_path / "site") if row["row"] != "none"]
    assert ranks == [[1, 2], [1, 2]], "three cases never separate anything"


def seed_in(folder: Path) -> int:
    return read_record(folder / "run.json", RunFile).spec.seed
