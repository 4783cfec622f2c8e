"""Names are found lazily, and a wrong one gets a suggestion."""

import pytest

from instructedit.baselines.ftl import FTL
from instructedit.editors import EDITORS, Editor, InputError, Registry, make
from instructedit.editors.registry import BUILT_IN, title_and_source


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(InputError, match=r"Unknown editor 'grase'. Did you mean 'grace'\? Known: .*ft-l"):
        EDITORS.get("grase")


def test_a_name_is_taken_once():
    registry: Registry[object] = Registry("thing", "instructedit.no-such-group")
    registry.register("a")(object())
    with pytest.raises(InputError, match="registered already"):
        registry.register("a")(object())
    assert "a" in registry
    assert list(registry) == ["a"]
    registry.unregister("a")
    assert "a" not in registry


def test_a_target_that_cannot_be_imported_is_named():
    registry: Registry[object] = Registry("thing", "instructedit.no-such-group")
    registry._targets = {"gone": "no.such.module:Thing", "less": "instructedit.editors:NoSuchThing"}
    for name in ("gone", "less"):
        with pytest.raises(InputError, match=f"The thing '{name}' is registered as .* cannot be imported"):
            registry.get(name)


def test_titles_that_are_listed_without_an_import_are_those_of_the_classes():
    for name, listed in BUILT_IN.items():
        assert listed == (EDITORS.get(name).title, EDITORS.get(name).source)


def test_an_outside_editor_is_listed_by_its_class():
    @EDITORS.register("outside")
    class Outside(Editor):
        name, title, source = "outside", "Outside", "a paper"

    try:
        assert title_and_source("outside") == ("Outside", "a paper")
    finally:
        EDITORS.unregister("outside")


def test_two_packages_with_one_name_are_refused(monkeypatch):
    from importlib.metadata import EntryPoint

    points = [EntryPoint("x", f"package{i}:X", "group") for i in range(2)]
    monkeypatch.setattr("instructedit.editors.registry.entry_points", lambda group: points)
    with pytest.raises(InputError, match="Two packages register the thing 'x': package0:X and package1:X"):
        Registry("thing", "group").names()


def test_options_are_checked_with_a_sentence():
    with pytest.raises(InputError, match=r"The editor 'ft-l' has no option 'step'. Did you mean 'steps'"):
        make(FTL, {"step": 3})
    with pytest.raises(InputError, match=r"Option 'lr' of the editor 'ft-l': .* found \"fast\""):
        make(FTL, {"lr": "fast"})
    with pytest.raises(InputError, match=r"Option 'lr' .* found \"5e-4\""):
        make(FTL, {"lr": "5e-4"})
    with pytest.raises(InputError, match=r"Option 'steps' .* found true"):
        make(FTL, {"steps": True})


def test_loading_another_editor_is_refused(tmp_path):
    from instructedit.baselines.grace import GRACE

    with pytest.raises(InputError, match=r"no such file; a folder written by Editor.save"):
        FTL.load(tmp_path)
    GRACE().save(tmp_path)
    with pytest.raises(InputError, match="holds an editor of name 'grace', but 'ft-l' was expected"):
        FTL.load(tmp_path)


def test_an_editor_without_a_joint_form_says_so():
    class Lone(Editor):
        name, title, source = "lone", "Lone", "test"

        def edit(self, model, requests, seed=0):
            raise AssertionError

    with pytest.raises(InputError, match="'lone' makes one edit at a time"):
        Lone().edit_together(None, [])
