"""Kinds of tampering with a submission: numbers, cases, answers and probes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from instructedit.reports.leaderboard.archive import MANIFEST

from .conftest import Files

Tamper = Callable[[Files], None]
CASES: list[Any] = []


SEALED, CONSISTENT = Files.seal, Files.consistent
"""What is made right after a change: the digests of files, or all that follows from `run.json` and the lines."""


def AS_IT_IS(files: Files) -> None:
    """Nothing is made right."""


def tamper(name: str, then: Tamper, *words: str) -> Callable[[Tamper], Tamper]:
    """Register a kind of tampering: its name, what is made right, the words that its reason has to hold; its change."""

    def add(change: Tamper) -> Tamper:
        def tampered(files: Files) -> None:
            change(files)
            then(files)

        CASES.append(pytest.param(tampered, words, id=name))
        return tampered

    return add


def tampering(*words: str) -> Callable[[Tamper], Tamper]:
    """Register a function that makes right itself what it does."""

    def add(tampered: Tamper) -> Tamper:
        CASES.append(pytest.param(tampered, words, id=tampered.__name__))
        return tampered

    return add


def _method(name: str) -> Callable[..., Tamper]:
    return lambda *arguments, **options: lambda files: getattr(files, name)(*arguments, **options)


change, each, one = _method("change"), _method("each"), _method("one")
of_run = partial(change, "run.json")


def tampers(how: Callable[..., Tamper], then: Tamper, *words: str) -> Callable[[Callable[[Any], None]], Tamper]:
    """Register a function that changes `run.json` (`of_run`), each line (`each`) or the first one of a row (`one`)."""
    return lambda function: tamper(function.__name__, then, *words)(how(function))


def score(line: Any, measure: str, protocol: str) -> Any:
    return next(s for s in line["scores"] if (s["measure"], s["protocol"]) == (measure, protocol))


def answer(line: Any, role: str) -> Any:
    return next(a for a in line["answers"] if a["role"] == role)


# Numbers of the summary.


tamper(
    "an edited mean",
    SEALED,
    "summary.json: means.",
    "(ft-l counterfact single reliability",
    "mean: 1.0 was expected, found 0.99",
)(change("summary.json", lambda s: next(m for m in s["means"] if m["editor"] == "ft-l").update(mean=0.99)))
tamper("an edited interval", SEALED, "summary.json", "low:", "found -0.5")(
    change("summary.json", lambda s: s["means"][0].update(low=-0.5))
)
tamper("an edited comparison", SEALED, "comparisons.0 (none ft-l counterfact single", "p: ", "found 1e-06")(
    change("summary.json", lambda s: s["comparisons"][0].update(p=1e-6))
)
tamper("a removed mean", SEALED, "summary.json: means: 249 entries was expected, found 248")(
    change("summary.json", lambda s: s["means"].pop())
)
tamper("a mean that is no number", SEALED, "content: a RunSummary was expected", "found NaN")(
    change("summary.json", lambda s: s["means"][0].update(mean=float("nan")))
)
tamper("an invalid run", SEALED, "summary.json: valid: True was expected, found False")(
    change("summary.json", lambda s: s.update(valid=False, invalid_reason="The weights changed."))
)
tamper("edited counts", SEALED, "summary.json: counts.counterfact.failed: 0 was expected, found 2")(
    change("summary.json", lambda s: s["counts"]["counterfact"].update(failed=2))
)

# Cases.


@tampering(
    "row 'ft-l', task 'counterfact', stage 'single': cases: each of 3 cases once", "none of 1 (counterfact/test/"
)
def a_case_dropped_in_one_row(files: Files) -> None:
    files.lines = [x for n, x in enumerate(files.lines) if (x["editor"], x["task"]) != ("ft-l", "counterfact") or n % 3]
    files.consistent()


def _drop(files: Files, task: str = "counterfact") -> None:
    gone = next(line["case_id"] for line in files.lines if line["task"] == task)
    files.lines = [line for line in files.lines if line["case_id"] != gone]


@tampering("row 'none', task 'counterfact'", "row 'mend', task 'counterfact'", "each of 3 cases once")
def a_case_dropped_in_all_rows(files: Files) -> None:
    _drop(files)
    files.consistent()


@tampering("data of 'counterfact', cases: 240 was expected, found 2", "each of 3 cases once")
def a_case_dropped_and_the_data_said_to_have_less(files: Files) -> None:
    _drop(files)
    files.change("run.json", lambda r: next(d for d in r["data"] if d["task"] == "counterfact").update(cases=2))
    files.consistent()


@tampering(
    "case_id: one of the 3 cases of the run was expected, found 'counterfact/test/1'", "none of 1 (counterfact/test/"
)
def a_case_exchanged_for_an_easier_one(files: Files) -> None:
    hard = next(line["case_id"] for line in files.lines if line["task"] == "counterfact")
    files.each(lambda x: x.update(case_id="counterfact/test/1") if x["case_id"] == hard else None)
    files.consistent()


@tampering("case: one line for each case, row and stage was expected, found a second one")
def a_duplicated_case(files: Files) -> None:
    files.lines = [*files.lines, files.lines[0]]
    files.seal()


tamper(
    "a renamed stage", CONSISTENT, "stage: one that schedule 'single' has was expected, found 'after-all'", "none of 3"
)(each(lambda line: line.update(stage="after-all") if line["editor"] == "ft-l" else None))
tamper("a hard case failed without edit", CONSISTENT, "status: 'done' was expected, found 'failed'")(
    one(lambda x: x.update(status="failed", reason="Hard.", scores=[], answers=[], text=None), row="none")
)
tamper(
    "a failed case with scores",
    CONSISTENT,
    "scores.0.free_generation: None was expected",
    "answers: 0 entries was expected",
)(one(lambda line: line.update(status="failed", reason="Hard.")))
tamper("a lower limit in the manifest", AS_IT_IS, "limit: 3 was expected, found 2")(
    change(MANIFEST, lambda manifest: manifest["runs"][0].update(limit=2))
)
tamper("a changed limit", SEALED, "digest of its specification: ")(
    change("run.json", lambda run: run["spec"].update(limit=2))
)
tamper(
    "a changed limit all else made to fit",
    CONSISTENT,
    "case_id: one of the 2 cases of the run was expected, found 'counterfact/test/",
)(change("run.json", lambda run: run["spec"].update(limit=2)))

# Scores and answers.


tamper(
    "another protocol under a name",
    CONSISTENT,
    "teacher_forced_exact.value: 0.0 was expected, found 1.0",
)(one(lambda line: score(line, "portability", "teacher_forced_exact").update(value=1.0)))
tamper("token shares as exact matches", CONSISTENT, "teacher_forced_exact.value: 0.0 was expected, found 0.5")(
    one(lambda line: score(line, "portability", "teacher_forced_exact").update(value=0.5))
)
tamper(
    "a protocol that does not read the probe",
    CONSISTENT,
    "scores.0.z_sent: None was expected",
)(one(lambda line: score(line, "reliability", "teacher_forced_token").update(protocol="z_sent")))
tamper("an unknown protocol", SEALED, "field 'scores.0.protocol'", "Input should be 'teacher_forced_token'")(
    one(lambda line: line["scores"][0].update(protocol="judge"))
)
tamper("a score above one", CONSISTENT, "value: teacher_forced_token within 0 and 1 was expected, found 1.5")(
    one(lambda line: score(line, "portability", "teacher_forced_token").update(value=1.5))
)
tamper("a negative divergence", CONSISTENT, "value: kl_divergence within 0 and 1,000,000 was expected, found -1.0")(
    one(lambda line: score(line, "locality", "kl_divergence").update(value=-1.0))
)
tamper("a score that is no number", SEALED, "content: a CaseRecord was expected", "found NaN")(
    one(lambda line: line["scores"][0].update(value=float("nan")))
)
tamper("an infinite fact of the edit", SEALED, "content: a CaseRecord was expected", "found Infinity")(
    one(lambda line: line["edit"].update(delta_norm=float("inf")))
)
tamper("a probability above one", SEALED, "edit.target_probability: 1.0 was expected, found 1.5")(
    one(lambda line: line["edit"].update(target_probability=1.5))
)


@tampering("health.2 (mend counterfact single).missed: 3 was expected, found 0")
def a_summary_that_hides_what_edits_missed(files: Files) -> None:
    lines = files.lines
    for line in lines:
        if (line["editor"], line["task"]) == ("mend", "counterfact"):
            line["edit"]["target_probability"] = 0.01
    files.lines = lines
    files.consistent()
    hidden = {"missed": 0, "missed_cases": []}
    files.change("summary.json", lambda s: [h.update(hidden) for h in s["health"] if h["editor"] == "mend"])
    files.seal()


tamper(
    "a median that does not follow",
    SEALED,
    "health.2 (mend counterfact single).medians.steps: None was expected, found 3.0",
)(change("summary.json", lambda s: [h["medians"].update(steps=3.0) for h in s["health"]]))
tamper("an edited edit success", CONSISTENT, "edit_success.value: 0.375 was expected, found 0.9")(
    one(lambda line: score(line, "reliability", "edit_success").update(value=0.9), task="convsent")
)


@tampers(partial(one, row="none"), CONSISTENT, "teacher_forced_token.value: 1.0 was expected, found 0.5")
def locality_below_one_without_edit(line: Any) -> None:
    score(line, "locality", "teacher_forced_token").update(value=0.5)
    score(line, "locality", "teacher_forced_exact").update(value=0.0)


tamper(
    "another answer without edit",
    CONSISTENT,
    ".generated: ' ",
    "was expected, found ' London.'",
)(one(lambda line: answer(line, "portability").update(generated=" London."), row="none"))
tamper(
    "another answer before the edit",
    CONSISTENT,
    "answers.0 (edit).before: ' ",
    "was expected, found ' London.'",
)(one(lambda line: answer(line, "reliability").update(before=" London.")))
tamper("an answer changed without its score", CONSISTENT, "free_generation.value: 0.0 was expected, found 1.0")(
    one(lambda line: answer(line, "reliability").update(generated=" London."))
)
tamper("a score changed without its answer", CONSISTENT, "free_generation.value: 0.0 was expected, found 1.0")(
    one(lambda line: score(line, "portability", "free_generation").update(value=1.0))
)


@tampers(one, CONSISTENT, "the text to begin with the answer, exact match under teacher forcing being 1 was expected")
def exact_matches_that_nobody_wrote(line: Any) -> None:
    score(line, "portability", "teacher_forced_token").update(value=1.0)
    score(line, "portability", "teacher_forced_exact").update(value=1.0)


@tampering("the text to begin with the answer", "row 'ft-l', probe 0", "found another text")
def an_exact_match_whose_text_was_cut_short(files: Files) -> None:
    """An answer is cut off by the most new tokens alone, which are 32."""
    files.one(lambda line: answer(line, "reliability").update(generated=""))
    files.one(lambda line: score(line, "reliability", "free_generation").update(value=0.0))
    files.consistent()


tamper("an edited fluency", CONSISTENT, "scores.fluency.value: 2", "was expected, found 600.0")(
    one(lambda line: score(line, "fluency", "ngram_entropy").update(value=600.0))
)


@tampers(one, CONSISTENT, "unscored: a reason for each of 2 scores that are not there was expected, found 0 reasons")
def a_hard_probe_without_scores(line: Any) -> None:
    number = score(line, "portability", "free_generation")["probe"]
    line["scores"] = [s for s in line["scores"] if s["probe"] != number]


tamper(
    "a score counted twice",
    CONSISTENT,
    "one score of a probe and protocol was expected, found a second one",
)(one(lambda line: line["scores"].append(line["scores"][0])))
tamper("a score of no answer", CONSISTENT, "probe: one of ", "answers was expected, found 99")(
    one(lambda line: line["scores"][0].update(probe=99))
)
tamper(
    "a score moved to another measure",
    CONSISTENT,
    "free_generation.measure: 'portability' was expected, found 'reliability'",
)(one(lambda line: score(line, "portability", "free_generation").update(measure="reliability")))


@tampers(each, SEALED, "value: kl_divergence within 0 and 1,000,000 was expected, found 1.7e+308")
def divergences_whose_sum_is_beyond_any_number(line: Any) -> None:
    for own in line["scores"]:
        if own["protocol"] == "kl_divergence":
            own.update(value=1.7e308)


# Probes.


@tampering("target: '", "was expected, found 'red'")
def a_target_edited_to_what_the_model_said(files: Files) -> None:
    case = next(line["case_id"] for line in files.lines if line["task"] == "counterfact")
    files.each(lambda line: line.update(target="red") if line["case_id"] == case else None)
    files.consistent()


@tampers(each, CONSISTENT, "answers.0 (edit).accepted: (", "was expected", "'blue'")
def accepted_answers_widened(line: Any) -> None:
    if line["task"] == "counterfact":
        answer(line, "reliability")["accepted"] += ["red", "green", "blue"]
        score(line, "reliability", "free_generation").update(value=1.0)


@tampers(each, CONSISTENT, ".prompt: '", "was expected, found 'An easier question is'")
def an_easier_question(line: Any) -> None:
    if line["task"] == "counterfact":
        answer(line, "portability").update(prompt="An easier question is")


@tampers(each, CONSISTENT, ".derived: False was expected, found True")
def a_given_prompt_called_derived(line: Any) -> None:
    if line["task"] == "counterfact":
        number = score(line, "portability", "free_generation")["probe"]
        line["answers"][number].update(derived=True)
        for own in line["scores"]:
            own.update(derived=own["derived"] or own["probe"] == number)


tamper("an instruction nobody asked for", CONSISTENT, "instruction: None was expected, found 'Say it.'")(
    one(lambda line: line.update(instruction="Say it."))
)


def _elsewhere(files: Files) -> None:
    files.change("run.json", lambda run: [data.update(source="folder") for data in run["data"]])


@tampering("answers.0 (edit).accepted: (", "was expected", "'blue'")
def accepted_answers_widened_and_the_data_said_to_be_of_a_folder(files: Files) -> None:
    _elsewhere(files)
    accepted_answers_widened(files)


@tampering("data of 'counterfact', cases: 240 was expected, found 2", "each of 3 cases once")
def a_case_dropped_and_the_data_said_to_be_of_a_folder(files: Files) -> None:
    _elsewhere(files)
    a_case_dropped_and_the_data_said_to_have_less(files)
