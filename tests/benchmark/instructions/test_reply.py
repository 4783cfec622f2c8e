import json

import pytest

from instructedit.benchmark.instructions.conversation import items

TWO = ("Speak of [TOPIC] in a [LABEL] way.", 'Say "yes", or say no.')


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TWO),
        json.dumps(TWO, indent=2),
        f"```json\n{json.dumps(TWO)}\n```",
        f"```\n{json.dumps(TWO)}\n```",
        f"Here you are:\n\n```json\n{json.dumps(TWO, indent=1)}\n```\nTell me if you want [more].",
        f"About [TOPIC] and [LABEL], as asked: {json.dumps(TWO)} That is all.",
        json.dumps({"descriptions": TWO}),
        json.dumps({"task": "ConvSent", "count": 2, "descriptions": TWO}),
        json.dumps([f"  {TWO[0]}\n", f'"{TWO[1]}"'.replace('"Say', "'Say").replace('no."', "no.'")]),
        f"<think>\n1. a draft that is no answer\n</think>\n{json.dumps(TWO)}",
        f"1. {TWO[0]}\n2. {TWO[1]}",
        f"Sure!\n\n 1) “{TWO[0]}”\n 2) **{TWO[1]}**\n\nShall I go on?",
        f"(1) {TWO[0]}\n(2) {TWO[1]}",
        f"- {TWO[0]}\n- `{TWO[1]}`",
        f"* {TWO[0]}\n\n* {TWO[1]}\n",
        f"• {TWO[0]}\r\n• {TWO[1]}",
        '1. Speak of [TOPIC]\n   in a [LABEL] way.\n2. Say "yes",\n   or say no.',
        f"1. {TWO[0]}\n   - because it is short\n2. {TWO[1]}\n   - because it is not",
    ],
)
def test_both_descriptions_are_found_and_nothing_else(text):
    assert items(text) == TWO


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "I am sorry, but I cannot write descriptions of this task.",
        "A description of [TOPIC] could be long - or short. It was so in 2024. Who knows?",
        "42",
        "null",
        "[]",
        "[1, 2]",
        json.dumps({"descriptions": "no list"}),
        "<think>\n1. a draft\n2. another draft, and then the room was used up",
        "[" * 100_000,
        "-\n1.\n*",
    ],
    ids=lambda text: text[:30],
)
def test_without_a_list_there_is_nothing(text):
    assert items(text) == ()


@pytest.mark.parametrize("whole", [json.dumps(TWO), json.dumps({"descriptions": TWO}), json.dumps(TWO, indent=2)])
def test_an_array_that_was_cut_off_keeps_its_complete_strings(whole):
    assert items(whole[: whole.index("Say") + 5]) == TWO[:1]
    assert items(whole[: whole.index("Speak") + 5]) == ()
    assert items(f"```json\n{whole.rstrip(']}')}") == TWO


def test_a_comma_too_many_loses_nothing():
    assert items('["one description", "another one",]') == ("one description", "another one")


def test_order_and_repetition_stay_as_they_came():
    assert items('["b", "a", "b"]') == ("b", "a", "b")


def test_quotes_inside_a_description_stay():
    assert items('- "Yes" is said before "no"') == ('"Yes" is said before "no"',)
    assert items("- The subject's answer") == ("The subject's answer",)
