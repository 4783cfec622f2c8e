"""The site in a real Chromium, from disk: what a reader sees, presses and never runs."""

import re

import pytest

from instructedit.reports.site.write import write_site

from .browser import chromium
from .runs import HOSTILE, make_case, make_run, write_run

RUN = "0123456789abcdef"
PAGES = ("index.html", f"run-{RUN}.html", "means.html", "cases.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(autouse=True)
def clean(browser):
    """Each test ends without a complaint on the console, and starts in a wide window in light colours."""
    browser.resize(1200)
    browser.prefer("light")
    yield
    assert browser.errors() == []


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


def choose(browser, field, value):
    """Choose in a select as a user does: by its column or its name, with the events of a choice."""
    browser.run(
        """
        const select = document.querySelector(`select[data-column="${arguments[0]}"], select[name="${arguments[0]}"]`);
        select.value = arguments[1];
        if (select.value !== arguments[1]) throw new Error("no such choice");
        for (const type of ["input", "change"]) select.dispatchEvent(new Event(type, { bubbles: true }));
        """,
        field,
        value,
    )


def search(browser, words):
    browser.run(
        """
        const field = document.querySelector("input[data-search]");
        field.value = arguments[0];
        field.dispatchEvent(new Event("input", { bubbles: true }));
        """,
        words,
    )


def column(browser, table, name):
    """Texts of a column of what is shown."""
    return browser.run(
        """
        const table = document.getElementById(arguments[0]);
        const place = [...table.tHead.rows[0].cells].findIndex((head) => head.dataset.column === arguments[1]);
        return [...table.tBodies[0].rows].map((row) => row.cells[place]?.textContent ?? row.textContent);
        """,
        table,
        name,
    )


def status(browser):
    return browser.texts("[role=status]")[0]


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


def test_means_show_one_protocol_and_stage_at_a_time(browser, site):
    browser.open(site, "means.html")
    assert browser.texts("select[data-column=protocol] option") == ["exact match, teacher forced", "free generation"]
    assert "all" not in browser.texts("select[data-column=stage] option")
    # Reliability and locality (derived) of three editors; the mean over the one subset and the subset are two rows.
    assert status(browser) == "6 rows (of 24)"
    assert set(column(browser, "means", "subset")) == {"over subsets"}
    choose(browser, "measure", "reliability")
    assert column(browser, "means", "editor") == ["none", "ft-l", "grace"]
    assert column(browser, "means", "mean") == ["0.0", "66.7", "100.0"]
    assert column(browser, "means", "n") == ["3", "3", "2"]
    choose(browser, "subset", "")
    assert status(browser) == "6 rows (of 24)"
    assert "every answer token is the most likely one" in browser.texts("#protocol")[0]
    choose(browser, "protocol", "free generation")
    assert "greedy text up to its natural stop" in browser.texts("#protocol")[0]
    assert browser.texts("select[data-column=stage] option") == ["single"]


def test_filters_stay_in_the_address(browser, site):
    browser.open(site, "means.html")
    choose(browser, "editor", "ft-l")
    choose(browser, "subset", "")
    shown = column(browser, "means", "subset")
    address = browser.run("return location.hash")
    browser.open(site, f"means.html{address}")
    assert set(column(browser, "means", "editor")) == {"ft-l"}
    assert column(browser, "means", "subset") == shown
    assert "edit" in shown
    browser.open(site, "means.html#editor=nobody&subset=nowhere")
    assert status(browser) == "6 rows (of 24)"  # what is not offered is not chosen


def test_heads_sort_by_the_keyboard(browser, site):
    browser.open(site, "means.html#measure=reliability")
    button = "th[data-column=mean] button"
    state = f"return document.querySelector('{button}').closest('th').ariaSort"
    assert browser.run(state) == "none"
    browser.run(f"document.querySelector('{button}').focus()")
    browser.press("\ue007")  # Enter
    assert browser.run(state) == "descending"
    assert column(browser, "means", "mean") == ["100.0", "66.7", "0.0"]
    browser.press(" ")
    assert browser.run(state) == "ascending"
    assert column(browser, "means", "mean") == ["0.0", "66.7", "100.0"]
    browser.press("\ue004")  # Tab
    assert browser.run("return document.activeElement.closest('th')?.dataset.column") == "n"
    browser.press("\ue007")
    assert browser.run(state) == "none"
    assert column(browser, "means", "editor")[-1] == "grace"


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


def test_list_of_cases_is_filtered_by_outcome(browser, site):
    browser.open(site, "cases.html")
    assert column(browser, "cases", "id") == ["zsre/test/0", "zsre/test/1", "zsre/test/2"]
    # The control is not counted: FT-L and GRACE are two editors, and the case that GRACE failed has one answer.
    assert column(browser, "cases", "reliability") == ["2 of 2", "2 of 2", "0 of 1"]
    assert column(browser, "cases", "locality") == ["2 of 2", "1 of 2", "0 of 1"]
    choose(browser, "editor", "ft-l")
    for measure, outcome, ids in (
        ("reliability", "right", "01"),
        ("reliability", "wrong", "2"),
        ("locality", "right", "0"),
        ("locality", "wrong", "12"),
        ("locality", "failed", ""),
    ):
        choose(browser, "measure", measure)
        choose(browser, "outcome", outcome)
        expected = [f"zsre/test/{number}" for number in ids] or ["No row matches."]
        assert column(browser, "cases", "id") == expected
    assert "changed though it should not" in browser.texts("select[name=outcome] option")
    choose(browser, "editor", "grace")
    assert column(browser, "cases", "id") == ["zsre/test/2"]
    assert column(browser, "cases", "reliability") == ["failed"]
    choose(browser, "editor", "none")
    choose(browser, "measure", "reliability")
    choose(browser, "outcome", "wrong")
    assert column(browser, "cases", "reliability") == ["wrong"] * 3
    assert "'none'" in browser.texts("#meaning")[0]


def test_two_editors_are_compared_case_by_case(browser, site):
    browser.open(site, "cases.html")
    choose(browser, "editor", "ft-l")
    choose(browser, "other", "none")
    assert column(browser, "cases", "reliability") == ["right / wrong", "right / wrong", "wrong / wrong"]
    assert "'ft-l' and 'none'" in browser.texts("#meaning")[0]
    for measure, outcome, ids in (
        ("reliability", "first", "01"),
        ("reliability", "second", ""),
        ("reliability", "both", ""),
        ("reliability", "neither", "2"),
        ("locality", "first", ""),
        ("locality", "second", "12"),
    ):
        choose(browser, "measure", measure)
        choose(browser, "outcome", outcome)
        assert column(browser, "cases", "id") == ([f"zsre/test/{number}" for number in ids] or ["No row matches."])
    assert browser.texts("select[name=outcome] option")[3:5] == ["ft-l kept, none lost", "none kept, ft-l lost"]
    choose(browser, "other", "")
    assert column(browser, "cases", "id") == ["No row matches."], "a comparison needs two editors"


def test_a_number_leads_to_the_cases_behind_it(browser, site):
    browser.open(site, f"run-{RUN}.html")
    links = browser.run("return [...document.querySelectorAll('td a.cases')].map((a) => a.getAttribute('href'))")
    (address,) = {link for link in links if link.endswith("editor=grace&measure=reliability&protocol=free_generation")}
    browser.open(site, address)
    assert column(browser, "cases", "reliability") == ["right", "right", "failed"]
    assert "free generation, under 'grace'" in browser.texts("#meaning")[0]


def test_list_of_cases_has_pages_and_is_searched(browser, many):
    browser.open(many, "cases.html")
    assert status(browser) == "1 to 50 of 120 rows"
    assert len(browser.texts("#cases tbody tr")) == 50
    browser.run("document.querySelectorAll('.pages button')[1].click()")
    assert status(browser) == "51 to 100 of 120 rows"
    assert column(browser, "cases", "id")[0] == "zsre/test/50"
    search(browser, "TEST/11 paris")
    assert column(browser, "cases", "id") == ["zsre/test/11", *(f"zsre/test/11{n}" for n in range(10))]
    search(browser, "")
    choose(browser, "editor", "ft-l")
    choose(browser, "measure", "locality")
    choose(browser, "outcome", "wrong")
    assert column(browser, "cases", "id") == [f"zsre/test/{number}" for number in range(0, 120, 10)]
    assert column(browser, "cases", "reliability") == ["right" if n % 3 == 0 else "wrong" for n in range(0, 120, 10)]
    browser.run("document.querySelector('th[data-column=reliability] button').click()")
    assert column(browser, "cases", "reliability") == ["right"] * 4 + ["wrong"] * 8
    # Sorted again by the outcomes of the other editor: none is right under it, so the order of the run stays.
    choose(browser, "editor", "none")
    assert column(browser, "cases", "id") == [f"zsre/test/{number}" for number in range(0, 120, 10)]


def test_page_of_a_case_shows_facts_of_its_edits_as_a_person_reads_them(browser, tmp_path):
    facts = {
        "none": {},
        "ft-l": {"target_probability": 0.123456, "steps": 25.0, "converged": 0.0, "relative_norm": 0.5, "slots": 28.0},
        "grace": {"converged": 1.0},
    }
    run = make_run(editors=tuple(facts), cases=1)
    told = {"none": None, "ft-l": "Task: Zsre", "grace": "Task: Zsre"}
    lines = [
        make_case(run, "zsre/test/0", name, right=True, kept=True).model_copy(
            update={"edit": edit, "instruction": told[name]}
        )
        for name, edit in facts.items()
    ]
    write_site(write_run(tmp_path / "run", run, lines), tmp_path / "site")
    browser.open(tmp_path / "site", f"case.html#{RUN}/zsre/test/0")
    browser.run("document.querySelector('details').open = true")
    rows = browser.run("return [...document.querySelector('details table').rows].map((r) => r.innerText.trim())")
    head, *rows = [re.split(r"\s*\t\s*", row) for row in rows]
    assert [word.replace("\xa0", " ") for word in head[:7]] == [
        *("Editor", "Status", "Target’s probability", "Steps", "Converged", "|dW| / |W|", "Slots")
    ]
    found = {row[0]: row[2:7] for row in rows}
    assert found["ft-l"] == ["0.123", "25", "no", "0.500", "28"]
    assert found["none"] == ["-"] * 5
    assert found["grace"] == ["-", "-", "yes", "-", "-"]
    assert browser.texts("details p") == ["Instruction of ft-l, grace: Task: Zsre"]


def test_page_of_a_case_marks_what_changed(browser, many):
    browser.open(many, f"case.html#{RUN}/zsre/test/60")
    assert browser.texts("h1") == ["Case zsre/test/60"]
    assert browser.texts(".edit .target") == ["Paris"]
    tables = """
        const lines = (table) => [...table.tBodies[0].rows].map((row) => row.innerText);
        return [...document.querySelectorAll(".probe table")].map(lines);
    """
    assert [[re.split(r"\s*\t\s*", line.strip()) for line in table] for table in browser.run(tables)] == [
        [
            ["before any edit", "Rome."],
            ["none", "Rome. (as before)", "wrong", "wrong"],
            ["ft-l", "RomeParis.", "right", "right"],
        ],
        [
            ["before any edit", "Old town."],
            ["none", "OldNew town.", "lost", "lost"],
            ["ft-l", "OldNew town.", "lost", "lost"],
        ],
    ]
    first = ".probe tr:nth-child(3) .answer"
    assert browser.texts(f"{first} del") == ["Rome", "Old"]
    assert browser.texts(f"{first} ins") == ["Paris", "New"]
    lines = browser.run(
        "return ['del', 'ins'].map((t) => getComputedStyle(document.querySelector(`.probe ${t}`)).textDecorationLine)"
    )
    assert lines == ["line-through", "underline"]  # not by colour alone
    browser.run("document.querySelector('.legend input').click()")
    assert browser.run("return document.querySelector('.probe del').checkVisibility()") is False
    links = browser.run("return [...document.querySelectorAll('.ways a')].map((a) => a.textContent + ' ' + a.hash)")
    assert links == [
        f"All cases #run={RUN}",
        f"Previous case #{RUN}/zsre/test/59",
        f"Next case #{RUN}/zsre/test/61",
    ]
    browser.run("document.querySelectorAll('.ways a')[2].click()")
    browser.wait("document.querySelector('h1')?.textContent === 'Case zsre/test/61'")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("case.html", "No such run in this site"),
        (f"case.html#{'f' * 16}/zsre/test/0", "No such run in this site"),
        (f"case.html#{RUN}/zsre/test/9", f"No such case in run {RUN}."),
        (f"case.html#{RUN}/%E0%A4%A", "malformed"),
    ],
)
def test_address_of_no_case(browser, site, address, words):
    browser.open(site, address)
    assert words in browser.texts(".failed")[0]


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
    assert status(browser) == "101 to 120 of 120 rows"
    assert browser.run(focused) == "Previous"
    browser.open(many, f"case.html#{RUN}/zsre/test/60")
    browser.run("document.querySelectorAll('.ways a')[2].click()")
    browser.wait("document.activeElement.id === 'main'")
    assert browser.run("return window.scrollY") < 200
