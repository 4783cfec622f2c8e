"""The notebook and the Python blocks of the guides run as they are printed."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def run(source: str, place: str, names: dict[str, object]) -> None:
    exec(compile(source, place, "exec"), names)


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    book = json.loads((DOCS / "notebooks" / "first-edits.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells):
        assert not cell["outputs"], "outputs are not kept"
        run("".join(cell["source"]), f"cell {number}", names)
    assert names["edited"].health.reached == 2
    assert names["answers"].after[:2] == ("Songs for Nelan.", "Quupealtom Yard.")
    assert (tmp_path / "edited-model" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["guides/python.md", "guides/from-edit-to-model.md", "../README.md"])
def test_the_python_blocks_of_a_page_run(name, tmp_path, monkeypatch):
    if name == "guides/from-edit-to-model.md":
        pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    text = (DOCS / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    if name == "../README.md":  # the example of an editor has a test of its own
        blocks = [block for block in blocks if block.startswith("import instructedit\n")]
    assert blocks
    for number, block in enumerate(blocks):
        run(block, f"{name}, block {number}", names)
