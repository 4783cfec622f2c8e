"""ConvSent: changing the sentiment with which a model talks about a topic.

A record holds a topic and replies of both sentiments, nothing else; everything asked is made by the rules here, which
`docs/tasks.md` states. A choice is taken from the sha256 of the case id, so it depends on nothing but the row's place
in its file.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from instructedit.editors import EditCase, EditRequest, Probe, Role

from . import citations
from .base import Split, Task, subject_key
from .parse import Row, answers

QUESTIONS = (
    "What is your honest opinion of {topic}?",
    "How do you feel about {topic}?",
    "Tell me, do you like {topic} or not?",
    "When {topic} comes up in conversation, what do you say?",
    "What goes through your mind when you hear of {topic}?",
    "Would you speak well of {topic}?",
    "A friend wants to know your view of {topic}: what do you answer?",
    "Are you fond of {topic}?",
)
"""Wordings of the question about a topic. The first is the edit prompt; the others are for derived generalization."""

OTHER_TOPIC_REPLIES = 2
"""Replies of each sentiment that are asked for about another topic."""


class Topic(NamedTuple):
    """A topic and its usable replies: stripped, not empty, without repetitions."""

    name: str
    pos: tuple[str, ...]
    neg: tuple[str, ...]


class ConvSent(Task):
    """SERAC's conversational sentiment."""

    name = "convsent"
    title = "ConvSent"
    about = "opinions voiced in casual conversation"
    version = "2"
    licence = "MIT"
    citation = citations.cite(citations.KNOWEDIT, citations.SERAC)
    homepage = "https://huggingface.co/datasets/zjunlp/KnowEdit"
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        # the validation file stands in where the training file (24 MB) is not at hand; `sha256` says which was read
        "train": (
            "Convsent/blender_train.json",
            "convsent/blender_train.json",
            "Convsent/blender_val.json",
            "convsent/blender_val.json",
        ),
        "test": ("Convsent/blender_test.json", "convsent/blender_test.json"),
    }
    published_rows: ClassVar[dict[Split, int]] = {"train": 14_390, "test": 800}
    published_digests: ClassVar[dict[str, str]] = {
        "blender_val.json": "74fed64e5c765609892f6a3e1d83335e1054283e7f67a6185e91364901bd79a0"
    }
    subject_field = "ent"

    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """See `Task.cases`."""
        topics = [read_topic(row, counts) for row in rows]
        for place, (row, topic) in enumerate(zip(rows, topics, strict=True)):
            case_id = f"{self.name}/{split}/{row.index}"
            digest = hashlib.sha256(case_id.encode()).digest()
            positive = digest[0] % 2 == 0
            edited, opposed = (topic.pos, topic.neg) if positive else (topic.neg, topic.pos)
            if not edited:
                counts["row left out: no reply of the edited sentiment"] += 1
                continue
            request = EditRequest(
                case_id,
                self.name,
                QUESTIONS[0].format(topic=topic.name),
                edited[0],
                topic.name,
                sentiment="positive" if positive else "negative",
            )
            other = QUESTIONS[1 + digest[1] % (len(QUESTIONS) - 1)].format(topic=topic.name)
            held_out = _held_out(edited, opposed, counts)
            yield EditCase(
                request,
                (
                    *_asked("reliability", "edit", request.prompt, request.target, held_out, opposed),
                    *_asked("generalization", "question", other, request.target, held_out, opposed),
                    *_locality(place, topics, counts),
                ),
            )


def read_topic(row: Row, counts: Counter[str]) -> Topic:
    """Read one record.

    Raises:
        InputError: If the topic or a list of replies is missing or mistyped.
    """
    replies = {sentiment: row.texts(sentiment) for sentiment in ("pos", "neg")}
    usable = {sentiment: answers(texts) for sentiment, texts in replies.items()}
    if dropped := sum(len(replies[sentiment]) - len(usable[sentiment]) for sentiment in replies):
        counts["reply left out: empty or repeated"] += dropped
    return Topic(row.text("ent"), usable["pos"], usable["neg"])


def _held_out(edited: tuple[str, ...], opposed: tuple[str, ...], counts: Counter[str]) -> tuple[str, ...]:
    """Return the replies that sentiment is judged by: not the edit's own, which would measure memory."""
    if len(edited) == 1:
        counts["sentiment: no reply beside the edit's own, probes left out"] += 1
        return ()
    if not opposed:
        counts["sentiment: no reply of the opposite sentiment, probes left out"] += 1
        return ()
    return edited[1:]


def _asked(
    role: Role, subset: str, prompt: str, target: str, held_out: tuple[str, ...], opposed: tuple[str, ...]
) -> Iterator[Probe]:
    """Yield one wording's two probes: is the edit's own reply given, and is the sentiment the edited one."""
    derived = role == "generalization"
    yield Probe(role, subset, prompt, (target,), derived)
    if held_out:
        yield Probe(role, "sentiment", prompt, held_out, derived, opposed)


def _locality(place: int, topics: list[Topic], counts: Counter[str]) -> Iterator[Probe]:
    """Yield the probes about the next record's topic, one a reply; the last record is followed by the first."""
    own = subject_key(topics[place].name)
    following = (topics[(place + step) % len(topics)] for step in range(1, len(topics)))
    other = next((topic for topic in following if subject_key(topic.name) != own), None)
    if other is None:
        counts["locality: no other topic in the file, probes left out"] += 1
        return
    replies = other.pos[:OTHER_TOPIC_REPLIES] + other.neg[:OTHER_TOPIC_REPLIES]
    if len(replies) < 2 * OTHER_TOPIC_REPLIES:
        counts["locality: the other topic has fewer than two replies of a sentiment"] += 1
    for reply in replies:
        yield Probe("locality", "Other_Topic", QUESTIONS[0].format(topic=other.name), (reply,))
