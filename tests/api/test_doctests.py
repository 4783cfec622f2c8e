"""The examples in docstrings of the Python interface give what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

NAMES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "api").glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    module = import_module("instructedit" if name == "__init__" else f"instructedit.{name}")
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0
    assert found.attempted > 0 or name in {"__init__", "edited", "export", "plain", "results", "runs"}
