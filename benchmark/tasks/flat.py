"""Data sets of one file of flat records: one edit a row, and each probe in fields of its own.

Such a file has no splits. A fifth of the subjects, chosen by a hash of the name alone, is tested and the others train
(`Task.test_share`), in every data set the same. A probe that a row lacks is left out; no rule makes one.
"""

from typing import ClassVar

from .base import Split, cite
from .layouts import Layout, LayoutTask, ProbeField


class FlatTask(LayoutTask):
    """A task of one file of flat records."""

    test_share: ClassVar[float | None] = 0.2


class RomeCounterFact(FlatTask):
    """ROME's CounterFact in the flat layout of one paraphrase and one neighbourhood prompt a row."""

    name = "rome-counterfact"
    title = "CounterFact (ROME)"
    about = "facts whose established object gives way to a false one of the same type"
    version = "1"
    licence = "MIT"
    citation = cite("meng2022rome")
    homepage = "https://rome.baulab.info"
    files: ClassVar[dict[Split, tuple[str, ...]]] = dict.fromkeys(
        ("train", "test"),
        (
            "counterfact/counterfact-edit.json",
            "counterfact-edit.json",
            "counterfact/counterfact_3k.json",
            "counterfact_3k.json",
        ),
    )
    layouts = (
        Layout(
            prompt="prompt",
            target="target_new",
            old="ground_truth",
            rephrases=("rephrase_prompt",),
            probes=(ProbeField("locality", "Neighborhood", "locality_prompt", "locality_ground_truth"),),
        ),
    )
