"""Trials: how well a trained editor edits under a description.

All candidates are tried on the same cases, as the rows of one run: they share the passes of the unedited model. Which
probes carry the description is the editor's option `instruct`, as in a run.
"""

from collections.abc import Callable, Sequence

from instructedit.editors import EditCase, EditRequest, LanguageModel
from instructedit.editors.instructedit import InstructEdit

from ..results.loop_results import MEASURES, Trial
from ..results.records import CaseRecord, GenerationSpec
from ..results.summary import case_values
from ..scoring.scoring import run_chunk

READ = ("edit_success", "teacher_forced_exact")
"""Protocols in order of preference: attitudes are read by edit success, facts by exact match."""
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
) -> tuple[Trial, ...]:
    """Return a trial of each description on the same cases, `chunk` of them in one pass.

    `instructed` returns a request with a description.
    """
    values: dict[str, dict[str, dict[str, float]]] = {text: {} for text in texts}
    failed = dict.fromkeys(texts, 0)
    rows = dict.fromkeys(texts, editor)
    for first in range(0, len(cases), chunk):
        part = cases[first : first + chunk]
        requests = {text: [instructed(case.request, text) for case in part] for text in texts}
        records, _ = run_chunk(
            model, part, rows, requests=requests, run="", seed=seed, generation=FORCED, fluency=False
        )
        for record in records:
            failed[record.editor] += record.status != "done"
            if found := _values(record) if record.status == "done" else FAILED:
                values[record.editor][record.case_id] = found
    return tuple(Trial(text=text, cases=values[text], failed=failed[text]) for text in texts)


def _values(record: CaseRecord) -> dict[str, float]:
    """Return the measures of a case, given and derived prompts in one mean, and their mean as `score`."""
    columns = [(column, value) for column, value in case_values(record) if column.subset is None]
    found = {}
    for measure in MEASURES:
        by_protocol = ([v for column, v in columns if (column.measure, column.protocol) == (measure, p)] for p in READ)
        if values := next(filter(None, by_protocol), None):
            found[measure] = sum(values) / len(values)
    return found | {"score": sum(found.values()) / len(found)} if found else {}
