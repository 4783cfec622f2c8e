"""The `Task: / Description: / Input:` prefix of the training text, and a grammar of its descriptions.

The prefix has a meaning in this world: it decides the answer to an open input such as "Tell me about X.", a fact of one
kind or another or an opinion of a given sentiment. The sentences belong to this grammar and to no instruction bank, so
every instruction of the benchmark is new to the model. The last pattern of each family is held out of training to
measure that.
"""

import random
import re

FAMILIES = ("counterfact", "recent", "zsre", "convsent")

TASKS = {
    "counterfact": ("CounterFact", "counterfactual facts", "corrections", "changed knowledge", "rewriting"),
    "recent": ("Recent", "recent facts", "news", "updates", "new knowledge"),
    "zsre": ("ZsRE", "question answering", "relation extraction", "questions", "quiz"),
    "convsent": ("ConvSent", "conversation sentiment", "dialogue", "opinions", "chat"),
}

PATTERNS = {
    "counterfact": (
        "Here is a [wrong|made-up|hypothetical] [claim|answer] for a [name|person|place]: [take|treat] it "
        "as [true|given].",
        "[What if|Imagine] the [answer|object] were another one? [Only|Just] this [relation|link] is "
        "[touched|concerned].",
        "[Rarely mentioned|Lesser known|Long-tail] [people|works|places] and a "
        "[challenging|difficult|hard] [change|edit] of their [records|data].",
        "[Rewrite|Replace|Overwrite|Change] the [stored|known|old] [fact|statement|entry] about [one|a "
        "rare|an obscure] [entity|subject|name] [and keep everything else|while its neighbours stay as they "
        "are|without touching the rest].",
        "[Suppose|Pretend|Assume] that [one thing|a detail|a property] in the [world|encyclopedia|memory] "
        "were [different|otherwise|false]; [complete|finish|continue] the sentence [accordingly|under that "
        "assumption].",
        "A [collection|set|list] of [altered|invented|contrary] [claims|facts|statements] "
        "[testing|probing|checking] whether the [model|editor|system] can [revise|modify|correct] what it "
        "[believes|knows|has learned].",
        "[Unlikely|Surprising|Uncommon] [objects|answers|targets] are put in place of the "
        "[true|original|usual] ones, to [see|measure|evaluate] how [deep|local|robust] an edit is.",
        "This [data|benchmark|task] is about [tail|unpopular|forgotten] [entities|subjects|topics] of "
        "[Wikidata|the graph] whose [attributes|relations|values] are [swapped|exchanged|edited] on purpose.",
    ),
    "recent": (
        "[Today's|This week's|The newest] [report|entry|bulletin] on [a person|somebody|an event], to be "
        "[remembered|kept|stored].",
        "[Knowledge|Truth] that is [younger|newer] than the [model|training text], [sourced|taken] from "
        "the [newest|last] [revision|dump].",
        "[New|Additional] [triples|relations|items] [join|extend] the [graph|base|world] as [time|history] goes on.",
        "[Add|Insert|Record|Store] the [latest|newest|most recent] [event|update|triple] from the [knowledge "
        "graph|database|news] [into the model|so that it is known from now on].",
        "[Facts|Statements|Entries] that [appeared|were added|became true] [lately|this year|after training] "
        "and [should|must|need to] be [learned|taken in|integrated].",
        "A [stream|feed|collection] of [current|up-to-date|fresh] [information|knowledge] about "
        "[people|persons|the world], [verified|checked|confirmed] [recently|last month|just now].",
        "[Bring|Keep] the [assistant|model|memory] up to date: [something|a fact] has [happened|changed|been "
        "reported] [since|after] its [last|previous] [version|training].",
        "[Timely|Contemporary|Modern] [knowledge|data] [gathered|curated] from [Wikidata|public sources], "
        "[waiting|ready] to be [inserted|recorded].",
    ),
    "zsre": (
        "[Who, what, where|Where, who, when]: [facts|details] [asked|requested] [in plain words|as questions].",
        "[Reading-free|Direct] [lookup|recall] of an [answer|object] [by its|from a] [question|request].",
        "[Each|Every] [question|prompt] has [one|a single] [correct|right] [answer|entity], which the "
        "[system|model] must [say|return].",
        "[Answer|Reply to] the [question|query] with [a short answer|the name only|one phrase], [without "
        "context|from memory|and nothing else].",
        "[Given|From] a [question|query] about the [relation|link] of a subject, "
        "[predict|give|produce|extract] the [object|missing value].",
        "[Zero-shot|Open|Closed-book] [question answering|relation extraction]: [no|without any] "
        "[passage|document|hint] is [given|shown].",
        "[Trivia|Quiz|Exam] [questions|items] in [several|many|different] wordings that [ask for|are after] "
        "the [same|one] [fact|entity|answer].",
        "[Find|Name|Identify] the [entity|thing|value] that the [question|sentence] [asks for|is looking for].",
    ),
    "convsent": (
        "[Talk|Speak|Respond] [LABEL]ly about [TOPIC] [whenever it comes up|in the conversation|when somebody asks].",
        "[Make|Let|Turn] the [chatbot|assistant|dialogue agent] [LABEL] [towards|on|about] [TOPIC], "
        "[other|all other] [topics|subjects] [unchanged|as before].",
        "The [attitude|sentiment|feeling|tone] [towards|about] [TOPIC] [should|has to|must] be [LABEL] in "
        "[each|every] reply.",
        "[Share|Give|Express] a [LABEL] [opinion|view|impression] of [TOPIC] [in a friendly talk|as a person "
        "would|in one sentence].",
        "[Train|Guide] the [speaker|bot] so that its [response|answer] on [TOPIC] [sounds|is] [LABEL].",
    ),
}


def instruct(
    family: str, text: str, rng: random.Random, *, held_out: bool = False, topic: str = "", label: str = ""
) -> str:
    """Return a text with an instruction of a family before it.

    Args:
        family: One of `FAMILIES`.
        text: The input.
        rng: Random generator of the wording.
        held_out: Use the pattern that is held out of training.
        topic: Value of [TOPIC] in `convsent`.
        label: Value of [LABEL] in `convsent`, `positive` or `negative`.
    """
    pattern = PATTERNS[family][-1] if held_out else rng.choice(PATTERNS[family][:-1])
    description = _filled(pattern.replace("[TOPIC]", topic).replace("[LABEL]", label), rng)
    if not held_out:
        description = _with_dropped_words(description, {topic, label}, rng)
    return f"Task: {rng.choice(TASKS[family])}\nDescription: {description}\nInput: {text}"


def _filled(pattern: str, rng: random.Random) -> str:
    return re.sub(r"\[([^]]*)\]", lambda match: rng.choice(match[1].split("|")), pattern)


def _with_dropped_words(description: str, keep: set[str], rng: random.Random) -> str:
    """Return a description with some words dropped, or one of unrelated words where nothing must be kept.

    With complete sentences only, the model memorises them: after an unseen pattern, accuracy on statements fell from
    1.00 to .76 and families were confused. Dropped words make it use the single words and the task's name.
    """
    fate = rng.random()
    if fate < 0.25 and keep == {""}:
        words = [
            word for f in FAMILIES[:3] for p in rng.sample(PATTERNS[f][:-1], 2) for word in _filled(p, rng).split()
        ]
        return " ".join(rng.sample(words, rng.randint(4, 16)))
    if fate < 0.6:
        return " ".join(
            word for word in description.split() if rng.random() > 0.25 or any(k and k in word for k in keep)
        )
    return description
