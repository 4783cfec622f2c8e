"""Operations counted by hand on a model of two blocks, width 2, inner width 8 and five tokens.

Weights of a block: keys and values 8, queries and attention's output 8, up 16, down 16; of the head 10.
"""

from types import SimpleNamespace

import pytest

from instructedit.benchmark.speed.passes import Cut, Passes, Text
from instructedit.benchmark.speed.shapes import ModelShape
from instructedit.benchmark.speed.work import needed

SHAPE = ModelShape("hand", "gpt2", 2, 2, 1, 5, 8)
SITES = tuple(
    SimpleNamespace(block=1, part=part, d_in=2 * up, d_out=10 - 2 * up) for part, up in (("up", 1), ("down", 4))
)


def editor(name, instructed=False, **options):
    return SimpleNamespace(
        name=name, instructed=instructed, config=SimpleNamespace(**options), shape=SimpleNamespace(sites=SITES)
    )


def mend(name="mend", **options):
    return editor(name, layers=2, rank=3, objective=SimpleNamespace(locality_rows=4), **options)


def test_passes():
    passes, text = Passes(SHAPE), Text(4, 2)
    first, last, head = 2 * (8 + 8 + 32) * 4, 2 * (8 * 4 + (8 + 32) * 2), 2 * 10 * 2
    assert passes.forward(text) == first + last + head == 648
    assert passes.behind(text, Cut(0, "down")) == last + head == 264
    assert passes.behind(text, Cut(0, "up")) == 2 * 16 * 4 + last + head == 392
    assert passes.behind(text, Cut(1, "up")) == 2 * 16 * 2 + head == 104
    assert passes.front(text, Cut(0, "down")) == 2 * (8 + 8 + 32) * 4 == 384


def test_a_changed_token_changes_those_behind_it_in_later_blocks_only():
    passes = Passes(SHAPE)
    assert passes.changed(2, Cut(0, "up")) == 2 * 16 + 2 * (8 + 8 + 32) * 2 + 2 * 10 * 2 == 264
    assert passes.changed(2, Cut(1, "up")) == 2 * 16 + 2 * 10 == 52
    assert passes.changed(3, Cut(1, "down")) == 2 * 10


def test_a_gated_network_has_two_maps_up():
    assert Passes(ModelShape("hand", "llama", 2, 2, 1, 5, 8)).up == 32


def test_base_pass():
    # texts of 18 tokens with 2 scored, and of 19 with 3; eight rows
    one, other = 2 * 48 * 18 + 2 * (8 * 18 + 40 * 2) + 40, 2 * 48 * 19 + 2 * (8 * 19 + 40 * 3) + 60
    assert (one, other) == (2216, 2428)
    assert needed(SHAPE).base() == 8 * (one + other) / 2


@pytest.mark.parametrize(("steps", "forward", "back"), [(3, 3, 3), (1, 2, 1), (0, 1, 0)])
def test_fine_tuning_looks_once_more_than_it_steps_unless_it_takes_them_all(steps, forward, back):
    tuned = needed(SHAPE, editor("ft-l", block=0, steps=3, objective="prompt_last"), steps)
    front, last, head, product = 2 * (8 + 8 + 32) * 17, 2 * (8 * 17 + 40), 2 * 10, 2 * 16 * 17
    assert tuned.edit() == front + (forward + back) * (product + last + head)
    assert tuned.score() == 8 * (1064 + 1212) / 2


def test_mend_in_the_last_block_sees_scored_tokens_only():
    need = needed(SHAPE, mend())
    network = 2 * 2 * 2 * 2 * 3 * 10  # two maps, two layers of two products, rank 3, width 10
    assert need.edit() == (2216 + 2 * 16 * 2 + 40 + 2 * network + 2428 + 2 * 16 * 3 + 60 + 3 * network) / 2 == 3652
    # behind the up map, and x A B at each of two maps
    assert need.score() == 8 * ((104 + 2 * 2 * 2 * 10 * 2) + (156 + 2 * 2 * 3 * 10 * 3)) / 2 == 3120


def test_instructedit_has_its_instruction_in_the_edit_alone():
    need = needed(SHAPE, editor("instructedit", True, **vars(mend().config)))
    front = 34 * 2 * (48 + 8)
    assert need.edit() - needed(SHAPE, mend()).edit() == front
    cases = [SimpleNamespace(request=SimpleNamespace(instruction=text)) for text in "abaa"]
    shared = needed(SHAPE, editor("instructedit", True, **vars(mend().config)), 0, cases)
    assert need.edit() - shared.edit() == front / 2, "two of four are read"
    assert need.score() == 3120


def test_ke_reads_the_text_with_an_lstm():
    need = needed(SHAPE, editor("ke", hidden=2, condition=3))
    lstm = 2 * 2 * 4 * 2 * (2 + 2)  # both directions, four gates, from input and state
    others = 2 * (2 * 2) * 3 + 2 * 2 * 2 * (3 + 2 * 10 + 1)
    assert need.edit() == (2216 + 104 + 19 * lstm + 2428 + 156 + 20 * lstm) / 2 + others == 5164


def test_grace_steps_on_the_tokens_that_its_value_changes():
    need = needed(SHAPE, editor("grace", block=0, part="up"), 5)
    assert need.edit() == (2216 - 40 + 2 * 5 * 264 + 2428 - 60 + 2 * 5 * 380) / 2 == 5492
    assert need.score() == (264 + 380) / 2  # one row of eight is near the key


def test_slots():
    need = needed(SHAPE, editor("calinet", blocks=(-1,), slots=4, steps=2), 2)
    slots = 2 * 2 * 4 * 2  # a token: two maps of 4 slots
    one = 2216 - 40 + 2 * (2 * slots + 40) + 2 * (3 / 2 * 2 * slots + 40)
    other = 2428 - 60 + 2 * (3 * slots + 60) + 2 * (3 / 2 * 3 * slots + 60)
    assert need.edit() == (one + other) / 2 == 2872
    assert need.score() == 8 * (2 * slots + 40 + 3 * slots + 60) / 2


def test_a_training_step_reads_three_locality_texts_before_and_four_texts_after():
    one = 3280 + 1.75 * 960 + 3 * 2216 + (2216 - 104) + 4 * (264 + 104 + 2 * 160)
    other = 4024 + 1.75 * 1440 + 3 * 2428 + (2428 - 156) + 4 * (516 + 156 + 2 * 360)
    assert needed(SHAPE, mend()).train() == (one + other) / 2 == 19070


def test_the_first_new_token_comes_with_the_prompt():
    prompt, token = 2 * 48 * 17 + 2 * (8 * 17 + 40) + 20, 96 + 96 + 20
    assert needed(SHAPE).generate(1, 3, 4) == prompt + (2 + 3) * token
    grace = needed(SHAPE, editor("grace", block=0, part="up"))
    assert grace.generate(1, 3, 4) == 2 * 16 + 96 + 20 + 5 * token
