"""Data frames hold what the files hold, and their own arithmetic gives the means of the summary."""

import pandas as pd
import pytest

from instructedit.benchmark.results.frames import means_frame, scores_frame
from instructedit.benchmark.run.runner import run
from instructedit.editors import InputError

from ..worlds import prepared_run, write_world


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder of all runs of one finished run."""
    folder = write_world(tmp_path_factory.mktemp("frames"))
    run(prepared_run(folder, limit=2), folder / "results")
    return folder / "results"


def test_means_are_recomputed_from_the_scores(results):
    means, scores = means_frame(results), scores_frame(results)
    key = ["editor", "task", "stage", "measure", "derived", "protocol"]
    within = scores.dropna(subset="value").groupby([*key, "case_id", "subset"])["value"].mean()
    cases = within.groupby([*key, "case_id"]).mean()
    expected = cases.groupby(key).mean()
    found = means[means["subset"].isna()].set_index(key)["mean"]
    assert len(found) > 10
    pd.testing.assert_series_equal(found.sort_index(), expected.sort_index(), check_names=False)


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(InputError, match="no finished run is there"):
        means_frame(tmp_path)
