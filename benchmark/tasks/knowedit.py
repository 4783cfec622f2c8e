"""KnowEdit's record layout, and the tasks WikiData Recent and WikiData CounterFact."""

from typing import ClassVar

from .base import Split, Task, cite
from .layouts import Layout, LayoutTask

KNOWEDIT = Layout(
    prompt="prompt",
    target="target_new",
    old="ground_truth",
    rephrases=("rephrase_prompt", "rephrase"),
    groups=("portability", "locality"),
    derives=True,
)


class KnowEditTask(LayoutTask):
    """A task whose records have KnowEdit's fields."""

    homepage = "https://huggingface.co/datasets/zjunlp/KnowEdit"
    layouts: ClassVar[tuple[Layout, ...]] = (KNOWEDIT,)
    ignored = Task.ignored | {"cond"}


class Recent(KnowEditTask):
    """WikiData Recent: inserting a fact that was added to Wikidata after the model was trained."""

    name = "recent"
    title = "Recent"
    about = "facts that became known after the model was trained"
    version = "1"
    licence = "MIT"
    citation = cite("zhang2024knowedit", "cohen2024ripple")
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": ("wiki_recent/recent_train.json", "benchmark_wiki_recent_recent_train.json"),
        "test": ("wiki_recent/recent_test.json", "benchmark_wiki_recent_recent_test.json"),
    }
    published_rows: ClassVar[dict[Split, int]] = {"train": 570, "test": 1266}
    published_digests: ClassVar[dict[str, str]] = {
        "recent_train.json": "318274a1f52051fdead83442d7adcd9015fe662275c354fb2d7adad5e6a58788"
    }


class CounterFact(KnowEditTask):
    """WikiData CounterFact: replacing a fact that the model may know by an invented one."""

    name = "counterfact"
    title = "CounterFact"
    about = "facts whose established value gives way to an invented one"
    version = "1"
    licence = "MIT"
    citation = cite("zhang2024knowedit", "cohen2024ripple")
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": ("wiki_counterfact/train_cf.json", "benchmark_wiki_counterfact_train_cf.json"),
        "test": ("wiki_counterfact/test_cf.json", "benchmark_wiki_counterfact_test_cf.json"),
    }
    # The data card gives 1,455 training rows; the published file has 1,428.
    published_rows: ClassVar[dict[Split, int]] = {"train": 1428, "test": 885}
    published_digests: ClassVar[dict[str, str]] = {
        "train_cf.json": "a053786eff7c28b59f3fe6cf0a77046f8736255548455c6d53faca0eb016387e"
    }
