"""Trials: how well a trained editor edits under a description.

All candidates are tried on the same cases. For each chunk of cases the questions are run through the unedited model
once, the edits of all candidates are made in one packed pass, and each candidate's are replayed from the first patched
block. Which probes carry the description besides the edit is the editor's option `instruct`, as in a run.
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
"""Edits that are made in one pass, of all candidates together."""
FORCED = GenerationSpec(max_new_tokens=0)
FAILED = {"reliability": 0.0, "score": 0.0}
"""What a case comes to that could not be edited: a description does not get better by the cases that it breaks."""


def try_all(
    model: LanguageModel,
    editors: Mapping[str, InstructEdit],
    cases: Sequence[EditCase],
    told: Callable[[EditRequest, str], EditRequest],
    *,
    seed: int,
    chunk: int,
) -> tuple[Trial, ...]:
    """Try descriptions on cases.

    Args:
        model: The base model.
        editors: By description the editor that is tried under it; mostly the same for all.
        cases: What is edited.
        told: Gives a request a description.
        seed: Seed of the edits.
        chunk: Cases in one pass.

    Returns:
        A trial for each description, in their order.
    """
    found: dict[str, dict[str, dict[str, float]]] = {text: {} for text in editors}
    failed = dict.fromkeys(editors, 0)
    for first in range(0, len(cases), chunk):
        part = cases[first : first + chunk]
        made = _made(model, editors, part, told, seed)
        probes = {text: editor.instructed_probes for text, editor in editors.items()}
        records, _ = score_chunk(model, part, made, probes=probes, run="", seed=seed, generation=FORCED, fluency=False)
        for record in records:
            if record.status == "done":
                if values := _values(record):
                    found[record.editor][record.case_id] = values
            else:
                found[record.editor][record.case_id] = FAILED
                failed[record.editor] += 1
    return tuple(Trial(text=text, cases=found[text], failed=failed[text]) for text in editors)


def _made(
    model: LanguageModel,
    editors: Mapping[str, InstructEdit],
    cases: Sequence[EditCase],
    told: Callable[[EditRequest, str], EditRequest],
    seed: int,
) -> dict[str, Made]:
    """Make the edits of all descriptions, those of one editor in common passes."""
    made: dict[str, Made] = {}
    group = max(1, TOGETHER // len(cases))
    by_editor: dict[int, list[str]] = {}
    for text, editor in editors.items():
        by_editor.setdefault(id(editor), []).append(text)
    for texts in by_editor.values():
        for first in range(0, len(texts), group):
            some = texts[first : first + group]
            requests = [told(case.request, text) for text in some for case in cases]
            edits, failures = edit_each(model, requests, editors[some[0]], seed)
            for number, text in enumerate(some):
                own = range(number * len(cases), (number + 1) * len(cases))
                lost = {place - own.start: failures[place] for place in own if place in failures}
                made[text] = Made([requests[place] for place in own], edits.select(list(own)), lost, 0.0)
    return {text: made[text] for text in editors}


def _values(record: CaseRecord) -> dict[str, float]:
    """Return the measures of a case, given and derived prompts in one mean, and their mean as `score`."""
    by_measure: dict[str, dict[str, list[float]]] = {}
    for column, value in case_values(record):
        if column.subset is None and column.measure in MEASURES and column.protocol in READ:
            by_measure.setdefault(column.measure, {}).setdefault(column.protocol, []).append(value)
    found = {}
    for measure in MEASURES:
        protocols = by_measure.get(measure, {})
        if protocol := next((name for name in READ if name in protocols), None):
            found[measure] = sum(protocols[protocol]) / len(protocols[protocol])
    return found | {"score": sum(found.values()) / len(found)} if found else {}
