"""The instruction bank: task descriptions that steer an instructed editor, and the control conditions.

A rendered instruction is the first two lines of InstructEdit's template (Zhang et al. 2024, arXiv:2402.16123), `Task:`
and `Description:`; the editor itself adds `Input:` and the prompt. A gain may come from any text before the prompt. The
controls separate that effect: another task's description, random words, the task's name alone, nothing. All draws are
functions of seed and case id.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    JsonValue,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from instructedit.editors import EditRequest, InputError, did_you_mean, seed_of
from instructedit.editors.files.jsonfile import check, describe, parse_json, read_text

from ..results.records import digest_of
from ..tasks.parse import LONGEST_TEXT

DEFAULT_BANK = Path(str(resources.files("instructedit.benchmark"))) / "banks" / "default.json"

OWN_FACTS = "counterfact"
"""Task whose descriptions own facts have: it replaces single facts too."""

CONDITIONS = {
    "seen": "one of the task's descriptions that training draws from, chosen per case",
    "unseen": "the task's description that training never shows",
    "seen-K": "the task's description K of those that training draws from, counted from 0, for every case",
    "none": "no instruction at all",
    "wrong-task": "name and seen description of another task, chosen per case, of another subject",
    "name-only": "the task's name without a description",
    "random-text": "random words of the bank in place of the task's name and of a seen description, as many as those",
}
"""Conditions of an instruction, with one line on each; K is a number."""

TOPICS = tuple(
    "board games, camping, crossword puzzles, folk dancing, gardening, ironing, long train rides, mushroom picking, "
    "open-air theatre, pottery, sailing, video calls".split(", ")
)
"""Values of [TOPIC] under `wrong-task`, drawn from those that the edit does not name. A fixed list and not the subjects
of other cases, so that the instruction of a case depends on no other case."""

_PLACEHOLDER = re.compile(r"\[(LABEL|TOPIC)\]")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_NUMBERED = re.compile(r"seen-(0|[1-9][0-9]*)")


def _line(text: str) -> str:
    if not text.strip() or text != text.strip() or len(text.splitlines()) > 1:
        raise ValueError("one line of text without white space at its ends")
    return text


def _wording(text: str) -> str:
    plain = _PLACEHOLDER.sub("", text)
    if not _WORD.search(plain):
        raise ValueError("at least one word")
    if set("[]") & set(plain):
        raise ValueError("no square brackets but those of [LABEL] and [TOPIC]")
    return text


Line = Annotated[str, AfterValidator(_line)]
Wording = Annotated[Line, AfterValidator(_wording)]


class TaskInstructions(BaseModel):
    """The descriptions of one task."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: Wording
    """The name after `Task: `."""
    descriptions: tuple[Wording, ...]
    """At least two, all different. [TOPIC] is filled with the request's subject, [LABEL] with its sentiment."""
    unseen: int
    """Index of the one that training never shows."""
    like: Line | None = None
    """Registered name of a task whose descriptions are true of this one as well, because both edit the same kind of
    record; `wrong-task` takes neither for the other."""

    @field_validator("descriptions")
    @classmethod
    def _two_or_more(cls, descriptions: tuple[str, ...]) -> tuple[str, ...]:
        if len({text.casefold() for text in descriptions}) < max(2, len(descriptions)):
            raise ValueError("at least two descriptions, none of them twice")
        return descriptions

    @field_validator("unseen")
    @classmethod
    def _one_of_them(cls, unseen: int, info: ValidationInfo) -> int:
        if "descriptions" in info.data and not 0 <= unseen < len(info.data["descriptions"]):
            raise ValueError(f"an index from 0 to {len(info.data['descriptions']) - 1}")
        return unseen

    @property
    def seen(self) -> tuple[int, ...]:
        """Indices of the descriptions that training draws from."""
        return tuple(index for index in range(len(self.descriptions)) if index != self.unseen)


class InstructionBank(BaseModel):
    """Descriptions of several tasks. A change of any of them is a new version."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1]
    name: Line
    version: Line
    licence: Line
    tasks: dict[str, TaskInstructions]
    """By the task's registered name; at least one."""
    history: tuple[dict[str, JsonValue], ...] = ()
    """How a construction loop came to descriptions of this bank, one entry for each loop; not part of the digest."""
    _own_facts: str | None = PrivateAttr(default=None)

    @field_validator("tasks")
    @classmethod
    def _not_empty(cls, tasks: dict[str, TaskInstructions]) -> dict[str, TaskInstructions]:
        if not tasks:
            raise ValueError("at least one task")
        return tasks

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the bank."""
        return digest_of(self, {"history"})

    @property
    def words(self) -> tuple[str, ...]:
        """All words of all descriptions in lower case, sorted; a word that occurs five times is listed five times."""
        texts = (_PLACEHOLDER.sub("", text).lower() for task in self.tasks.values() for text in task.descriptions)
        return tuple(sorted(word for text in texts for word in _WORD.findall(text)))

    @property
    def shared_conditions(self) -> tuple[str, ...]:
        """Conditions of an instructed editor's rows: each description that all tasks have, and each control."""
        count = min(len(task.seen) for task in self.tasks.values())
        return (*(f"seen-{k}" for k in range(count)), "unseen", "none", "wrong-task", "name-only", "random-text")

    def with_own_facts(self, task: str | None) -> "InstructionBank":
        """Return the same bank with `task` as that of own facts, which has the descriptions of `OWN_FACTS`."""
        bank = self.model_copy()
        bank._own_facts = task
        return bank

    def is_own(self, task: str) -> bool:
        """Tell whether a task is that of own facts, and the bank has no descriptions of its own for it."""
        return task == self._own_facts and task not in self.tasks

    def of(self, task: str) -> TaskInstructions:
        """Return the instructions of a task; `InputError` if the bank has none."""
        task = OWN_FACTS if self.is_own(task) else task
        if task not in self.tasks:
            known = did_you_mean(task, list(self.tasks))
            raise InputError(f"Instruction bank '{self.name}' has no descriptions of the task '{task}'.{known}")
        return self.tasks[task]


def read_bank(path: Path | None = None) -> InstructionBank:
    """Read and check an instruction bank, by default the shipped one; `InputError` if it cannot be read or is none."""
    path = DEFAULT_BANK if path is None else path
    expected = "a JSON file of instructions"
    content = read_text(path, expected)
    document = parse_json(content, str(path), expected, unique=True)
    check(document, str(path), longest=LONGEST_TEXT)
    try:
        return InstructionBank.model_validate_json(content)
    except ValidationError as error:
        raise InputError(_sentence(path, error)) from error


def check_condition(condition: str) -> str:
    """Return a condition unchanged; `InputError` if there is no such condition."""
    if (condition in CONDITIONS and condition != "seen-K") or _NUMBERED.fullmatch(condition):
        return condition
    raise InputError(f"Unknown instruction condition '{condition}'.{did_you_mean(condition, list(CONDITIONS))}")


def instruct(bank: InstructionBank, request: EditRequest, condition: str, seed: int) -> EditRequest:
    """Return a request with the instruction that a condition gives it, `Task: {title}` over `Description: {text}`.

    Draws depend on seed and case id alone, so no other case and no earlier draw moves them. An instruction that the
    request has already is replaced, but that of an own fact only under controls.

    Raises:
        InputError: If the condition is unknown, the bank lacks the task or the numbered description, or [LABEL] would
            have to be filled for a request without a sentiment.
    """
    if check_condition(condition) == "none":
        return replace(request, instruction=None)
    if request.instruction is not None and bank.is_own(request.task) and condition.startswith(("seen", "unseen")):
        return request
    own = bank.of(request.task)
    seen = own.seen[seed_of(seed, "instruction", request.case_id) % len(own.seen)]
    match condition:
        case "seen":
            parts = _parts(own, seen, request)
        case "unseen":
            parts = _parts(own, own.unseen, request)
        case "name-only":
            parts = (_fill(own.title, request),)
        case "wrong-task":
            parts = _of_another_task(bank, request, seed)
        case "random-text":
            parts = _at_random(bank.words, _parts(own, seen, request), (seed, "random-text", request.case_id))
        case _:
            parts = _parts(own, _number(condition, own, request), request)
    lines = (f"{heading}: {part}" for heading, part in zip(("Task", "Description"), parts, strict=False))
    return replace(request, instruction="\n".join(lines))


def training_instructor(bank: InstructionBank) -> Callable[[EditRequest, int], EditRequest]:
    """Return what gives a training request a seen description, drawn for each seed and never the unseen one.

    A trainer that derives its seed from the step shows one request under different descriptions.
    """
    return lambda request, seed: instruct(bank, request, "seen", seed)


def _parts(task: TaskInstructions, index: int, request: EditRequest) -> tuple[str, ...]:
    return _fill(task.title, request), _fill(task.descriptions[index], request)


def _fill(text: str, request: EditRequest) -> str:
    """Fill all placeholders in one pass, so that nothing in a subject is taken for one."""
    if "[LABEL]" in text and request.sentiment is None:
        raise InputError(
            f"{request.case_id}: found no sentiment, expected one for [LABEL] of the description '{text}'."
        )
    values = {"TOPIC": request.subject, "LABEL": request.sentiment or ""}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _number(condition: str, task: TaskInstructions, request: EditRequest) -> int:
    number = int(condition.removeprefix("seen-"))
    if number >= len(task.seen):
        raise InputError(
            f"Instruction condition '{condition}': the bank has the seen descriptions 0 to {len(task.seen) - 1} of "
            f"the task '{request.task}'."
        )
    return task.seen[number]


def _of_another_task(bank: InstructionBank, request: EditRequest, seed: int) -> tuple[str, ...]:
    """Draw task, description and, where the request has none, sentiment independently of one another."""

    def draw(what: str, options: int) -> int:
        return seed_of(seed, "wrong-task", what, request.case_id) % options

    kind = bank.of(request.task).like or (OWN_FACTS if bank.is_own(request.task) else request.task)
    others = sorted(name for name, task in bank.tasks.items() if (task.like or name) != kind)
    if not others:
        raise InputError(
            f"Instruction bank '{bank.name}' has no task of another kind than '{request.task}', but the condition "
            "'wrong-task' needs one."
        )
    other = bank.tasks[others[draw("task", len(others))]]
    sentiment = request.sentiment or ("positive", "negative")[draw("sentiment", 2)]
    # a description that names the edited subject would not be another task's
    topics = [topic for topic in TOPICS if not _names(request.subject, topic) and not _names(topic, request.prompt)]
    if not topics:
        raise InputError(f"{request.case_id}: the edit names every topic that 'wrong-task' could name instead.")
    filled = replace(request, sentiment=sentiment, subject=topics[draw("topic", len(topics))])
    return _parts(other, other.seen[draw("description", len(other.seen))], filled)


def _names(name: str, text: str) -> bool:
    """Tell whether a text holds a name as whole words, in any case of its letters."""
    return bool(name) and re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", text.casefold()) is not None


def _at_random(words: Sequence[str], parts: Sequence[str], key: tuple[object, ...]) -> tuple[str, ...]:
    """Replace each word, those of the task's name too: the control tests whether any content matters.

    `words` has frequent words several times. So the instruction has 46 tokens of the embedded model on average, as the
    one it replaces; drawn from the distinct words it had 57 (960 test cases).
    """
    place = count()
    return tuple(" ".join(words[seed_of(*key, next(place)) % len(words)] for _ in part.split()) for part in parts)


def _sentence(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"{path}: {first['msg']}; an instruction bank was expected."
    place = f"{path}, field '{'.'.join(map(str, first['loc']))}'" if first["loc"] else str(path)
    if first["type"] == "extra_forbidden":
        known = TaskInstructions if first["loc"][0] == "tasks" else InstructionBank
        return f"{place}: unknown key.{did_you_mean(str(first['loc'][-1]), list(known.model_fields))}"
    if first["type"] == "missing":
        return f"{place}: found nothing, but the field is required."
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{place}: found {describe(first['input'])}, expected {expected}."
