"""The page docs/performance.md says what its JSON says."""

from pathlib import Path

import pytest

from instructedit.benchmark.results.records import read_record
from instructedit.benchmark.speed.record import GrowthRow, Machine, Rate, SpeedRecord, SpeedRow
from instructedit.editors.errors import InputError
from instructedit.reports.tables.performance import page, report, write_page

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
            "gflop": 1.85,
            "gflop_per_second": 61.7,
            "gemm_share": 0.3906,
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
    rate = Rate(median=158.0, low=150.0, high=160.0)
    return SpeedRecord(
        **{
            "machine": machine,
            "quick": False,
            "seconds": 9.0,
            "gemm": {"S": rate},
            "sharing": {"S": 7},
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
    assert "| mend | 8 | 30 [28, 100] | 120 | 4.0 [3.9, 4.2] | 10.3 | 1.85 | 62 | 39 % | 56 |" in text
    assert (
        "Largest difference between engine and slow path: 1.9e-06; most likely tokens, and texts, that differ: 0."
        in text
    )
    assert "`--device cuda` was not run" in text


def test_a_rate_that_something_else_slowed_is_said():
    rows = [row(), row(shape="M", model_bytes=340_000_000)]
    sharing = {"S": 7, "M": 6}

    def said(s, m):
        gemm = {name: Rate(median=rate, low=rate, high=rate) for name, rate in (("S", s), ("M", m))}
        return [line for line in page(record(rows, gemm=gemm, sharing=sharing)).splitlines() if "too high" in line]

    assert said(160.0, 150.0) == said(150.0, 195.0) == []
    (line,) = said(160.0, 120.0)
    assert line.startswith("The rate, 120 GFLOP/s, is 25 % below that of a smaller shape")


def test_an_editor_stands_at_the_number_of_cases_that_suits_it_best():
    text = page(record([row(), row(chunk=16, cpu_seconds=0.025), row(chunk=4, cpu_seconds=0.05)]))
    assert "| mend | 16 | 25 " in text and "| mend | 8 | 30 " not in text
    assert "| mend | 50 [28, 100] | 30 [28, 100] | 25 [28, 100] |" in text  # all of them in the second table


def test_what_was_not_measured_has_no_number():
    unknown = dict.fromkeys(("slow_seconds", "ratio", "ratio_low", "ratio_high", "peak_bytes", "largest_difference"))
    text = page(record([row(**unknown, differing=None)]))
    assert "| mend | 8 | 30 [28, 100] | - | - | - | 1.85 | 62 | 39 % | - |" in text
    assert "The slow path was not run." in text


def test_a_card_has_two_columns_more_and_no_excuse():
    card = Machine(processor="A", device="H", threads=1, python="3.11", torch="2.13", transformers="5.2")
    text = page(record([row(utilisation=87.4), row(phase="edit")], machine=card))
    assert "| Peak, MB | Cases/s | Busy |" in text
    assert "| 39 % | 56 | 33.3 | 87 % |" in text and "| 39 % | 56 | 33.3 | - |" in text
    assert "was not run" not in text


def test_growth():
    rows = [
        GrowthRow(
            of="edits", editor="grace", shape="S", size=10, cpu_seconds=0.25, peak_bytes=2_000_000, edit_bytes=9_000
        ),
        GrowthRow(of="edits", editor="grace", shape="S", size=1000, cpu_seconds=0.251, edit_bytes=900_000),
    ]
    text = page(record([row()], growth=rows))
    assert "| Editor | 10 | 1,000 |" in text
    assert "| grace | 250 (edit 0.009 MB, peak 2 MB) | 251 (edit 0.9 MB) |" in text


def test_phases_come_in_the_order_of_a_loop():
    rows = [row(phase="generate"), row(phase="edit"), row(editor="all", phase="base"), row()]
    (table,) = report(record(rows)).blocks[0].tables
    assert table.groups == ("Whole loop", "Edit", "Base pass", "Texts")


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="the page cannot be written"):
        write_page(record([row()]), tmp_path / "file" / "page.md")
