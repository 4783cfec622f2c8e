"""The list of cases and the page of a case in a real Chromium: what a reader sees and chooses."""

import re

import pytest

from instructedit.reports.site.write import write_site

from .runs import DIGEST as RUN
from .runs import make_case, make_run, write_run


def test_list_of_cases_is_filtered_by_outcome(browser, site):
    browser.open(site, "cases.html")
    assert browser.column("cases", "id") == ["zsre/test/0", "zsre/test/1", "zsre/test/2"]
    # The control is not counted: FT-L and GRACE are two editors, and the case that GRACE failed has one answer.
    assert browser.column("cases", "reliability") == ["2 of 2", "2 of 2", "0 of 1"]
    assert browser.column("cases", "locality") == ["2 of 2", "1 of 2", "0 of 1"]
    browser.choose("editor", "ft-l")
    for measure, outcome, ids in (
        ("reliability", "right", "01"),
        ("reliability", "wrong", "2"),
        ("locality", "right", "0"),
        ("locality", "wrong", "12"),
        ("locality", "failed", ""),
    ):
        browser.choose("measure", measure)
        browser.choose("outcome", outcome)
        expected = [f"zsre/test/{number}" for number in ids] or ["No row matches."]
        assert browser.column("cases", "id") == expected
    assert "changed though it should not" in browser.texts("select[name=outcome] option")
    browser.choose("editor", "grace")
    assert browser.column("cases", "id") == ["zsre/test/2"]
    assert browser.column("cases", "reliability") == ["failed"]
    browser.choose("editor", "none")
    browser.choose("measure", "reliability")
    browser.choose("outcome", "wrong")
    assert browser.column("cases", "reliability") == ["wrong"] * 3
    assert "'none'" in browser.texts("#meaning")[0]


def test_two_editors_are_compared_case_by_case(browser, site):
    browser.open(site, "cases.html")
    browser.choose("editor", "ft-l")
    browser.choose("other", "none")
    assert browser.column("cases", "reliability") == ["right / wrong", "right / wrong", "wrong / wrong"]
    assert "'ft-l' and 'none'" in browser.texts("#meaning")[0]
    for measure, outcome, ids in (
        ("reliability", "first", "01"),
        ("reliability", "second", ""),
        ("reliability", "both", ""),
        ("reliability", "neither", "2"),
        ("locality", "first", ""),
        ("locality", "second", "12"),
    ):
        browser.choose("measure", measure)
        browser.choose("outcome", outcome)
        assert browser.column("cases", "id") == ([f"zsre/test/{number}" for number in ids] or ["No row matches."])
    assert browser.texts("select[name=outcome] option")[3:5] == ["ft-l kept, none lost", "none kept, ft-l lost"]
    browser.choose("other", "")
    assert browser.column("cases", "id") == ["No row matches."], "a comparison needs two editors"


def test_a_number_leads_to_the_cases_behind_it(browser, site):
    browser.open(site, f"run-{RUN}.html")
    links = browser.run("return [...document.querySelectorAll('td a.cases')].map((a) => a.getAttribute('href'))")
    (address,) = {link for link in links if link.endswith("editor=grace&measure=reliability&protocol=free_generation")}
    browser.open(site, address)
    assert browser.column("cases", "reliability") == ["right", "right", "failed"]
    assert "free generation, under 'grace'" in browser.texts("#meaning")[0]


def test_list_of_cases_has_pages_and_is_searched(browser, many):
    browser.open(many, "cases.html")
    assert browser.status() == "1 to 50 of 120 rows"
    assert len(browser.texts("#cases tbody tr")) == 50
    browser.run("document.querySelectorAll('.pages button')[1].click()")
    assert browser.status() == "51 to 100 of 120 rows"
    assert browser.column("cases", "id")[0] == "zsre/test/50"
    browser.search("TEST/11 paris")
    assert browser.column("cases", "id") == ["zsre/test/11", *(f"zsre/test/11{n}" for n in range(10))]
    browser.search("")
    browser.choose("editor", "ft-l")
    browser.choose("measure", "locality")
    browser.choose("outcome", "wrong")
    assert browser.column("cases", "id") == [f"zsre/test/{number}" for number in range(0, 120, 10)]
    assert browser.column("cases", "reliability") == ["right" if n % 3 == 0 else "wrong" for n in range(0, 120, 10)]
    browser.run("document.querySelector('th[data-column=reliability] button').click()")
    assert browser.column("cases", "reliability") == ["right"] * 4 + ["wrong"] * 8
    # Sorted again by the outcomes of the other editor: none is right under it, so the order of the run stays.
    browser.choose("editor", "none")
    assert browser.column("cases", "id") == [f"zsre/test/{number}" for number in range(0, 120, 10)]


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
