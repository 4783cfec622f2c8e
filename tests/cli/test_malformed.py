"""Every kind of malformed input has a clear answer; `malformed` makes them and says what clear is."""

import pytest

from instructedit.benchmark.setup.config import EMBEDDED_MODEL

from .malformed import Input, answer, inputs

pytestmark = pytest.mark.skipif(not EMBEDDED_MODEL.is_dir(), reason="needs the shipped model")

KINDS: dict[str, list[Input]] = {}
for given in inputs():
    KINDS.setdefault(given.group, []).append(given)

EVERY = {"toml: keys": 6, "toml: options of editors": 5, "data: values": 5, "data: files": 5}
"""Of the large groups only every so many inputs; the script takes all."""


def test_there_are_several_hundred():
    assert sum(map(len, KINDS.values())) > 1000


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_clear(kind, tmp_path):
    unclear = []
    for number, given in enumerate(KINDS[kind]):
        if number % EVERY.get(kind, 1) == number // 11 % EVERY.get(kind, 1):
            folder = tmp_path / str(number)
            folder.mkdir()
            found, text = answer(given, folder)
            if found != "clear":
                unclear.append((found, given.name, text))
    assert not unclear
