"""The page docs/performance.md says what its JSON says."""

from pathlib import Path

from instructedit.benchmark.results.records import read_record
from instructedit.benchmark.results.speed_results import Machine, SpeedRecord, SpeedRow
from instructedit.reports.tables.performance import page, report

DOCS = Path(__file__).resolve().parents[3] / "docs"


def row(**values):
    return SpeedRow(
        **{
            "editor": "mend",
            "shape": "S",
            "phase": "loop",
            "chunk": 8,
            "cpu_seconds": 0.03,
            "cpu_low": 0.028,
            "cpu_high": 0.1,
            "slow_seconds": 0.12,
            "ratio": 4.04,
            "ratio_low": 3.9,
            "ratio_high": 4.2,
            "peak_bytes": 56_000_000,
            "model_bytes": 17_881_088,
            "cases": 2,
            "repeats": 5,
            "largest_difference": 1.9e-6,
            "differing": 0,
            **values,
        }
    )


def record(rows, **values):
    machine = Machine(processor="A", device="cpu", threads=1, python="3.11", torch="2.13", transformers="5.2")
    return SpeedRecord(
        **{
            "machine": machine,
            "quick": False,
            "seconds": 9.0,
            "untimed": ("none",),
            "rows": rows,
            **values,
        }
    )


def test_the_page_is_made_from_its_numbers():
    found = read_record(DOCS / "runs" / "performance.json", SpeedRecord)
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == page(found)


def test_a_row_of_the_page():
    text = page(record([row()]))
    assert "| mend | 8 | 30 [28, 100] | 120 | 4.0 [3.9, 4.2] | 56 | 2e-06 |" in text
    assert "`--device cuda` was not run" in text


def test_an_editor_stands_at_the_number_of_cases_that_suits_it_best():
    text = page(record([row(), row(chunk=16, cpu_seconds=0.025), row(chunk=4, cpu_seconds=0.05)]))
    assert "| mend | 16 | 25 " in text and "| mend | 8 | 30 " not in text
    assert "| mend | 50 [28, 100] | 30 [28, 100] | 25 [28, 100] |" in text  # all of them in the second table


def test_what_was_not_measured_has_no_number():
    unknown = dict.fromkeys(("slow_seconds", "ratio", "ratio_low", "ratio_high", "peak_bytes", "largest_difference"))
    text = page(record([row(**unknown, differing=None)]))
    assert "| mend | 8 | 30 [28, 100] | - | - | - | - |" in text
    assert "The reference was not run." in text


def test_a_page_made_on_a_gpu_has_no_excuse():
    gpu = Machine(processor="A", device="H", threads=1, python="3.11", torch="2.13", transformers="5.2")
    assert "was not run" not in page(record([row()], machine=gpu))


def test_texts_that_differ_are_counted():
    text = page(record([row(phase="generate", largest_difference=None, differing=2)]))
    assert "| 56 | 2 texts |" in text
    assert "| 56 | none |" in page(record([row(phase="generate", largest_difference=None, differing=0)]))


def test_phases_come_in_the_order_of_a_loop():
    rows = [row(phase="generate"), row(phase="edit"), row(editor="all", phase="base"), row()]
    (table,) = report(record(rows)).blocks[0].tables
    assert table.groups == ("Whole loop", "Edit", "Base pass", "Scores with texts")
