"""Write constraints.txt: the distributions of the environment that runs this, written by `tox -e constraints`."""

import re
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

FILE = Path(__file__).resolve().parents[1] / "constraints.txt"
HEAD = """\
# The versions that the tests run on, for `pip install -c constraints.txt`. By `tox -e constraints`, not by hand.
# pip is left out: it would replace itself halfway. So are CUDA's packages: a torch that has them pins them itself.
"""
LEFT_OUT = re.compile(r"pip|instructedit-bench|triton|(nvidia|cuda)-.+")


def pins() -> dict[str, str]:
    """Return the version of each distribution by its name, without what names a build, as in 2.13.0+cpu."""
    found = {canonicalize_name(each.name): Version(each.version).public for each in distributions()}
    return {name: found[name] for name in sorted(found) if not LEFT_OUT.fullmatch(name)}


if __name__ == "__main__":
    FILE.write_text(HEAD + "".join(f"{name}=={version}\n" for name, version in pins().items()), encoding="utf-8")
