"""Packages of somebody else, as the documents show them: built, installed into a folder of their own, and called."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commands(*each: list[str], after: str = "") -> str:
    """Return code that runs commands one after the other, as far as they succeed, in one process."""
    runs = "".join(f"\napp({words!r}, standalone_mode=False)" for words in each)
    return f"from instructedit.cli.main import app{runs}\n{after}"


def example(page: str, chapter: str, language: str) -> str:
    """Return the last block of a language in a chapter of the documents."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"## {chapter}\n")[2].partition("\n## ")[0]
    *_, block = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return block


def install(source: Path, site: Path) -> Callable[..., str]:
    """Install a package, and return a function that runs Python with it and gives what it printed."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(source)]
    built = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    def call(*words: str, folder: Path) -> str:
        environment = os.environ | {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
        found = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    return call
