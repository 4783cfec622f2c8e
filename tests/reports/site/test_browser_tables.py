"""The tables of the site in a real Chromium: sorted, filtered, and found again by their address."""

from .runs import DIGEST as RUN


def test_means_show_one_protocol_and_stage_at_a_time(browser, site):
    browser.open(site, "means.html")
    assert browser.texts("select[data-column=protocol] option") == ["exact match, teacher forced", "free generation"]
    assert "all" not in browser.texts("select[data-column=stage] option")
    # Reliability and locality (derived) of three editors; the mean over the one subset and the subset are two rows.
    assert browser.status() == "6 rows (of 24)"
    assert set(browser.column("means", "subset")) == {"over subsets"}
    browser.choose("measure", "reliability")
    assert browser.column("means", "editor") == ["none", "ft-l", "grace"]
    assert browser.column("means", "mean") == ["0.0", "66.7", "100.0"]
    assert browser.column("means", "n") == ["3", "3", "2"]
    browser.choose("subset", "")
    assert browser.status() == "6 rows (of 24)"
    assert "every answer token is the most likely one" in browser.texts("#protocol")[0]
    browser.choose("protocol", "free generation")
    assert "greedy text up to its natural stop" in browser.texts("#protocol")[0]
    assert browser.texts("select[data-column=stage] option") == ["single"]


def test_filters_stay_in_the_address(browser, site):
    browser.open(site, "means.html")
    browser.choose("editor", "ft-l")
    browser.choose("subset", "")
    shown = browser.column("means", "subset")
    address = browser.run("return location.hash")
    browser.open(site, f"means.html{address}")
    assert set(browser.column("means", "editor")) == {"ft-l"}
    assert browser.column("means", "subset") == shown
    assert "edit" in shown
    browser.open(site, "means.html#editor=nobody&subset=nowhere")
    assert browser.status() == "6 rows (of 24)"  # what is not offered is not chosen


def test_heads_sort_by_the_keyboard(browser, site):
    browser.open(site, "means.html#measure=reliability")
    button = "th[data-column=mean] button"
    state = f"return document.querySelector('{button}').closest('th').ariaSort"
    assert browser.run(state) == "none"
    browser.run(f"document.querySelector('{button}').focus()")
    browser.press("\ue007")  # Enter
    assert browser.run(state) == "descending"
    assert browser.column("means", "mean") == ["100.0", "66.7", "0.0"]
    browser.press(" ")
    assert browser.run(state) == "ascending"
    assert browser.column("means", "mean") == ["0.0", "66.7", "100.0"]
    browser.press("\ue004")  # Tab
    assert browser.run("return document.activeElement.closest('th')?.dataset.column") == "n"
    browser.press("\ue007")
    assert browser.run(state) == "none"
    assert browser.column("means", "editor")[-1] == "grace"


def test_a_difference_leads_to_the_cases_that_one_has_right_and_the_other_not(browser, many):
    browser.open(many, f"run-{RUN}.html")
    square = """
        const table = document.querySelector("table.square");
        const text = (cell) => cell.innerText.replaceAll("\\xa0", " ").trim();
        return [...table.rows].map((row) => [...row.cells].map(text));
    """
    assert browser.run(square) == [["", "none", "ft-l"], ["none", "", "−33.3 ▼"], ["ft-l", "+33.3 ▲", ""]]
    titles = "return [...document.querySelectorAll('table.square a')].map((a) => a.title)"
    assert browser.run(titles)[0].startswith("none less ft-l: −33.3 [−")
    links = browser.run("return [...document.querySelectorAll('table.square a')].map((a) => a.getAttribute('href'))")
    for link, heading in zip(links[:2], ("none wrong", "ft-l right"), strict=True):
        browser.open(many, link)
        assert browser.status() == "40 rows (of 120)", "the cases in which FT-L is right, from both sides"
        chosen = browser.run("return document.querySelector('select[name=outcome]').selectedOptions[0].text")
        assert heading in chosen


def test_narrow_screen_shows_the_number_first_and_keeps_the_editor_in_sight(browser, many):
    browser.resize(400)
    browser.open(many, "means.html")
    assert browser.run("return document.querySelector('details.choices').open") is False
    tops = "return ['[role=status]', 'details.choices', '#means'].map((s) => document.querySelector(s).offsetTop)"
    assert browser.run(tops) == sorted(browser.run(tops))
    left = """
        const scroll = document.getElementById("means").closest(".scroll");
        scroll.scrollLeft = 200;
        const head = document.querySelector("#means tbody th");
        const left = (element) => element.getBoundingClientRect().left;
        return [scroll.scrollLeft, left(head) - left(scroll), head.innerText];
    """
    scrolled, place, editor = browser.run(left)
    assert scrolled > 0
    assert abs(place) < 1
    assert editor == "none"
    browser.open(many, "cases.html")
    lines = "return [...document.querySelectorAll('#cases tbody th a')].map((a) => a.getClientRects().length)"
    assert set(browser.run(lines)) == {1}, "ids do not break"
    browser.resize(1200)
    assert browser.run("return document.querySelector('details.choices').open") is True
