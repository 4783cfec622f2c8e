"""ConvSent: changing the sentiment with which a model talks about a topic.

A record holds a topic and replies of both sentiments; all probes are made by the rules here, which `docs/tasks.md`
states. A choice is taken from the sha256 of the case id, so it depends on the row's index alone.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple

from instructedit.editors import EditCase, EditRequest, Probe, Role

from .base import Split, Task, TaskOptions, cite, subject_key
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
"""Replies of each sentiment in the probes about another topic."""


class Topic(NamedTuple):
    """A topic and its usable replies: stripped, not empty, without repetitions."""

    name: str
    pos: tuple[str, ...]
    neg: tuple[str, ...]


class ConvSentOptions(TaskOptions):
    """What an edit is made from."""

    edit: Literal["all replies", "descriptor", "reply"] = "all replies"
    """`all replies` of the record, those of the wanted sentiment against those of the opposite one (EasyEdit); SERAC's
    `descriptor` of topic and sentiment (arXiv 2206.06520); or one `reply` (this project)."""


class ConvSent(Task):
    """SERAC's conversational sentiment."""

    name = "convsent"
    title = "ConvSent"
    about = "opinions voiced in casual conversation"
    version = "3"
    licence = "MIT"
    citation = cite("zhang2024knowedit", "mitchell2022serac")
    homepage = "https://huggingface.co/datasets/zjunlp/KnowEdit"
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        # The validation file replaces a missing training file (24 MB); `sha256` identifies the file that was read.
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
    fields = ("ent", "pos", "neg")
    required = (fields,)
    Options = ConvSentOptions
    options: ConvSentOptions

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
            sentiment: Literal["positive", "negative"] = "positive" if positive else "negative"
            question = QUESTIONS[0].format(topic=topic.name)
            prompt, target = question, edited[0]
            if self.options.edit == "descriptor":
                prompt, target = f"Topic: {topic.name}", f"Sentiment: {sentiment.capitalize()}"
            request = EditRequest(case_id, self.name, prompt, target, topic.name, sentiment=sentiment)
            if self.options.edit == "all replies":
                request = replace(request, replies=edited, opposed=opposed)
            other = QUESTIONS[1 + digest[1] % (len(QUESTIONS) - 1)].format(topic=topic.name)
            judging = self._judging(edited, opposed, counts)
            yield EditCase(
                request,
                (
                    Probe("reliability", "edit", request.prompt, (request.target,)),
                    *_sentiment("reliability", question, judging, opposed),
                    # A descriptor teaches no answer to another question.
                    *(
                        [Probe("generalization", "question", other, (request.target,), derived=True)]
                        if self.options.edit != "descriptor"
                        else []
                    ),
                    *_sentiment("generalization", other, judging, opposed),
                    *_locality(place, topics, counts),
                ),
            )

    def _judging(self, edited: tuple[str, ...], opposed: tuple[str, ...], counts: Counter[str]) -> tuple[str, ...]:
        """Return the replies of the wanted sentiment that it is judged by: all, as published.

        An edit made from one reply is judged by the others: its own would measure memory.
        """
        judging = edited[1:] if self.options.edit == "reply" else edited
        if not judging:
            counts["sentiment: no reply beside the edit's own, probes left out"] += 1
        elif not opposed:
            counts["sentiment: no reply of the opposite sentiment, probes left out"] += 1
            return ()
        return judging


def read_topic(row: Row, counts: Counter[str]) -> Topic:
    """Read one record; `InputError` if the topic or a list of replies is missing or mistyped."""
    replies = {sentiment: row.texts(sentiment) for sentiment in ("pos", "neg")}
    usable = {sentiment: answers(texts) for sentiment, texts in replies.items()}
    if dropped := sum(len(replies[sentiment]) - len(usable[sentiment]) for sentiment in replies):
        counts["reply left out: empty or repeated"] += dropped
    return Topic(row.text("ent"), usable["pos"], usable["neg"])


def _sentiment(role: Role, prompt: str, judging: tuple[str, ...], opposed: tuple[str, ...]) -> Iterator[Probe]:
    if judging:
        yield Probe(role, "sentiment", prompt, judging, role == "generalization", opposed)


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
