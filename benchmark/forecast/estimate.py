"""What editing, scoring and training of a run come to, from its options and a sample of its cases."""

import math
from collections.abc import Sequence

from instructedit.editors import Context, Cost, EditRequest, Sketch, TrainingConfig
from instructedit.editors.cost import FLOAT
from instructedit.editors.models.loading import DTYPES

from ..run.trainings import Training
from ..run.unserved import unserved
from ..setup.resolve import Outline, probe_context, requests_of
from ..setup.sampling import choose
from ..setup.settings import RowSpec
from . import memory
from .machine import Machine, Work, forward, scoring, within
from .memory import Need
from .workload import SAMPLE, EditLoad, ScoreLoad, TrainingLoad, edit_load, mean_load, score_load

MOVED = 16
"""Times that a step of training reads or writes each number of a network: gradient, its norm, Adam."""


class Estimate:
    """A run's loads, and what they come to.

    Attributes:
        weights: Memory of the model's weights.
        edits: Edits that are made together.
    """

    def __init__(self, found: Outline, sketch: Sketch, machine: Machine) -> None:
        self.found, self.config, self.sketch, self.machine = found, found.config, sketch, machine
        self.itemsize = DTYPES[self.config.dtype].itemsize
        self.weights = sketch.parameters * self.itemsize
        self.counts = {task: len(cases) for task, cases in found.cases.items()}
        self.samples = {task: choose(cases, SAMPLE) for task, cases in found.cases.items()}
        self.chunk = min(self.config.chunk, max(self.counts.values(), default=1))
        self.joint = 1
        if self.config.schedule == "batch":
            edited = sum(self.counts[task] for task in found.edited)
            self.joint = min(self.config.batch_size or edited, edited)
        self._loads: dict[tuple[str, tuple[Context | None, ...]], ScoreLoad] = {}
        self.edits = self.chunk if self.config.schedule == "single" else 1
        self.passes, self.pack = memory.Pass.of(sketch, self.itemsize), machine.pack_tokens

    def cost(self, row: RowSpec) -> Cost:
        """Return what one edit of a row takes; nothing if its editor cannot edit the model."""
        editor = self.found.editors[row.name]
        return Cost() if unserved(editor, self.sketch) else editor.cost(self.sketch, self.joint)

    def _asked(self, row: RowSpec, task: str) -> list[EditRequest]:
        return requests_of(row.instruction, self.found.bank, self.samples[task], self.config.seed)

    def _edit_load(self, row: RowSpec) -> tuple[float, EditLoad]:
        """Return how many requests are edited in, and the mean of one."""
        tasks = self.found.edited or row.tasks
        editor = self.found.editors[row.name]
        loads = [(self.counts[task], edit_load(self.sketch, editor, self._asked(row, task))) for task in tasks]
        return sum(count for count, _ in loads), mean_load(loads, EditLoad)

    def _score_load(self, task: str, contexts: Sequence[Context | None] = ()) -> ScoreLoad:
        key = task, tuple(contexts)
        if key not in self._loads:
            config = self.config
            self._loads[key] = score_load(self.sketch, self.samples[task], contexts, config.generation, config.fluency)
        return self._loads[key]

    def editing(self, row: RowSpec, cost: Cost) -> Work:
        """Return the work of a row's edits: all that are made together in one pass, or one request after the other."""
        count, load = self._edit_load(row)
        piece = min(count, self.edits * cost.together)
        own = Work(flops=count * (cost.token_flops * load.tokens + cost.edit_flops))
        moved = Work(moved=cost.moved_bytes * count / self.joint)
        if not piece:
            return Work()
        if cost.late:  # behind the first pass, the answers alone
            answers = EditLoad(load.scored, load.scored) * piece
            passed = forward(self.sketch, self.machine, load * piece, 1, 1)
            passed += forward(self.sketch, self.machine, answers, cost.passes - 1, cost.head_passes - 1)
        else:
            passed = forward(self.sketch, self.machine, load * piece, cost.passes, cost.head_passes)
        return passed * (count / piece) + own + moved

    def edit_memory(self, row: RowSpec, cost: Cost) -> Need:
        """Return the memory of the edits that are made together."""
        _, load = self._edit_load(row)
        if cost.first_block is None:
            return Need()
        asked = self.edits * cost.together
        most = max(1.0, max(cost.room, 2 * self.pack) / load.tokens) if cost.room else math.inf
        count = min(asked, most)
        held = load * count
        if cost.late:  # steps run the answers only
            held = EditLoad(held.scored, held.scored)
        share, pack = self.sketch.share(cost.first_block), within(load * count, self.pack)
        tokens = load.tokens * count
        own = cost.edit_bytes * self.edits + cost.edit_token_bytes * tokens
        base = self._base([cost]).token * load.tokens * min(self.edits * cost.remembered, most)
        passing = Need(own, base) + memory.passing(self.passes, held, share, pack)
        finished = Need((asked - count) * (cost.patch_bytes + cost.token_bytes * load.tokens))
        return finished + max(passing, Need(cost.network_token_bytes * tokens), key=lambda need: need.total)

    def _base(self, costs: Sequence[Cost]) -> memory.Base:
        """Return what a base pass keeps for replays under some editors."""
        return memory.Base.of(self.sketch, [cost.cut for cost in costs], self.itemsize)

    def patch_memory(self, row: RowSpec, cost: Cost) -> float:
        """Return the memory of the finished edits that are held together."""
        _, load = self._edit_load(row)
        grown = cost.token_bytes * load.tokens * self.joint
        if self.joint > 1:  # a sum of changes that would take more room than the matrices becomes dense
            grown = min(grown, FLOAT * sum(site.d_in * site.d_out for site in cost.sites))
        return self.edits * (cost.patch_bytes + grown)

    def _chunks(self, task: str) -> list[tuple[int, float]]:
        """Return how cases are scored: so many together, so many times."""
        count = self.counts[task]
        chunked = [(min(self.chunk, count), count / min(self.chunk, count))] if count else []
        if self.config.schedule != "sequential" or task not in self.found.edited:
            return chunked
        # right after each edit, at each checkpoint, and at the end
        rounds = 1 + sum(min(1.0, at / self.joint_edits) for at in self.config.at)
        return [(1, float(count)), *((cases, times * rounds) for cases, times in chunked)]

    @property
    def joint_edits(self) -> int:
        """Edits of a stream."""
        return max(sum(self.counts[task] for task in self.found.edited), 1)

    def _reading(self, task: str, load: ScoreLoad, share: float, late: bool = False) -> Work:
        generation = self.config.generation
        new = (generation.max_new_tokens, generation.fluency_tokens)
        return sum(
            (
                scoring(self.sketch, self.machine, load, cases, new, share, self.itemsize, late) * times
                for cases, times in self._chunks(task)
            ),
            Work(),
        )

    def scored(self, row: RowSpec, cost: Cost) -> Work:
        """Return the work of scoring a row; one that neither edits nor puts a text in front costs nothing more."""
        total = Work()
        for task in row.tasks:
            editor, probes = self.found.editors[row.name], self.found.probes[row.name]
            contexts = [probe_context(editor, request, probes) for request in self._asked(row, task)]
            if cost.first_block is not None or any(contexts):
                share = 1.0 if any(contexts) or cost.first_block is None else self.sketch.share(cost.first_block)
                total += self._reading(task, self._score_load(task, contexts), share, cost.late and not any(contexts))
        return total

    def unedited(self) -> Work:
        """Return the work of reading the unedited model, once for all rows."""
        return sum((self._reading(task, self._score_load(task), 1.0) for task in self.counts), Work())

    def reading_memory(self, costs: Sequence[Cost]) -> Need:
        """Return the memory of scoring a chunk under some editors, of the task that takes most."""
        late = max(
            (self.sketch.share(c.first_block) for c in costs if c.late and c.first_block is not None), default=0.0
        )
        generation = self.config.generation
        new = (generation.max_new_tokens, generation.fluency_tokens)
        needs = [
            memory.reading(
                self.passes,
                load := self._score_load(task),
                self.chunk,
                self._base(costs),
                late,
                new,
                within(EditLoad(load.tokens, load.scored) * self.chunk, self.pack),
                self.itemsize,
            )
            for task in self.counts
        ]
        return max(needs, key=lambda need: need.total, default=Need())

    def training(self, cost: Cost, training: Training, load: TrainingLoad) -> Work:
        """Return the work of a training: no step is saved by stopping early."""
        config: TrainingConfig = training.editor.config.training
        together = training.editor.at_once
        judged = load.outer * together
        share = 0.0 if cost.first_block is None else self.sketch.share(cost.first_block)
        network = together * (cost.token_flops * load.edit.tokens + cost.edit_flops)
        capture = forward(self.sketch, self.machine, load.edit * together, 1 + share, 2)
        passed = capture + forward(self.sketch, self.machine, judged, 1 + 2 * share, 3)
        weights = FLOAT * cost.parameters
        parts = config.batch * config.together * config.accumulate / together
        step = (passed + Work(flops=3 * network, moved=2 * weights + 3 * together * cost.moved_bytes)) * parts + Work(
            moved=MOVED * weights
        )
        validated = capture + forward(self.sketch, self.machine, judged, 1 + share, 2) + Work(flops=network)
        cases = min(config.validation_cases, len(training.cases.validation))
        return step * config.steps + validated * (config.steps / config.validate_every * cases / together)

    def training_memory(self, cost: Cost, training: Training, load: TrainingLoad) -> Need:
        """Return the memory of a training: texts go through pack by pack, behind them what the network kept."""
        together = training.editor.at_once
        judged = within(load.outer * together, self.pack)
        share = 0.0 if cost.first_block is None else self.sketch.share(cost.first_block)
        steps = together * (cost.edit_bytes + cost.step_token_bytes * load.edit.tokens)
        base = self._base([cost]).token * load.outer.tokens * together
        passing = memory.passing(self.passes, judged, share, judged)
        return Need(cost.training_bytes + cost.network_bytes + steps, base) + passing
