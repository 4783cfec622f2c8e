"""The leaderboard in Chromium: it opens from disk, filters, sorts, and fits a phone and both colour schemes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from instructedit.reports.leaderboard.build import build
from instructedit.reports.leaderboard.pack import pack

from ..site.browser import Browser, chromium
from .made import spec_of, write
from .test_site import HOSTILE

PAGES = ("index.html", "tasks", "submissions", "refused.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, an honest submission and a forged one, a hostile name, and a damaged pack."""
    root = tmp_path_factory.mktemp("chromium")
    for number, (name, seed) in enumerate([("Ours", 0), ("Forged", 0), (HOSTILE, 1)]):
        spec = spec_of(("recent", "counterfact"), seed=seed)
        run = write(root / f"{number}", spec, {"mend": number}, started=f"2026-01-0{number + 1}T00:00:00+00:00")
        pack(run, root / "s" / f"{number}.zip", name=name, authors=["Ada"], notes=HOSTILE)
    (root / "s" / "damaged.zip").write_bytes(b"PK")
    build(root / "s", root / "site")
    return root / "site"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def addresses(site: Path) -> list[str]:
    """One page of each kind."""
    found = [min(site.glob(name if name.endswith(".html") else f"{name}/**/*.html")) for name in PAGES]
    return [path.relative_to(site).as_posix() for path in found]


@pytest.fixture(params=range(len(PAGES)), ids=PAGES)
def address(site: Path, request: pytest.FixtureRequest) -> str:
    return addresses(site)[request.param]


@pytest.mark.parametrize("width", [400, 1300])
def test_no_page_has_an_error_or_scrolls_sideways(site: Path, browser: Browser, address: str, width: int):
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        browser.resize(width)
        browser.open(site, address)
        assert browser.errors() == []
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run("return document.title") != "owned"
    browser.prefer("light")
    browser.resize(1200)


def test_the_method_stays_in_sight_while_its_numbers_scroll_on_a_phone(site: Path, browser: Browser):
    browser.resize(400)
    browser.open(site, addresses(site)[1])
    left = "return document.querySelector('#s1 tbody th').getBoundingClientRect().left"
    before = browser.run(left)
    browser.run("document.querySelector('#s1').closest('.scroll').scrollLeft = 200")
    assert browser.run(left) == before
    assert browser.run("return document.querySelector('#s1 tbody td').getBoundingClientRect().left") < before
    browser.resize(1200)


def test_one_filter_holds_for_every_table_of_a_task(site: Path, browser: Browser):
    browser.open(site, addresses(site)[1])
    tables = len(browser.texts("table[data-sortable]"))
    assert tables > 2
    browser.run(
        "const field = document.querySelector('[data-column=trained] option[value]').closest('select');"
        "field.value = 'no'; field.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    for number in range(1, tables + 1):
        assert set(browser.texts(f"#s{number} tbody tr td:nth-last-child(2)")) == {"nothing"}


def test_a_press_on_a_head_sorts_by_the_number(site: Path, browser: Browser):
    browser.open(site, addresses(site)[1])
    browser.run("document.querySelector('#s1 thead th:nth-child(2) button').click()")
    shown = [float(text.split()[0]) for text in browser.texts("#s1 tbody td:nth-child(2)")]
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) > 1


def test_a_method_leads_to_its_options(site: Path, browser: Browser):
    browser.open(site, addresses(site)[1])
    browser.run("document.querySelector('#s1 tbody th a').click()")
    browser.wait("document.querySelector(location.hash).closest('details').open")
    assert browser.run("return document.querySelector(location.hash).textContent").strip().startswith("Method")


def test_submissions_that_contradict_each_other_are_named_before_any_number(site: Path, browser: Browser):
    for page in addresses(site)[:2]:
        browser.open(site, page)
        warnings = browser.texts("p.warning")
        assert len(warnings) == 2
        assert all("is not ranked. Run" in text for text in warnings)
        first = "document.querySelector('p.warning').compareDocumentPosition(document.querySelector('table'))"
        assert browser.run(f"return {first} & Node.DOCUMENT_POSITION_FOLLOWING")


def test_tables_are_there_without_scripts(site: Path, browser: Browser):
    browser.scripts(False)
    browser.driver.get(f"{site.as_uri()}/index.html")
    browser.scripts(True)
    assert browser.texts("table tbody tr")
