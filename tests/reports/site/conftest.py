"""Sites that several files look at."""

import pytest

from instructedit.reports.site.write import write_site

from .runs import hostile, make_case, make_run, ordinary, write_run


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


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """120 cases, so that the list has three pages; FT-L is right in every third, and loses locality in every tenth."""
    folder, run = tmp_path_factory.mktemp("many"), make_run(editors=("none", "ft-l"), cases=120)
    lines = [
        make_case(run, f"zsre/test/{number}", editor, right=editor == "ft-l" and number % 3 == 0, kept=number % 10 > 0)
        for editor in ("none", "ft-l")
        for number in range(120)
    ]
    write_site(write_run(folder / "run", run, lines), folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    from .browser import chromium  # skips where there is none

    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def browser(window):
    """A wide window in light colours; a test ends without a complaint on the console."""
    window.resize(1200)
    window.prefer("light")
    yield window
    assert window.errors() == []
