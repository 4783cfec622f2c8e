"""From the cases of a chunk to the rows that are run: what is read by teacher forcing, what by generation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from instructedit.editors import CaseError, Context, EditCase, Encoder, Probe, Row
from instructedit.editors.scripts import Joint

from ..results.records import GenerationSpec


@dataclass(slots=True)
class Rows:
    """Rows of all cases of a chunk, those of one case next to each other, each once.

    Attributes:
        rows: The rows.
        owners: For each row the number of its case, which is also the number of its edit.
    """

    rows: list[Row] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    _index: dict[tuple[int, Row], int] = field(default_factory=dict)

    def add(self, owner: int, row: Row) -> int:
        """Return the index of a case's row, adding it if it is new."""
        index = self._index.setdefault((owner, row), len(self.rows))
        if index == len(self.rows):
            self.rows.append(row)
            self.owners.append(owner)
        return index


@dataclass(slots=True)
class ProbeRows:
    """Where the readings of one probe stand.

    Attributes:
        forced: Rows that teach the accepted replies (the first, or all of an attitude probe), by the reply's number.
        opposed: Rows of the replies of the opposite sentiment, by the reply's number.
        generated: Row of the prompt that is continued, or None.
    """

    forced: dict[int, int] = field(default_factory=dict)
    opposed: dict[int, int] = field(default_factory=dict)
    generated: int | None = None


@dataclass(slots=True)
class Plan:
    """Everything that is run for the cases of a chunk, the same for every editor without contexts.

    Attributes:
        cases: The cases; number i owns edit i.
        forced: Teacher-forced rows.
        prompts: Prompts that are continued greedily.
        free: Edit prompts that are continued by sampling.
        texts: For each case the index of its edit prompt in `free`, or None.
        probes: For each case its probes' rows.
        unscored: For each case the readings that cannot be had, counted by reason.
        remarks: For each case what has to be known of readings that can be had, counted by sentence.
        kept: Indices of forced rows whose log-probabilities are kept for the divergence from the base model.
    """

    cases: Sequence[EditCase]
    forced: Rows = field(default_factory=Rows)
    prompts: Rows = field(default_factory=Rows)
    free: Rows = field(default_factory=Rows)
    texts: list[int | None] = field(default_factory=list)
    probes: list[list[ProbeRows]] = field(default_factory=list)
    unscored: list[Counter[str]] = field(default_factory=list)
    remarks: list[Counter[str]] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)


def make_plan(
    model: Encoder,
    cases: Sequence[EditCase],
    generation: GenerationSpec,
    fluency: bool,
    contexts: Sequence[Context | None] = (),
) -> Plan:
    """Encode all probes of a chunk's cases. What does not fit the model is counted, never cut.

    Args:
        model: The model.
        cases: The cases.
        generation: How answers and texts are generated.
        fluency: Whether texts are sampled.
        contexts: For each case what its edit puts in front of the questions; empty for the bare questions.
    """
    plan = Plan(cases)
    for owner, (case, context) in enumerate(zip(cases, contexts or [None] * len(cases), strict=True)):
        found = _Case(model, plan, owner, context, generation)
        plan.probes.append([found.probe(probe) for probe in case.probes])
        plan.texts.append(found.text(case.request.prompt) if fluency else None)
        plan.unscored.append(found.unscored)
        plan.remarks.append(found.remarks)
    return plan


@dataclass(slots=True)
class _Case:
    """Encodes the questions of one case into a plan, and counts what does not fit."""

    model: Encoder
    plan: Plan
    owner: int
    context: Context | None
    generation: GenerationSpec
    unscored: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)

    def probe(self, probe: Probe) -> ProbeRows:
        found = ProbeRows()
        prompt = self._front(probe.role) + probe.prompt
        if probe.opposed:
            found.forced = self._replies(probe.role, "sentiment", prompt, probe.answers, probe.joint)
            found.opposed = self._replies(probe.role, "sentiment", prompt, probe.opposed, probe.joint)
            return found
        found.forced = self._replies(probe.role, probe.role, prompt, probe.answers[:1], probe.joint)
        limit = self.generation.max_new_tokens
        if probe.role == "locality":
            self.plan.kept.update(found.forced.values())
        if limit == 0:
            return found
        if probe.role != "locality" and not any(self._fits(probe, answer) for answer in probe.answers):
            self.unscored[f"{probe.role}: every accepted answer is longer than {limit} new tokens"] += 1
            return found
        found.generated = self._continued(probe.role, self.plan.prompts, prompt, limit)
        return found

    def text(self, prompt: str) -> int | None:
        """Add the prompt that is continued freely."""
        return self._continued(
            "fluency", self.plan.free, self._front("fluency") + prompt, self.generation.fluency_tokens
        )

    def _front(self, role: str) -> str:
        return self.context.front(role) if self.context else ""

    def _replies(
        self, role: str, name: str, prompt: str, replies: Sequence[str], joint: Joint | None
    ) -> dict[int, int]:
        found = {}
        for number, reply in enumerate(replies):
            try:
                row = self.model.encode(prompt, reply, joint)
                found[number] = self.plan.forced.add(self.owner, row)
                if row.spanning:
                    self.remarks[f"{name}: a token spans prompt and answer"] += 1
            except CaseError:
                what = "prompt and reply" if name == "sentiment" else "prompt and answer"
                front = "the edit's text, " if self._front(role) else ""
                self.unscored[f"{name}: {front}{what} are longer than the model's context"] += 1
        return found

    def _continued(self, role: str, rows: Rows, prompt: str, room: int) -> int | None:
        try:
            return rows.add(self.owner, self.model.encode_prompt(prompt, room=room))
        except CaseError:
            behind = " behind the edit's text and the prompt" if self._front(role) else ""
            self.unscored[f"{role}: the model's context has no room for {room} new tokens{behind}"] += 1
            return None

    def _fits(self, probe: Probe, answer: str) -> bool:
        """Tell whether an answer could be generated within the limit of new tokens."""
        try:
            return len(self.model.encode(probe.prompt, answer, probe.joint).scored) <= self.generation.max_new_tokens
        except CaseError:
            return False
