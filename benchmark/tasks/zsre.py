"""ZsRE, questions of zero-shot relation extraction: the task of KnowEdit, and the task on MEND's file."""

from dataclasses import replace
from typing import ClassVar, Literal

from .base import Split, TaskOptions, cite
from .flat import FlatTask
from .knowedit import KNOWEDIT, KnowEditTask
from .layouts import Layout, ProbeField

NQ_PREFIX = "nq question: "
"""Task prefix of the T5 models that MEND's file was made for; a decoder cannot use it, so it is removed."""
MEND = Layout(
    prompt="src",
    target="alt",
    old="answers",
    rephrases=("rephrase",),
    probes=(ProbeField("locality", "NQ", "loc", "loc_ans", NQ_PREFIX),),
)
MEND_IN_KNOWEDIT = replace(
    MEND,
    probes=(
        ProbeField("portability", "Reasoning", "portability.New Question", "portability.New Answer"),
        ProbeField("locality", "Relation_Specificity", "loc", "loc_ans", NQ_PREFIX),
    ),
    derives=True,
)
"""MEND's file, and the portability file made from it, with the names that KnowEdit has for its subsets."""


class ZsRE(KnowEditTask):
    """Zero-shot relation extraction as question answering.

    Two forms are read, distinguished row by row by their keys: KnowEdit's (`prompt`, `target_new`) and that of MEND's
    evaluation file and of the portability file made from it (`src`, `alt`, `rephrase`, `loc`, `loc_ans`, and perhaps
    `portability` with `New Question` and `New Answer`).
    """

    name = "zsre"
    title = "ZsRE"
    about = "questions about one relation of a subject, each answered by a name"
    version = "1"
    licence = "MIT"
    citation = cite("zhang2024knowedit", "levy2017zsre")
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        # KnowEdit publishes no training file of ZsRE; its authors trained on 10,000 rows of MEND's.
        "train": (
            "ZsRE/zsre_train.json",
            "ZsRE/zsre_mend_train_10000.json",
            "zsre/zsre_mend_train_10000.json",
            "zsre/zsre_mend_train.json",
        ),
        "test": (
            "ZsRE/ZsRE-test-all.json",
            "benchmark_ZsRE_ZsRE-test-all.json",
            "zsre/zsre_mend_eval_portability_gpt4.json",
            "zsre/zsre_mend_eval.json",
        ),
    }
    published_rows: ClassVar[dict[Split, int]] = {"train": 10_000, "test": 1301}
    layouts = (MEND_IN_KNOWEDIT, KNOWEDIT)
    ignored = KnowEditTask.ignored | {"pred"}


class MendZsREOptions(TaskOptions):
    """Which answer is the new one."""

    target: Literal["alt", "answers"] = "alt"
    """`alt`: the invented answer, as in MEND, EasyEdit and LocFT. `answers`: the true one, as in ROME, MEMIT and
    AlphaEdit, which a model may give without any edit."""


class MendZsRE(FlatTask):
    """zsRE in MEND's layout. `pred` is another model's answer, `cond` repeats other fields."""

    name = "mend-zsre"
    title = "zsRE (MEND)"
    about = "questions about one relation of a subject, whose answer is exchanged for another name"
    version = "1"
    licence = "MIT"
    citation = cite("mitchell2022mend", "levy2017zsre")
    homepage = "https://github.com/eric-mitchell/mend"
    files: ClassVar[dict[Split, tuple[str, ...]]] = dict.fromkeys(
        ("train", "test"), ("zsre/zsre_mend_eval.json", "zsre_mend_eval.json", "zsre/zsre_3k.json", "zsre_3k.json")
    )
    layouts = (MEND,)
    ignored = FlatTask.ignored | {"pred", "cond"}
    Options = MendZsREOptions
    options: MendZsREOptions

    def layouts_of_run(self) -> tuple[Layout, ...]:
        """See `LayoutTask.layouts_of_run`; the true answers as the target replace nothing that the file says."""
        return self.layouts if self.options.target == "alt" else (replace(MEND, target="answers", old=None),)
