"""Presets and files as suites of runs."""

import pytest

from instructedit.benchmark.setup.config import make_config, read_suite
from instructedit.editors import InputError

SUITE = """
limit = 5
seeds = [3, 1]

[editors.none]

[editors.grace]
radius = 2.0

[editors.ft-m]

[[runs]]
setting = "multi-task"

[[runs]]
name = "left out"
setting = "hold-out"
limit = 2
only = ["none", "grace"]
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    return str(path)


def brief(found):
    return [(label, config.seed, config.setting, config.limit, list(config.editors)) for label, config in found]


def test_every_table_is_a_run_for_every_seed(suite):
    rows = ["none", "grace", "ft-m"]
    assert brief(read_suite(suite)) == [
        ("multi-task", 3, "multi-task", 5, rows),
        ("left out", 3, "hold-out", 2, rows[:2]),
        ("multi-task", 1, "multi-task", 5, rows),
        ("left out", 1, "hold-out", 2, rows[:2]),
    ]
    assert read_suite(suite)[1].config.editors["grace"] == {"radius": 2.0}


def test_a_file_without_tables_is_one_run(tmp_path):
    path = tmp_path / "one.toml"
    path.write_text("seed = 4\n[editors.none]\n")
    assert brief(read_suite(str(path))) == [("direct", 4, "direct", None, ["none"])]


def test_the_command_line_wins(suite):
    found = read_suite(suite, {"limit": 9}, seeds=[7])
    assert [(config.limit, config.seed) for _, config in found] == [(9, 7), (9, 7)]


def test_a_setting_picks_its_runs_or_makes_one(suite):
    assert [label for label, _ in read_suite(suite, setting="hold-out", seeds=[0])] == ["left out"]
    assert brief(read_suite(suite, setting="direct", seeds=[0])) == [
        ("direct", 0, "direct", 5, ["none", "grace", "ft-m"])
    ]


def test_editors_pick_their_runs_or_are_added_to_all(suite):
    assert brief(read_suite(suite, editors=["ft-m"], seeds=[0])) == [("multi-task", 0, "multi-task", 5, ["ft-m"])]
    found = read_suite(suite, editors=["grace", "ft-l"], seeds=[0])
    assert [config.editors for _, config in found] == [{"grace": {"radius": 2.0}, "ft-l": {}}] * 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seeds = []", "key 'seeds': found \\[\\]"),
        ("seeds = [1, 1]", "key 'seeds'"),
        ("seeds = [true]", "key 'seeds'"),
        ("seeds = [1]\nseed = 2", "key 'seeds'"),
        ("seeds = [1]\n[[runs]]\nseed = 2", "key 'seeds'"),
        ("runs = 3", "key 'runs': found 3"),
        ("[[runs]]\nsettings = 'direct'", "run 'direct': unknown key 'settings'. Did you mean 'setting'"),
        ("[[runs]]\nname = 'a'\n[[runs]]\nname = 'a'", "two runs have the same name"),
        (
            "[editors.none]\n[[runs]]\nonly = ['nome']",
            "key 'only': no row 'nome' among the editors. Did you mean 'none'",
        ),
        ("[editors.none]\n[[runs]]\nonly = 3", "key 'only': no row 3"),
        ("only = ['none']", "unknown key 'only'"),
        ("train_limit = 0", "key 'train_limit': Input should be greater than or equal to 1"),
        ("train_limit = { recent = 'x' }", "key 'train_limit.recent'"),
        ("sampling = 'even'", "key 'sampling'"),
        ("sampling = { recent = 0.0 }", "key 'sampling.recent'"),
        ("validation = 1.0", "key 'validation': Input should be less than 1"),
        ("schedule = 'bulk'", "key 'schedule'"),
        ("train = ['zsre', 'zsre']", "each task may be named once"),
        ("[generation]\nmax_new_tokens = -1", "key 'generation.max_new_tokens'"),
    ],
)
def test_broken_suites_are_named(tmp_path, text, sentence):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_suite(str(path))


def test_options_of_training_are_read():
    config = make_config(
        {"train_limit": {"recent": 3}, "sampling": {"recent": 2}, "at": [1, 10], "edited": ["recent"]}, "test"
    )
    assert config.train_limit == {"recent": 3}
    assert config.sampling == {"recent": 2.0}
    assert (config.at, config.edited) == ((1, 10), ("recent",))
    assert make_config({"generation": {"max_new_tokens": 0}}, "test").generation.max_new_tokens == 0
