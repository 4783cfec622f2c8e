"""The project keeps its own rules: who imports whom, what an import does, what the documents say."""

import ast
import configparser
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, requires, version
from itertools import chain
from pathlib import Path

import pytest
import torch
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from instructedit.benchmark.setup.checks import make_editor
from instructedit.benchmark.setup.config import presets, read_suite
from instructedit.benchmark.tasks.facts import SUFFIXES
from instructedit.cli.main import app
from instructedit.editors import EDITORS, EditRequest, make

from .freeze import LEFT_OUT

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("api", "editors", "baselines", "benchmark", "reports", "cli")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

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


def test_every_package_and_data_file_is_built():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {module_of(path) for path in FILES if path.name == "__init__.py"}
    assert set(setup["packages"]) == packages
    shipped = set()
    for package, patterns in setup["package-data"].items():
        home = ROOT / setup["package-dir"].get(package, package.removeprefix("instructedit.").replace(".", "/"))
        shipped |= {path for pattern in patterns for path in home.glob(pattern)}
    files = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert {path for path in files - shipped if path.suffix not in {".py", ".pyc"}} == set()


def test_every_import_is_a_declared_dependency():
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *extras["instructions"], *extras["figures"], *extras["peft"]]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    distributions = packages_distributions()
    for path in FILES:
        for name in {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"instructedit"}:
            found = {canonicalize_name(distribution) for distribution in distributions.get(name, [name])}
            assert found & declared, f"{path.relative_to(ROOT)} imports {name}"


def test_every_declared_dependency_is_imported():
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *extras["instructions"], *extras["figures"], *extras["peft"]]
    used = {name.split(".")[0] for path in FILES for name in imports(path)}
    distributions = packages_distributions()
    found = {canonicalize_name(own) for name in used for own in distributions.get(name, [])}
    assert {canonicalize_name(Requirement(text).name) for text in texts} - found == set()


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


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *([*words, "--help"] for words in commands(typer.main.get_command(app))),
        ["list"],
        *(["list", what] for what in ("editors", "tasks", "presets", "settings", "metrics", "tables", "figures")),
        ["list", "--json"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_the_command_answers_without_torch(words, tmp_path):
    code = f"""
import sys
from instructedit.cli.main import app
try:
    app({words!r})
except SystemExit as stop:
    assert not stop.code, stop.code
sys.exit(", ".join(name for name in {SLOW!r} if name in sys.modules) or 0)
"""
    found = python(code, folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout


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


@pytest.mark.parametrize("group", ["instructedit.editors", "instructedit.tasks"])
def test_every_entry_point_resolves_to_what_it_is_called(group):
    declared = PROJECT["entry-points"][group]
    ours = {point.name: point for point in entry_points(group=group) if point.value in declared.values()}
    assert ours.keys() == declared.keys(), "installed metadata is older than pyproject.toml: install again"
    for name, point in ours.items():
        assert point.load().name == name


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_made(name):
    for _, config in read_suite(name):
        assert config.description.endswith(".")
        for row in config.editors:
            make_editor(config, row)


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    assert {version("instructedit-bench"), PROJECT["version"], str(citation["version"]), newest[1]} == {
        PROJECT["version"]
    }


def test_citation_is_complete():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert "2402.16123" in paper["url"]


def declared(*extras: str) -> dict[str, Requirement]:
    """Return the requirements of the package and of some extras, those of the extras that they name included."""
    found = {}
    for text in [*PROJECT["dependencies"], *chain(*(PROJECT["optional-dependencies"][extra] for extra in extras))]:
        requirement = Requirement(text)
        own = requirement.name == PROJECT["name"]
        found |= declared(*requirement.extras) if own else {canonicalize_name(requirement.name): requirement}
    return found


def pinned(path: Path) -> dict[str, Version]:
    """Return the versions that a file pins, by name; each line is a pin or a remark."""
    pins = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): Version(pin) for name, _, pin in (line.partition("==") for line in pins)}


def ends(requirement: Requirement, operator: str) -> list[Version]:
    return [Version(part.version) for part in requirement.specifier if part.operator == operator]


def test_lowest_versions_are_the_declared_ones():
    bounds = {name: ends(requirement, ">=") for name, requirement in declared("test", "browser").items()}
    assert all(bounds[canonicalize_name(Requirement(text).name)] for text in PROJECT["dependencies"])
    assert {name: [pin] for name, pin in pinned(ROOT / "tests" / "lowest.txt").items()} == {
        name: bound for name, bound in bounds.items() if bound
    }


def test_constraints_pin_everything_that_is_declared_within_its_range():
    pins = pinned(ROOT / "constraints.txt")
    assert list(pins) == sorted(pins)
    assert not [pin for pin in pins.values() if pin.local], "the index has no local builds"
    for name, requirement in declared("dev", "browser").items():
        assert name in pins or name == "pip"
        assert name == "pip" or pins[name] in requirement.specifier, name


def test_constraints_are_closed():
    """Whatever a pinned distribution asks for is pinned too, where this environment can tell."""
    pins = pinned(ROOT / "constraints.txt")
    for name in pins:
        try:
            texts = requires(name) or []
        except PackageNotFoundError:
            continue  # an extra that is not installed here
        for requirement in map(Requirement, texts):
            other = canonicalize_name(requirement.name)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and version(name) == str(pins[name]) and not LEFT_OUT.fullmatch(other):
                assert pins[other] in requirement.specifier, f"{name} asks for {requirement}"


def test_upper_bounds_end_behind_the_tested_minor_release():
    pins = pinned(ROOT / "constraints.txt")
    capped = {name: bound for name, each in declared("dev", "browser").items() if (bound := ends(each, "<"))}
    assert {"torch", "transformers"} <= capped.keys()
    assert capped == {name: [Version(f"{pins[name].major}.{pins[name].minor + 1}")] for name in capped}
    newest = tox()["testenv:newest{,-torch}"]["commands_pre"]
    upgraded = re.findall(r"pip install --upgrade (.+)", newest)
    assert set(" ".join(upgraded).split()) == capped.keys(), "tox -e newest looks beyond every upper bound"


def tox() -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    return config


def test_what_installs_this_project_takes_the_tested_versions():
    texts = [(ROOT / ".ci" / "run").read_text(encoding="utf-8")]
    texts += ["\n".join(blocks(document, "bash")) for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")]
    for text in texts:
        installs = re.findall(r"pip install [^&\n]*-e [^&\n]*", text)
        assert installs
        assert all("-c constraints.txt" in line and "torch" not in line for line in installs)
        environments = re.findall(r"(\S+) -m venv", text)
        assert set(environments) == {"python3"}, "any Python of the matrix"
    assert len(re.findall(r"-c constraints\.txt", texts[1])) == 2, "quickstart and tests"


def test_tox_takes_the_tested_versions_but_where_it_says_otherwise():
    config = tox()
    assert config["testenv"]["constraints"] == "constraints.txt"
    others = {name.removeprefix("testenv:") for name in config.sections() if config[name].get("constraints") == ""}
    assert others == {"lowest", "newest{,-torch}", "constraints"}
    assert config["testenv:lowest"]["deps"] == "-r tests/lowest.txt"


def test_the_pythons_that_are_named_are_those_of_the_matrix():
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Python :: 3." in text]
    assert re.findall(r"py(3)(\d+)", tox()["tox"]["env_list"]) == [tuple(name.split(".")) for name in named]
    (sentence,) = re.findall(r"Python ([\d., or]+) \(here as", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert re.findall(r"3\.\d+", sentence) == named
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_tox_has_an_environment_for_every_editor():
    names = re.search(r"testenv:editor-\{(.*)\}", " ".join(tox().sections()))
    assert names
    assert set(PROJECT["entry-points"]["instructedit.editors"]) <= set(names[1].split(","))


def test_continuous_integration_runs_the_test_command_of_the_readme():
    lines = [line for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    (tests,) = (line for line in lines if line.endswith("pytest -n 2"))
    command = tests.rpartition("&& ")[2].replace(".venv/bin/", "")
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_exist(document):
    commands = typer.main.get_command(app).commands
    for line in "\n".join(blocks(document, "bash")).splitlines():
        found = re.search(r"(?:^|/bin/)instructedit (.+)", line)
        if found is None:
            continue
        name, *words = shlex.split(found[1], comments=True)
        if name.startswith("-"):
            continue
        command = commands[name]
        while hasattr(command, "commands"):  # a group: its own commands
            name, *words = words
            command = command.commands[name]
        context = command.make_context(name, words)  # refuses unknown options and missing arguments
        if name == "run" and Path(context.params["preset"]).suffix not in (".toml", *SUFFIXES):
            assert context.params["preset"] in presets()
        editors = context.params.get("editor") or ()
        named = {editors} if isinstance(editors, str) else {*editors, *(context.params.get("add_editor") or ())}
        assert named - {"one-step"} <= set(EDITORS.names())  # the example of docs/guides/own-editor.md


def test_settings_in_the_readme_are_valid(tmp_path):
    (example,) = blocks(ROOT / "README.md", "toml")
    (tmp_path / "own.toml").write_text(example, encoding="utf-8")
    ((_, config),) = read_suite(str(tmp_path / "own.toml"))
    for name, options in config.editors.items():
        make(EDITORS.get(name), options)


def test_example_editor_of_the_readme_edits(make_language_model):
    (example,) = (block for block in blocks(ROOT / "README.md", "python") if "EDITORS.register" in block)
    spaces: dict[str, object] = {"__name__": "readme"}
    known = set(EDITORS.names())
    try:
        exec(compile(example, "README.md", "exec"), spaces)
        (name,) = set(EDITORS.names()) - known
        model = make_language_model("gpt2", torch.float64)
        requests = [
            EditRequest("t/test/0", "t", "Ada Lovelace is married to", "Grace Hopper", "Ada Lovelace"),
            EditRequest("t/test/1", "t", "Alan Turing was born in", "Vale", "Alan Turing"),
        ]
        edits = make(EDITORS.get(name)).edit(model, requests)
        rows = [model.encode(request.prompt, request.target) for request in requests]

        def losses(edits, owners):
            return [
                torch.nn.functional.cross_entropy(logits, torch.tensor(rows[i].labels))
                for i, logits in model.forward(rows, edits, owners)
            ]

        before, after = losses(None, None), losses(edits, [0, 1])
        assert all(new < old for old, new in zip(before, after, strict=True))
    finally:
        for name in set(EDITORS.names()) - known:
            EDITORS.unregister(name)


def test_hooks_use_what_the_development_environment_has():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    tools = {Requirement(text).name for text in PROJECT["optional-dependencies"]["dev"]}
    called = {hook["entry"].split()[0] for hook in hooks["repos"][0]["hooks"] if hook["language"] == "system"}
    assert called <= tools


def test_shipped_data_name_their_licence():
    provenance = json.loads((ROOT / "benchmark" / "embedded" / "PROVENANCE.json").read_text(encoding="utf-8"))
    assert provenance["licence"]
