"""The list of editors is read from their sources, and says what the classes say."""

import os
import subprocess
import sys

import pytest

from instructedit.benchmark.setup.listing import lines, options
from instructedit.editors import EDITORS, InputError

CODE = """
import sys
from instructedit.benchmark.setup.listing import content
for row in content("editors"):
    sys.stdout.write("{name}|{about}\\n".format_map(row))
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


def test_options_are_listed_with_type_range_default_and_meaning():
    found = lines("options", "mend")
    assert max(map(len, found)) <= 80
    text = "\n".join(found)
    assert 'parts = ["up", "down"]  (list of "up" | "down" | "shared up"' in text and "of a length >= 1)" in text
    assert "training.lr = 1e-06  (number > 0)\n    Learning rate of Adam." in text, "nested ones too"
    assert 'objective.replies = 1  (whole number >= 1 or "all")' in text
    tuned = "\n".join(lines("options", "ft-m"))
    assert "clamp = 0.0005  (number > 0 or false)" in tuned
    assert "batch = none  (whole number >= 1 or none)" in tuned
    assert 'objective = "target"  ("prompt_last" | "target")\n    `prompt_last` (FT-L as published)' in tuned, (
        "inherited"
    )
    assert "published for GPT2-XL" in " ".join(tuned.split())
    assert [line for line in lines("options", "none") if " = " in line] == ["end_of_turn = false  (true or false)"]


@pytest.mark.parametrize("editor", list(EDITORS))
def test_every_option_has_a_meaning_and_a_default(editor):
    for option in options(EDITORS.get(editor).Config):
        assert option.meaning, f"{editor}: {option.name}"
        assert option.default != "..."


def test_whose_options_has_to_be_said():
    with pytest.raises(InputError, match="Options of which editor"):
        lines("options")
    with pytest.raises(InputError, match="Did you mean 'mend'"):
        lines("options", "mnd")
    with pytest.raises(InputError, match="takes no further name"):
        lines("editors", "mend")
