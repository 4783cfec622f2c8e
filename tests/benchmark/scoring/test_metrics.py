"""Scores against numbers worked out by hand; the working stands beside each."""

import doctest
import math
from pathlib import Path

import pytest
import torch

from instructedit.benchmark.scoring.metrics import (
    divergence,
    edit_success,
    ngram_entropy,
    teacher_forced_exact,
    teacher_forced_token,
    words,
)
from instructedit.editors import CaseError

INF = math.inf


def kl_divergence(base: torch.Tensor, edited: torch.Tensor) -> float:
    return divergence(*(logits.float().log_softmax(dim=-1) for logits in (base, edited)))


@pytest.mark.parametrize(
    ("predicted", "reference", "token", "exact"),
    [
        ([5, 6, 7, 8], [5, 6, 7, 8], 1.0, 1.0),
        ([5, 6, 7, 9], [5, 6, 7, 8], 0.75, 0.0),  # 3 of 4
        ([9, 9, 9], [5, 6, 7], 0.0, 0.0),
        ([5], [5], 1.0, 1.0),
        ([6, 5], [5, 6], 0.0, 0.0),  # positions count, not the bag of tokens
    ],
)
def test_teacher_forced(predicted: list[int], reference: list[int], token: float, exact: float) -> None:
    assert teacher_forced_token(predicted, reference) == token
    assert teacher_forced_exact(predicted, reference) == exact


@pytest.mark.parametrize(("predicted", "reference"), [([], []), ([1], [1, 2]), ([1, 2], [1])])
def test_teacher_forced_refuses_what_has_no_answer(predicted: list[int], reference: list[int]) -> None:
    with pytest.raises(ValueError):
        teacher_forced_token(predicted, reference)
    with pytest.raises(ValueError):
        teacher_forced_exact(predicted, reference)


def test_edit_success_by_hand() -> None:
    # L+post = -1.5, L-post = -2, L+pre = -1: sigmoid(0.5) = 0.6224593312, exp(-0.5) = 0.6065306597, product
    # 0.3775406688
    score = edit_success([-1.0, -2.0], [-2.0], [-1.0, -1.0])
    assert score == pytest.approx((0.3775406688, 0.6224593312, 0.6065306597))


def test_edit_success_pools_tokens_not_replies() -> None:
    # One reply of one token at -4 and one of three at -2, -1, -1: pooled -8/4 = -2; the mean of reply means would be
    # -2.67. L-post = -2 and L+pre = -2: no margin, nothing lost.
    assert edit_success([-4.0, -2.0, -1.0, -1.0], [-2.0], [-2.0] * 4) == (0.5, 0.5, 1.0)


def test_edit_success_caps_the_topic_factor() -> None:
    # L+ rises from -3 to -1: exp(2) is capped at 1; sigmoid(-1 + 3) = 0.880797
    assert edit_success([-1.0], [-3.0], [-3.0]) == pytest.approx((0.880797078, 0.880797078, 1.0))


@pytest.mark.parametrize(
    ("plus", "minus", "before", "expected"),
    [
        ([-1.0], [-1e6], [-1.0], (1.0, 1.0, 1.0)),
        ([-1e6], [-1.0], [-1.0], (0.0, 0.0, 0.0)),
        ([-INF], [-1.0], [-1.0], (0.0, 0.0, 0.0)),
        ([-1.0], [-INF], [-INF], (1.0, 1.0, 1.0)),
        ([-INF], [-INF], [-INF], (0.5, 0.5, 1.0)),  # no difference anywhere
    ],
)
def test_edit_success_at_the_ends(
    plus: list[float], minus: list[float], before: list[float], expected: tuple[float, ...]
) -> None:
    assert edit_success(plus, minus, before) == expected


def test_edit_success_refuses() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        edit_success([], [-1.0], [])
    with pytest.raises(ValueError, match="at least one token"):
        edit_success([-1.0], [], [-1.0])
    with pytest.raises(ValueError, match="counts must be equal"):
        edit_success([-1.0], [-1.0], [-1.0, -1.0])
    with pytest.raises(CaseError, match="not a number"):
        edit_success([math.nan], [-1.0], [-1.0])


def test_kl_by_hand() -> None:
    base = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    edited = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    # First position 0.75 ln 1.5 + 0.25 ln 0.5 = 0.3040988 - 0.1732868 = 0.1308120, second 0, mean 0.0654060
    assert kl_divergence(base, edited) == pytest.approx(0.0654060, abs=1e-6)
    # The other direction is another number: 0.5 ln (0.5/0.75) + 0.5 ln 2 = 0.1438410, mean 0.0719205
    assert kl_divergence(edited, base) == pytest.approx(0.0719205, abs=1e-6)


def test_kl_does_not_depend_on_a_shift_of_the_logits() -> None:
    base = torch.tensor([[0.75, 0.25]]).log()
    edited = torch.tensor([[0.5, 0.5]]).log()
    assert kl_divergence(base + 50, edited - 50) == pytest.approx(0.1308120, abs=1e-5)


def test_kl_of_huge_logits_is_finite() -> None:
    # p = (1, 0) to machine precision, q = (e^-200, 1): KL = 200
    assert kl_divergence(torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 200.0]])) == pytest.approx(200.0)


def test_kl_is_float32_and_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 1000, generator=generator)
    assert kl_divergence(base, base) == 0.0
    for seed in range(20):
        noise = torch.randn(4, 1000, generator=torch.Generator().manual_seed(seed)) * 1e-6
        assert kl_divergence(base, base + noise) >= 0.0
    low, other = base.bfloat16(), (base * 1.1).bfloat16()
    assert kl_divergence(low, other) == kl_divergence(low.float(), other.float())


def test_kl_of_impossible_tokens() -> None:
    base = torch.tensor([[0.0, 0.0, -INF]])
    assert kl_divergence(base, base) == 0.0
    # p = (1/2, 1/2, 0), q = (1/3, 1/3, 1/3): ln 1.5
    assert kl_divergence(base, torch.zeros(1, 3)) == pytest.approx(math.log(1.5), abs=1e-6)
    with pytest.raises(CaseError, match="is inf"):
        kl_divergence(torch.zeros(1, 3), base)
    with pytest.raises(CaseError, match="is nan"):
        kl_divergence(torch.zeros(1, 3), torch.full((1, 3), math.nan))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("北京是首都。", ["北", "京", "是", "首", "都", "。"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("กรุงเทพ", ["ก", "รุ", "ง", "เ", "ท", "พ"]),
        ("दिल्ली भारत की राजधानी है।", ["दिल्ली", "भारत", "की", "राजधानी", "है", "।"]),
        ("عَاصِمَة فرنسا", ["عَاصِمَة", "فرنسا"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("한국의 수도", ["한국의", "수도"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("在Python里", ["在", "Python", "里"]),
        ("❤\ufe0f", ["❤", "\ufe0f"]),
    ],
)
def test_words_of_other_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_repetition_without_spaces_is_repetition() -> None:
    """As one long word such a text had no n-gram at all."""
    assert ngram_entropy("北" * 12) == 0.0
    varied = ngram_entropy("春眠不觉晓处处闻啼鸟")
    assert varied is not None and varied > 200


def test_words() -> None:
    assert words("Don't stop... it’s 3.5 Ünder_way 👍!") == [
        *("Don't", "stop", ".", ".", ".", "it’s", "3", ".", "5", "Ünder_way", "👍", "!"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # ab 2/3, ba 1/3: H2 = 2/3 log2 1.5 + 1/3 log2 3 = 0.3899750 + 0.5283208 = 0.9182958; H3 = 1; 30.609861 +
        # 66.666667
        ("a b a b", 97.276528),
        # 4 bigrams all different: 2 bits; 3 trigrams: log2 3 = 1.5849625; 66.666667 + 105.664167
        ("a b c d e", 172.330833),
        ("so so so so so", 0.0),
        # 2 bigrams, 1 bit; 1 trigram, 0 bit
        ("a b c", 33.333333),
        ("👍 👍 👎", 33.333333),
    ],
)
def test_ngram_entropy_by_hand(text: str, expected: float) -> None:
    assert ngram_entropy(text) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("text", ["", "   ", "one", "two words", "\n"])
def test_short_text_has_no_entropy(text: str) -> None:
    assert ngram_entropy(text) is None


def test_the_page_of_metrics_shows_true_numbers() -> None:
    page = Path(__file__).parents[3] / "docs" / "metrics.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.failed == 0
    assert result.attempted > 20
