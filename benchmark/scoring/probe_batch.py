"""The token sequences of a chunk's probes: teacher-forced answers, and prompts that are continued."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, get_args

from instructedit.editors import CaseError, Context, EditCase, Encoder, Probe, ReservedTokenError, TokenSequence

from ..results.records import GenerationSpec
from .old_answer import SAME, asked, old_of, scored_old
from .references import EMPTY, lacks_answer

Kind = Literal["forced", "prompts", "free"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Sequences that are teacher-forced, continued greedily, and continued by sampling."""


@dataclass(slots=True)
class Sequences:
    """Token sequences of a chunk's cases, and for each the index of its case and so of its edit.

    Batches share those of the first, the bare questions, and no others: so what shares a pass with a batch's sequences
    does not depend on which other batches there are.
    """

    rows: list[TokenSequence] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    _index: dict[tuple[int, TokenSequence], int] = field(default_factory=dict)
    _first: dict[tuple[int, TokenSequence], int] | None = None

    def begin_batch(self) -> None:
        """Begin with the sequences of another batch."""
        self._first = self._index if self._first is None else self._first
        self._index = dict(self._first)

    def add(self, owner: int, row: TokenSequence) -> int:
        """Return the index of a case's sequence, adding it if it is new."""
        index = self._index.setdefault((owner, row), len(self.rows))
        if index == len(self.rows):
            self.rows.append(row)
            self.owners.append(owner)
        return index


@dataclass(slots=True)
class ProbeSequences:
    """Indices of the sequences of one probe: teacher-forced replies, the old answer, and the prompt that is continued.

    `forced` has the accepted replies (the first, or all of a sentiment probe) and `opposed` those of the opposite
    sentiment, both by the reply's index.
    """

    forced: dict[int, int] = field(default_factory=dict)
    opposed: dict[int, int] = field(default_factory=dict)
    old: int | None = None
    generated: int | None = None

    @property
    def teacher_forced(self) -> list[int]:
        """All teacher-forced sequences."""
        return [*self.forced.values(), *self.opposed.values(), *([] if self.old is None else [self.old])]


@dataclass(slots=True)
class ProbeBatch:
    """The probes of a chunk with one prompt prefix for each case, or with none; case i is scored under edit i.

    The sequences of a chunk, teacher-forced, continued greedily (`prompts`) or by sampling (`free`), are shared by its
    batches: a probe without a prefix is the same sequence in all of them. For each case there are the index of its edit
    prompt in `free`, the sequences of its `probes`, scores that cannot be computed, counted by reason, and remarks on
    scores. `kept` has the forced sequences whose distributions are kept for the KL divergence.
    """

    cases: Sequence[EditCase]
    forced: Sequences = field(default_factory=Sequences)
    prompts: Sequences = field(default_factory=Sequences)
    free: Sequences = field(default_factory=Sequences)
    texts: list[int | None] = field(default_factory=list)
    probes: list[list[ProbeSequences]] = field(default_factory=list)
    unscored: list[Counter[str]] = field(default_factory=list)
    remarks: list[Counter[str]] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)

    def references(self) -> set[int]:
        """Return the teacher-forced sequences whose predictions before an edit are part of a score."""
        probes = (probe for case in self.cases for probe in case.probes)
        pairs = list(zip(probes, chain.from_iterable(self.probes), strict=True))
        compared = {row for probe, own in pairs if compares(probe) for row in own.forced.values()}
        return compared | {own.old for _, own in pairs if own.old is not None}

    def sequences(self, kind: Kind) -> Sequences:
        """Return the chunk's sequences of a kind."""
        return {"forced": self.forced, "prompts": self.prompts, "free": self.free}[kind]

    def rows(self, kind: Kind) -> list[int]:
        """Return the indices of this batch's sequences of a kind, case by case."""
        probes = [probe for own in self.probes for probe in own]
        rows = {
            "forced": [row for probe in probes for row in probe.teacher_forced],
            "prompts": [probe.generated for probe in probes if probe.generated is not None],
            "free": [row for row in self.texts if row is not None],
        }[kind]
        owners = self.sequences(kind).owners
        return sorted(set(rows), key=lambda row: (owners[row], row))


def make_probe_batch(
    model: Encoder,
    cases: Sequence[EditCase],
    generation: GenerationSpec,
    fluency: bool,
    contexts: Sequence[Context | None] = (),
    bare: ProbeBatch | None = None,
) -> ProbeBatch:
    """Encode all probes of a chunk's cases. What exceeds the model's context is counted, never truncated.

    `contexts` has for each case the prompt prefix of its edit, and is empty for the bare questions, whose batch is
    `bare`.
    """
    batch = ProbeBatch(cases, bare.forced, bare.prompts, bare.free) if bare else ProbeBatch(cases)
    for kind in KINDS if bare else ():
        batch.sequences(kind).begin_batch()
    for owner, (case, context) in enumerate(zip(cases, contexts or [None] * len(cases), strict=True)):
        encoder = _CaseEncoder(model, batch, owner, context, generation)
        batch.probes.append([encoder.probe(probe) for probe in case.probes])
        encoder.old(case)
        batch.texts.append(encoder.text(case.request.prompt) if fluency else None)
        batch.unscored.append(encoder.unscored)
        batch.remarks.append(encoder.remarks)
    return batch


def compares(probe: Probe) -> bool:
    """Return whether a score of a probe compares the accepted replies with the unedited model's prediction."""
    return probe.role == "locality" or bool(probe.opposed)


@dataclass(slots=True)
class _CaseEncoder:
    """Encodes the probes of one case into a batch, and counts what does not fit."""

    model: Encoder
    batch: ProbeBatch
    owner: int
    context: Context | None
    generation: GenerationSpec
    unscored: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)

    def probe(self, probe: Probe) -> ProbeSequences:
        if probe.opposed:
            return ProbeSequences(self._forced(probe, probe.answers), self._forced(probe, probe.opposed))
        found = ProbeSequences(self._forced(probe, probe.answers[:1]))
        limit = self.generation.max_new_tokens
        if lacks_answer(probe):
            self.unscored[EMPTY] += 1
        if probe.role == "locality":
            self.batch.kept.update(found.forced.values())
        if limit == 0:
            return found
        if probe.role != "locality" and not any(self._fits(probe, answer) for answer in probe.answers):
            self.unscored[f"{probe.role}: every accepted answer is longer than {limit} new tokens"] += 1
        else:
            found.generated = self._continued(self.batch.prompts, probe.role, probe.prompt, limit)
        return found

    def old(self, case: EditCase) -> None:
        """Add the old answer behind each probe that asks for the edit's target."""
        old = scored_old(case)
        if old is None:
            if old_of(case) is not None:
                self.unscored[SAME] += 1
            return
        wanted = asked(case)
        for probe, found in zip(case.probes, self.batch.probes[self.owner], strict=True):
            if probe in wanted:
                found.old = self._forced(probe, [old], "old answer").get(0)

    def text(self, prompt: str) -> int | None:
        """Add the prompt of the fluency text."""
        return self._continued(self.batch.free, "fluency", prompt, self.generation.fluency_tokens)

    def _prefix(self, role: str) -> str:
        return self.context.prompt_prefix(role) if self.context else ""

    def _forced(self, probe: Probe, replies: Sequence[str], name: str = "") -> dict[int, int]:
        """Add the teacher-forced replies that fit the model's context; return their sequences by the reply's index."""
        prefix, found = self._prefix(probe.role), {}
        kind, reply_word = ("sentiment", "reply") if probe.opposed else (probe.role, "answer")
        name = name or kind
        for number, reply in enumerate(replies):
            try:
                row = self.model.encode(prefix + probe.prompt, reply, probe.joint)
            except ReservedTokenError:
                self.unscored[f"{name}: prompt or {reply_word} spell a special token of the chat template"] += 1
                continue
            except CaseError:
                whole = ("the edit's text, " if prefix else "") + f"prompt and {reply_word}"
                self.unscored[f"{name}: {whole} are longer than the model's context"] += 1
                continue
            found[number] = self.batch.forced.add(self.owner, row)
            if row.spanning:
                self.remarks[f"{name}: a token spans prompt and answer"] += 1
        return found

    def _continued(self, sequences: Sequences, role: str, prompt: str, room: int) -> int | None:
        prefix = self._prefix(role)
        try:
            return sequences.add(self.owner, self.model.encode_prompt(prefix + prompt, room=room))
        except ReservedTokenError:
            self.unscored[f"{role}: the prompt spells a special token of the chat template"] += 1
            return None
        except CaseError:
            behind = " after the edit's text and the prompt" if prefix else ""
            self.unscored[f"{role}: the model's context has no room for {room} new tokens{behind}"] += 1
            return None

    def _fits(self, probe: Probe, answer: str) -> bool:
        """Return whether an answer can be generated within the limit of new tokens."""
        try:
            return len(self.model.encode(probe.prompt, answer, probe.joint).scored) <= self.generation.max_new_tokens
        except CaseError:
            return False
