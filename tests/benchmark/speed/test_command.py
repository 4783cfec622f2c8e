"""The command `speed` from end to end, on a tiny shape, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from instructedit.benchmark.results.records import read_record
from instructedit.benchmark.results.speed_results import SpeedRecord
from instructedit.benchmark.speed import fast
from instructedit.benchmark.speed.cases import FRONT, make_cases
from instructedit.benchmark.speed.growth import Lengths, by_model, grown
from instructedit.benchmark.speed.measure import Bench, Effort
from instructedit.benchmark.speed.samples import spread
from instructedit.benchmark.speed.shapes import SHAPES, make_model
from instructedit.benchmark.speed.subjects import prepared
from instructedit.benchmark.speed.watch import Watch
from instructedit.cli.main import app
from instructedit.reports.tables.performance import page

RUN = CliRunner()
NUMBERS = Path(__file__).resolve().parents[3] / "docs" / "runs" / "performance.json"
QUICK = ["speed", "--quick", "--shape", "tiny"]


def test_the_command_measures_and_writes(tmp_path):
    threads = torch.get_num_threads()
    numbers, written = tmp_path / "speed.json", tmp_path / "pages" / "speed.md"
    found = RUN.invoke(app, [*QUICK, "--editor", "mend", "--json", str(numbers), "--page", str(written)])
    assert found.exit_code == 0, found.output
    assert torch.get_num_threads() == threads
    record = read_record(numbers, SpeedRecord)
    assert {(row.editor, row.phase) for row in record.rows} == {
        ("all", "base"),
        ("all", "generate"),
        *(("mend", phase) for phase in ("loop", "edit", "score", "train", "generate")),
    }
    for row in record.rows:
        repeats = 1 if row.phase in ("train", "generate") else 2
        assert (row.shape, row.repeats, row.cases) == ("tiny", repeats, 1)
        assert 0 < row.cpu_low <= row.cpu_seconds <= row.cpu_high
        assert row.ratio and row.ratio_low and row.ratio_high
        assert row.ratio_low <= row.ratio <= row.ratio_high
        assert row.gflop_per_second == pytest.approx(row.gflop / row.cpu_seconds)
        assert row.gemm_share == pytest.approx(row.gflop_per_second / record.gemm["tiny"].median)
        assert row.largest_difference is not None and row.largest_difference < 1e-3
    loop, edit, score = (
        next(row for row in record.rows if (row.editor, row.phase) == ("mend", phase))
        for phase in ("loop", "edit", "score")
    )
    base = record.rows[0]
    assert loop.gflop == pytest.approx(edit.gflop + score.gflop + base.gflop)  # one editor: the whole base pass
    assert loop.cpu_seconds > edit.cpu_seconds
    assert set(record.untimed) == {"none", "in-context"}
    assert (record.machine.device, record.machine.threads, record.quick) == ("cpu", 1, True)
    assert written.read_text(encoding="utf-8") == page(record)
    assert "| mend | 8 |" in page(record)
    (grown_with,) = by_model(record.rows, {"tiny": 7})
    assert (grown_with.of, grown_with.size, grown_with.cpu_seconds) == ("model", 7, loop.cpu_seconds)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--editor", "mand"], "Unknown editor 'mand'. Did you mean 'mend'?"),
        (["--editor", "in-context"], "The editor 'in-context' cannot be timed: the slow path knows ft-l, ft-m, ke"),
        (["--shape", "XXL"], "Unknown shape 'XXL'."),
        (["--device", "tpu"], "--device: found 'tpu', but it is not there; expected cpu"),
        (["--device", "cuda:99"], "--device: found 'cuda:99', but torch sees"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence):
    found = RUN.invoke(app, ["speed", "--quick", *words])
    assert found.exit_code == 2
    assert sentence in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_an_engine_that_edits_otherwise_fails(monkeypatch):
    true = fast.edit_each

    def spoilt(model, requests, editor, seed):
        edits, failures = true(model, requests, editor, seed)
        for patches in edits.patches:
            patches[0].b.mul_(1.5)
        return edits, failures

    monkeypatch.setattr(fast, "edit_each", spoilt)
    found = RUN.invoke(app, [*QUICK, "--editor", "mend"])
    assert found.exit_code == 2
    assert "mend on tiny" in found.stderr and "say nothing" in found.stderr


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_room_for_a_copy_of_the_model_the_slow_path_is_left_out(dtype):
    effort = Effort(repeats=1, chunks=(2,), editors=("ft-l", "mend"), generated=())
    bench = Bench(replace(SHAPES["tiny"], dtype=dtype), effort.editors, effort)
    bench.twin = None
    rows = bench.run()
    assert {row.editor for row in rows} == {"all", "ft-l", "mend"}
    for row in rows:
        assert (row.slow_seconds, row.ratio, row.largest_difference, row.cases) == (None, None, None, 0)
        assert row.cpu_seconds > 0 and row.gflop > 0


def test_in_a_half_type_a_difference_is_told_and_not_refused():
    effort = Effort(repeats=1, chunks=(2,), slow_cases=1, trained=(), generated=())
    rows = Bench(replace(SHAPES["tiny"], dtype="bfloat16"), ["mend"], effort).run()
    assert {row.repeats for row in rows} == {1}
    assert all(row.largest_difference is not None and row.largest_difference < 1 for row in rows)


def test_numbers_are_read_again(tmp_path):
    found = RUN.invoke(app, ["speed", "--read", str(NUMBERS), "--page", str(tmp_path / "page.md")])
    assert found.exit_code == 0, found.output
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page(read_record(NUMBERS, SpeedRecord))
    found = RUN.invoke(app, ["speed", "--read", str(NUMBERS), "--quick"])
    assert (found.exit_code, "no other option but --page" in found.stderr) == (2, True)


def test_cases_have_the_stated_shape():
    model = make_model(SHAPES["tiny"])
    first, second = make_cases(2, 96)
    assert make_cases(1, 96, first=1) == [second]
    for case, target in ((first, 2), (second, 3)):
        row = model.encode(case.request.prompt, case.request.target)
        assert (len(row), len(row.scored)) == (17 + target, target)
        assert [probe.role for probe in case.probes] == [
            "reliability",
            "generalization",
            *["locality"] * 3,
            *["portability"] * 3,
        ]
        assert case.probes[0].prompt == case.request.prompt
        assert {len(model.encode(probe.prompt, probe.answers[0])) for probe in case.probes} == {17 + target}
    editor, (told, _) = prepared("instructedit", model, [first, second])
    assert len(editor.encode(model, told.request)) == FRONT + 17 + 2


def test_random_weights_are_always_the_same_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    one, other = make_model(SHAPES["tiny"]), make_model(SHAPES["tiny"])
    assert one.identity == other.identity
    assert torch.equal(torch.random.get_rng_state(), state)


def test_growth_has_a_row_for_each_size():
    lengths = Lengths((8, 16), (2, 4), ("mend", "grace"), ("mend", "grace", "ft-l"))
    rows = grown(SHAPES["tiny"], lengths, ["mend", "ft-l"], "cpu")
    assert [(row.of, row.editor, row.size) for row in rows] == [
        ("cases", "mend", 8),
        ("cases", "mend", 16),
        ("edits", "mend", 2),
        ("edits", "mend", 4),
        ("edits", "ft-l", 2),
        ("edits", "ft-l", 4),
    ]
    assert all(row.cpu_seconds > 0 for row in rows)
    # the down map of block 0, 128 x 32 numbers of four bytes, however many edits it carries
    assert [row.edit_bytes for row in rows if row.editor == "ft-l"] == [128 * 32 * 4] * 2


def test_quartiles():
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0, 7.0)


def test_peak_memory_is_what_a_call_takes_and_gives_back():
    watch = Watch("cpu")
    held = watch.begin()
    if held is None:
        pytest.skip("the system does not let a process reset its peak")
    size = 1 << 26
    kept = torch.ones(size, dtype=torch.uint8)
    del kept
    assert 0.9 * size < watch.end(held) < 1.5 * size
    assert watch.end(watch.begin()) < 0.1 * size


def test_processor_time_does_not_count_sleep():
    import time

    _, seconds = Watch("cpu").time(lambda: time.sleep(0.2))
    assert seconds < 0.1
