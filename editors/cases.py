"""What is edited and what is asked afterwards.

An editor sees an `EditRequest` and nothing else; the questions put to the edited model are `Probe`s. Keeping the two
apart in the types is what makes "no test probe reached the editor" something a test can prove.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .scripts import JOINT_RULE, Joint, join

Role = Literal["reliability", "generalization", "portability", "locality"]

InstructedProbes = Literal["none", "all but locality", "all"]
"""Which probes of an edited model carry the instruction as a prefix; the free text counts as a probe."""


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One change to be made: after the edit the model should answer `prompt` with `target`.

    Attributes:
        case_id: Unique within a benchmark, `task/split/row`, e.g. `counterfact/test/17`.
        task: Registered name of the task the request comes from.
        prompt: Text in front of the answer, without trailing white space.
        target: The new answer, without leading white space.
        subject: The entity the fact is about; occurs in `prompt` unless the data set says otherwise.
        instruction: Task description for editors that are steered by one.
        sentiment: What an attitude edit asks for; None for facts.
        replies: For an attitude edit made from all replies: those of the wanted sentiment, `target` first. Empty if
            `target` is the only answer.
        opposed: Replies of the opposite sentiment, which such an edit makes unlikely.
        old: The answer before the edit, where the data set names it; None elsewhere.
        joint: What the data put between prompt and answer; None: the text decides (`scripts.joint_of`).
    """

    case_id: str
    task: str
    prompt: str
    target: str
    subject: str
    instruction: str | None = None
    sentiment: Literal["positive", "negative"] | None = None
    replies: tuple[str, ...] = ()
    opposed: tuple[str, ...] = ()
    old: str | None = None
    joint: Joint | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One question put to the model after the edit.

    Attributes:
        role: What the answer is evidence of.
        subset: Name of the kind of question within the role, e.g. `Reasoning`; means are taken within a subset first.
        prompt: The question.
        answers: Accepted answers. The first is the canonical one, which teacher forcing reads; free generation accepts
            any of them. For locality they are what the data set expects; the score is agreement with the unedited
            model.
        derived: Whether our stated rule made the prompt (see `instructedit.benchmark.tasks.rephrase`) because the data
            set gives none. Derived and given probes are never averaged.
        opposed: For attitudes only: replies of the opposite sentiment, in which case `answers` holds replies of the
            edited sentiment and the probe is scored by SERAC's edit success instead of by matching.
        joint: As of the request.
    """

    role: Role
    subset: str
    prompt: str
    answers: tuple[str, ...]
    derived: bool = False
    opposed: tuple[str, ...] = ()
    joint: Joint | None = None


@dataclass(frozen=True, slots=True)
class EditCase:
    """An edit request together with the probes that judge it."""

    request: EditRequest
    probes: tuple[Probe, ...]

    def texts(self) -> Iterator[tuple[str, str, Joint | None]]:
        """Yield every prompt with every answer to it, and what the data put between them."""
        own = self.request
        for answer in (own.target, *own.replies, *own.opposed):
            yield own.prompt, answer, own.joint
        for probe in self.probes:
            for answer in (*probe.answers, *probe.opposed):
                yield probe.prompt, answer, probe.joint

    def content(self) -> dict[str, Any]:
        """Return the fields as plain values, for digests: without a joint that the data do not set."""
        fields = asdict(self)
        for part in (fields["request"], *fields["probes"]):
            if part["joint"] is None:
                del part["joint"]
        return fields


def joint_rule(cases: Iterable[EditCase]) -> str | None:
    """Return the name of the rule that joins the texts of some cases; None if each is joined by one space.

    Joining by a space is what every version did, so a digest without the name is that of an older version.
    """
    texts = (text for case in cases for text in case.texts())
    return JOINT_RULE if any(join(*text) != join(*text[:2], " ") for text in texts) else None
