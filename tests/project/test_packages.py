"""What is built and installed: packages, entry points, dependencies and their versions."""

import configparser
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, requires, version
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..freeze import LEFT_OUT
from .files import FILES, FOLDERS, PROJECT, ROOT, blocks, imports, module_of


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


def test_dependencies_that_are_declared_are_those_that_are_imported():
    wanted = declared("instructions", "figures", "peft", "ray", "slurm").keys()
    distributions, used = packages_distributions(), set()
    for path in FILES:
        for name in {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"instructedit"}:
            found = {canonicalize_name(distribution) for distribution in distributions.get(name, [name])}
            assert found & wanted, f"{path.relative_to(ROOT)} imports {name}"
            used |= found
    assert wanted - used == set()


@pytest.mark.parametrize("group", ["instructedit.editors", "instructedit.tasks", "instructedit.executors"])
def test_every_entry_point_resolves_to_what_it_is_called(group):
    own = PROJECT["entry-points"][group]
    ours = {point.name: point for point in entry_points(group=group) if point.value in own.values()}
    assert ours.keys() == own.keys(), "installed metadata is older than pyproject.toml: install again"
    for name, point in ours.items():
        found = point.load()
        assert callable(found) and (group == "instructedit.executors" or found.name == name)


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    assert {version("instructedit-bench"), PROJECT["version"], str(citation["version"]), newest[1]} == {
        PROJECT["version"]
    }


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


def test_hooks_use_what_the_development_environment_has():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    tools = {Requirement(text).name for text in PROJECT["optional-dependencies"]["dev"]}
    called = {hook["entry"].split()[0] for hook in hooks["repos"][0]["hooks"] if hook["language"] == "system"}
    assert called <= tools
