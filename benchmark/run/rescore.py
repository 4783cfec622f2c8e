"""Saved answers scored again by another rule of free generation, or by the present version of the same one; no model.

Scores of free generation are computed again from the answers, fluency from its text. All others are carried over. The
result is a run of its own, with the digest of its specification; the source is never changed.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from instructedit.editors.errors import InputError

from ..results.consistency import OTHER_TOKENS, SAME_TOKENS
from ..results.integrity import read_finished
from ..results.records import CaseRecord, Mean, Rescoring, RunFile, RunSummary, Score, digest_of
from ..results.run_folder import RunFolder
from ..results.summary import summarise
from ..scoring.metrics import WORDS, ngram_entropy
from ..scoring.rules import Rule

_STALE = tuple(f": {sentence}" for sentence in (SAME_TOKENS, OTHER_TOKENS))


class _Key(NamedTuple):
    task: str
    editor: str
    stage: str
    measure: str
    protocol: str
    derived: bool


_Counts = dict[_Key, Counter[str]]


class Moved(NamedTuple):
    """Scores of one row on a task, before and after."""

    task: str
    editor: str
    stage: str
    measure: str
    protocol: str
    derived: bool
    scores: int
    up: int
    down: int
    before: float
    """Mean over cases, as in a summary."""
    after: float


def rescore(folder: Path, rule: Rule, out: Path | None = None) -> tuple[Path, tuple[Moved, ...]]:
    """Score the answers of a finished run again.

    Args:
        folder: The run's folder.
        rule: How an answer of free generation is decided.
        out: Folder of all runs for the result; by default that of the source.

    Returns:
        The folder of the result, and what moved.

    Raises:
        InputError: If the run is not finished, has itself been rescored, or has no saved answers.
        StorageError: If the result cannot be written.
    """
    source, was = read_finished(folder)
    if source.spec.rescored is not None:
        raise InputError(
            f"{folder}: holds answers that were rescored already; expected the run they are from, "
            f"{source.spec.rescored.run}."
        )
    file = _file(source, rule)
    store = RunFolder((out or folder.parent) / file.digest)
    counts: _Counts = {}
    lines: list[str] = []

    def records() -> Iterator[CaseRecord]:
        for record in RunFolder(folder).records(source):
            scores = tuple(_scores(record, rule, counts))
            moved = scores != record.scores
            remarks = {text: n for text, n in record.remarks.items() if not (moved and text.endswith(_STALE))}
            update: dict[str, Any] = {"run": file.digest, "scores": scores, "remarks": remarks}
            changed = record.model_copy(update=update)
            lines.append(changed.model_dump_json() + "\n")
            yield changed

    summary = summarise(file, records(), was.valid, was.invalid_reason)
    if not counts:
        raise InputError(f"{folder}: no answer of free generation was saved, so there is nothing to score again.")
    content = "".join(lines)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    update = {"complete": was.complete, "cases_sha256": sha256, "lines": len(lines)}
    summary = summary.model_copy(update=update)
    with store.open(file):
        store.write_text("cases.jsonl", content)
        store.write("summary.json", summary.model_copy(update={"content": digest_of(summary, {"content"})}))
    return store.folder, tuple(_moved(counts, was, summary))


def _file(source: RunFile, rule: Rule) -> RunFile:
    """Return `run.json` of the result: the source's, with the rule."""
    rescored = Rescoring(run=source.digest, rule=rule.identity, code=rule.code)
    spec = source.spec.model_copy(update={"rescored": rescored})
    rules = {**source.provenance.rules, "normalisation": rule.identity, "words": WORDS}
    origin = source.provenance.model_copy(update={"rules": rules, "taken_from": (source.digest,)})
    return source.model_copy(update={"spec": spec, "digest": spec.digest, "provenance": origin})


def _scores(record: CaseRecord, rule: Rule, counts: _Counts) -> Iterator[Score]:
    """Yield the scores of a line, those that the answers decide computed again, and count what moved."""
    for score in record.scores:
        value: float | None = None
        if score.protocol == "free_generation" and score.probe is not None:
            answer = record.answers[score.probe]
            if answer.generated is not None and answer.role != "locality":
                value = float(rule.right(answer.generated, answer.accepted))
            elif answer.generated is not None and answer.before is not None:
                value = float(rule.same(answer.before, answer.generated, answer.accepted))
        elif score.protocol == "ngram_entropy" and record.text is not None:
            value = ngram_entropy(record.text)
        if value is None:
            yield score
            continue
        key = _Key(record.task, record.editor, record.stage, score.measure, score.protocol, score.derived)
        counts.setdefault(key, Counter()).update(scores=1, up=value > score.value, down=value < score.value)
        yield score.model_copy(update={"value": value})


def _moved(counts: _Counts, was: RunSummary, now: RunSummary) -> Iterator[Moved]:
    """Yield what moved, in the order of the summary's means."""
    before = {_key(mean): mean.mean for mean in was.means if mean.subset is None}
    for mean in now.means:
        if mean.subset is None and (count := counts.get(_key(mean))):
            yield Moved(*_key(mean), count["scores"], count["up"], count["down"], before[_key(mean)], mean.mean)


def _key(mean: Mean) -> _Key:
    return _Key(*(getattr(mean, name) for name in _Key._fields))
