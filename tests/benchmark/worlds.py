"""A data folder in KnowEdit's layout and a saved tiny model, small enough to run in a second."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from torch.nn import Linear

from instructedit.baselines.mend import MEND
from instructedit.benchmark.results.checkpoint import Checkpoint
from instructedit.benchmark.results.records import CaseRecord
from instructedit.benchmark.run.prepare import Prepared, prepare
from instructedit.benchmark.run.training import trained
from instructedit.benchmark.setup.config import make_config
from instructedit.benchmark.setup.resolve import resolve
from instructedit.benchmark.setup.settings import TrainingTasks
from instructedit.benchmark.setup.training_sets import Training
from instructedit.benchmark.tasks.sampling import rank
from instructedit.editors import Editor, EditRequest, Edits, LanguageModel, TrainedConfig, TrainedEditor, TrainingSet

from ..conftest import make_model, make_tokenizer
from ..editors.cases import facts


def write_data(folder: Path, records: int = 5) -> Path:
    """Write the four tasks' test files with a few hand-made records each."""
    people = ["Ada Lovelace", "Alan Turing", "Grace Hopper", "Katherine Johnson", "Mary Somerville", "Emmy Noether"]
    facts = [
        {
            "subject": person,
            "prompt": f"The place of birth of {person} is",
            "target_new": place,
            "ground_truth": "London",
            "portability": {
                "Reasoning": [{"prompt": f"The country of birth of {person} is", "ground_truth": [["England", "UK"]]}],
            },
            "locality": {
                "Relation_Specificity": [{"prompt": f"The gender of {person} is", "ground_truth": [["female"]]}]
            },
        }
        for person, place in zip(people, ["Paris", "New York", "Rome", "Oslo", "Vale", "Bern"], strict=True)
    ][:records]
    asked = [
        {**fact, "prompt": f"Where was {fact['subject']} born?", "rephrase_prompt": f"Where is {fact['subject']} from?"}
        for fact in facts
    ]
    moods = [
        {"ent": person, "pos": ["I like it.", "It is great.", "Lovely."], "neg": ["I hate it.", "It is bad.", "No."]}
        for person in people[:records]
    ]
    files = {
        "wiki_recent/recent_test.json": facts,
        "wiki_counterfact/test_cf.json": facts,
        "ZsRE/ZsRE-test-all.json": asked,
        "Convsent/blender_test.json": moods,
    }
    for name, rows in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows), encoding="utf-8")
    return folder


def write_training(folder: Path, **records: int) -> Path:
    """Write training files beside `write_data`'s, of so many records a task, about people that it does not test.

    The first of every ten is kept for validation, by its name, where the share for validation is the usual tenth.
    """
    files = {
        "recent": "wiki_recent/recent_train.json",
        "counterfact": "wiki_counterfact/train_cf.json",
        "zsre": "ZsRE/zsre_train.json",
        "convsent": "Convsent/blender_train.json",
    }
    for task, name in files.items():
        people = people_of(f"{task.title()} Person", records.get(task, 4))
        rows = [
            {"ent": person, "pos": ["I like it.", "Lovely."], "neg": ["I hate it.", "No."]}
            if task == "convsent"
            else {
                "subject": person,
                "prompt": f"The place of birth of {person} is",
                "target_new": "Vale",
                "rephrase_prompt": f"Where is {person} from?",
                "locality": {
                    "Relation_Specificity": [{"prompt": f"The gender of {person} is", "ground_truth": [["female"]]}]
                },
            }
            for person in people
        ]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows), encoding="utf-8")
    return folder


def people_of(kind: str, count: int) -> list[str]:
    """Return names of which the first of every ten is among the tenth that is kept for validation, and no other."""
    sides: tuple[list[str], list[str]] = [], []
    for number in range(40 * count + 400):
        sides[rank(f"{kind}{number}") < 0.1].append(f"{kind}{number}")
    learnt, kept = map(iter, sides)
    return [next(kept if index % 10 == 0 else learnt) for index in range(count)]


class Learner(TrainedEditor[TrainedConfig]):
    """A trained editor that edits nothing; it writes down what it was trained on and what it is told."""

    name, title, source = "learner", "Learner", "test"
    instructed = True
    Config = TrainedConfig
    fits: ClassVar[list[tuple[Path, TrainingSet, int]]] = []
    told: ClassVar[list[EditRequest]] = []

    def make_network(self, shape, seed):
        return Linear(shape.width, shape.width)

    def patches(self, model, requests, batches=None):
        raise AssertionError

    def fit(self, model, training, folder, *, seed=0, report=lambda _: None, progress=False, **_):
        self.fits.append((folder, training, seed))
        self.save(folder)

    def edit(self, model, requests, seed=0):
        self.told.extend(requests)
        return Edits.none(len(requests))


def write_model(folder: Path, family: str = "gpt2") -> Path:
    """Save a tiny random model with its tokenizer."""
    make_model(family).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


CONFIG = """
limit = 5
chunk = 2

[generation]
max_new_tokens = 6
fluency_tokens = 8

[editors.none]

[editors.ft-m]
block = 1
lr = 0.02
clamp = 0.2
steps = 3

[editors.grace]
block = 2
steps = 3
"""
OPTIONS = tomllib.loads(CONFIG)
TINY_SEQUENCE = {
    "tasks": ("recent",),
    "schedule": "sequential",
    "limit": 2,
    "fluency": False,
    "generation": {"max_new_tokens": 2},
    "editors": {"none": {}, "ft-m": {"block": 1, "steps": 1, "lr": 0.01}},
}
"""Options of the smallest run that saves edits."""


def write_world(folder: Path, records: int = 5) -> Path:
    """Write data, a model and a configuration, `run.toml`."""
    write_data(folder / "data", records)
    write_model(folder / "model")
    (folder / "run.toml").write_text(CONFIG)
    return folder


def prepared_run(place: Path, loaded: LanguageModel | None = None, **options: object) -> Prepared:
    """Prepare a run of the data and the model at a place; options not given are those of `CONFIG`."""
    places = {"data": str(place / "data"), "model": str(place / "model")}
    config = make_config({**OPTIONS, **places, **options}, "test")
    return prepare(resolve(config, "test"), model=loaded, device="cpu")


def train_tiny(model: LanguageModel, out: Path, report: Callable[[str], None]) -> Editor:
    """Train MEND for two steps with a save after each, or read what is trained."""
    config = MEND.Config(training={"steps": 2, "validate_every": 1, "save_every": 1, "accumulate": 1}, rank=4)
    cases = TrainingSet(facts(4), facts(2, "other"), {"facts": 1.0, "other": 1.0})
    training = Training(("mend",), MEND(config), TrainingTasks("facts", ("facts",), ("facts",), {}, "balanced"), cases)
    checkpoint = Checkpoint(
        editor="mend", version="1", config={}, base="b", tokenizer="t", training="c", instructions=None, seed=0
    )
    return trained(training, model, checkpoint, out, report=report)


def records_of(folder: Path) -> list[CaseRecord]:
    """Return the lines of a run."""
    return [CaseRecord.model_validate_json(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
