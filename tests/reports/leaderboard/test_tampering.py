"""Each kind of tampering is refused with its reason; what is not tampered with passes."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instructedit.benchmark.matching import matches
from instructedit.reports.leaderboard.archive import MANIFEST, compress
from instructedit.reports.leaderboard.validate import Verdict, validate

from .conftest import Files

Tamper = Callable[[Files], None]
CASES: list[Any] = []


def tampering(*words: str) -> Callable[[Tamper], Tamper]:
    """Register a kind of tampering with the words that its reason has to hold."""

    def add(tamper: Tamper) -> Tamper:
        CASES.append(pytest.param(tamper, words, id=tamper.__name__))
        return tamper

    return add


def reasons(verdict: Verdict) -> str:
    return "\n".join(map(str, verdict.findings.found))


def score(line: Any, measure: str, protocol: str) -> Any:
    return next(s for s in line["scores"] if (s["measure"], s["protocol"]) == (measure, protocol))


def answer(line: Any, role: str) -> Any:
    return next(a for a in line["answers"] if a["role"] == role)


# Numbers of the summary.


@tampering("summary.json, mean of editor ft-l", "mean: 1.0 was expected", "found 0.99")
def an_edited_mean(files: Files) -> None:
    files.change("summary.json", lambda s: next(m for m in s["means"] if m["editor"] == "ft-l").update(mean=0.99))
    files.seal()


@tampering("summary.json", "low:", "found -0.5")
def an_edited_interval(files: Files) -> None:
    files.change("summary.json", lambda s: s["means"][0].update(low=-0.5))
    files.seal()


@tampering("comparison of editor none, other ft-l", "p: ", "found 1e-06")
def an_edited_comparison(files: Files) -> None:
    files.change("summary.json", lambda s: s["comparisons"][0].update(p=1e-6))
    files.seal()


@tampering("one, the records give it was expected, found none")
def a_removed_mean(files: Files) -> None:
    files.change("summary.json", lambda s: s["means"].pop())
    files.seal()


@tampering("mean: ", "found nan")
def a_mean_that_is_no_number(files: Files) -> None:
    files.change("summary.json", lambda s: s["means"][0].update(mean=float("nan")))
    files.seal()


@tampering("summary.json: valid: True was expected, found False")
def an_invalid_run(files: Files) -> None:
    files.change("summary.json", lambda s: s.update(valid=False, invalid_reason="The weights changed."))
    files.seal()


@tampering("summary.json: counts:", "failed")
def edited_counts(files: Files) -> None:
    files.change("summary.json", lambda s: s["counts"]["counterfact"].update(failed=2))
    files.seal()


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


@tampering("data of 'counterfact', cases: 240, of the data here was expected, found 2", "each of 3 cases once")
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


@tampering("stage: one that schedule 'single' has was expected, found 'after-all'", "none of 3")
def a_renamed_stage(files: Files) -> None:
    files.each(lambda line: line.update(stage="after-all") if line["editor"] == "ft-l" else None)
    files.consistent()


@tampering("status: done, the row edits nothing was expected, found failed")
def a_hard_case_failed_without_edit(files: Files) -> None:
    files.one(lambda x: x.update(status="failed", reason="Hard.", scores=[], answers=[], text=None), row="none")
    files.consistent()


@tampering("scores: none of a case that is failed")
def a_failed_case_with_scores(files: Files) -> None:
    files.one(lambda line: line.update(status="failed", reason="Hard."))
    files.consistent()


@tampering("limit: 3 was expected, found 2")
def a_lower_limit_in_the_manifest(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest["runs"][0].update(limit=2))


@tampering("the digest of its specification was expected")
def a_changed_limit(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"].update(limit=2))
    files.seal()


@tampering("case_id: one of the 2 cases of the run was expected, found 'counterfact/test/")
def a_changed_limit_all_else_made_to_fit(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"].update(limit=2))
    files.consistent()


# Scores and answers.


@tampering("teacher_forced_exact: 0.0, the share of tokens being 0.5 was expected, found 1.0")
def another_protocol_under_a_name(files: Files) -> None:
    files.one(lambda line: score(line, "portability", "teacher_forced_exact").update(value=1.0))
    files.consistent()


@tampering("teacher_forced_exact of 0 or 1 was expected, found 0.5")
def token_shares_as_exact_matches(files: Files) -> None:
    files.one(lambda line: score(line, "portability", "teacher_forced_exact").update(value=0.5))
    files.consistent()


@tampering("protocol: one that a probe of reliability edit is read by was expected, found z_sent")
def a_protocol_that_does_not_read_the_probe(files: Files) -> None:
    files.one(lambda line: score(line, "reliability", "teacher_forced_token").update(protocol="z_sent"))
    files.consistent()


@tampering("field 'scores.0.protocol'", "Input should be 'teacher_forced_token'")
def an_unknown_protocol(files: Files) -> None:
    files.one(lambda line: line["scores"][0].update(protocol="judge"))
    files.seal()


@tampering("value: teacher_forced_token within 0 and 1 was expected, found 1.5")
def a_score_above_one(files: Files) -> None:
    files.one(lambda line: score(line, "portability", "teacher_forced_token").update(value=1.5))
    files.consistent()


@tampering("value: kl_divergence of at least 0 was expected, found -1.0")
def a_negative_divergence(files: Files) -> None:
    files.one(lambda line: score(line, "locality", "kl_divergence").update(value=-1.0))
    files.consistent()


@tampering("field 'scores.0.value': Input should be a finite number")
def a_score_that_is_no_number(files: Files) -> None:
    files.one(lambda line: line["scores"][0].update(value=float("nan")))
    files.seal()


@tampering("edit: finite numbers was expected", "inf")
def an_infinite_fact_of_the_edit(files: Files) -> None:
    files.one(lambda line: line["edit"].update(delta_norm=float("inf")))
    files.seal()


@tampering("edit_success: 0.375, z_sent times z_topic was expected, found 0.9")
def an_edited_edit_success(files: Files) -> None:
    files.one(lambda line: score(line, "reliability", "edit_success").update(value=0.9), task="convsent")
    files.consistent()


@tampering("locality, teacher_forced_token: 1.0, the row edits nothing was expected, found 0.5")
def locality_below_one_without_edit(files: Files) -> None:
    def lower(line: Any) -> None:
        score(line, "locality", "teacher_forced_token").update(value=0.5)
        score(line, "locality", "teacher_forced_exact").update(value=0.0)

    files.one(lower, row="none")
    files.consistent()


@tampering("generated: ' ", "as before, the row edits nothing was expected, found ' London.'")
def another_answer_without_edit(files: Files) -> None:
    files.one(lambda line: answer(line, "portability").update(generated=" London."), row="none")
    files.consistent()


@tampering("answers.0.before: ' ", "(as under row 'none') was expected, found ' London.'")
def another_answer_before_the_edit(files: Files) -> None:
    files.one(lambda line: answer(line, "reliability").update(before=" London."))
    files.consistent()


@tampering("free_generation: 0.0, compared with [", "found 1.0 for ' London.'")
def an_answer_changed_without_its_score(files: Files) -> None:
    files.one(lambda line: answer(line, "reliability").update(generated=" London."))
    files.consistent()


@tampering("free_generation: 0.0, compared with [", "found 1.0 for ' ")
def a_score_changed_without_its_answer(files: Files) -> None:
    files.one(lambda line: score(line, "portability", "free_generation").update(value=1.0))
    files.consistent()


@tampering("the text to begin with the answer, exact match under teacher forcing being 1 was expected")
def exact_matches_that_nobody_wrote(files: Files) -> None:
    def raise_(line: Any) -> None:
        score(line, "portability", "teacher_forced_token").update(value=1.0)
        score(line, "portability", "teacher_forced_exact").update(value=1.0)

    files.one(raise_)
    files.consistent()


@tampering("the text to begin with the answer", "row 'ft-l', probe 0", "found another text")
def an_exact_match_whose_text_was_cut_short(files: Files) -> None:
    """An answer is cut off by the most new tokens alone, which are 32."""
    files.one(lambda line: answer(line, "reliability").update(generated=""))
    files.one(lambda line: score(line, "reliability", "free_generation").update(value=0.0))
    files.consistent()


@tampering("fluency: 2", "from the text was expected, found 600.0")
def an_edited_fluency(files: Files) -> None:
    files.one(lambda line: score(line, "fluency", "ngram_entropy").update(value=600.0))
    files.consistent()


@tampering("unscored: a reason for each of 2 scores that are not there was expected, found 0 reasons")
def a_hard_probe_without_scores(files: Files) -> None:
    def drop(line: Any) -> None:
        number = score(line, "portability", "free_generation")["probe"]
        line["scores"] = [s for s in line["scores"] if s["probe"] != number]

    files.one(drop)
    files.consistent()


@tampering("one score of a probe and protocol was expected, found a second one of teacher_forced_token")
def a_score_counted_twice(files: Files) -> None:
    files.one(lambda line: line["scores"].append(line["scores"][0]))
    files.consistent()


@tampering("probe: one of ", "answers was expected, found 99")
def a_score_of_no_answer(files: Files) -> None:
    files.one(lambda line: line["scores"][0].update(probe=99))
    files.consistent()


@tampering("measure: that of its answer, portability", "found reliability")
def a_score_moved_to_another_measure(files: Files) -> None:
    files.one(lambda line: score(line, "portability", "free_generation").update(measure="reliability"))
    files.consistent()


@tampering("value: at most 1,000,000 was expected, found 1.7e+308")
def divergences_whose_sum_is_beyond_any_number(files: Files) -> None:
    def raise_(line: Any) -> None:
        for own in line["scores"]:
            if own["protocol"] == "kl_divergence":
                own.update(value=1.7e308)

    files.each(raise_)
    files.seal()


# What was asked.


@tampering("target: '", "(in the data) was expected, found 'red'")
def a_target_edited_to_what_the_model_said(files: Files) -> None:
    case = next(line["case_id"] for line in files.lines if line["task"] == "counterfact")
    files.each(lambda line: line.update(target="red") if line["case_id"] == case else None)
    files.consistent()


@tampering("answers.0.accepted: (", "(in the data) was expected", "'blue'")
def accepted_answers_widened(files: Files) -> None:
    def widen(line: Any) -> None:
        if line["task"] == "counterfact":
            answer(line, "reliability")["accepted"] += ["red", "green", "blue"]
            score(line, "reliability", "free_generation").update(value=1.0)

    files.each(widen)
    files.consistent()


@tampering(".prompt: '", "(in the data) was expected, found 'An easier question is'")
def an_easier_question(files: Files) -> None:
    def ease(line: Any) -> None:
        if line["task"] == "counterfact":
            answer(line, "portability").update(prompt="An easier question is")

    files.each(ease)
    files.consistent()


@tampering(".derived: False (in the data) was expected, found True")
def a_given_prompt_called_derived(files: Files) -> None:
    def move(line: Any) -> None:
        if line["task"] == "counterfact":
            number = score(line, "portability", "free_generation")["probe"]
            line["answers"][number].update(derived=True)
            for own in line["scores"]:
                own.update(derived=own["derived"] or own["probe"] == number)

    files.each(move)
    files.consistent()


@tampering("instruction: none, the row reads none was expected, found 'Say it.'")
def an_instruction_nobody_asked_for(files: Files) -> None:
    files.one(lambda line: line.update(instruction="Say it."))
    files.consistent()


def _elsewhere(files: Files) -> None:
    files.change("run.json", lambda run: [data.update(source="folder") for data in run["data"]])


@tampering("answers.0.accepted: (", "(in the data) was expected", "'blue'")
def accepted_answers_widened_and_the_data_said_to_be_of_a_folder(files: Files) -> None:
    _elsewhere(files)
    accepted_answers_widened(files)


@tampering("data of 'counterfact', cases: 240, of the data here was expected, found 2", "each of 3 cases once")
def a_case_dropped_and_the_data_said_to_be_of_a_folder(files: Files) -> None:
    _elsewhere(files)
    a_case_dropped_and_the_data_said_to_have_less(files)


# Digests, models, data, training.


@tampering("data of 'counterfact', sha256: a sha256 of each file that was read was expected, found {}")
def data_without_a_digest(files: Files) -> None:
    def drop(run: Any) -> None:
        run["spec"]["data"]["counterfact"] = {}
        run["data"][0].update(source="folder", sha256={})

    files.change("run.json", drop)
    files.consistent()


@tampering("training data of 'recent', sha256: a sha256 of each file that was read was expected, found {}")
def training_data_without_a_digest(files: Files) -> None:
    files.change("run.json", lambda run: run["training"][0].update(source="folder", sha256={}))
    files.consistent()


@tampering("digest of its specification was expected")
def a_swapped_data_digest(files: Files) -> None:
    digests = {"wiki_counterfact/test_cf.json": "0" * 64}
    files.change("run.json", lambda run: run["spec"]["data"].update(counterfact=digests))
    files.seal()


@tampering("data of 'counterfact', sha256: {", "of the data here was expected", "0000")
def a_swapped_data_digest_all_else_made_to_fit(files: Files) -> None:
    def swap(run: Any) -> None:
        digests = {"wiki_counterfact/test_cf.json": "0" * 64}
        run["spec"]["data"]["counterfact"] = digests
        run["data"][0]["sha256"] = digests

    files.change("run.json", swap)
    files.consistent()


@tampering("data of 'counterfact', version: 1, of the data here was expected, found 7")
def another_reader(files: Files) -> None:
    def swap(run: Any) -> None:
        run["spec"]["readers"]["counterfact"] = run["data"][0]["version"] = "7"

    files.change("run.json", swap)
    files.consistent()


@tampering("digest of its specification was expected")
def a_swapped_model(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"].update(model_fingerprint="0" * 64))
    files.seal()


@tampering("row 'mend': training.checkpoint: mend-00000000-", "found 'mend-cdcdcdcd-")
def a_swapped_model_all_else_made_to_fit(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"].update(model_fingerprint="0" * 64))
    files.consistent()


@tampering("model_fingerprint: cdcd", "found 0000")
def another_model_in_the_manifest(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest["runs"][0].update(model_fingerprint="0" * 64))


@tampering("digest of its specification was expected")
def a_changed_configuration(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"]["editors"][1]["config"].update(lr=0.5))
    files.seal()


@tampering("row 'mend': training.checkpoint: mend-cdcdcdcd-01234567-", "was expected, found 'mend-cdcdcdcd-01234567-")
def a_changed_configuration_all_else_made_to_fit(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"]["editors"][2]["config"].update(edit_lr=0.5))
    files.consistent()


@tampering("row 'mend': training.checkpoint")
def a_changed_seed_all_else_made_to_fit(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"].update(seed=5))
    files.consistent()


@tampering("seed: 0 was expected, found 5")
def another_seed_in_the_manifest(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest["runs"][0].update(seed=5))


@tampering("row 'mend': training: what 'mend' was trained on, with its digests was expected, found none")
def a_removed_training(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"]["editors"][2].update(training=None))
    files.consistent()


@tampering("training.checkpoint: mend-", "found ''")
def a_removed_checkpoint(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"]["editors"][2]["training"].update(checkpoint=""))
    files.consistent()


@tampering("training: none, 'ft-l' is not trained was expected")
def a_trained_editor_under_an_untrained_name(files: Files) -> None:
    def train(run: Any) -> None:
        run["spec"]["editors"][1]["training"] = run["spec"]["editors"][2]["training"]

    files.change("run.json", train)
    files.consistent()


@tampering("another file than a tested one was expected, found the file that 'counterfact' is tested on")
def training_on_the_test_cases(files: Files) -> None:
    def leak(run: Any) -> None:
        run["training"][0]["sha256"] = run["data"][0]["sha256"]

    files.change("run.json", leak)
    files.consistent()


@tampering("training.cases of 'recent': 333 was expected, found 400")
def more_training_cases_than_there_are(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"]["editors"][2]["training"]["cases"].update(recent=367))
    files.consistent()


@tampering("row 'mend': training.tasks: one task or more, each once was expected, found none")
def a_training_on_nothing(files: Files) -> None:
    nothing: Any = {"tasks": [], "weights": {}, "cases": {}, "validation": {}, "limits": {}}
    files.change("run.json", lambda run: run["spec"]["editors"][2]["training"].update(nothing))
    files.consistent()


@tampering(
    "training.cases of 'recent': at least 1 was expected, found -1000",
    "training.weights of 'recent': a finite number above 0 was expected, found -1.0",
)
def fewer_training_cases_than_none(files: Files) -> None:
    below: Any = {"cases": {"recent": -1000}, "validation": {"recent": 1333}, "weights": {"recent": -1.0}}
    files.change("run.json", lambda run: run["spec"]["editors"][2]["training"].update(below))
    files.consistent()


@tampering("training.validation of 'recent': at least 0 was expected, found -1")
def fewer_validation_cases_than_none(files: Files) -> None:
    below: Any = {"cases": {"recent": 334}, "validation": {"recent": -1}}
    files.change("run.json", lambda run: run["spec"]["editors"][2]["training"].update(below))
    files.consistent()


def _put_lines(files: Files, name: str, **fields: Any) -> None:
    lines = gzip.decompress(files.files[files.name(name)]).splitlines()
    changed = [json.dumps({**json.loads(line), **fields}) + "\n" for line in lines]
    files.files[files.name(name)] = compress("".join(changed).encode())
    files.seal()


@tampering("field 'edit_seconds': Input should be less than or equal to 1000000000000")
def seconds_whose_sum_is_beyond_any_number(files: Files) -> None:
    _put_lines(files, "timings.jsonl.gz", edit_seconds=1.7e308)


@tampering("field 'memory': Input should be less than or equal to 9223372036854775808")
def memory_of_400_digits(files: Files) -> None:
    _put_lines(files, "usage.jsonl.gz", memory=10**400)


@tampering("content: what can be checked was expected, found UnicodeEncodeError")
def half_a_pair_in_a_configuration(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"]["editors"][1]["config"].update(lr="\ud800"))
    files.seal()


@tampering("content: what can be checked was expected, found ValueError: Maximum serialization depth")
def a_deep_configuration(files: Files) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    files.change("run.json", lambda run: run["spec"]["editors"][1]["config"].update(lr=deep))
    files.seal()


@tampering("memory: 1073741824 was expected, found 1")
def less_memory_in_the_manifest(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest["runs"][0].update(memory=1))


@tampering("base.counterfact: ", "found")
def another_base_pass_in_the_manifest(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest["runs"][0]["base"]["counterfact"].update(answers="0" * 64))


@tampering("provenance.started: a date and time of ISO 8601 was expected, found 'yesterday'")
def a_date_that_is_none(files: Files) -> None:
    files.change("run.json", lambda run: run["provenance"].update(started="yesterday"))
    files.consistent()


@tampering("spec.limit: at least 1 was expected, found -1")
def a_negative_limit(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"].update(limit=-1))
    files.seal()


@tampering("data of 'counterfact', rows: at most 1,000,000 was expected, found 1000000000000")
def rows_without_end(files: Files) -> None:
    files.change("run.json", lambda run: run["data"][0].update(rows=10**12, cases=10**12, source="folder"))
    files.seal()


@tampering("spec.editors: at most 200 rows was expected, found 300")
def rows_of_editors_without_end(files: Files) -> None:
    files.change("run.json", lambda run: run["spec"].update(editors=run["spec"]["editors"] * 100))
    files.seal()


# Files.


@tampering("sha256", f"from {MANIFEST} was expected")
def a_file_without_its_digest(files: Files) -> None:
    files.one(lambda line: line.update(subject="Another"))


@tampering(
    "manifest.json: runs, ffffffffffffffff: the files of runs/ffffffffffffffff was expected", "one entry was expected"
)
def a_manifest_of_another_run(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest["runs"][0].update(digest="f" * 16))


@tampering("run: ", "was expected, found ffffffffffffffff")
def records_of_another_run(files: Files) -> None:
    files.each(lambda line: line.update(run="f" * 16))
    files.seal()


@tampering("content: a CaseRecord was expected", "field 'winner': Extra inputs are not permitted")
def an_unknown_field(files: Files) -> None:
    files.one(lambda line: line.update(winner=True))
    files.seal()


@tampering("schema version 99")
def another_schema(files: Files) -> None:
    files.change("run.json", lambda run: run.update(schema_version=99))
    files.seal()


@tampering("content: a whole file of lines was expected, found Compressed file ended")
def truncated_records(files: Files) -> None:
    name = files.name("cases.jsonl.gz")
    files.files[name] = files.files[name][:-20]
    files.seal()


@tampering("has no end")
def a_half_written_line(files: Files) -> None:
    name = files.name("cases.jsonl.gz")
    files.files[name] = compress(gzip.decompress(files.files[name]).removesuffix(b"\n"))
    files.seal()


@tampering("content: a RunSummary was expected", "not valid JSON")
def deep_json(files: Files) -> None:
    files.files[files.name("summary.json")] = b"[" * 200_000
    files.seal()


@tampering("line 2: more than")
def a_line_without_end(files: Files) -> None:
    name = files.name("cases.jsonl.gz")
    first = gzip.decompress(files.files[name]).splitlines(keepends=True)[0]
    files.files[name] = compress(first + b" " * (17 << 20))
    files.seal()


@tampering("runs/0123456789abcdef/hook.py: name: manifest.json or a file of runs/DIGEST/ was expected")
def a_file_of_another_name(files: Files) -> None:
    files.files["runs/0123456789abcdef/hook.py"] = b"print()"


@tampering("summary.json: file: the file that manifest.json lists was expected, found no such file")
def a_removed_summary(files: Files) -> None:
    del files.files[files.name("summary.json")]


@tampering("manifest.json: name: a name was expected, found ' '", "manifest.json: authors: who made it was expected")
def a_manifest_without_names(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest.update(name=" ", authors=[]))


@tampering("manifest.json: authors: who made it was expected, found 'Ada', ''")
def a_blank_author(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest.update(authors=["Ada", ""]))


@tampering("trained, 'mend', weights: a sha256 was expected, found yes, verified")
def weights_that_are_no_digest(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest["runs"][0]["trained"][0].update(weights="yes, verified"))


@tampering("timings.jsonl.gz: file: the times of the run was expected, found no such file")
def removed_times(files: Files) -> None:
    del files.files[files.name("timings.jsonl.gz")]
    files.change(MANIFEST, lambda manifest: manifest["runs"][0].update(edit_seconds=0.0, score_seconds=0.0))
    files.seal()


@tampering("field 'score_seconds': Input should be greater than or equal to 0")
def times_below_zero(files: Files) -> None:
    _put_lines(files, "timings.jsonl.gz", score_seconds=-5)


@tampering("field 'memory': Input should be greater than or equal to 0")
def memory_below_zero(files: Files) -> None:
    _put_lines(files, "usage.jsonl.gz", memory=-5)


@tampering("manifest.json: content: a Manifest was expected, found manifest.json: field 'authors'")
def a_manifest_without_authors(files: Files) -> None:
    files.change(MANIFEST, lambda manifest: manifest.pop("authors"))


@pytest.mark.parametrize(("tamper", "words"), CASES)
def test_tampering_is_refused_with_its_reason(tamper: Tamper, words: tuple[str, ...], files: Files, tmp_path: Path):
    tamper(files)
    verdict = validate(files.write(tmp_path / "s"))
    assert not verdict.accepted
    for word in words:
        assert word in reasons(verdict)


def test_what_is_not_tampered_with_passes(files: Files, tmp_path: Path):
    verdict = validate(files.write(tmp_path / "s"))
    assert reasons(verdict) == ""
    assert not [note for note in verdict.findings.notes if "not read again" in note]


def test_a_consistent_recomputation_of_the_same_passes(files: Files, tmp_path: Path):
    """What the tests above call consistent changes nothing by itself."""
    files.consistent()
    assert reasons(validate(files.write(tmp_path / "s"))) == ""


def test_the_order_of_lines_is_free_once_the_file_has_its_digest(files: Files, tmp_path: Path):
    files.lines = files.lines[::-1]
    assert "sha256" in reasons(validate(files.write(tmp_path / "other digest")))
    files.seal()
    assert reasons(validate(files.write(tmp_path / "sealed"))) == ""


def test_all_findings_are_listed_and_not_the_first_one(files: Files, tmp_path: Path):
    an_edited_mean(files)
    a_score_above_one_at = score(files.lines[4], "reliability", "teacher_forced_token")
    assert a_score_above_one_at
    files.one(lambda line: line["scores"][0].update(value=1.5))
    files.change(MANIFEST, lambda manifest: manifest["runs"][0].update(seed=5))
    found = reasons(validate(files.write(tmp_path / "s")))
    for word in ("within 0 and 1", "seed: 0 was expected", "found 0.99", "sha256"):
        assert word in found


def test_a_base_model_that_says_something_else_is_found_by_a_reference(files: Files, results: Path, tmp_path: Path):
    """Answers before the edit that are changed in every row break no law of the submission itself."""

    def change(line: Any) -> None:
        if line["task"] == "counterfact":
            own = answer(line, "portability")
            own.update(before=" violet.", generated=" violet.")

    files.each(change)
    files.consistent()
    path = files.write(tmp_path / "s")
    assert reasons(validate(path)) == ""
    found = reasons(validate(path, against=results.parent))
    assert "base pass, answers before the edit: those of the reference was expected, found others in 3" in found
    assert "against run" in found


def test_the_same_base_model_passes_beside_a_reference(packed: Path, results: Path):
    for reference in (results, results.parent, packed):
        verdict = validate(packed, against=reference)
        assert reasons(verdict) == ""
        assert not [note for note in verdict.findings.notes if "not compared" in note]


def test_another_number_of_new_tokens_evades_no_reference(files: Files, results: Path, tmp_path: Path):
    """Teacher forcing does not depend on it and is compared anyway; that the texts were not is said."""
    files.change("run.json", lambda run: run["spec"]["generation"].update(max_new_tokens=33))
    files.consistent()
    verdict = validate(files.write(tmp_path / "same"), against=results)
    assert verdict.accepted
    assert any(
        "Answers and free generation of 'counterfact'" in note and "33 new tokens here, 32 there" in note
        for note in verdict.findings.notes
    )
    files.one(lambda line: score(line, "reliability", "teacher_forced_token").update(value=0.01), row="none")
    files.consistent()
    found = reasons(validate(files.write(tmp_path / "lower"), against=results))
    assert "scores under teacher forcing of the row without edit: those of the reference was expected" in found


@pytest.mark.parametrize(("off", "refused"), [(0.01, True), (0.0005, False)])
def test_likelihoods_without_edit_are_those_of_the_reference(
    off: float, refused: bool, files: Files, results: Path, tmp_path: Path
):
    def change(line: Any) -> None:
        for protocol in ("z_sent", "edit_success"):  # z_topic is 1
            score(line, "reliability", protocol).update(value=0.75 + off)

    files.one(change, row="none", task="convsent")
    files.consistent()
    path = files.write(tmp_path / "s")
    assert validate(path).accepted
    found = reasons(validate(path, against=results))
    assert ("base pass, z_sent of the row without edit: those of the reference within 0.001" in found) is refused


def test_a_reference_of_another_model_is_said_to_say_nothing(files: Files, results: Path, tmp_path: Path):
    files.change("run.json", lambda run: run["spec"].update(model_fingerprint="0" * 64))
    files.change("run.json", lambda run: run["spec"]["editors"].pop())
    files.lines = [line for line in files.lines if line["editor"] != "mend"]
    files.consistent()
    verdict = validate(files.write(tmp_path / "s"), against=results)
    assert verdict.accepted
    assert any("base pass of 'counterfact'" in note and "not compared" in note for note in verdict.findings.notes)


def test_another_text_beside_a_divergence_of_zero_is_said(files: Files, tmp_path: Path) -> None:
    """An honest edit may act behind the answer, where no divergence is read."""

    def change(line: Any) -> None:
        kept = next(s for s in line["scores"] if (s["protocol"], s["value"]) == ("kl_divergence", 0.0))["probe"]
        line["answers"][kept].update(generated=" violet.")
        for own in line["scores"]:
            if (own["probe"], own["protocol"]) == (kept, "free_generation"):
                own.update(value=0.0)

    files.one(change)
    files.consistent()
    verdict = validate(files.write(tmp_path))
    assert not verdict.findings.found
    assert "texts are not those of before, though the KL of their answers is exactly 0" in " ".join(
        verdict.findings.notes
    )


def test_one_tie_in_a_thousand_is_counted_by_row(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the texts one in fifteen may tie: one row has too few of them for one, both rows together have enough."""
    monkeypatch.setattr("instructedit.reports.leaderboard.validate.TIES", 15)
    files.one(lambda line: answer(line, "reliability").update(generated=" violet."))
    files.one(lambda line: score(line, "reliability", "free_generation").update(value=0.0))
    exact = [
        line["editor"]
        for line in files.lines
        for s in line["scores"]
        if (s["protocol"], s["value"], s["measure"] == "locality") == ("teacher_forced_exact", 1.0, False)
    ]
    assert exact.count("ft-l") < 15 <= len(exact)
    files.consistent()
    assert "the text to begin with the answer" in reasons(validate(files.write(tmp_path / "s")))
    monkeypatch.setattr("instructedit.reports.leaderboard.validate.TIES", exact.count("ft-l"))
    verdict = validate(tmp_path / "s")
    assert verdict.accepted
    assert any(f"row 'ft-l', 1 of {exact.count('ft-l')} texts" in note for note in verdict.findings.notes)


def test_answers_that_the_most_new_tokens_cut_off_pass(files: Files, tmp_path: Path):
    """With two new tokens the model writes the beginning of an answer that it has right."""
    files.change("run.json", lambda run: run["spec"]["generation"].update(max_new_tokens=2))

    def cut(line: Any) -> None:
        for number, own in enumerate(line["answers"]):
            if own["generated"] is None:
                continue
            own.update(before=own["before"][:4], generated=own["generated"][:4])
            for s in line["scores"]:
                if (s["probe"], s["protocol"]) == (number, "free_generation") and own["role"] != "locality":
                    s.update(value=float(matches(own["generated"], own["accepted"])))

    files.each(cut)
    files.consistent()
    assert reasons(validate(files.write(tmp_path / "s"))) == ""


def test_the_split_that_options_are_chosen_on_may_be_of_the_training_file(files: Files, tmp_path: Path):
    def choose(run: Any) -> None:
        run["spec"]["split"] = "validation"
        run["training"].append(run["data"][0])

    files.change("run.json", choose)
    files.consistent()
    found = reasons(validate(files.write(tmp_path / "s")))
    assert "another file than a tested one" not in found


@pytest.mark.parametrize("field", ["data", "readers"])
def test_a_task_without_data_or_reader_is_a_finding_beside_a_reference_too(
    field: str, files: Files, results: Path, tmp_path: Path
):
    files.change("run.json", lambda run: run["spec"][field].pop("counterfact"))
    files.seal()
    assert "data of 'counterfact'" in reasons(validate(files.write(tmp_path / "s"), against=results))


def test_findings_have_no_characters_that_a_terminal_obeys(files: Files, tmp_path: Path):
    files.one(lambda line: line.update(target="\x1b[2J\u202eevil"))
    files.seal()
    found = reasons(validate(files.write(tmp_path / "s")))
    assert "\\u001b[2J\\u202eevil" in found
    assert "\x1b" not in found


def test_each_kind_is_tried_once():
    names = [case.id for case in CASES]
    assert len(names) == len(set(names)) >= 20
    assert json.dumps(names)
