"""The metrics by name: pure functions of a few numbers or one text, each in the file named after what it measures.

They know nothing of models, files or cases. `docs/metrics.md` explains each with an example and the published numbers
that it may be compared with; `matching` has the scores of free generation.
"""

from .fluency import WORDS, ngram_entropy, words
from .locality import divergence, kl_divergence
from .sentiment import Sentiment, edit_success
from .teacher_forcing import teacher_forced_exact, teacher_forced_token

__all__ = [
    "WORDS",
    "Sentiment",
    "divergence",
    "edit_success",
    "kl_divergence",
    "ngram_entropy",
    "teacher_forced_exact",
    "teacher_forced_token",
    "words",
]
