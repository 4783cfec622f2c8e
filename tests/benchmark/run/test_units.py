"""Units of a run: every missing line once, whatever the number of workers; no worker without work in the last round."""

from collections import Counter

import pytest

from instructedit.benchmark.results.integrity import Key
from instructedit.benchmark.run.prepare import prepare
from instructedit.benchmark.run.schedules import blocks_of, lines_of, units_of
from instructedit.benchmark.setup.config import make_config
from instructedit.benchmark.setup.resolve import resolve

from ..worlds import write_data, write_model, write_training

SHORT = {"steps": 2, "validate_every": 1, "save_every": 1, "accumulate": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    write_data(place / "data")
    write_training(place / "data", recent=12)
    write_model(place / "model")
    options = {
        "data": str(place / "data"),
        "model": str(place / "model"),
        "setting": "multi-task",
        "tasks": ("recent",),
        "train": ("recent",),
        "chunk": 2,
        "editors": {
            "none": {},
            "ft-m": {"steps": 1},
            "grace": {"steps": 1},
            "mend": {"rank": 4, "training": SHORT},
            "longer": {"method": "mend", "rank": 4, "training": {**SHORT, "steps": 3}},
        },
    }
    return prepare(resolve(make_config(options, "test"), "test"), device="cpu")


def planned(prepared, lanes, done=(), untrained=()):
    blocks = blocks_of(prepared.resolved, prepared.file.spec)
    units = units_of(prepared, blocks, done, lambda *_: True, lanes, untrained)
    lines = [Key(case, row, unit.stage) for unit in units for row in unit.rows for case in unit.cases]
    return units, Counter(lines), Counter(lines_of(blocks, prepared.resolved.rows))


@pytest.mark.parametrize("untrained", [(), ("mend", "longer")])
@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 7, 16, 64])
def test_every_line_belongs_to_one_unit(prepared, lanes, untrained):
    _, found, wanted = planned(prepared, lanes, untrained=untrained)
    assert found == wanted
    assert sum(wanted.values()) == 5 * 5


def test_lines_that_are_there_belong_to_none(prepared):
    _, _, every = planned(prepared, 2)
    done = {key for key in every if key.editor in ("none", "grace")}
    units, found, wanted = planned(prepared, 2, done)
    assert set(found) == set(wanted) - done
    assert {row for unit in units for row in unit.rows} == {"ft-m", "mend", "longer"}


@pytest.mark.parametrize(("lanes", "units"), [(1, 3), (2, 4), (3, 3), (6, 6), (16, 15)])
def test_workers_share_the_rows_of_the_chunks_that_are_too_few_for_all(prepared, lanes, units):
    found = [unit for unit in planned(prepared, lanes)[0] if unit.kind == "single"]
    assert len(found) == units


def test_a_short_training_is_the_last(prepared):
    rows = [unit.rows for unit in planned(prepared, 2)[0] if unit.kind == "training"]
    assert rows == [("longer",), ("mend",)]
