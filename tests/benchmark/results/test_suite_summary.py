"""Runs that differ in the seed are put together, and nothing else is."""

import pytest

from instructedit.benchmark.results.records import EditorSpec
from instructedit.benchmark.results.suite_results import SuiteSummary, find_suite
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.editors import InputError

from ...reports.suites import change_summary, trained, write_index, write_run

ROWS = [trained("mend", "counterfact"), trained("instructedit", "counterfact", instruction="seen")]


def hard(row, _task, seed, case):
    """Cases differ much and seeds a little; InstructEdit is a tenth better in each."""
    return 0.08 * case + 0.02 * seed + (0.1 if row == "instructedit" else 0.0)


def test_means_are_over_seeds_and_cases(tmp_path):
    suite = write_index(tmp_path, *(write_run(tmp_path, "multi-task", ROWS, seed, hard) for seed in (3, 1)))
    (group,) = summarise_suite(tmp_path, suite).groups
    assert group.seeds == (1, 3)
    assert group.run.spec.seed == 1
    mend, ours = group.means
    assert (mend.row, mend.n, mend.per_seed) == ("mend", 10, pytest.approx((0.38, 0.42)))
    assert mend.mean == pytest.approx(0.40)
    assert 0.2 < mend.low < 0.3 < 0.5 < mend.high < 0.62
    assert ours.mean == pytest.approx(0.50)


def test_rows_are_paired_by_case_and_seed(tmp_path):
    suite = write_index(tmp_path, *(write_run(tmp_path, "multi-task", ROWS, seed, hard) for seed in (0, 1)))
    (group,) = summarise_suite(tmp_path, suite).groups
    (comparison,) = group.comparisons
    assert (comparison.first, comparison.second, comparison.n) == ("instructedit", "mend", 10)
    # Every difference is the same, so pairing leaves what ten cases leave open: p is that of ten equal signs.
    assert (comparison.difference, *comparison.per_seed) == pytest.approx([0.1] * 3)
    assert (comparison.method, comparison.p, comparison.p_holm) == ("rule_of_three", 2 / 1024, 2 / 1024)


def test_a_case_that_fails_under_one_seed_is_in_no_mean(tmp_path):
    def failing(row, task, seed, case):
        return None if (row, seed, case) == ("mend", 1, 9) else hard(row, task, seed, case)

    suite = write_index(tmp_path, *(write_run(tmp_path, "multi-task", ROWS, seed, failing) for seed in (0, 1)))
    (group,) = summarise_suite(tmp_path, suite).groups
    assert [mean.n for mean in group.means] == [9, 10]
    assert group.means[0].per_seed == pytest.approx((0.32, 0.34))
    assert group.comparisons[0].n == 9
    assert group.failed == {"counterfact": {"mend": 1}}


def test_what_differs_in_more_than_the_seed_stands_apart(tmp_path):
    entries = [
        write_run(tmp_path, "multi-task", ROWS, 0, hard),
        write_run(tmp_path, "multi-task", ROWS, 1, hard, changes={"chunk": 4}),
    ]
    summary = summarise_suite(tmp_path, write_index(tmp_path, *entries))
    assert [group.seeds for group in summary.groups] == [(0,), (1,)]
    assert summary.warnings == (
        "The runs 'multi-task' differ in more than the seed; they stand in 2 groups.",
        "There is no run of seed 1 for 'multi-task', but for others.",
        "There is no run of seed 0 for 'multi-task', but for others.",
    )


def test_runs_that_cannot_be_used_are_left_out_and_named(tmp_path):
    entries = [write_run(tmp_path, "multi-task", ROWS, seed, hard) for seed in range(4)]
    change_summary(tmp_path, entries[1], valid=False, invalid_reason="The weights changed.")
    (tmp_path / entries[2].digest / "summary.json").unlink()
    change_summary(tmp_path, entries[3], complete=False)
    summary = summarise_suite(tmp_path, write_index(tmp_path, *entries))
    assert summary.groups[0].seeds == (0, 3)
    one, two, three = (f"Run {entry.digest} ('multi-task', seed {entry.seed})" for entry in entries[1:])
    assert summary.warnings == (
        f"{one} is left out, it is INVALID: The weights changed.",
        f"{two} is left out: it is not finished, or its folder is not there.",
        f"{three} is INCOMPLETE: not every case has been run under every editor.",
    )
    (tmp_path / entries[0].digest / "summary.json").unlink()
    (tmp_path / entries[3].digest / "summary.json").unlink()
    with pytest.raises(InputError, match="no run of the suite 'full' can be used"):
        summarise_suite(tmp_path, write_index(tmp_path, *entries))


def test_a_suite_is_found_by_its_folder_or_its_index(tmp_path):
    entry = write_run(tmp_path, "multi-task", ROWS, 0, hard)
    suite = write_index(tmp_path, entry, entry.model_copy(update={"seed": 1}))
    assert find_suite(tmp_path) == (tmp_path, suite)
    assert find_suite(tmp_path / "suites" / "full.json") == (tmp_path, suite)
    assert find_suite(tmp_path / "suites" / "full") == (tmp_path, suite)
    assert find_suite(tmp_path / entry.digest) is None
    one = write_index(tmp_path, entry)
    assert find_suite(tmp_path) is None  # one run has a report of its own
    assert find_suite(tmp_path / "suites" / "full") == (tmp_path, one)
    write_index(tmp_path, entry, name="other")
    with pytest.raises(InputError, match=r"holds 2 suites; name one of them, or the folder of a run: .*full\.json"):
        find_suite(tmp_path)
    with pytest.raises(InputError, match=r"absent\.json: cannot be read"):
        find_suite(tmp_path / "suites" / "absent")


def test_all_pairs_of_rows_are_compared_over_the_cases_both_have(tmp_path):
    rows = [EditorSpec(name="none", method="none"), *ROWS]

    def failing(row, task, seed, case):
        return None if (row, case) == ("none", 0) else hard(row, task, seed, case)

    suite = write_index(tmp_path, *(write_run(tmp_path, "multi-task", rows, seed, failing) for seed in (0, 1)))
    (group,) = summarise_suite(tmp_path, suite).groups
    found = {(pair.row, pair.other): pair for pair in group.pairs}
    assert list(found) == [("none", "mend"), ("none", "instructedit"), ("mend", "instructedit")]
    assert [pair.n for pair in found.values()] == [9, 9, 10]
    ours = found["mend", "instructedit"]
    assert ours.difference == pytest.approx(-0.1)
    # The same cases as the question of the suite, from the other side.
    (question,) = group.comparisons
    assert (ours.difference, ours.low, ours.high) == pytest.approx(
        (-question.difference, -question.high, -question.low)
    )


def test_a_question_has_the_means_of_both_sides_over_its_own_cases(tmp_path):
    suite = write_index(tmp_path, *(write_run(tmp_path, "multi-task", ROWS, seed, hard) for seed in (0, 1)))
    (group,) = summarise_suite(tmp_path, suite).groups
    mend, ours = group.means
    (comparison,) = group.comparisons
    assert comparison.sides is not None
    assert [side.mean for side in comparison.sides] == pytest.approx([ours.mean, mend.mean])
    assert [(side.low, side.high) for side in comparison.sides] == [(ours.low, ours.high), (mend.low, mend.high)]


def test_fluency_has_no_pairs(tmp_path):
    reads = {"counterfact": ({"measure": "fluency", "protocol": "ngram_entropy"},)}
    run = write_run(tmp_path, "multi-task", ROWS, 0, hard, reads=reads)
    (group,) = summarise_suite(tmp_path, write_index(tmp_path, run)).groups
    assert group.means
    assert group.pairs == ()


def test_a_summary_of_an_older_version_is_still_read(tmp_path):
    suite = write_index(tmp_path, write_run(tmp_path, "multi-task", ROWS, 0, hard))
    fields = summarise_suite(tmp_path, suite).model_dump(mode="json")
    for group in fields["groups"]:
        del group["pairs"]
        for comparison in group["comparisons"]:
            del comparison["sides"]
    (group,) = SuiteSummary.model_validate(fields).groups
    assert (group.pairs, group.comparisons[0].sides) == ((), None)
