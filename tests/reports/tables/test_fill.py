"""docs/runs/fill.py: tables of a page are written from result files, and a page without its numbers is refused."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from instructedit.editors import InputError

from ..suites import trained, write_index, write_run

PAGE = """Text before.

<!-- fill: full | multi-task: recent | Exact match | rows=mend -->
old numbers
<!-- end -->

<!-- fill: full | runs -->
<!-- end -->

Text after.
"""


def _script() -> ModuleType:
    path = Path(__file__).parents[3] / "docs" / "runs" / "fill.py"
    if not path.is_file():
        pytest.skip("the source tree is not here")
    spec = importlib.util.spec_from_file_location("fill", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = [trained("mend", "recent"), trained("instructedit", "recent", instruction="seen")]
    runs = [
        write_run(tmp_path, "multi-task", rows, seed, lambda row, _, seed, case: float(case % 2), tasks=("recent",))
        for seed in (0, 1)
    ]
    write_index(tmp_path, *runs)
    return tmp_path


def test_what_is_between_the_markers_comes_from_the_results(results: Path) -> None:
    fill = _script()
    text = fill.filled(PAGE, fill.Suites(results), "page")
    assert "old numbers" not in text
    assert re.search(r"\| mend \| \W*50\.0", text)
    assert "| instructedit |" not in text
    for run in results.glob("*/run.json"):
        assert f"`{run.parent.name}`" in text
    assert text.startswith("Text before.") and text.endswith("Text after.\n")
    assert fill.filled(text, fill.Suites(results), "page") == text


@pytest.mark.parametrize(
    ("marker", "names"),
    [
        ("full | multi-task: zsre | Exact match", "multi-task: recent"),
        ("full | multi-task: recent | Nothing", "Exact match"),
        ("full | multi-task: recent | Exact match | rows=me", "mend, instructedit"),
        ("other | runs", "other"),
    ],
)
def test_a_marker_that_names_nothing_is_refused(results: Path, marker: str, names: str) -> None:
    fill = _script()
    with pytest.raises(InputError, match="page, marker") as error:
        fill.filled(f"<!-- fill: {marker} -->\n<!-- end -->\n", fill.Suites(results), "page")
    assert names in str(error.value)
