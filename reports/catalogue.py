"""Names of what reports are made of, with one line each; `instructedit list` prints them without drawing anything."""

from collections.abc import Mapping

from .tables.captions import PROTOCOLS

MEASURES: Mapping[str, str] = {
    "reliability": "is the edit's own prompt answered with the new answer?",
    "generalization": "is the same question in other words answered with it too?",
    "portability": "are questions answered whose answers follow from the edit?",
    "locality": "are unrelated answers unchanged?",
    "fluency": "is sampled text still varied?",
}
"""What is measured; docs/metrics.md has the same words."""

TABLES: Mapping[str, str] = {
    "tasks": "every measure by one protocol, a table for each task",
    "subsets": "every subset of the probes",
    "protocols": "every protocol of a measure, each in its own column",
    "paper:table3": "all editors on all tasks, one edit at a time and hold-out",
    "paper:table1": "editors trained on one task, tested on all",
    "paper:seen-unseen": "InstructEdit under seen and unseen instructions",
    "paper:figure4c": "scores against the number of training tasks",
}
"""Tables of `instructedit table`."""

FIGURES: Mapping[str, str] = {
    "directions": "edit directions of MEND and InstructEdit by task (t-SNE)",
    "directions-scaling": "edit directions after training on one, two and three tasks",
    "directions-balanced": "edit directions after training on all of ConvSent, and on a part of it",
    "task-scaling": "scores against the number of training tasks",
    "balanced": "scores with all of ConvSent in training, and with a part of it",
    "instructions": "scores under seen instructions and the unseen one",
    "tradeoff": "reliability against locality of all editors",
    "retention": "scores against the number of edits in sequence",
}
"""Figures of `instructedit figures`."""

LISTS: Mapping[str, Mapping[str, str]] = {
    "metrics": dict([*MEASURES.items(), *PROTOCOLS.items()]),
    "tables": TABLES,
    "figures": FIGURES,
}
"""Lists of `instructedit list` besides those of the benchmark."""
