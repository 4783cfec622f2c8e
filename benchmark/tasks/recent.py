"""WikiData Recent: facts that were added to Wikidata after the models were trained."""

from typing import ClassVar

from . import citations
from .base import Split
from .knowedit import KnowEditTask


class Recent(KnowEditTask):
    """KnowEdit's WikiData Recent: inserting a fact the model cannot know yet."""

    name = "recent"
    title = "Recent"
    about = "facts that became known after the model was trained"
    version = "1"
    licence = "MIT"
    citation = citations.cite(citations.KNOWEDIT, citations.RIPPLE_EDITS)
    homepage = "https://huggingface.co/datasets/zjunlp/KnowEdit"
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": ("wiki_recent/recent_train.json", "benchmark_wiki_recent_recent_train.json"),
        "test": ("wiki_recent/recent_test.json", "benchmark_wiki_recent_recent_test.json"),
    }
    published_rows: ClassVar[dict[Split, int]] = {"train": 570, "test": 1266}
    published_digests: ClassVar[dict[str, str]] = {
        "recent_train.json": "318274a1f52051fdead83442d7adcd9015fe662275c354fb2d7adad5e6a58788"
    }
