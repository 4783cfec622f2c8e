"""Trials: how well a trained editor edits under a description.

All candidates are tried on the same cases. For each chunk of cases the probes are run through the unedited model once,
the edits of all candidates are made in one packed batch, and each candidate's edits are replayed from the first edited
layer. Which probes carry the description is the editor's option `instruct`, as in a run.
"""

from collections.abc import Callable, Mapping, Sequence

from instructedit.editors import EditCase, EditRequest, LanguageModel
from instructedit.editors.instructedit import InstructEdit

from ..results.loop_results import MEASURES, Trial
from ..results.records import CaseRecord, GenerationSpec
from ..results.summary import case_values
from ..scoring.scoring import Made, edit_each, score_chunk

READ = ("edit_success", "teacher_forced_exact")
"""Protocols in order of preference: attitudes are read by edit success, facts by exact match."""
TOGETHER = 80
"""Edits in one batch, of all candidates together."""
FORCED = GenerationSpec(max_new_tokens=0)
FAILED = {"reliability": 0.0, "score": 0.0}
"""Values of a case that could not be edited: a description must not gain by the cases that it breaks."""


def try_all(
    model: LanguageModel,
    editor: InstructEdit,
    texts: Sequence[str],
    cases: Sequence[EditCase],
    instructed: Callable[[EditRequest, str], EditRequest],
    *,
    seed: int,
    chunk: int,
    together: int = TOGETHER,
) -> tuple[Trial, ...]:
    """Return a trial of each description on the same cases, `chunk` of them in one pass, `together` edits in one batch.

    `instructed` returns a request with a description.
    """
    values: dict[str, dict[str, dict[str, float]]] = {text: {} for text in texts}
    failed = dict.fromkeys(texts, 0)
    probes = dict.fromkeys(texts, editor.instructed_probes)
    for first in range(0, len(cases), chunk):
        part = cases[first : first + chunk]
        made: dict[str, Made] = {}
        size = max(1, together // len(part))
        for start in range(0, len(texts), size):
            group = texts[start : start + size]
            made |= _edits(
                model, editor, {text: [instructed(case.request, text) for case in part] for text in group}, seed
            )
        records, _ = score_chunk(model, part, made, probes=probes, run="", seed=seed, generation=FORCED, fluency=False)
        for record in records:
            failed[record.editor] += record.status != "done"
            if found := _values(record) if record.status == "done" else FAILED:
                values[record.editor][record.case_id] = found
    return tuple(Trial(text=text, cases=values[text], failed=failed[text]) for text in texts)


def _edits(
    model: LanguageModel, editor: InstructEdit, requests: Mapping[str, Sequence[EditRequest]], seed: int
) -> dict[str, Made]:
    edits, failures = edit_each(model, [request for own in requests.values() for request in own], editor, seed)
    made, first = {}, 0
    for text, own in requests.items():
        places = range(first, first + len(own))
        lost = {place - first: failures[place] for place in places if place in failures}
        made[text] = Made(own, edits.select(list(places)), lost, 0.0)
        first += len(own)
    return made


def _values(record: CaseRecord) -> dict[str, float]:
    """Return the measures of a case, given and derived prompts in one mean, and their mean as `score`."""
    columns = [(column, value) for column, value in case_values(record) if column.subset is None]
    found = {}
    for measure in MEASURES:
        by_protocol = ([v for column, v in columns if (column.measure, column.protocol) == (measure, p)] for p in READ)
        if values := next(filter(None, by_protocol), None):
            found[measure] = sum(values) / len(values)
    return found | {"score": sum(found.values()) / len(found)} if found else {}
