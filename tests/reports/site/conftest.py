"""Sites that several files look at."""

import pytest

from instructedit.reports.site.write import write_site

from .runs import hostile, ordinary


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ordinary")
    write_site(ordinary(folder / "run"), folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    write_site(hostile(folder / "run"), folder / "site")
    return folder / "site"
