"""A submission has everything and always the same bytes; a hostile file of one is read without harm."""

import gzip
import hashlib
import json
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from instructedit.benchmark.results.resources import Meter
from instructedit.benchmark.results.suite_results import SuiteEntry, SuiteFile
from instructedit.benchmark.tasks.sources import Embedded
from instructedit.editors import EDITORS, ChatFormat, InputError, TrainedEditor
from instructedit.reports.leaderboard import archive
from instructedit.reports.leaderboard.archive import MANIFEST, open_archive
from instructedit.reports.leaderboard.base_pass import BaseReader
from instructedit.reports.leaderboard.findings import MOST, Findings
from instructedit.reports.leaderboard.names import TRAINED, UNTRAINED, checkpoint_of
from instructedit.reports.leaderboard.pack import pack
from instructedit.reports.leaderboard.validate import validate

from .conftest import Files
from .made import spec_of, write


def reasons(path: Path) -> str:
    return "\n".join(map(str, validate(path).findings.found))


def zipped(files: Files, path: Path) -> zipfile.ZipFile:
    file = zipfile.ZipFile(path, "w")
    for name, content in files.files.items():
        file.writestr(name, content)
    return file


def test_the_same_run_gives_the_same_bytes(results: Path, tmp_path: Path):
    for name in ("a.zip", "b.zip"):
        pack(results, tmp_path / name, name="Ours", authors=["Ada"])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert validate(tmp_path / "a.zip").accepted


def test_the_place_of_the_program_is_left_out(results: Path, tmp_path: Path):
    path = shutil.copytree(results, tmp_path / results.name) / "run.json"
    run = json.loads(path.read_text())
    run["provenance"]["command"][0] = "/home/ada/bin/instructedit"
    path.write_text(json.dumps(run))
    pack(path.parent, tmp_path / "ours", name="Ours", authors=["Ada"])
    packed = json.loads((tmp_path / "ours" / "runs" / run["digest"] / "run.json").read_text())
    assert packed["provenance"]["command"] == ["instructedit", *run["provenance"]["command"][1:]]
    assert validate(tmp_path / "ours").accepted


def test_a_submission_has_the_records_and_says_what_they_are(results: Path, packed: Path):
    manifest = json.loads((packed / MANIFEST).read_text())
    run = json.loads((results / "run.json").read_text())
    (entry,) = manifest["runs"]
    place = packed / "runs" / run["digest"]
    assert gzip.decompress((place / "cases.jsonl.gz").read_bytes()) == (results / "cases.jsonl").read_bytes()
    assert (place / "run.json").read_bytes() == (results / "run.json").read_bytes()
    for name, told in manifest["files"].items():
        content = (packed / name).read_bytes()
        assert told == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert entry["data"] == run["spec"]["data"]
    assert entry["model_fingerprint"] == "cd" * 32
    assert entry["trained"] == [
        {
            "row": "mend",
            "tasks": ["recent"],
            "data": "0123456789abcdef",
            "checkpoint": run["spec"]["editors"][2]["training"]["checkpoint"],
            "weights": None,
        }
    ]
    # Two tasks, three rows, a line of 1.5 s and 0.25 s for each.
    assert (entry["edit_seconds"], entry["score_seconds"], entry["memory"]) == (9.0, 1.5, 2**30)
    assert entry["versions"]["torch"] == "2.13.0"


def test_the_base_pass_is_what_the_documentation_says(results: Path, packed: Path):
    """Computed here from the lines, by the words of docs/leaderboard.md."""

    def sha256(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    def compact(value: object) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    lines = [json.loads(line) for line in (results / "cases.jsonl").read_text().splitlines()]
    own = {x["case_id"]: x for x in lines if x["editor"] == "none" and x["task"] == "counterfact"}
    said = {
        case: sha256(compact([[a["role"], a["subset"], a["prompt"], a["before"]] for a in x["answers"]]))
        for case, x in own.items()
    }
    discrete = ("teacher_forced_token", "teacher_forced_exact", "free_generation")
    scores = {
        case: sha256(
            compact([[s["probe"], s["protocol"], s["value"]] for s in x["scores"] if s["protocol"] in discrete])
        )
        for case, x in own.items()
    }
    told = json.loads((packed / MANIFEST).read_text())["runs"][0]["base"]["counterfact"]
    assert told == {
        "cases": 3,
        "answers": sha256("".join(f"{case} {said[case]}\n" for case in sorted(said))),
        "scores": sha256("".join(f"{case} {scores[case]}\n" for case in sorted(scores))),
    }


def test_a_suite_is_packed_whole_with_the_weights_that_lie_beside_it(tmp_path: Path):
    out = tmp_path / "results"
    specs = [spec_of(("counterfact",), seed=seed) for seed in (0, 1)]
    for spec in specs:
        write(out, spec)
        (training,) = (row.training for row in spec.editors if row.training)
        folder = out / "checkpoints" / training.checkpoint
        folder.mkdir(parents=True)
        (folder / "checkpoint.json").write_text("{}")
        (folder / "state.safetensors").write_bytes(f"weights of seed {spec.seed}".encode())
    entries = [
        SuiteEntry(label="x", setting="multi-task", schedule="single", seed=s.seed, digest=s.digest) for s in specs
    ]
    (out / "suites").mkdir()
    (out / "suites" / "x.json").write_text(SuiteFile(name="x", runs=tuple(entries)).model_dump_json())
    manifest = pack(out, tmp_path / "s.zip", name="Seeds", authors=["Ada", "Grace"])
    assert {run.seed: run.trained[0].weights for run in manifest.runs} == {
        seed: hashlib.sha256(f"weights of seed {seed}".encode()).hexdigest() for seed in (0, 1)
    }
    assert reasons(tmp_path / "s.zip") == ""


@pytest.mark.parametrize("schedule", ["batch", "sequential"])
def test_stages_of_other_schedules_are_known(schedule: str, tmp_path: Path):
    fields = {"schedule": schedule, "edited": ("counterfact",), "at": (2,) if schedule == "sequential" else ()}
    spec = spec_of(**fields)
    folder = write(tmp_path, spec)
    stages = {json.loads(line)["stage"] for line in (folder / "cases.jsonl").read_text().splitlines()}
    assert stages == ({"batch"} if schedule == "batch" else {"after-edit", "after-2", "after-all"})
    pack(folder, tmp_path / "s", name="Joint", authors=["Ada"])
    assert reasons(tmp_path / "s") == ""
    files = Files({p.relative_to(tmp_path / "s").as_posix(): p.read_bytes() for p in (tmp_path / "s").rglob("*.*")})
    files.lines = files.lines[1:]
    files.consistent()
    assert "cases: each of" in reasons(files.write(tmp_path / "other"))


def test_rows_with_instructed_probes_are_checked_as_what_they_are(tmp_path: Path):
    """The unedited model under an instruction is no base row; a row's instruction is none of its training."""
    spec = spec_of(("counterfact",))
    none, _, mend = spec.editors
    told = {"instruction": "seen", "instructed_probes": "all but locality"}
    rows = [row.model_copy(update={"name": f"{row.name}-instructed", **told}) for row in (none, mend)]
    folder = write(tmp_path, spec.model_copy(update={"editors": (*rows, *spec.editors), "instructions": "ab" * 8}))
    pack(folder, tmp_path / "s", name="Told", authors=["Ada"])
    assert reasons(tmp_path / "s") == ""
    files = Files({p.relative_to(tmp_path / "s").as_posix(): p.read_bytes() for p in (tmp_path / "s").rglob("*.*")})
    files.change("run.json", lambda run: run["spec"]["editors"][1]["training"].update(instructions="cd" * 8))
    files.consistent()
    assert f"training.instructions: {'ab' * 8} was expected, found" in reasons(files.write(tmp_path / "other"))


def test_an_editor_of_another_package_is_accepted_and_said(files: Files, tmp_path: Path):
    files.change("run.json", lambda run: run["spec"]["editors"][1].update(method="one-step"))
    files.consistent()
    verdict = validate(files.write(tmp_path / "s"))
    assert verdict.accepted
    assert any(
        "'one-step' is not one of the package; that it was trained on nothing" in n for n in verdict.findings.notes
    )


def test_a_row_trained_on_the_tested_task_is_said(tmp_path: Path):
    folder = write(tmp_path, spec_of(("recent",)))
    pack(folder, tmp_path / "s.zip", name="Known", authors=["Ada"])
    verdict = validate(tmp_path / "s.zip")
    assert any("trained on the training split of the tested 'recent': mend." in note for note in verdict.findings.notes)


def test_data_that_are_not_of_the_package_are_read_where_they_are_given(files: Files, tmp_path: Path):
    digests = {}
    for path in Embedded().path.rglob("*.json"):
        name = path.relative_to(Embedded().path).as_posix()
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content := path.read_bytes() + b"\n")
        digests[name] = hashlib.sha256(content).hexdigest()

    def elsewhere(run: dict) -> None:
        for data in run["data"]:
            data["source"] = "folder"
            data["sha256"] = {name: digests[name] for name in data["sha256"]}
            run["spec"]["data"][data["task"]] = data["sha256"]

    def widen(line: dict) -> None:
        if line["task"] == "convsent":
            line["target"] = "Nice."

    files.change("run.json", elsewhere)
    files.each(widen)
    files.consistent()
    path = files.write(tmp_path / "s")
    verdict = validate(path)
    assert verdict.accepted
    assert any("were not read again" in note for note in verdict.findings.notes)
    found = validate(path, data=str(tmp_path / "data")).findings.found
    assert {(f.field, f.found) for f in found} == {("target", "'Nice.'")}


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "/etc/evil.json", "runs/../../evil.json", "runs\\..\\evil.json", "C:evil.json", "run.json"],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, files: Files, tmp_path: Path):
    with zipped(files, tmp_path / "s.zip") as file:
        file.writestr(name, b"{}")
    found = reasons(tmp_path / "s.zip")
    assert f"{name}: name: {MANIFEST} or a file of runs/DIGEST/ was expected" in found
    assert [path.name for path in tmp_path.iterdir()] == ["s.zip"], "nothing is written anywhere"


def test_a_name_that_is_not_of_the_encoding_it_claims_is_refused(files: Files, tmp_path: Path):
    """Names stand twice in a zip file; the one beside the content is read when it is opened."""
    zipped(files, tmp_path / "s.zip").close()
    content = bytearray((tmp_path / "s.zip").read_bytes())
    central, utf_8 = content.find(b"PK\x01\x02"), 0x08
    content[7] = content[central + 9] = utf_8
    content[30] = 0xFF
    (tmp_path / "s.zip").write_bytes(content)
    assert f"{MANIFEST}: content: a Manifest was expected, found 'utf-8' codec" in reasons(tmp_path / "s.zip")


def test_a_second_file_of_a_name_is_refused(files: Files, tmp_path: Path):
    with zipped(files, tmp_path / "s.zip") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(MANIFEST, b"{}")
    assert f"{MANIFEST}: name: each name once was expected" in reasons(tmp_path / "s.zip")


def test_links_are_refused(files: Files, tmp_path: Path):
    with zipped(files, tmp_path / "s.zip") as file:
        entry = zipfile.ZipInfo(files.name("usage.jsonl.gz").replace("usage", "timings"))
        entry.filename = "runs/0123456789abcdef/run.json"
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(entry, "/etc/passwd")
    assert "kind: a plain file was expected, found a folder, a link or a special file" in reasons(tmp_path / "s.zip")
    files.write(tmp_path / "s")
    name = tmp_path / "s" / files.name("summary.json")
    name.rename(tmp_path / "elsewhere.json")
    name.symlink_to(tmp_path / "elsewhere.json")
    assert "kind: a plain file was expected, found a link or a special file" in reasons(tmp_path / "s")


def test_what_is_no_zip_file_is_refused(tmp_path: Path):
    (tmp_path / "s.zip").write_bytes(b"PK and nothing else")
    assert "s.zip: format: a zip file or a folder was expected" in reasons(tmp_path / "s.zip")
    with pytest.raises(InputError, match="no such file or folder"):
        validate(tmp_path / "other.zip")


def test_bombs_are_not_unpacked(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A document of zeros, deflated to a thousandth; and more bytes of lines than may be."""
    monkeypatch.setattr(archive, "DOCUMENT", 1 << 20)
    monkeypatch.setattr(archive, "STREAM", 1 << 12)
    with zipped(files, tmp_path / "s.zip") as file:
        file.writestr("runs/0123456789abcdef/run.json", bytes(4 << 20), zipfile.ZIP_DEFLATED)
    found = reasons(tmp_path / "s.zip")
    assert "size: at most 1,048,576 bytes was expected, found 4,194,304" in found
    assert "or 4,096 in all" in found


def test_a_document_larger_than_it_says_is_not_read_whole(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened = open_archive(files.write(tmp_path / "s"), Findings())
    assert opened is not None
    monkeypatch.setattr(archive, "DOCUMENT", 10)
    with pytest.raises(archive.UnreadableError, match="more than 10 bytes"):
        archive.document(opened, MANIFEST)


def test_a_submission_that_is_wrong_everywhere_is_not_read_for_ever(files: Files, tmp_path: Path):
    files.files[files.name("cases.jsonl.gz")] = archive.compress(b"{}\n" * (MOST + 10))
    verdict = validate(files.write(tmp_path / "s"))
    assert len(verdict.findings.found) == MOST
    assert f"Nothing was checked after the first {MOST:,} findings." in verdict.findings.notes


def test_of_lines_that_a_run_cannot_have_nothing_is_kept(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Further cases, with the package's data and with others; of the latter only the number of cases is known."""
    kept: set[str] = set()
    take = BaseReader.take
    monkeypatch.setattr(BaseReader, "take", lambda self, record: (kept.add(record.case_id), take(self, record)))
    (first, *_), own = files.lines, {line["case_id"] for line in files.lines}
    files.lines = [*files.lines, *({**first, "case_id": f"counterfact/test/{5000 + more}"} for more in range(9))]
    wanted = "case_id: one of the 3 cases of the run was expected, found 'counterfact/test/5008'"
    files.seal()
    assert wanted in reasons(files.write(tmp_path / "ours"))
    assert kept == own

    def elsewhere(run: dict) -> None:
        (data,) = (data for data in run["data"] if data["task"] == "counterfact")
        data.update(source="folder", sha256={"other.json": "0" * 64}, rows=data["rows"] + 1)
        run["spec"]["data"]["counterfact"] = data["sha256"]

    files.change("run.json", elsewhere)
    files.seal()
    kept.clear()
    assert wanted in reasons(files.write(tmp_path / "others"))
    assert kept == own


@pytest.mark.parametrize(("limit", "most"), [("KEPT", 1 << 10), ("LINES", 7)])
def test_what_is_kept_of_a_run_is_bounded(
    limit: str, most: int, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(f"instructedit.reports.leaderboard.lines.{limit}", most)
    assert f"found more, up to line {1 if limit == 'KEPT' else 8}" in reasons(files.write(tmp_path / "s"))


def test_what_is_there_is_not_overwritten_and_names_are_asked_for(results: Path, tmp_path: Path):
    (tmp_path / "s.zip").touch()
    with pytest.raises(InputError, match="is there already"):
        pack(results, tmp_path / "s.zip", name="Ours", authors=["Ada"])
    with pytest.raises(InputError, match="a name and its authors"):
        pack(results, tmp_path / "t.zip", name="Ours", authors=[" "])


def test_an_unfinished_run_is_not_packed(tmp_path: Path):
    folder = write(tmp_path, spec_of(("counterfact",)))
    (folder / "summary.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        pack(folder, tmp_path / "s.zip", name="Half", authors=["Ada"])


def test_both_lists_of_built_in_editors_are_the_registered_ones():
    ours = {name for name in EDITORS.names() if EDITORS.get(name).__module__.startswith("instructedit.")}
    trained = {name for name in ours if issubclass(EDITORS.get(name), TrainedEditor)}
    assert (set(TRAINED), set(UNTRAINED)) == (trained, ours - trained)


def test_the_name_of_a_checkpoint_holds_the_text_around_prompts():
    spec, chat = spec_of(), ChatFormat(name="wild", prefix="Q: ", suffix="\nA:")
    (row,) = (row for row in spec.editors if row.training)
    assert checkpoint_of(row, spec.model_copy(update={"chat": chat})) != checkpoint_of(row, spec)


def test_memory_is_measured():
    usage = Meter().read()
    assert usage.seconds >= 0
    assert usage.memory > 50 * 2**20, "Python with torch takes more"


def test_nothing_but_the_submission_is_written_beside_it(results: Path, tmp_path: Path):
    (tmp_path / "s.part").write_text("mine")
    pack(results, tmp_path / "s.zip", name="Ours", authors=["Ada"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.part", "s.zip"]
    assert (tmp_path / "s.part").read_text() == "mine"
    assert stat.S_IMODE((tmp_path / "s.zip").stat().st_mode) == 0o644
