"""Pairwise cosine similarities of the edits of a finished run, for the figures of directions.

Model, data, instructions and trained editors are found by what `run.json` records and compared with its digests.
Nothing is trained, and the results of the run are not changed.
"""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path

import torch

from instructedit.editors import Dense, EditCase, Edits, InputError, LanguageModel, LowRank
from instructedit.editors.changes import gram
from instructedit.editors.models.devices import check_device

from ..results.direction_results import FILE, Directions, DirectionSet, write_directions
from ..results.integrity import read_run
from ..results.planned_comparisons import base_name
from ..results.records import EditorSpec, RunFile, RunSpec, digest_of
from ..scoring.scoring import edit_each
from ..setup.banks import InstructionBank, read_bank
from ..setup.config import RunConfig
from ..setup.resolve import requests_of
from ..tasks.base import TaskCases, make_task
from ..tasks.facts import SOURCE, load_facts
from ..tasks.sampling import choose
from ..tasks.sources import Source, open_source
from .prepare import ModelLoader
from .training import editor_of_row

SETTINGS = ("single-task", "multi-task", "task-scaling", "balanced")
"""Settings whose runs have figures of directions."""
WITHOUT = "the edit failed, or changes no weight"

_Rows = list[tuple[EditorSpec, tuple[str, ...]]]
"""Rows with the tasks that each of them edits."""


def sets(spec: RunSpec) -> Iterator[tuple[str, bool, _Rows]]:
    """Yield the sets of edits of a run: name, whether each task has a row of its own, rows and their tasks.

    In the setting `single-task` the rows of an editor form one set, each on the task it was trained on. Elsewhere each
    trained row that is tested on several tasks is a set. A run of another schedule or setting has none. Of rows that
    differ in their probes alone, and so make the same edits, only the first is used.
    """
    if spec.schedule != "single" or spec.setting not in SETTINGS:
        return
    trained = list({_edits_of(row): row for row in reversed(spec.editors) if row.training is not None}.values())[::-1]
    if spec.setting != "single-task":
        for row in trained:
            tasks = tuple(task for task in spec.tasks if row.evaluates(task))
            if len(tasks) > 1:
                yield row.name, False, [(row, tasks)]
        return
    for name in dict.fromkeys(base_name(row) for row in trained):
        own = [
            (row, row.training.tasks)
            for row in trained
            if row.training and base_name(row) == name and set(row.training.tasks) <= set(spec.tasks)
        ]
        if len(own) > 1:
            yield name, True, own


@dataclass(frozen=True)
class DirectionsMaker:
    """Makes the directions of runs; a model that consecutive runs share is loaded once.

    Data, model and instructions are by default the run's; the folder of its data is not known.

    Raises:
        InputError: If there is no such device.
    """

    checkpoints: Path
    _: KW_ONLY
    data: str | None = None
    facts: str | None = None
    model: str | None = None
    instructions: Path | None = None
    device: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_device(self.device)

    @cached_property
    def _loader(self) -> ModelLoader:
        return ModelLoader(self.device)

    def make(self, folder: Path, limit: int, report: Callable[[str], None] = lambda _: None) -> Path | None:
        """Write the directions of a run's edits into its folder, and return the file; None without a set of edits.

        At most `limit` cases of each task are edited, the same as in a run with this `limit`.

        Raises:
            InputError: If the run is not finished, or model, data, instructions or a trained editor are missing or
                not those of the run.
        """
        file = read_run(folder / "run.json")
        if not (folder / "summary.json").is_file():
            raise InputError(f"{folder}: this run is not finished, there is no summary.json.")
        wanted = list(sets(file.spec))
        if not wanted:
            return None
        place = folder / "run.json"
        model, cases, bank = self._language_model(file, place), self._cases(file, limit, place), self._bank(file)
        found = []
        for name, own_task, rows in wanted:
            report(f"{file.digest}: {name}, {sum(len(cases[task]) for _, tasks in rows for task in tasks)} edits")
            one = self._set(file, model, bank, cases, name, own_task, rows)
            if one is None:
                report(f"{file.digest}: {name} is left out, its edits are no changes of weights")
            else:
                found.append(one)
        if not found:
            return None
        return write_directions(folder / FILE, file.digest, limit, found)

    def _set(
        self,
        file: RunFile,
        model: LanguageModel,
        bank: InstructionBank | None,
        cases: dict[str, tuple[EditCase, ...]],
        name: str,
        own_task: bool,
        rows: _Rows,
    ) -> Directions | None:
        parts: list[Edits] = []
        made: list[tuple[str, str, str]] = []
        for row, tasks in rows:
            editor = editor_of_row(row, self.checkpoints)
            for task in tasks:
                for first in range(0, len(cases[task]), file.spec.chunk):
                    chunk = cases[task][first : first + file.spec.chunk]
                    requests = requests_of(row.instruction, bank, chunk, file.spec.seed)
                    parts.append(edit_each(model, requests, editor, file.spec.seed)[0])  # a failed one is empty
                made += ((row.name, task, case.request.case_id) for case in cases[task])
        edits = Edits.join(parts)
        if not all(isinstance(patch, LowRank | Dense) for edit in edits.patches for patch in edit):
            return None
        products = gram(edits)
        lengths = products.diagonal().sqrt()
        kept = [number for number, length in enumerate(lengths.tolist()) if length > 0]
        cosines = (products / torch.outer(lengths, lengths))[kept][:, kept].numpy()
        about = DirectionSet(
            name=name,
            own_task=own_task,
            rows=tuple(made[number][0] for number in kept),
            tasks=tuple(made[number][1] for number in kept),
            cases=tuple(made[number][2] for number in kept),
            left_out={WITHOUT: len(made) - len(kept)} if len(kept) < len(made) else {},
        )
        return Directions(about, cosines)

    def _language_model(self, file: RunFile, place: Path) -> LanguageModel:
        spec = file.spec
        options = {
            "model": self.model or file.provenance.model,
            "revision": None if self.model else file.provenance.model_revision,
            "dtype": spec.dtype,
            "trust_remote_code": self.trust_remote_code,
        }
        model = self._loader.load(RunConfig.model_validate(options))
        for what, now, then in (
            ("model", model.fingerprint(), spec.model_fingerprint),
            ("tokenizer", model.tokenizer_fingerprint(), spec.tokenizer_fingerprint),
        ):
            _same(place, f"the {what} '{options['model']}'", now, then, "--model")
        return model

    def _cases(self, file: RunFile, limit: int, place: Path) -> dict[str, tuple[EditCase, ...]]:
        spec = file.spec
        if spec.split != "test":
            raise InputError(f"{place}: directions are made of the split 'test', but the run evaluates '{spec.split}'.")
        source = self._source(file, place)
        found = {}
        for task in spec.tasks:
            read = self._facts(file, task, place) or make_task(task, spec.task_options).load(source)
            now = ", ".join(f"{name} {digest}" for name, digest in sorted(read.data.sha256.items()))
            then = ", ".join(f"{name} {digest}" for name, digest in sorted(spec.data[task].items()))
            _same(place, f"the data of '{task}'", now, then, "--data")
            found[task] = choose(choose(read.cases, spec.limit), limit)
        return found

    def _facts(self, file: RunFile, task: str, place: Path) -> TaskCases | None:
        """Return the own facts of a run; None if the task is another one."""
        data = next(data for data in file.data if data.task == task)
        if data.source != SOURCE:
            return None
        if self.facts is None:
            raise InputError(f"{place}: the run has own facts of {', '.join(data.sha256)}; name the file with --facts.")
        return load_facts(self.facts)

    def _source(self, file: RunFile, place: Path) -> Source:
        if self.data is not None:
            return open_source(None if self.data == "embedded" else self.data)
        first = next((data for data in file.data if data.source != SOURCE), None)
        if first is None:
            return open_source(None)
        if first.source == "folder":
            raise InputError(f"{place}: the run has read its data from a folder; name it with --data.")
        revision = f"@{first.revision}" if first.revision else ""
        return open_source(None if first.source == "embedded" else f"hub:{first.source}{revision}")

    def _bank(self, file: RunFile) -> InstructionBank | None:
        if file.spec.instructions is None:
            return None
        bank = read_bank(self.instructions)
        _same(Path(file.digest), "the bank of instructions", bank.digest, file.spec.instructions, "--instructions")
        return bank.with_own_facts(next((data.task for data in file.data if data.source == SOURCE), None))


def _edits_of(row: EditorSpec) -> str:
    """Return a digest of what decides the edits of a trained row."""
    return digest_of(row.model_copy(update={"name": "", "instruction": None, "instructed_probes": "none"}))


def _same(place: Path, what: str, now: str, then: str, option: str) -> None:
    if now != then:
        raise InputError(
            f"{place}: {what} has the digest {now}, but the run was made with {then}; name the right one with {option}."
        )
