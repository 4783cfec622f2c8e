"""What is edited and what is asked afterwards.

An editor sees an `EditRequest` and nothing else; the questions put to the edited model are `Probe`s. Keeping the two
apart in the types is what makes "no test probe reached the editor" something a test can prove.
"""

from dataclasses import dataclass
from typing import Literal

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
    """

    role: Role
    subset: str
    prompt: str
    answers: tuple[str, ...]
    derived: bool = False
    opposed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EditCase:
    """An edit request together with the probes that judge it."""

    request: EditRequest
    probes: tuple[Probe, ...]
