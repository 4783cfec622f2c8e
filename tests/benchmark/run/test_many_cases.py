"""Memory does not grow with the number of cases, but for the cases' own texts and a few numbers of each result."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instructedit.benchmark.results import statistics
from instructedit.benchmark.results.run_folder import RunFolder

from ...reports.conftest import run_file
from .many_cases import RESET

ROOT = Path(__file__).resolve().parents[3]
PER_CASE = 70_000
"""Bytes that a case may add to the peak. Measured between 1,000 and 10,000 cases: 7,000, and 118,000 when all records
were held at once. Between the few cases of this test the allocator alone may add 45,000."""


@pytest.mark.slow
@pytest.mark.skipif(not RESET.exists(), reason="the peak is reset through /proc")
def test_the_peak_does_not_grow_with_the_number_of_cases():
    few, many = 112, 336  # from 105 on the bootstrap fills its block of 8 MB
    words = [sys.executable, "-m", "tests.benchmark.run.many_cases", str(few), str(many)]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    small, large = map(json.loads, found.stdout.splitlines())
    assert (small["cases"], large["cases"]) == (few, many)
    for name in ("run_bytes", "again_bytes"):
        assert large[name] - small[name] < PER_CASE * (many - few), name


def test_records_are_read_one_at_a_time(tmp_path):
    store, run = RunFolder(tmp_path), run_file()
    assert list(store.records(run)) == []
    line = {"schema_version": 2, "run": run.digest, "task": "convsent", "case_id": "convsent/test/0", "editor": "none"}
    line |= {"prompt": "p", "target": "t", "subject": "s"}
    store.cases.write_text(json.dumps(line) + "\n{half", encoding="utf-8")
    records = store.records(run)
    assert next(records).case_id == line["case_id"]  # the broken second line is not looked at yet
    assert store.mend() == len("{half")
    assert [record.case_id for record in store.records(run)] == [line["case_id"]]


def test_bootstrap_draws_are_the_same_in_blocks(monkeypatch):
    values = np.repeat([0.0, 0.25, 0.5, 1.0], [3, 5, 4, 8])
    whole = statistics._resampled_means(values, statistics.seeded("key"))
    monkeypatch.setattr(statistics, "_BLOCK", 4 * 999)  # the last of eleven blocks is a short one
    parts = statistics._resampled_means(values, statistics.seeded("key"))
    assert np.array_equal(whole, parts)
