"""The list of editors is read from their sources, and says what the classes say."""

import os
import subprocess
import sys

from instructedit.editors import EDITORS

CODE = """
import sys
from instructedit.benchmark.listing import rows
for name, text in rows("editors"):
    sys.stdout.write(f"{name}|{text}\\n")
sys.exit("torch was imported" if "torch" in sys.modules else 0)
"""

COMPUTED = """
class Base:
    source = "inherited"

class Computed(Base):
    title = " ".join(["A", "computed", "title"])
"""


def test_the_classes_say_the_same_and_an_outside_editor_may_compute_its_title(tmp_path):
    (tmp_path / "computed_editor.py").write_text(COMPUTED, encoding="utf-8")
    installed = tmp_path / "computed_editor-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: computed-editor\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[instructedit.editors]\ncomputed = computed_editor:Computed\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    found = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    said = dict(line.split("|") for line in found.stdout.splitlines())
    assert said.pop("computed") == "A computed title (inherited)"
    assert said == {name: f"{EDITORS.get(name).title} ({EDITORS.get(name).source})" for name in EDITORS}
