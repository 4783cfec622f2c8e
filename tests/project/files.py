"""The files of the project, what they import, and the code in its documents."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("api", "editors", "baselines", "benchmark", "reports", "cli")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def package_of(folder: str) -> str:
    """Return the package of a folder at the top: `api` is `instructedit` itself."""
    return "instructedit" if folder == "api" else f"instructedit.{folder}"


def module_of(path: Path) -> str:
    folder, *parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((package_of(folder), *(part for part in parts if part != "__init__")))


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a file imports, at its top, in a function, or for types only."""
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            front = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*front, *([node.module] if node.module else [])])


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def python(code: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that has neither this checkout nor `tests` on its path."""
    return subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=False)
