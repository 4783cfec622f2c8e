"""The command `speed` from end to end, on a tiny shape, and its errors."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from instructedit.benchmark.results.records import read_record
from instructedit.benchmark.results.speed_results import SpeedRecord
from instructedit.benchmark.speed import measure
from instructedit.benchmark.speed.cases import INSTRUCTION, SHAPES, make_cases, make_model, prepare
from instructedit.benchmark.speed.clock import Clock
from instructedit.benchmark.speed.measure import Effort, ShapeBenchmark, quartiles
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
    rows = {(row.editor, row.phase): row for row in record.rows}
    assert set(rows) == {
        ("all", "generate"),
        *(("mend", phase) for phase in ("loop", "edit", "base", "score", "train", "generate")),
    }
    for row in record.rows:
        repeats = 1 if row.phase in ("train", "generate") else 2
        assert (row.shape, row.repeats, row.cases) == ("tiny", repeats, 1)
        assert 0 < row.cpu_low <= row.cpu_seconds <= row.cpu_high
        assert row.ratio_low <= row.ratio <= row.ratio_high
    assert rows["mend", "loop"].largest_difference < 1e-3 and rows["mend", "train"].largest_difference < 1e-3
    assert rows["mend", "generate"].differing == 0
    assert rows["mend", "loop"].cpu_seconds > rows["mend", "edit"].cpu_seconds
    assert set(record.untimed) == {"none", "in-context"}
    assert (record.machine.device, record.machine.threads, record.quick) == ("cpu", 1, True)
    assert written.read_text(encoding="utf-8") == page(record)
    assert "| mend | 8 |" in page(record)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--editor", "mand"], "Unknown editor 'mand'. Did you mean 'mend'?"),
        (["--editor", "in-context"], "The editor 'in-context' cannot be timed; ft-l, ft-m, ke"),
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


def test_an_engine_that_edits_wrongly_fails(monkeypatch):
    true = measure.edit_each

    def wrong(model, requests, editor, seed):
        edits, failures = true(model, requests, editor, seed)
        for patches in edits.patches:
            patches[0].b.mul_(1.5)
        return edits, failures

    monkeypatch.setattr(measure, "edit_each", wrong)
    benchmark = ShapeBenchmark(SHAPES["tiny"], ["mend"], Effort(repeats=1, chunks=(2,), trained=(), generated=()))
    with pytest.raises(measure.InputError, match="mend, loop, shape tiny: engine and reference differ by"):
        benchmark.run()


def test_other_texts_are_refused(monkeypatch):
    monkeypatch.setattr(measure, "texts", lambda record: ["w2"] * 9)
    benchmark = ShapeBenchmark(SHAPES["tiny"], ["mend"], Effort(repeats=1, chunks=(2,), reference_cases=1, trained=()))
    with pytest.raises(measure.InputError, match="mend on tiny: the engine and the reference write other texts"):
        benchmark.run()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_memory_for_a_copy_of_the_model_the_reference_is_left_out(dtype):
    effort = Effort(repeats=1, chunks=(2,), editors=("ft-l", "mend"), generated=())
    benchmark = ShapeBenchmark(replace(SHAPES["tiny"], dtype=dtype), effort.editors, effort)
    benchmark.reference = None
    rows = benchmark.run()
    assert {row.editor for row in rows} == {"ft-l", "mend"}
    for row in rows:
        assert (row.slow_seconds, row.ratio, row.largest_difference, row.cases) == (None, None, None, 0)
        assert row.cpu_seconds > 0


def test_in_half_precision_a_difference_is_reported_and_not_refused():
    effort = Effort(repeats=1, chunks=(2,), reference_cases=1, trained=(), generated=())
    rows = ShapeBenchmark(replace(SHAPES["tiny"], dtype="bfloat16"), ["mend"], effort).run()
    (loop,) = (row for row in rows if row.phase == "loop")
    assert 0 < loop.largest_difference < 1


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
    editor, (case, _) = prepare("instructedit", model, [first, second])
    assert len(editor.encode(model, case.request)) == INSTRUCTION + 17 + 2


def test_random_weights_are_fixed_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    one, other = make_model(SHAPES["tiny"]), make_model(SHAPES["tiny"])
    assert one.identity == other.identity
    assert torch.equal(torch.random.get_rng_state(), state)


def test_quartiles():
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_peak_memory_counts_what_a_call_allocates_and_frees():
    size = 1 << 26
    _, peak = Clock("cpu").peak(lambda: int(torch.ones(size, dtype=torch.uint8)[0]))
    if peak is None:
        pytest.skip("the system does not let a process reset its peak")
    assert 0.9 * size < peak < 1.5 * size
    assert Clock("cpu").peak(lambda: None)[1] < 0.1 * size


def test_processor_time_does_not_count_sleep():
    _, seconds = Clock("cpu").time(lambda: time.sleep(0.2))
    assert seconds < 0.1
