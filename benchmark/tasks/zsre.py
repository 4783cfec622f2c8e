"""ZsRE: questions of zero-shot relation extraction, in KnowEdit's form or in MEND's."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar

from instructedit.editors import EditCase

from . import citations
from .base import Split
from .knowedit import KnowEditTask, read_record
from .parse import Row

NQ_PREFIX = "nq question: "
MEND_FIELDS = ("subject", "src", "alt", "rephrase", "loc", "loc_ans", "answers")
"""Fields of MEND's form."""


class ZsRE(KnowEditTask):
    """Zero-shot relation extraction as question answering.

    Two forms are read, told apart row by row by their keys: KnowEdit's (`prompt`, `target_new`) and that of MEND's
    evaluation file and of the portability file made from it (`src`, `alt`, `rephrase`, `loc`, `loc_ans`, and perhaps
    `portability` with `New Question` and `New Answer`).
    """

    name = "zsre"
    title = "ZsRE"
    about = "questions about one relation of a subject, each answered by a name"
    version = "1"
    licence = "MIT"
    citation = citations.cite(citations.KNOWEDIT, citations.ZSRE)
    homepage = "https://huggingface.co/datasets/zjunlp/KnowEdit"
    files: ClassVar[dict[Split, tuple[str, ...]]] = {
        # KnowEdit publishes no training file of ZsRE; its authors trained on 10,000 rows of MEND's
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
    fields = (*KnowEditTask.fields, *(field for field in MEND_FIELDS if field not in KnowEditTask.fields))
    required = (*KnowEditTask.required, ("subject", "src", "alt"))
    unread = KnowEditTask.unread | {"answers", "pred", "portability.Recalled Relation"}

    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """See `Task.cases`."""
        for row in rows:
            yield read_record(from_mend(row) if "src" in row.fields else row, self.name, split, counts)


def from_mend(row: Row) -> Row:
    """Bring a record of MEND's form into KnowEdit's.

    `nq question: ` in front of the locality question is the task prefix of the T5 models that the file was made for; it
    says nothing to a decoder and is taken off. `answers` and `pred` are what held before the edit and are not read.

    Raises:
        InputError: If source or target are missing, mistyped or empty.
    """
    fields: dict[str, object] = {
        "subject": row.text("subject"),
        "prompt": row.text("src"),
        "target_new": list(row.accepted("alt")),
        "rephrase": row.fields.get("rephrase"),
    }
    question = row.fields.get("loc")
    if question is not None:
        text = question.removeprefix(NQ_PREFIX) if isinstance(question, str) else question
        fields["locality"] = {"Relation_Specificity": [{"prompt": text, "ground_truth": row.fields.get("loc_ans")}]}
    hop = row.fields.get("portability")
    if isinstance(hop, Mapping) and "New Question" in hop:
        fields["portability"] = {"Reasoning": [{"prompt": hop["New Question"], "ground_truth": hop.get("New Answer")}]}
    else:
        fields["portability"] = hop
    return Row(row.file, row.index, fields)
