"""ZsRE, questions of zero-shot relation extraction: the task of KnowEdit, and the task on MEND's file."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from instructedit.editors import EditCase

from .base import Split, TaskOptions, cite
from .flat import FlatLayout, FlatTask, ProbeField
from .knowedit import KnowEditTask
from .parse import Row

NQ_PREFIX = "nq question: "
"""Task prefix of the T5 models that MEND's file was made for; a decoder cannot use it, so it is removed."""
MEND = FlatLayout(
    prompt="src",
    target="alt",
    old="answers",
    probes=(
        ProbeField("generalization", "rephrase", "rephrase"),
        ProbeField("locality", "NQ", "loc", "loc_ans", prefix=NQ_PREFIX),
    ),
)


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
    fields = (*KnowEditTask.fields, *(field for field in MEND.fields if field not in KnowEditTask.fields))
    required = (*KnowEditTask.required, MEND.required)
    ignored = KnowEditTask.ignored | {"pred"}

    def case(self, row: Row, split: Split, counts: Counter[str]) -> EditCase:
        """See `KnowEditTask.case`."""
        return super().case(_from_mend(row) if "src" in row.fields else row, split, counts)


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
    layout = MEND
    ignored = FlatTask.ignored | {"pred", "cond"}
    Options = MendZsREOptions
    options: MendZsREOptions

    def layout_of_run(self) -> FlatLayout:
        """See `FlatTask.layout_of_run`; the true answers as the target replace nothing that the file says."""
        return MEND if self.options.target == "alt" else replace(MEND, target="answers", old=None)


def _from_mend(row: Row) -> Row:
    """Convert a record of MEND's form to KnowEdit's; `pred`, another model's answer, is not read."""
    fields: dict[str, object] = {
        "subject": row.text("subject"),
        "prompt": row.text("src"),
        "target_new": list(row.accepted("alt")),
        "ground_truth": row.fields.get("answers"),
        "rephrase": row.fields.get("rephrase"),
        "portability": row.fields.get("portability"),
    }
    question = row.fields.get("loc")
    if question is not None:
        text = question.removeprefix(NQ_PREFIX) if isinstance(question, str) else question
        fields["locality"] = {"Relation_Specificity": [{"prompt": text, "ground_truth": row.fields.get("loc_ans")}]}
    hop = fields["portability"]
    if isinstance(hop, Mapping) and "New Question" in hop:
        fields["portability"] = {"Reasoning": [{"prompt": hop["New Question"], "ground_truth": hop.get("New Answer")}]}
    return replace(row, fields=fields)
