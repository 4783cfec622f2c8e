"""Titles are read from an editor's source, and are what the class itself says."""

import sys
from textwrap import dedent

import pytest

from instructedit.editors import EDITORS, InputError, Registry
from instructedit.editors.literals import literals


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module of the class `Own` and gives what is read of it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(body: str, name: str = "own_literals") -> dict[str, str]:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')\n" + dedent(body), encoding="utf-8")
        found = literals(name, "Own")
        assert name not in sys.modules
        return found

    return write


def test_what_is_read_is_what_the_class_says(editor_name):
    editor = EDITORS.get(editor_name)
    module, _, name = EDITORS._known()[editor_name].partition(":")
    found = literals(module, name)
    assert {"name", "title", "source"} <= found.keys(), "an editor of ours is listed without importing it"
    assert {key: getattr(editor, key) for key in found} == found


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("title = 'A'", {"title": "A"}),
        ("title: str = 'A' 'b'", {"title": "Ab"}),
        ("name, title, Config = 'a', 'A', Base", {"name": "a", "title": "A"}),
        ("title = source = 'A'", {"title": "A", "source": "A"}),
        ("title = 'A'\n    title = 'B'", {"title": "B"}),
        ("title = 'A'\n    def edit(self):\n        title = 'B'", {"title": "A"}),
        ("title = 'A'.lower()", {}),
        ("title = f'{__name__}'", {}),
        ("title = 3", {}),
        ("title: str", {}),
        ("title = 'A'\n    title += 'B'", {}),
        ("title = 'A'\n    if Base:\n        title = 'B'", {}),
        ("title = 'A'\n    def title(self): ...", {}),
        ("title = 'A'\n    del title", {}),
        ("title, *rest = 'A', 'B', 'C'", {}),
        ("title = 'A'\n    from elsewhere import Own as title", {}),
    ],
)
def test_only_string_literals_are_read(module, body, expected):
    assert module(f"class Own(Base):\n    {body}\n") == expected


@pytest.mark.parametrize(
    "code",
    [
        "class Other:\n    title = 'A'",
        "@changed\nclass Own:\n    title = 'A'",
        "class Own(metaclass=Meta):\n    title = 'A'",
        "class Own:\n    title = 'A'\nOwn = changed(Own)",
        "class Own:\n    title = 'A'\nOwn.title = 'B'",
        "class Own:\n    title = 'A'\nfrom elsewhere import Other as Own",
        "if True:\n    class Own:\n        title = 'A'",
        "class Own:\n    title = 'A",
    ],
)
def test_nothing_is_read_where_the_source_does_not_decide(module, code):
    assert module(code) == {}


def test_nothing_is_read_of_what_has_no_source():
    assert literals("no.such.module", "Own") == literals("math", "Own") == literals("no_such_module", "Own") == {}


def test_texts_come_from_the_class_where_the_source_does_not_say_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[type] = Registry("thing", "instructedit.no-such-group")
    for name, title in (("said", "'Said'"), ("made", "'made'.title()")):
        (tmp_path / f"{name}_texts.py").write_text(f"class Own:\n    title = {title}\n", encoding="utf-8")
    registry._targets = {"said": "said_texts:Own", "made": "made_texts:Own", "gone": "gone_texts:Own"}
    try:
        assert registry.texts("said", ["title"]) == ["Said"]
        assert "said_texts" not in sys.modules
        assert registry.texts("made", ["title"]) == ["Made"]
        registry.register("here")(type("Own", (), {"title": "Here"}))
        assert registry.texts("here", ["title"]) == ["Here"]
        with pytest.raises(InputError, match="registered as gone_texts:Own, which cannot be imported"):
            registry.texts("gone", ["title"])
        with pytest.raises(InputError, match=r"Unknown thing 'mad'\. Did you mean 'made'"):
            registry.texts("mad", ["title"])
        sys.modules["made_texts"].Own.title = "Changed"  # what is imported already is asked itself
        assert registry.texts("made", ["title"]) == ["Changed"]
    finally:
        sys.modules.pop("made_texts", None)
