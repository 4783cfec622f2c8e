"""Edits that grow over a run, and the files they are kept in."""

from instructedit.benchmark.run.accumulated import AccumulatedEdit
from instructedit.editors import Edits


def test_rows_of_any_name_keep_files_of_their_own(tmp_path, model):
    names = ["a/b", "a.b", "a-1", "a", "../a", "mend@recent+zsre#0"]
    for number, name in enumerate(names):
        AccumulatedEdit(Edits.none(1), number + 1, {"x": name}).save(tmp_path, name)
        AccumulatedEdit(Edits.none(1), number + 2, {"x": name}).save(tmp_path, name)
    assert len(list((tmp_path / "edits").iterdir())) == 4 * len(names)
    for number, name in enumerate(names):
        found = AccumulatedEdit.load(tmp_path, name, model)
        assert (found.requests, found.failures) == (number + 2, {"x": name})
    assert [path.name for path in tmp_path.iterdir()] == ["edits"]
