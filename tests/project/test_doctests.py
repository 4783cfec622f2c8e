"""The examples in docstrings give what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("editors", "baselines", "benchmark", "reports", "cli")
PATHS = [*(ROOT / "api").glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
EXAMPLES = sorted(path.relative_to(ROOT) for path in PATHS if ">>>" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_examples(path):
    names = [part for part in path.with_suffix("").parts if part not in ("api", "__init__")]
    found = doctest.testmod(import_module(".".join(["instructedit", *names])), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0
    assert found.attempted > 0
