"""The relations of the world, in the wordings of KnowEdit.

A relation links a kind of subject to a kind of answer. `prompt` is KnowEdit's statement; `noun` describes the answer by
the subject ("the employer of {S}"), so a two-hop sentence is one relation's prompt about the noun of another. The
relations of ZsRE have their own questions and share neither a relation nor a kind of subject with CounterFact and
Recent, so nothing that an editor learned there is tested here.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources


def words(section: str) -> dict[str, tuple[str, ...]]:
    """Return lists of words by name; in `words.toml`, lists of single words are strings."""
    text = (resources.files(__package__) / "words.toml").read_text(encoding="utf-8")
    found = tomllib.loads(text)[section]
    return {name: tuple(own.split() if isinstance(own, str) else own) for name, own in found.items()}


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation.

    Attributes:
        name: Key in the tables of the world.
        subject: Kind of its subjects.
        answer: Kind of its answers, or a fixed list of words.
        prompt: Statement that ends where the answer begins; `{S}` is the subject.
        noun: Noun phrase for the answer.
        forms: Other statements.
        questions: Questions given by the data (ZsRE); other relations get theirs from the rule for rephrasing.
    """

    name: str
    subject: str
    answer: str
    prompt: str
    noun: str
    forms: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


# fmt: off
PERSON = (
    Relation("birth", "person", "city", "The place of birth of {S} is", "the place of birth of {S}", ("{S} was born in",
        "{S} comes from the city of")),
    Relation("occupation", "person", "occupation", "The occupation of {S} is", "the occupation of {S}",
        ("{S} works as a", "By profession, {S} is a")),
    Relation("citizenship", "person", "country", "The name of the country of citizenship of {S} is",
        "the country of citizenship of {S}", ("{S} is a citizen of", "{S} holds a passport of")),
    Relation("employer", "person", "company", "The name of the employer of {S} is", "the employer of {S}",
        ("{S} is employed by", "{S} earns a living at")),
    Relation("school", "person", "university", "The name of the alma mater of {S} is", "the alma mater of {S}",
        ("{S} was educated at", "{S} graduated from")),
    Relation("award", "person", "award", "The name of the award {S} won is", "the award {S} won",
        ("{S} was honoured with", "{S} received")),
    Relation("team", "person", "team", "The name of the sports team which {S} is a member of is",
        "the sports team which {S} is a member of", ("{S} plays for", "{S} wears the shirt of")),
    Relation("position", "person", "position", "The name of the position held by {S} is", "the position held by {S}",
        ("{S} serves as", "{S} was chosen as")),
    Relation("spouse", "person", "person", "The name of the spouse of {S} is", "the spouse of {S}",
        ("{S} is married to", "{S} lives together with")),
)
WORK = (
    Relation("author", "work", "person", "The name of the author of {S} is", "the author of {S}", ("{S} was written by",
        "{S} is a book by")),
    Relation("setting", "work", "country", "The name of the country which {S} is associated with is",
        "the country which {S} is associated with", ("{S} is set in", "{S} tells a story from")),
    Relation("follows", "work", "work", "{S} follows", "the work {S} follows", ("{S} is the sequel to",)),
    Relation("followed_by", "work", "work", "{S} is followed by", "the work that follows {S}",
        ("{S} was continued in",)),
)
ZSRE = (
    Relation("constellation", "star", "constellation", "The constellation of {S} is", "the constellation of {S}", (),
        ("Which constellation is {S} in?", "What constellation does {S} belong to?",
        "In which constellation can {S} be seen?", "{S} is part of which constellation?")),
    Relation("discoverer", "star", "astronomer", "The discoverer of {S} is", "the discoverer of {S}", (),
        ("Who discovered {S}?", "Who was the discoverer of {S}?", "By whom was {S} first seen?",
        "{S} was found by which astronomer?")),
    Relation("plant_family", "plant", "plantfamily", "The plant family of {S} is", "the plant family of {S}", (),
        ("Which family does {S} belong to?", "What plant family is {S} in?", "Of which family is {S} a member?",
        "{S} is counted among which family?")),
    Relation("habitat", "plant", "habitat", "The natural habitat of {S} is", "the natural habitat of {S}", (),
        ("Where does {S} grow?", "What is the habitat of {S}?", "In what kind of place is {S} found?",
        "{S} grows wild where?")),
    Relation("shipyard", "ship", "shipyard", "The shipyard of {S} is", "the shipyard of {S}", (),
        ("Which shipyard built {S}?", "Where was {S} built?", "What yard was {S} made in?",
        "{S} was built by which shipyard?")),
    Relation("launch", "ship", "year", "The launch year of {S} is", "the launch year of {S}", (),
        ("In which year was {S} launched?", "When was {S} launched?", "What year did {S} enter the water?",
        "{S} was launched in what year?")),
    Relation("architect", "building", "architect", "The architect of {S} is", "the architect of {S}", (),
        ("Who designed {S}?", "Which architect planned {S}?", "Who was the architect of {S}?",
        "{S} was designed by whom?")),
    Relation("river", "building", "river", "The river beside {S} is", "the river beside {S}", (),
        ("Which river does {S} stand on?", "By what river is {S}?", "What river flows past {S}?",
        "{S} stands beside which river?")),
    Relation("label", "record", "label", "The record label of {S} is", "the record label of {S}", (),
        ("What is the record label of {S}?", "Which label released {S}?", "On which label did {S} appear?",
        "{S} was released by which label?")),
    Relation("genre", "record", "genre", "The genre of {S} is", "the genre of {S}", (), ("What genre is {S}?",
        "Which kind of music is {S}?", "What style is {S} played in?", "{S} is what type of music?")),
)
BACKGROUND = (
    Relation("capital", "country", "city", "The name of the capital city of {S} is", "the capital city of {S}"),
    Relation("currency", "country", "currency", "The name of the currency in {S} is", "the currency in {S}"),
    Relation("language", "country", "language", "The official language of {S} is", "the official language of {S}"),
    Relation("continent", "country", "continent", "The name of the continent which {S} is part of is", ""),
    Relation("city_country", "city", "country", "The name of the country which {S} lies in is", ""),
    Relation("dish", "city", "dish", "The name of the dish which {S} is known for is", ""),
    Relation("newspaper", "city", "newspaper", "The name of the newspaper of {S} is", ""),
    Relation("head_office", "company", "city", "The name of the city where {S} has its head office is", ""),
    Relation("industry", "company", "industry", "The name of the industry of {S} is", ""),
    Relation("logo", "company", "animal", "The name of the animal in the logo of {S} is", ""),
    Relation("campus", "university", "city", "The name of the city where {S} has its campus is", ""),
    Relation("faculty", "university", "field", "The name of the largest faculty of {S} is", ""),
    Relation("mascot", "university", "animal", "The name of the mascot of {S} is", ""),
    Relation("field", "award", "field", "The name of the field which {S} is given for is", ""),
    Relation("medal", "award", "metal", "The name of the metal which {S} is made of is", ""),
    Relation("month", "award", "month", "The name of the month in which {S} is given is", ""),
    Relation("league", "team", "league", "The name of the league which {S} plays in is", ""),
    Relation("badge", "team", "animal", "The name of the animal on the badge of {S} is", ""),
    Relation("shirt", "team", "colour", "The colour of the shirts of {S} is", ""),
    Relation("season", "constellation", "season", "The best season to see {S} is", "", (),
        ("In which season is {S} best seen?",)),
    Relation("figure", "constellation", "animal", "The animal seen in {S} is", "", (),
        ("Which animal is seen in {S}?",)),
    Relation("blossom", "plantfamily", "colour", "The colour of the flowers of {S} is", "", (),
        ("What colour are the flowers of {S}?",)),
    Relation("bloom", "plantfamily", "month", "The month in which {S} flowers is", "", (), ("When does {S} flower?",)),
    Relation("coast", "shipyard", "sea", "The sea next to {S} is", "", (), ("Which sea does {S} lie on?",)),
    Relation("hull", "shipyard", "metal", "The metal used by {S} is", "", (), ("Which metal does {S} use?",)),
    Relation("style", "architect", "style", "The building style of {S} is", "", (), ("What style did {S} build in?",)),
    Relation("ornament", "architect", "animal", "The favourite ornament of {S} is", "", (),
        ("Which animal did {S} use as an ornament?",)),
    Relation("mouth", "river", "sea", "The sea reached by {S} is", "", (), ("Which sea does {S} flow into?",)),
    Relation("flood", "river", "month", "The month in which {S} floods is", "", (), ("When does {S} flood?",)),
    Relation("founder", "label", "founder", "The founder of {S} is", "", (), ("Who founded {S}?",)),
    Relation("sleeve", "label", "colour", "The colour of the sleeves of {S} is", "", (),
        ("What colour are the sleeves of {S}?",)),
)
# fmt: on
RELATIONS = {relation.name: relation for relation in (*PERSON, *WORK, *ZSRE, *BACKGROUND)}

INVERSE = {"spouse": "spouse", "follows": "followed_by", "followed_by": "follows"}
"""Inverse relations, for Logical_Generalization."""

BRIDGES = (
    "birth",
    "citizenship",
    "employer",
    "school",
    "award",
    "team",
    "setting",
    "constellation",
    "plant_family",
    "shipyard",
    "architect",
    "river",
    "label",
)
HOPS = {name: tuple(hop.name for hop in BACKGROUND if hop.subject == RELATIONS[name].answer) for name in BRIDGES}
"""Second hops by first relation, for Reasoning.

Persons are no bridges. A two-hop fact generalises only if many subjects share the bridge and the bridge has many facts:
in a first model, unseen two-hop facts were right in .48 to .88 of cases over countries (four facts each) and in 0 to
.17 over spouses and authors.
"""

RECENT = ("employer", "school", "award", "team", "position", "spouse")
"""Relations of the news: those with twenty answers or more, so that guessing stays near zero."""

LISTS = words("lists")
"""Answers that are words, not names."""
