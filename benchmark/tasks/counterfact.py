"""WikiData CounterFact: facts changed to something untrue."""

from typing import ClassVar

from . import citations
from .base import Split
from .knowedit import KnowEditTask


class CounterFact(KnowEditTask):
    """KnowEdit's WikiData CounterFact: replacing a fact the model may know by an invented one."""

    name = "counterfact"
    title = "CF"
    about = "facts whose established value gives way to an invented one"
    version = "1"
    licence = "MIT"
    citation = citations.cite(citations.KNOWEDIT, citations.RIPPLE_EDITS)
    homepage = "https://huggingface.co/datasets/zjunlp/KnowEdit"
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": ("wiki_counterfact/train_cf.json", "benchmark_wiki_counterfact_train_cf.json"),
        "test": ("wiki_counterfact/test_cf.json", "benchmark_wiki_counterfact_test_cf.json"),
    }
    # the data card speaks of 1,455 training rows; the file that is published beside it has 1,428
    published_rows: ClassVar[dict[Split, int]] = {"train": 1428, "test": 885}
    published_digests: ClassVar[dict[str, str]] = {
        "train_cf.json": "a053786eff7c28b59f3fe6cf0a77046f8736255548455c6d53faca0eb016387e"
    }
