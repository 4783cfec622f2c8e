"""Who imports whom, and what an import does."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest
import typer

from instructedit.cli.main import app

from .files import FILES, FOLDERS, ROOT, imports, module_of, package_of, python

MAY_IMPORT = {
    "editors": (),
    "baselines": ("instructedit.editors",),
    "benchmark": ("instructedit.editors",),
    "reports": (
        "instructedit.editors",
        "instructedit.benchmark.results",
        "instructedit.benchmark.scoring",
        "instructedit.benchmark.tasks",
    ),
    "api": ("instructedit",),
    "cli": ("instructedit",),
}


def test_there_are_files_to_look_at():
    assert len(FILES) > 40
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(FOLDERS)


def test_imports_go_one_way():
    wrong = []
    for path in FILES:
        folder = path.relative_to(ROOT).parts[0]
        allowed = (package_of(folder), *MAY_IMPORT[folder])
        for name in imports(path):
            ours = name.split(".")[0] == "instructedit"
            if name.split(".")[0] in (*FOLDERS, "tests") or (
                ours and not any(name == package or name.startswith(f"{package}.") for package in allowed)
            ):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if folder == "api" and name.startswith("instructedit.cli"):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}, which is above it")
    assert not wrong, "\n".join(wrong)


def import_graph() -> dict[str, set[str]]:
    """Return the modules that each module imports when it is imported itself: not within functions, nor for types."""
    modules = {module_of(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
                name = ".".join(filter(None, (base, node.module or "")))
                found |= {name, *(f"{name}.{alias.name}" for alias in node.names)} & modules.keys()
        graph[module] = found - {module}
    return graph


def test_no_module_imports_itself_through_others():
    graph = import_graph()
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("folder", ["benchmark", "reports"])
def test_no_circle_between_folders(folder):
    """Within `editors` the contract at the top is below and above the engine: its data below, `Editor` above."""
    folders: dict[str, set[str]] = {}
    for module, found in import_graph().items():
        parts = module.split(".")
        if parts[1:2] == [folder] and len(parts) > 3:
            names = {name.split(".")[2] for name in found if name.startswith(f"instructedit.{folder}.")}
            folders.setdefault(parts[2], set()).update(names - {parts[2]})
    TopologicalSorter(folders).prepare()


def test_nothing_prints_or_pickles():
    for path in FILES:
        assert not {"pickle", "dill", "joblib", "cloudpickle"} & {name.split(".")[0] for name in imports(path)}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found = ast.unparse(node.func)
                assert found not in {"print", "torch.load", "torch.save"}, f"{path}, line {node.lineno}: {found}"


def test_reports_do_without_torch(tmp_path):
    names = [module_of(path) for path in FILES if path.is_relative_to(ROOT / "reports")]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    found = python(code + "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)", folder=tmp_path)
    assert found.returncode == 0, found.stderr or "torch or transformers was imported"


def commands(group: typer.core.TyperGroup, *before: str) -> Iterator[list[str]]:
    """Yield the words of every command and of every group of commands."""
    for name, command in group.commands.items():
        yield [*before, name]
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)


SLOW = ("torch", "transformers", "evaluate", "datasets", "pandas", "matplotlib")
"""What takes longer to import than the command line may take to answer: half a second."""


ANSWERED = f"""
import sys
from instructedit.cli.main import app
for words in WORDS:
    try:
        app(words)
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)
    assert sys.stdout.tell() > 0, words
    sys.stdout.seek(0)
    sys.stdout.truncate()
    slow = [name for name in {SLOW!r} if name in sys.modules]
    assert not slow, (words, slow)
"""


def test_the_command_answers_without_torch(tmp_path):
    listed = ("editors", "tasks", "presets", "settings", "metrics", "tables", "figures")
    words = [
        ["--help"],
        *([*words, "--help"] for words in commands(typer.main.get_command(app))),
        ["list"],
        *(["list", what] for what in listed),
        ["list", "--json"],
        ["--version"],
    ]
    found = python(f"import io, sys\nsys.stdout = io.StringIO()\nWORDS = {words!r}\n{ANSWERED}", folder=tmp_path)
    assert found.returncode == 0, found.stderr


SILENT = """
import importlib, os, random, socket, sys
import numpy, torch, transformers, evaluate, huggingface_hub, tqdm, typer  # what libraries do is their own affair
import rich.console, rich.rule, rich.table  # rich draws random numbers for the ids of its styles

def state():
    return (
        random.getstate(), str(numpy.random.get_state()), torch.random.get_rng_state().tolist(),
        torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.cuda.is_initialized(),
        dict(os.environ), os.getcwd(), sorted(os.listdir()),
    )

def refuse(*_, **__):
    raise RuntimeError("an import opened a socket")

before = state()
socket.socket.connect = refuse
for name in NAMES:
    importlib.import_module(name)
    assert state() == before, name
"""


def test_imports_have_no_side_effects(tmp_path):
    names = [module_of(path) for path in FILES]
    found = python(SILENT.replace("NAMES", repr(names)), folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert not found.stdout
