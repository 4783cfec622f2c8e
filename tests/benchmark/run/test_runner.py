"""A run from files to files: resumed, killed, on a full disk, twice at once."""

import json
import shutil

import pytest
import torch

from instructedit.benchmark.results.records import RunFile, RunSummary, read_record
from instructedit.benchmark.results.resources import Usage
from instructedit.benchmark.results.run_folder import StorageError
from instructedit.benchmark.run import worker
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.tasks.sampling import choose
from instructedit.editors import EditRequest, InputError

from ..worlds import prepared_run, records_of, write_world


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def prepared(place):
    return prepared_run(place)


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    return run(prepared, tmp_path_factory.mktemp("finished"))


def test_a_line_for_each_case_and_editor(finished, prepared):
    records = records_of(finished)
    assert len(records) == 4 * 5 * 3
    assert len({(r.case_id, r.editor) for r in records}) == len(records)
    assert {r.status for r in records} == {"done"}
    assert {r.run for r in records} == {prepared.file.digest} == {finished.name}
    summary = read_record(finished / "summary.json", RunSummary)
    assert summary.complete
    assert summary.valid


def test_provenance_names_what_the_numbers_depend_on(finished, prepared):
    file = read_record(finished / "run.json", RunFile)
    assert file.digest == file.spec.digest
    assert file.spec.model_fingerprint == prepared.model.fingerprint()
    assert set(file.spec.data) == {"recent", "counterfact", "zsre", "convsent"}
    assert file.provenance.packages["torch"] == torch.__version__
    assert file.data[0].skipped, "derived rephrases are counted"


def test_the_same_run_gives_the_same_bytes(finished, prepared, tmp_path):
    again = run(prepared, tmp_path)
    for name in ("cases.jsonl", "summary.json"):
        assert (again / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("cut", [0, 5, 20_000])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(finished, prepared, tmp_path, cut):
    """Whatever a kill left of the file, half a line included."""
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    whole = (finished / "cases.jsonl").read_bytes()
    (folder / "cases.jsonl").write_bytes(whole[: len(whole) - cut])
    said: list[str] = []
    run(prepared, tmp_path, report=said.append)
    assert (folder / "cases.jsonl").read_bytes() == whole
    assert (folder / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()
    assert any("results are there already" in text for text in said)
    assert any("half-written" in text for text in said) == (cut not in (0, len(whole)))


def test_a_finished_run_computes_nothing(finished, prepared, monkeypatch, tmp_path):
    shutil.copytree(finished, tmp_path / finished.name)
    monkeypatch.setattr(worker, "run_chunk", lambda *_a, **_k: pytest.fail("nothing is missing"))
    run(prepared, tmp_path)


def test_two_processes_do_not_write_one_run(prepared, tmp_path):
    from filelock import FileLock

    folder = tmp_path / prepared.file.digest
    folder.mkdir()
    with FileLock(folder / ".lock"), pytest.raises(InputError, match="another process is writing this run"):
        run(prepared, tmp_path)


def test_a_base_model_that_changed_makes_the_run_invalid(place, tmp_path, monkeypatch):
    prepared = prepared_run(place, tasks=("recent",), limit=2)
    inner = worker.run_chunk

    def leak(model, *arguments, **options):
        with torch.no_grad():
            model.model.lm_head.weight[0, 0] += 1e-3
        return inner(model, *arguments, **options)

    monkeypatch.setattr(worker, "run_chunk", leak)
    said: list[str] = []
    folder = run(prepared, tmp_path, report=said.append)
    assert not read_record(folder / "summary.json", RunSummary).valid
    assert any(text.startswith("INVALID RUN") for text in said)


def test_a_cases_result_does_not_depend_on_the_cases_before_it(place, finished, tmp_path):
    """Another limit, other chunks: the same answers; numbers equal up to rounding of another packing."""
    other = records_of(run(prepared_run(place, limit=3, chunk=3), tmp_path))
    known = {(r.case_id, r.editor): r for r in records_of(finished)}
    assert len(other) == 4 * 3 * 3
    for record in other:
        twin = known[record.case_id, record.editor]
        if record.task == "convsent":
            continue  # the answers of a random model to ties in long replies may round differently
        assert record.text == twin.text
        assert [a.generated for a in record.answers] == [a.generated for a in twin.answers]
        for ours, theirs in zip(record.scores, twin.scores, strict=True):
            assert ours.value == pytest.approx(theirs.value, abs=1e-4)


def test_editors_receive_requests_and_nothing_else(place, monkeypatch, tmp_path):
    prepared, seen = prepared_run(place, limit=2), []
    for editor in prepared.resolved.editors.values():
        inner = editor.edit
        monkeypatch.setattr(
            editor,
            "edit",
            lambda model, requests, seed, inner=inner: seen.extend(requests) or inner(model, requests, seed),
        )
    run(prepared, tmp_path)
    assert seen
    assert all(type(request) is EditRequest for request in seen)
    words = {field for request in seen for field in (request.prompt, request.target)}
    assert not any("gender of" in word or "country of birth" in word for word in words)


def test_a_smaller_limit_takes_a_part_of_a_larger_ones(prepared):
    cases = prepared.resolved.cases["recent"]
    three, two = choose(cases, 3), choose(cases, 2)
    assert set(two) < set(three) < set(cases)
    assert choose(cases, None) == cases
    assert [c.request.case_id for c in three] == sorted(c.request.case_id for c in three)


def test_the_digest_follows_content_and_not_place(place, tmp_path, prepared):
    shutil.copytree(place / "data", tmp_path / "elsewhere")
    moved = {"data": str(tmp_path / "elsewhere")}
    assert prepared_run(place, **moved).file.digest == prepared.file.digest
    for change in ({"seed": 1}, {"limit": 4}, {"chunk": 3}, {"editors": {"none": {}}}, {"tasks": ("recent",)}):
        assert prepared_run(place, **change).file.digest != prepared.file.digest
    path = tmp_path / "elsewhere" / "ZsRE" / "ZsRE-test-all.json"
    path.write_text(path.read_text().replace("Oslo", "Lima"))
    assert prepared_run(place, **moved).file.digest != prepared.file.digest


def test_strange_lines_are_refused(finished, prepared, tmp_path):
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    path = folder / "cases.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    for bad, sentence in (
        (b"{oops}\n", "line 2: not valid JSON"),
        (b"\xff\xfe\n", "line 2: is UTF-16 text"),
        (b'{"schema_version": 9}\n', "line 2: schema version 9"),
    ):
        path.write_bytes(whole[0].encode() + bad)
        with pytest.raises(InputError, match=sentence):
            run(prepared, tmp_path)


def test_a_folder_that_cannot_be_made_is_a_sentence(prepared, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="results cannot be written"):
        run(prepared, tmp_path / "file")


def test_a_run_on_the_training_split_records_the_training_file(place, tmp_path):
    shutil.copytree(place / "data", tmp_path / "data")
    rows = json.loads((tmp_path / "data" / "wiki_recent" / "recent_test.json").read_text())
    rows[0] = {**rows[0], "subject": "Mary Ward", "prompt": "The place of birth of Mary Ward is"}
    (tmp_path / "data" / "wiki_recent" / "recent_train.json").write_text(json.dumps(rows))
    prepared = prepared_run(place, data=str(tmp_path / "data"), tasks=("recent",), split="train")
    (data,) = prepared.file.data
    assert set(data.sha256) == {"wiki_recent/recent_train.json"}
    assert data.cases == 1
    assert data.skipped["row left out: its subject is tested"] == 4
    assert [c.request.subject for c in prepared.resolved.cases["recent"]] == ["Mary Ward"]


def test_a_resumed_run_says_what_has_changed(finished, prepared, tmp_path):
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    path = folder / "run.json"
    path.write_text(path.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    said: list[str] = []
    run(prepared, tmp_path, report=said.append)
    assert (
        f"note: this run was started with torch 1.0 (now {torch.__version__}); its finished results are kept." in said
    )


def test_half_written_timings_are_cut_too(finished, prepared, tmp_path):
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    whole = (folder / "timings.jsonl").read_bytes()
    (folder / "timings.jsonl").write_bytes(whole + b'{"task": "re')
    run(prepared, tmp_path)
    assert (folder / "timings.jsonl").read_bytes() == whole


def test_answers_before_the_edit_are_kept(finished):
    records = {(r.case_id, r.editor): r for r in records_of(finished)}
    for (case, _), record in records.items():
        for answer, control in zip(record.answers, records[case, "none"].answers, strict=True):
            assert answer.before == control.generated


def test_a_start_writes_what_it_took_once(finished, prepared, tmp_path):
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    (usage,) = (Usage.model_validate_json(line) for line in (folder / "usage.jsonl").read_text().splitlines())
    assert usage.seconds > 0
    assert usage.memory > 2**20
    run(prepared, tmp_path)  # nothing is left to do
    assert len((folder / "usage.jsonl").read_text().splitlines()) == 1


def test_a_real_run_keeps_the_laws_of_the_leaderboard(finished, tmp_path):
    from instructedit.reports.leaderboard.pack import pack
    from instructedit.reports.leaderboard.validate import validate

    manifest = pack(finished, tmp_path / "s.zip", name="Real", authors=["Ada"])
    assert manifest.runs[0].memory
    assert [str(finding) for finding in validate(tmp_path / "s.zip").findings.found] == []
