"""What is written as TOML is read back as it was."""

import tomllib

import pytest

from instructedit.benchmark.setup.config import presets, read_document
from instructedit.benchmark.setup.toml_text import dumps


@pytest.mark.parametrize("name", presets())
def test_presets_are_read_back_as_they_were(name):
    document = read_document(name)
    assert tomllib.loads(dumps(document, ["a comment", "", "another"])) == document


def test_strange_values_are_read_back_as_they_were():
    document = {
        "text": 'quotes " and \\ and ünï \U0001f600 \n \t \x7f \x01',
        "numbers": [0, -3, 1e-05, -2.5e300, 0.1],
        "truth": [True, False],
        "empty": {},
        "none": [],
        "a key with spaces": 1,
        "group": {"x.y": {"deep": {"deeper": [{"a": 1}, {"a": {}}]}, "": "empty key"}, "z": {}},
        "mixed": {"plain": 1, "table": {"b": [[1, 2], []]}},
        "runs": [{"name": "a", "editors": {"none": {}, "ft-m": {"lr": 0.5}}}, {}],
    }
    assert tomllib.loads(dumps(document)) == document


def test_what_toml_does_not_have_is_refused():
    with pytest.raises(TypeError, match="no value None"):
        dumps({"a": {"b": None}})
