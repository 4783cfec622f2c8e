"""Whether edits took effect: facts of single edits aggregated over a row's cases, from `cases.jsonl` alone.

A row can have a number in every column and have edited nothing. The facts of its edits show it: the probability of the
target, the number of steps, the size of the change of the weights, and the cosine between edits of different cases.
"""

import statistics
from array import array
from collections import defaultdict
from collections.abc import Iterator

from .records import CaseRecord, Health, RunSpec

REACHED = 0.5
"""Least probability of a target that an edit has reached: from one half on no other token can be likelier, so that
greedy decoding gives a target of one token."""
MANY = 0.5
"""Share of a row's edits that must miss their target for a note; below it, the table's own numbers show it."""
BOUND = 0.5
"""Share of the changed weights at their bound from which on the bound, and not the loss, decides where most of them
end."""
LARGE = 0.3
"""|dW| / |W| above which a change is said to be large: on the embedded world's facts FT-L has 0.13, FT-M 0.05 and MEND
0.03, which edit single facts well; KE, with its factor of 100, has 0.34 to 0.66 (decision 9)."""
ALIKE = 0.5
"""Mean cosine between edits of different cases above which they are said to point the same way: then the part that they
share is longer than what is each edit's own. Raw gradients of unrelated cases have 0.00, FT-M's edits too."""
NAMED = 20
"""Maximum number of cases named as not reached, so that a summary of 20,000 cases stays small."""
MEDIANS = ("final_loss", "target_probability", "steps", "delta_norm", "relative_norm", "cosine", "at_bound")
"""Facts of single edits whose median over a row's cases is kept."""


class _Row:
    def __init__(self) -> None:
        self.edits = 0
        self.failed = 0
        self.values: dict[str, array[float]] = {name: array("d") for name in (*MEDIANS, "converged")}
        self.missed: list[str] = []
        self.reliability: dict[tuple[str, str], int] = {}

    def take(self, record: CaseRecord) -> None:
        if record.status != "done":
            self.failed += record.status == "failed"
            return
        self.edits += 1
        for name, values in self.values.items():
            if name in record.edit:
                values.append(record.edit[name])
        if record.edit.get("target_probability", 1.0) < REACHED:
            self.missed.append(record.case_id)
        own = [(s.subset, s.derived, s.protocol, s.probe, s.value) for s in record.scores if s.measure == "reliability"]
        # Only equality of the scores is needed, so their hash is kept.
        self.reliability[record.run, record.case_id] = hash(tuple(own))

    def summed(self, editor: str, task: str, stage: str, unedited: "_Row | None") -> Health:
        medians = {name: statistics.median(self.values[name]) for name in MEDIANS if self.values[name]}
        plain = {} if unedited is None else unedited.reliability
        same = [plain[case] == own for case, own in self.reliability.items() if case in plain]
        return Health(
            editor=editor,
            task=task,
            stage=stage,
            edits=self.edits,
            failed=self.failed,
            asked=len(self.values["target_probability"]),
            missed=len(self.missed),
            missed_cases=tuple(sorted(set(self.missed))[:NAMED]),
            optimised=len(self.values["converged"]),
            converged=int(sum(self.values["converged"])),
            unchanged=all(same) if same else None,
            medians=medians,
        )


class HealthTally:
    """Gathers the facts of edits from lines in any order, of one run or of several that differ in the seed.

    Cases that a schedule scores without editing them are left out.
    """

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._rows: dict[tuple[str, str, str], _Row] = defaultdict(_Row)

    def take(self, record: CaseRecord) -> None:
        """Count one line."""
        if self._spec.edited is None or record.task in self._spec.edited:
            self._rows[record.editor, record.task, record.stage].take(record)

    def summed(self) -> Iterator[Health]:
        """Yield the facts of each row that edits, in the order of rows, tasks and stages."""
        spec = self._spec
        stages = sorted({stage for _, _, stage in self._rows})
        for row in spec.editors:
            for task in spec.tasks if row.method != "none" else ():
                none = next((e.name for e in spec.editors if e.method == "none" and e.evaluates(task)), None)
                for stage in stages:
                    if found := self._rows.get((row.name, task, stage)):
                        plain = None if none is None else self._rows.get((none, task, stage))
                        yield found.summed(row.name, task, stage, plain)
