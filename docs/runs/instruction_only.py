"""A control for InstructEdit asked behind its instruction: the unedited embedded model, asked the same way.

It says what the text in front does by itself. Run it with the package installed: python docs/runs/instruction_only.py
"""

import sys

from instructedit.benchmark.config import EMBEDDED_MODEL
from instructedit.benchmark.instructions import instruct, read_bank
from instructedit.benchmark.results import GenerationSpec
from instructedit.benchmark.scoring import Made, score_chunk
from instructedit.benchmark.selection import choose
from instructedit.benchmark.statistics import mean_interval
from instructedit.benchmark.summary import case_values
from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sources import open_source
from instructedit.editors import Context, Edits, LanguageModel
from instructedit.editors.instructedit import TOLD

LIMIT, CHUNK = 200, 20

model, bank, source = LanguageModel.load(str(EMBEDDED_MODEL)), read_bank(), open_source(None)
for task in ("recent", "counterfact", "zsre", "convsent"):
    cases = choose(TASKS.get(task)().load(source).cases, LIMIT)
    values: dict[tuple[str, str], list[float]] = {}
    for first in range(0, len(cases), CHUNK):
        part = cases[first : first + CHUNK]
        requests = [instruct(bank, case.request, "seen", 0) for case in part]
        fronts = [Context(f"{request.instruction}\nInput: ", TOLD["edit and queries"]) for request in requests]
        made = Made(requests, Edits(tuple(() for _ in part), contexts=tuple(fronts)), {}, 0.0)
        forced = GenerationSpec(max_new_tokens=0)
        records, _ = score_chunk(model, part, {"it": made}, run="", seed=0, generation=forced, fluency=False)
        for record in records:
            for column, value in case_values(record):
                if column.subset is None and column.protocol in ("teacher_forced_exact", "edit_success"):
                    values.setdefault((column.measure, column.protocol), []).append(value)
    for (measure, protocol), found in sorted(values.items()):
        mean = mean_interval(found, f"{task}|{measure}|{protocol}")
        sys.stdout.write(
            f"{task:12} {measure:15} {protocol:21} {100 * mean.mean:5.1f} "
            f"[{100 * (mean.low or 0.0):.1f}, {100 * (mean.high or 0.0):.1f}] n={mean.n}\n"
        )
