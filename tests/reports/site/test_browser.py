"""The site in a real Chromium, from disk: what every page keeps to."""

import re

import pytest

from .runs import DIGEST as RUN
from .runs import HOSTILE

PAGES = ("index.html", f"run-{RUN}.html", "means.html", "cases.html")


def test_pages_open_without_a_complaint(browser, site):
    for page in (*PAGES, f"case.html#{RUN}/zsre/test/1"):
        browser.open(site, page)
        assert browser.errors() == []
        assert browser.texts("h1")


def test_inline_script_is_refused_by_the_policy(browser, site):
    browser.open(site, "index.html")
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.__hit = 1'; document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.__hit = 1\">');"
    )
    assert browser.run("return window.__hit") is None
    complaints = browser.errors()
    assert any("Content Security Policy" in complaint for complaint in complaints)


def test_first_tab_skips_to_the_content(browser, site):
    browser.open(site, "cases.html")
    browser.press("\ue004")
    assert browser.run("return document.activeElement.className") == "skip"
    box = browser.run("const b = document.activeElement.getBoundingClientRect(); return [b.left, b.top]")
    assert min(box) >= 0
    browser.press("\ue007")
    assert browser.run("return document.activeElement.id") == "main"


def test_focus_is_seen(browser, site):
    browser.open(site, "means.html")
    for _ in range(12):
        browser.press("\ue004")
        width, style = browser.run(
            "const s = getComputedStyle(document.activeElement); return [parseFloat(s.outlineWidth), s.outlineStyle]"
        )
        assert style != "none"
        assert width >= 1


def test_nothing_hostile_runs_and_everything_is_shown(browser, hostile_site):
    browser.open(hostile_site, "cases.html")
    links = browser.run("return [...document.querySelectorAll('#cases tbody a')].map((a) => a.href.split('/').pop())")
    assert len(links) == len(HOSTILE)
    addresses = browser.run("return [...document.querySelectorAll('#cases tbody a')].map((a) => 'case.html' + a.hash)")
    for page in (*PAGES, *addresses):
        browser.open(hostile_site, page)
        assert browser.run("return window.__hit") is None
        assert browser.texts("main img, main svg, main script, main iframe") == []
        width, room = browser.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert width <= room, page
        assert browser.errors() == []
    for text, address in zip(HOSTILE, addresses, strict=True):
        browser.open(hostile_site, address)
        # A control character is shown by its code, all else as it is.
        literal = re.sub("[\u0000\u2028\u2029\u202c\u202e]", lambda found: f"U+{ord(found.group()):04X}", text)
        assert browser.texts(".edit .prompt") == [literal]
        assert browser.texts(".edit .target") == [literal]
        said = browser.texts(".probe tr.before .answer")
        assert said == [f"before {literal}"] * 2
        changed = browser.run(
            "const a = document.querySelector('.probe tr:nth-child(2) .answer').cloneNode(true);"
            "a.querySelectorAll('del').forEach((d) => d.remove()); return a.textContent"
        )
        assert changed == f"after {literal}"
    choices = "select[data-column=task] option"
    browser.open(hostile_site, "cases.html")
    assert browser.texts(choices) == ["all", *HOSTILE[:2]]


@pytest.mark.parametrize("page", [*PAGES, f"case.html#{RUN}/zsre/test/1"])
def test_narrow_window_does_not_scroll_sideways(browser, site, page):
    browser.resize(320, 800)
    browser.open(site, page)
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    # A table that is wider scrolls within a region that the keyboard reaches.
    for wide in browser.run("return [...document.querySelectorAll('.scroll')].map((s) => [s.tabIndex, s.ariaLabel])"):
        assert wide[0] == 0
        assert wide[1]


CONTRAST = """
// Contrast of each text with what is behind it, by WCAG 2.1.
const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
const behind = (e) => {
  const colour = rgb(getComputedStyle(e).backgroundColor);
  return colour[3] === 0 ? behind(e.parentElement) : colour;
};
const low = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.checkVisibility() || e.matches(":disabled, option")) continue;
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) low.push(`${e.tagName}.${e.className}: ${contrast.toFixed(2)}`);
}
return [low, getComputedStyle(document.body).backgroundColor];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(browser, many, scheme):
    browser.prefer(scheme)
    grounds = set()
    for page in (*PAGES, f"case.html#{RUN}/zsre/test/60", "cases.html#editor=ft-l"):
        browser.open(many, page)
        low, ground = browser.run(CONTRAST)
        assert low == []
        grounds.add(ground)
    (ground,) = grounds
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_readers_without_scripts_have_the_tables(browser, site):
    browser.scripts(False)
    try:
        browser.driver.get(f"{site.as_uri()}/index.html")
        text = browser.driver.find_element("css selector", "main").text
        assert re.search(r"ft-l 66\.7=? \[", text)
        browser.driver.get(f"{site.as_uri()}/means.html")
        assert "This table needs JavaScript." in browser.driver.find_element("css selector", "main").text
    finally:
        browser.scripts(True)


def test_focus_stays_where_it_can_be_used(browser, many):
    browser.open(many, "cases.html")
    focused = "return document.activeElement.textContent"
    browser.run("document.querySelectorAll('.pages button')[1].focus()")
    browser.press(" ", " ")
    assert browser.status() == "101 to 120 of 120 rows"
    assert browser.run(focused) == "Previous"
    browser.open(many, f"case.html#{RUN}/zsre/test/60")
    browser.run("document.querySelectorAll('.ways a')[2].click()")
    browser.wait("document.activeElement.id === 'main'")
    assert browser.run("return window.scrollY") < 200


def test_the_page_of_a_run_begins_with_one_part_and_a_link_opens_the_others(browser, site):
    page = f"run-{RUN}.html"
    opened = "return [...document.querySelectorAll('details.part')].map((part) => part.open)"
    browser.open(site, page)
    first, *rest = browser.run(opened)
    assert first and rest and not any(rest)
    browser.run("[...document.querySelectorAll('.contents a')].at(-1).click()")
    wanted = browser.run("return document.querySelector(location.hash).closest('details').open")
    assert wanted and sum(browser.run(opened)) == 2
    browser.open(site, f"{page}#notes")
    assert browser.run("return document.getElementById('notes').closest('details').open")
