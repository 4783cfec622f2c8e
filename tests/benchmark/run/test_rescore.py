"""Saved answers under other rules: values worked by hand, the source unchanged, everything else carried over."""

import json
import shutil

import pytest

from instructedit.benchmark.results.integrity import read_finished
from instructedit.benchmark.results.records import CaseRecord
from instructedit.benchmark.run.rescore import rescore
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.scoring.metrics import ngram_entropy
from instructedit.benchmark.scoring.rules import RULES, Rule
from instructedit.editors import InputError
from instructedit.reports.leaderboard.pack import pack
from instructedit.reports.tables.build import make_table

from ...cli.command import call
from ..worlds import OPTIONS, prepared_run, records_of, write_world


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    place = write_world(tmp_path_factory.mktemp("place"))
    editors = {name: OPTIONS["editors"][name] for name in ("none", "ft-m")}
    return run(prepared_run(place, tasks=("recent",), editors=editors), place / "out")


def free(record: CaseRecord) -> list[float]:
    return [score.value for score in record.scores if score.protocol == "free_generation"]


@pytest.mark.parametrize(
    ("text", "accepted", "right"),
    [
        ("Paris.", ["paris"], {"normalised", "starts-with", "contains"}),
        ("Paris.", ["Paris"], {"normalised", "exact", "starts-with", "contains"}),
        ("Paris, France.", ["Paris"], {"starts-with", "contains"}),
        ("It is Paris.", ["Rome", "Paris"], {"contains"}),
        ("Parisian", ["Paris"], set()),
        ("Yahoo! Inc", ["Yahoo! Inc"], {"normalised", "exact", "starts-with", "contains"}),
        ("the Beatles", ["Beatles"], {"normalised", "starts-with", "contains"}),
        ("", ["Paris"], set()),
    ],
)
def test_the_rules(text, accepted, right):
    assert {name for name, rule in RULES.items() if rule.right(text, accepted)} == right


def test_the_rule_of_runs_gives_the_same_scores(source, tmp_path):
    before = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    folder, moved = rescore(source, RULES["normalised"], tmp_path)
    assert {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()} == before
    assert sum(own.up + own.down for own in moved) == 0
    assert sum(own.scores for own in moved) > 0
    file, summary = read_finished(folder)
    origin, was = read_finished(source)
    assert file.digest == folder.name != origin.digest
    assert (file.spec.rescored.run, file.spec.rescored.rule) == (origin.digest, "normalised (word-ends-1)")
    assert file.provenance.taken_from == (origin.digest,)
    assert summary.means == was.means and summary.comparisons == was.comparisons and summary.complete
    for ours, theirs in zip(records_of(folder), records_of(source), strict=True):
        assert ours == theirs.model_copy(update={"run": file.digest})


def test_another_rule_moves_what_it_decides_and_nothing_else(source, tmp_path):
    """A random model gives no right answer, so some are written into a copy."""
    copy = tmp_path / source.name
    shutil.copytree(source, copy)
    (copy / "summary.json").unlink()
    changed = []
    for record in records_of(copy):
        answers = [
            own if own.role == "locality" else own.model_copy(update={"generated": f"It is {own.accepted[0]}"})
            for own in record.answers
        ]
        changed.append(record.model_copy(update={"answers": tuple(answers)}))
    (copy / "cases.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in changed))
    (copy / "summary.json").write_text((source / "summary.json").read_text())
    with pytest.raises(InputError, match="was changed after it was summarised"):
        rescore(copy, RULES["contains"])
    _resummarise(copy)
    folder, moved = rescore(copy, RULES["contains"])
    assert folder.parent == tmp_path
    for record, was in zip(records_of(folder), changed, strict=True):
        for score, old in zip(record.scores, was.scores, strict=True):
            if score.protocol == "free_generation" and score.measure != "locality":
                assert score.value == 1.0
            elif score.protocol == "ngram_entropy":
                assert score.value == ngram_entropy(record.text)
            else:
                assert score == old
    # one of five accepted answers is longer than the answers of the run, and not scored
    reliability = next(own for own in moved if (own.editor, own.measure) == ("none", "reliability"))
    assert (reliability.scores, reliability.up, reliability.down, reliability.after) == (
        4,
        4,
        0,
        1.0,
    )  # New York is longer than the answers
    again, _ = rescore(copy, RULES["contains"])
    assert again == folder
    with pytest.raises(InputError, match=f"rescored already; expected the run they are from, {source.name}"):
        rescore(folder, RULES["exact"])
    with pytest.raises(InputError, match="holds rescored answers"):
        pack(folder, tmp_path / "s.zip", name="S", authors=["A"])
    with pytest.raises(InputError, match="differ in rule of free generation"):
        make_table("protocols", [copy, folder])


def _resummarise(folder):
    """Make the summary of lines that a test has changed, as the run would."""
    import hashlib

    from instructedit.benchmark.results.records import RunFile, digest_of, read_record
    from instructedit.benchmark.results.summary import summarise

    file = read_record(folder / "run.json", RunFile)
    content = (folder / "cases.jsonl").read_bytes()
    summary = summarise(file, records_of(folder)).model_copy(
        update={"cases_sha256": hashlib.sha256(content).hexdigest(), "lines": content.count(b"\n")}
    )
    summary = summary.model_copy(update={"content": digest_of(summary, {"content"})})
    (folder / "summary.json").write_text(summary.model_dump_json(indent=1) + "\n")


METRIC = """
def length(text, accepted):
    return min(1.0, len(text) / 100)

def broken(text, accepted):
    return 2.0
"""


def test_a_metric_of_ones_own(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_metrics.py").write_text(METRIC)
    code, out, _ = call("rescore", source, "--metric", "own_metrics:length", "--out", tmp_path / "out")
    assert code == 0 and "scores moved" in out
    (folder,) = (path.parent for path in tmp_path.glob("out/*/summary.json"))
    for record in records_of(folder):
        wanted = [len(a.generated) / 100 for a in record.answers if a.generated is not None]
        assert free(record) == pytest.approx(wanted)
    spec = json.loads((folder / "run.json").read_text())["spec"]["rescored"]
    assert spec["rule"] == "own_metrics:length" and len(spec["code"]) == 64
    assert (folder / "report" / "table.md").is_file()
    code, out, err = call("rescore", source, "--metric", "own_metrics:broken", "--out", tmp_path / "none")
    assert (code, out) == (2, "") and "gave 2.0 for" in err
    assert not (tmp_path / "none").exists(), "nothing is written"


def test_a_metric_of_the_library_evaluate(source, tmp_path):
    """Ours of that library is the rule of runs."""
    rule = Rule.named("instructedit.benchmark.scoring.evaluate_metrics:FreeGenerationMatch")
    assert [rule.right(text, ["Paris"]) for text in ("paris.", "Rome")] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rule", "contain"], "Unknown rule 'contain'. Did you mean 'contains'?"),
        (["--metric", "nowhere:f"], "'nowhere:f' cannot be imported: No module named 'nowhere'"),
        (["--metric", "length"], "expected module:name"),
        (["--rule", "exact", "--metric", "a:b"], "exclude each other"),
    ],
)
def test_what_cannot_be_a_rule_is_refused(source, words, sentence):
    code, out, err = call("rescore", source, *words)
    assert (code, out) == (2, "") and sentence in err and len(err.splitlines()) == 1
