"""Ranges: what is drawn lies in them, is spread as they say, and depends on seed, trial and name alone."""

import math
import statistics

import pytest
import torch

from instructedit.baselines.grace import GRACE, GRACEConfig
from instructedit.editors import (
    Choice,
    EditorConfig,
    EditRequest,
    Either,
    InputError,
    LogUniform,
    Scaled,
    TrainedConfig,
    Uniform,
)
from instructedit.editors.search import current, drawn, replaced

TRIALS = range(1, 2_001)


def values(own, trials=TRIALS):
    return [drawn({"x": own}, 0, trial)["x"] for trial in trials]


def test_a_choice_takes_each_value_about_equally_often():
    found = values(Choice(("a", "b", (0.5, -1))))
    assert set(found) == {"a", "b", (0.5, -1)}
    assert all(found.count(value) == pytest.approx(2_000 / 3, rel=0.15) for value in set(found))


def test_uniform_numbers_are_spread_evenly_within_their_bounds():
    found = values(Uniform(2.0, 6.0))
    assert 2.0 <= min(found) < 2.1 < 5.9 < max(found) <= 6.0
    assert statistics.mean(found) == pytest.approx(4.0, abs=0.1)


def test_logarithmic_numbers_have_evenly_spread_logarithms():
    found = values(LogUniform(1e-4, 1e2))
    assert 1e-4 <= min(found) < 1.1e-4 < 0.9e2 < max(found) <= 1e2
    decades = [math.floor(math.log10(value)) for value in found if value < 1e2]
    for decade in range(-4, 2):
        assert decades.count(decade) == pytest.approx(2_000 / 6, rel=0.2)


def test_integers_reach_both_ends_and_signs_are_balanced():
    whole = values(LogUniform(3, 9, whole=True))
    assert set(whole) == set(range(3, 10))
    assert all(type(value) is int for value in whole)
    signed = values(LogUniform(0.1, 1.0, signed=True))
    assert sum(value < 0 for value in signed) == pytest.approx(1_000, rel=0.1)
    assert all(0.1 <= abs(value) <= 1.0 for value in signed)


def test_the_other_value_of_either_is_drawn_in_its_share():
    found = values(Either(Uniform(1.0, 2.0), False, share=0.25))
    assert found.count(False) == pytest.approx(500, rel=0.15)
    assert all(value is False or 1.0 <= value <= 2.0 for value in found)


def test_drawn_numbers_have_three_significant_digits():
    for value in [*values(LogUniform(1e-6, 1e6), TRIALS[:200]), *values(Uniform(0.0, 0.999), TRIALS[:200])]:
        assert value == float(f"{value:.3g}")


def test_an_option_depends_on_seed_trial_and_name_alone():
    small = {"a": Uniform(0, 1), "b": LogUniform(1, 10)}
    large = {"c": Choice((1, 2)), **dict(reversed(small.items()))}
    for trial in (1, 2, 30):
        found, more = drawn(small, 5, trial), drawn(large, 5, trial)
        assert found == {name: more[name] for name in small} == drawn(small, 5, trial)
    draws = {(seed, trial): drawn(small, seed, trial)["a"] for seed in (0, 1) for trial in (1, 2, 3)}
    assert len(set(draws.values())) == 6
    twice = drawn({"a": Uniform(0, 1), "b": Uniform(0, 1)}, 0, 1)
    assert twice["a"] != twice["b"]


def test_replaced_options_keep_the_rest_of_their_group():
    options = {"rank": 4, "training": {"steps": 9, "lr": 1.0}}
    found = replaced(options, {"training.lr": 2.0, "objective.c_edit": 3.0, "rank": 5})
    assert found == {"rank": 5, "training": {"steps": 9, "lr": 2.0}, "objective": {"c_edit": 3.0}}
    assert options == {"rank": 4, "training": {"steps": 9, "lr": 1.0}}, "the preset's own options stay"


def test_current_options_are_the_whole_configurations():
    config = TrainedConfig(training={"lr": 0.5})
    space = {"training.lr": Uniform(0, 1), "objective.c_edit": Uniform(0, 1), "blocks": Choice(((0,),))}
    assert current(config, space) == {"training.lr": 0.5, "objective.c_edit": 0.1, "blocks": [-3, -2, -1]}
    with pytest.raises(InputError, match="'lr', but EditorConfig has no such option"):
        current(EditorConfig(), {"lr": Uniform(0, 1)})


def test_ranges_read_as_they_are():
    assert str(Either(LogUniform(5e-4, 0.3), False)) == "[0.0005, 0.3], logarithmic, or false"
    assert str(LogUniform(1, 8, whole=True)) == "[1, 8], integer, logarithmic"
    assert str(Scaled(Choice((1, 2)), "widths")) == "{1, 2}, times widths"


def test_the_unit_of_graces_radius_is_the_median_distance_between_the_keys_of_two_subjects(model):
    requests = [
        EditRequest(f"t/train/{number}", "t", prompt, "Vale", subject)
        for number, (subject, prompt) in enumerate(
            [
                ("Ada", "The place of birth of Ada Lovelace is"),
                ("Ada", "The spouse of Ada Lovelace is"),
                ("Alan", "The place of birth of Alan Turing is"),
                ("Grace", "Grace Hopper's occupation is"),
            ]
        )
    ]
    for block, part in ((0, "up"), (2, "down")):
        editor = GRACE(GRACEConfig(block=block, part=part))
        (site,) = model.sites(part, [block])
        keys = []
        for request in requests:
            seen = []
            row = model.encode(request.prompt, request.target)
            module = model.model.get_submodule(site.name)
            handle = module.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0][0].clone()))
            with torch.no_grad():
                model.model(torch.tensor([row.ids]))
            handle.remove()
            keys.append(seen[0][row.prompt_end])
        gaps = [
            float((keys[i] - keys[j]).norm())
            for i in range(4)
            for j in range(i)
            if requests[i].subject != requests[j].subject
        ]
        assert len(gaps) == 5
        assert editor.unit("radius", model, requests) == pytest.approx(statistics.median(gaps), rel=1e-5)
    with pytest.raises(InputError, match="two were expected"):
        editor.unit("radius", model, requests[:2])
    with pytest.raises(InputError, match="measures no unit"):
        editor.unit("lr", model, requests)
