"""Tokens out of pieces, against the whole tensor."""

import pytest
import torch

from instructedit.editors.engine.pieces import Pieces, integers

NUMBERS = {
    "one piece": [4, 3, 5],
    "neighbours of one piece": [3, 4, 5],
    "two pieces": [1, 2, 3],
    "all of them": list(range(9)),
    "the ends": [0, 8],
    "out of order, with repeats": [8, 0, 3, 3, 0, 7, 2],
}


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_tokens_are_those_of_the_whole(numbers):
    whole = torch.randn(9, 4)
    pieces = Pieces()
    for piece in whole.split([3, 3, 2, 1]):
        pieces.append(piece)
    assert len(pieces) == 9
    assert torch.equal(pieces.picked(numbers), whole[numbers])


def test_neighbours_of_one_piece_are_no_copy():
    pieces = Pieces()
    for _ in range(2):
        pieces.append(torch.randn(3, 4))
    _, second = pieces
    assert pieces.picked([4, 5]).data_ptr() == second[1:].data_ptr()


def test_whole_numbers_of_any_kind():
    for values in ([], [3], range(2, 5), (-1, 1 << 40)):
        found = integers(iter(values))
        assert found.dtype == torch.int64
        assert found.tolist() == list(values)
