"""Kinds of tampering with a submission: model, data, training, and files."""

import gzip
import json
from typing import Any

from instructedit.reports.leaderboard.archive import MANIFEST, compress

from .conftest import Files
from .tampers import AS_IT_IS, CONSISTENT, SEALED, change, each, of_run, one, tamper, tampering, tampers
from .tampers import CASES as CASES

# Digests, models, data, training.


@tampers(
    of_run, CONSISTENT, "data of 'counterfact', sha256: a sha256 of each file that was read was expected, found {}"
)
def data_without_a_digest(run: Any) -> None:
    run["spec"]["data"]["counterfact"] = {}
    run["data"][0].update(source="folder", sha256={})


tamper(
    "training data without a digest",
    CONSISTENT,
    "training data of 'recent', sha256: a sha256 of each file that was read was expected, found {}",
)(change("run.json", lambda run: run["training"][0].update(source="folder", sha256={})))


@tampering("digest of its specification: ")
def a_swapped_data_digest(files: Files) -> None:
    digests = {"wiki_counterfact/test_cf.json": "0" * 64}
    files.change("run.json", lambda run: run["spec"]["data"].update(counterfact=digests))
    files.seal()


@tampers(of_run, CONSISTENT, "data of 'counterfact', sha256: {", "of the data here was expected", "0000")
def a_swapped_data_digest_all_else_made_to_fit(run: Any) -> None:
    digests = {"wiki_counterfact/test_cf.json": "0" * 64}
    run["spec"]["data"]["counterfact"] = digests
    run["data"][0]["sha256"] = digests


@tampers(of_run, CONSISTENT, "data of 'counterfact', version: 1 was expected, found 7")
def another_reader(run: Any) -> None:
    run["spec"]["readers"]["counterfact"] = run["data"][0]["version"] = "7"


tamper("a swapped model", SEALED, "digest of its specification: ")(
    change("run.json", lambda run: run["spec"].update(model_fingerprint="0" * 64))
)
tamper(
    "a swapped model all else made to fit",
    CONSISTENT,
    "row 'mend': training.checkpoint: mend-00000000-",
    "found mend-cdcdcdcd-",
)(change("run.json", lambda run: run["spec"].update(model_fingerprint="0" * 64)))
tamper("another model in the manifest", AS_IT_IS, "model_fingerprint: 'cdcd", "found '0000")(
    change(MANIFEST, lambda manifest: manifest["runs"][0].update(model_fingerprint="0" * 64))
)
tamper("a changed configuration", SEALED, "digest of its specification: ")(
    change("run.json", lambda run: run["spec"]["editors"][1]["config"].update(lr=0.5))
)
tamper(
    "a changed configuration all else made to fit",
    CONSISTENT,
    "row 'mend': training.checkpoint: mend-cdcdcdcd-01234567-",
    "was expected, found mend-cdcdcdcd-01234567-",
)(change("run.json", lambda run: run["spec"]["editors"][2]["config"].update(edit_lr=0.5)))
tamper("a changed seed all else made to fit", CONSISTENT, "row 'mend': training.checkpoint")(
    change("run.json", lambda run: run["spec"].update(seed=5))
)
tamper("another seed in the manifest", AS_IT_IS, "seed: 0 was expected, found 5")(
    change(MANIFEST, lambda manifest: manifest["runs"][0].update(seed=5))
)
tamper(
    "a removed training",
    CONSISTENT,
    "row 'mend': training: what 'mend' was trained on, with its digests was expected, found none",
)(change("run.json", lambda run: run["spec"]["editors"][2].update(training=None)))
tamper("a removed checkpoint", CONSISTENT, "training.checkpoint: mend-", "found .")(
    change("run.json", lambda run: run["spec"]["editors"][2]["training"].update(checkpoint=""))
)


@tampers(of_run, CONSISTENT, "training: none, 'ft-l' is not trained was expected")
def a_trained_editor_under_an_untrained_name(run: Any) -> None:
    run["spec"]["editors"][1]["training"] = run["spec"]["editors"][2]["training"]


@tampers(
    of_run, CONSISTENT, "another file than a tested one was expected, found the file that 'counterfact' is tested on"
)
def training_on_the_test_cases(run: Any) -> None:
    run["training"][0]["sha256"] = run["data"][0]["sha256"]


tamper("more training cases than there are", CONSISTENT, "training.cases of 'recent': 333 was expected, found 400")(
    change("run.json", lambda run: run["spec"]["editors"][2]["training"]["cases"].update(recent=367))
)


@tampering("row 'mend': training.tasks: at least one task was expected, found none")
def a_training_on_nothing(files: Files) -> None:
    nothing: Any = {"tasks": [], "weights": {}, "cases": {}, "validation": {}, "limits": {}}
    files.change("run.json", lambda run: run["spec"]["editors"][2]["training"].update(nothing))
    files.consistent()


@tampering(
    "field 'spec.editors.2.training.weights.recent': Input should be greater than 0",
)
def fewer_training_cases_than_none(files: Files) -> None:
    below: Any = {"cases": {"recent": -1000}, "validation": {"recent": 1333}, "weights": {"recent": -1.0}}
    files.change("run.json", lambda run: run["spec"]["editors"][2]["training"].update(below))
    files.seal()


@tampering("training.validation.recent': Input should be greater than or equal to 0")
def fewer_validation_cases_than_none(files: Files) -> None:
    below: Any = {"cases": {"recent": 334}, "validation": {"recent": -1}}
    files.change("run.json", lambda run: run["spec"]["editors"][2]["training"].update(below))
    files.seal()


def _put_lines(files: Files, name: str, **fields: Any) -> None:
    lines = gzip.decompress(files.files[files.name(name)]).splitlines()
    changed = [json.dumps({**json.loads(line), **fields}) + "\n" for line in lines]
    files.files[files.name(name)] = compress("".join(changed).encode())
    files.seal()


@tampering("field 'edit_seconds': Input should be less than or equal to 1000000000000")
def seconds_whose_sum_is_beyond_any_number(files: Files) -> None:
    _put_lines(files, "timings.jsonl.gz", edit_seconds=1.7e308)


@tampering("lines of a Usage was expected, found line 1: found a number of 401 digits")
def memory_of_400_digits(files: Files) -> None:
    _put_lines(files, "usage.jsonl.gz", memory=10**400)


tamper("half a pair in a configuration", SEALED, "content: a RunFile was expected", "found the lone surrogate")(
    change("run.json", lambda run: run["spec"]["editors"][1]["config"].update(lr="\ud800"))
)


@tampering("content: what can be checked was expected, found")  # the rest is pydantic's, by its version
def a_deep_configuration(files: Files) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    files.change("run.json", lambda run: run["spec"]["editors"][1]["config"].update(lr=deep))
    files.seal()


tamper("less memory in the manifest", AS_IT_IS, "memory: 1073741824 was expected, found 1")(
    change(MANIFEST, lambda manifest: manifest["runs"][0].update(memory=1))
)
tamper("another base pass in the manifest", AS_IT_IS, "base.counterfact.answers: ", "found")(
    change(MANIFEST, lambda manifest: manifest["runs"][0]["base"]["counterfact"].update(answers="0" * 64))
)
tamper(
    "a date that is none", CONSISTENT, "provenance.started: a date and time of ISO 8601 was expected, found 'yesterday'"
)(change("run.json", lambda run: run["provenance"].update(started="yesterday")))
tamper("a negative limit", SEALED, "field 'spec.limit': Input should be greater than 0")(
    change("run.json", lambda run: run["spec"].update(limit=-1))
)
tamper(
    "rows without end",
    SEALED,
    "data of 'counterfact', rows: at most 1,000,000, and no more cases was expected, found 1000000000000",
)(change("run.json", lambda run: run["data"][0].update(rows=10**12, cases=10**12, source="folder")))
tamper("rows of editors without end", SEALED, "spec.editors: at most 200 rows was expected, found 300")(
    change("run.json", lambda run: run["spec"].update(editors=run["spec"]["editors"] * 100))
)
# Files.


tamper("a file without its digest", AS_IT_IS, "manifest.json: files.runs/", "cases.jsonl.gz.sha256: '")(
    one(lambda line: line.update(subject="Another"))
)
tamper(
    "a manifest of another run",
    AS_IT_IS,
    "manifest.json: runs.0 (",
    "digest: '",
    "was expected, found 'ffffffffffffffff'",
)(change(MANIFEST, lambda manifest: manifest["runs"][0].update(digest="f" * 16)))
tamper("records of another run", SEALED, "run: ", "was expected, found ffffffffffffffff")(
    each(lambda line: line.update(run="f" * 16))
)
tamper(
    "an unknown field", SEALED, "content: a CaseRecord was expected", "field 'winner': Extra inputs are not permitted"
)(one(lambda line: line.update(winner=True)))
tamper("another schema", SEALED, "schema version 99")(change("run.json", lambda run: run.update(schema_version=99)))


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


@tampering("content: a RunSummary was expected", "more than 100 levels of nesting")
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


@tampering("summary.json: file: a RunSummary was expected, found no such file")
def a_removed_summary(files: Files) -> None:
    del files.files[files.name("summary.json")]


tamper(
    "a manifest without names",
    AS_IT_IS,
    "content: a Manifest was expected",
    "field 'name': String should match pattern",
)(change(MANIFEST, lambda manifest: manifest.update(name=" ", authors=[])))
tamper(
    "a blank author", AS_IT_IS, "content: a Manifest was expected", "field 'authors.1': String should match pattern"
)(change(MANIFEST, lambda manifest: manifest.update(authors=["Ada", ""])))
tamper("weights that are no digest", AS_IT_IS, "field 'runs.0.trained.0.weights': String should match pattern")(
    change(MANIFEST, lambda manifest: manifest["runs"][0]["trained"][0].update(weights="yes, verified"))
)


@tampering("timings.jsonl.gz: file: lines of a ChunkTime was expected, found no such file")
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


tamper(
    "a manifest without authors",
    AS_IT_IS,
    "manifest.json: content: a Manifest was expected, found manifest.json: field 'authors'",
)(change(MANIFEST, lambda manifest: manifest.pop("authors")))
