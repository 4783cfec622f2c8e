"""What a description has to keep, rule by rule."""

import pytest

from instructedit.benchmark.instructions.proposer import ALIKE, FAR, Rules, revealing, similarity

ANSWERS = ["Paris", "New York", "tea", "1815", "cup of tea", "fact"]
KEPT = "Edit one fact and leave all other facts as they are."
FACTS = Rules((), revealing(ANSWERS, ["fact", "of", "the"]), (KEPT,))
VIEWS = Rules(("[TOPIC]", "[LABEL]"), frozenset(), ())
GOOD = "Give the sentence below the ending that the edit asks for."


@pytest.mark.parametrize(
    ("rules", "text", "complaint"),
    [
        (FACTS, GOOD, None),
        (FACTS, "Edit this fact now please", "it has 5 words, expected 6 to 40"),
        (FACTS, "word " * 40 + "word", "it has 41 words, expected 6 to 40"),
        (FACTS, f" {GOOD}", "it is not one line of text"),
        (FACTS, "Give the sentence\nbelow another ending than it had.", "it is not one line of text"),
        (FACTS, "Say that the birthplace is New York from now on.", "it holds the answer 'New York' of the data"),
        (FACTS, "Say that the year of birth is 1815 now.", "it holds the answer '1815' of the data"),
        (FACTS, "Drink some Tea and edit one fact of the model.", "it holds the answer 'tea' of the data"),
        (FACTS, "Say what the fact of the matter is from now on.", None),
        (FACTS, "Speak of new york and paris as if they had moved.", None),
        (FACTS, "Write about [TOPIC] as the edit asks you to do.", "it holds [TOPIC], which nothing fills"),
        (
            FACTS,
            "Edit one fact and leave all other facts as they were.",
            "it is too similar to the description that is held out",
        ),
        (VIEWS, "Speak of [TOPIC] in a way that is [LABEL] throughout.", None),
        (VIEWS, "Speak of [TOPIC] in a friendly way from now on.", "it lacks the placeholder [LABEL]"),
        (VIEWS, "Speak of [TOPIC] in a [LABEL] and [MOOD] way now.", "it holds [MOOD], which nothing fills"),
        (VIEWS, "Speak of [TOPIC] in a [LABEL] way, not a [ one.", "it holds [, which nothing fills"),
    ],
)
def test_each_rule(rules, text, complaint):
    found = rules.complaint(text)
    assert found is None if complaint is None else found and found.startswith(complaint)


def test_a_candidate_is_held_against_those_before_it():
    other = GOOD.replace("asks for", "wants").replace("ending", "close")
    assert similarity(GOOD, other) < ALIKE
    assert FACTS.complaint(other, [GOOD]) is None
    near = GOOD.replace("sentence", "text")
    assert FACTS.complaint(near, ["Something else entirely stands here for once.", GOOD]) == f"it is almost '{GOOD}'"


def test_what_is_kept_unseen_is_further_away_than_other_candidates():
    kept = "One two three four five six seven eight nine ten."
    near = "One two three four five six a b c d."
    assert similarity(kept, near) == FAR < ALIKE
    assert Rules((), frozenset(), (kept,)).complaint(near) and not Rules((), frozenset(), ()).complaint(near, [kept])


def test_likeness_is_twice_the_common_words_over_all_words():
    assert similarity("a b c d", "a b x d") == pytest.approx(6 / 8)
    assert similarity("A b, c!", "a B c") == 1
    assert similarity("a b", "c d") == 0
