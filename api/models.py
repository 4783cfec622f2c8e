"""A model that can be edited: loading, facts as a user writes them, and editors by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from instructedit.benchmark.run.accumulated import AccumulatedEdit
from instructedit.benchmark.scoring.scoring import NOT_FINITE, is_finite
from instructedit.benchmark.setup.config import EMBEDDED_MODEL
from instructedit.benchmark.setup.model_checks import cannot_edit
from instructedit.editors import EDITORS, Editor, EditRequest, InputError, LanguageModel, did_you_mean, make
from instructedit.editors.editor import EDITOR
from instructedit.editors.files.jsonfile import describe
from instructedit.editors.files.state import parsed, read_object
from instructedit.editors.models.loading import Origin

from .answers import greedy
from .edited import Edited, name_of

Fact = EditRequest | Mapping[str, Any] | Sequence[str]
"""A request, a mapping with `prompt` and `target`, or a pair (prompt, new answer)."""
FIELDS = {"prompt": "prompt", "question": "prompt", "target": "target", "answer": "target", "target_new": "target"}
"""Keys of a fact that have several names."""
OTHERS = ("subject", "old", "instruction", "task", "case_id", "joint")
"""Further keys, those of `EditRequest`."""


@dataclass(frozen=True, slots=True)
class Model:
    """A frozen causal language model; `load` makes one. Edits are data, so its weights never change.

    Attributes:
        language_model: The model with its tokenizer and engine.
        origin: Where it was loaded from.
    """

    language_model: LanguageModel
    origin: Origin

    def __repr__(self) -> str:
        own = self.language_model.model
        return (
            f"Model({name_of(self.origin)!r}, {type(own).__name__}, {own.num_parameters():,} parameters, {own.dtype})"
        )

    def ask(self, prompts: str | Sequence[str], max_new_tokens: int = 32) -> list[str]:
        """Return the greedy answers to some prompts, each up to its natural stop.

        >>> import instructedit
        >>> instructedit.load("embedded").ask("The name of the country which Songs for Braflous is associated with is")
        ['Wuthor.']

        Raises:
            CaseError: If a prompt is empty or longer than the model's context.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        return greedy(self.language_model, prompts, max_new_tokens)

    def edit(
        self,
        facts: Fact | Iterable[Fact],
        editor: str | Editor[Any] = "ft-m",
        *,
        schedule: Literal["batch", "sequential"] = "batch",
        seed: int = 0,
        **options: Any,
    ) -> Edited:
        """Return the model under one edit that carries all facts. The model itself is not changed.

        Args:
            facts: A fact, or several: pairs (prompt, new answer), mappings with `prompt` and `target` and optionally
                `subject`, `old` and `instruction` (rows of a `datasets.Dataset` are such mappings), or `EditRequest`s.
            editor: A registered name (`instructedit list editors`) or an editor; a trained one comes from
                `load_editor`.
            schedule: `batch` makes one joint edit of all facts, `sequential` one on top of the other. They are equal
                for a single fact.
            seed: Of editors that draw random numbers.
            **options: Options of the editor by name (`instructedit list options EDITOR`).

        >>> import instructedit
        >>> model = instructedit.load("embedded")
        >>> options = {"block": 0.381, "lr": 1.2e-3, "steps": 196, "clamp": False}
        >>> edited = model.edit([("Songs for Braflous follows", "Songs for Nelan")], editor="ft-m", **options)
        >>> edited.ask(["Songs for Braflous follows"]).after
        ('Songs for Nelan.',)

        Raises:
            InputError: If a fact, the editor or an option cannot be used, or no fact could be edited in.
        """
        if schedule not in ("batch", "sequential"):
            raise InputError(f"schedule: found {schedule!r}, 'batch' or 'sequential' was expected.")
        own, requests = editor_of(editor, options), requests_of(facts)
        if (reason := cannot_edit(own, self.language_model)) is not None:
            raise InputError(reason)
        started = perf_counter()
        made = _made(self.language_model, own, requests, schedule, seed)
        done = tuple(request for request in requests if request.case_id not in made.failures)
        if not done:
            raise InputError(next(iter(made.failures.values())))
        seconds = perf_counter() - started
        return Edited(self.language_model, self.origin, own, done, made.edits, made.failures, seconds)


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | None = None,
    device_map: str | Mapping[str, int | str] | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """Load a model.

    Args:
        name: A folder, a GGUF file, a hub id, or `embedded` for the small model of this package.
        revision: Commit, branch or tag of a hub model.
        dtype: `float32`, `bfloat16` or `float16`. Edits are computed in float32 at least.
        device: `cpu`, `cuda`, `cuda:1`; by default a GPU if there is one.
        device_map: For models larger than one card, as in accelerate; excludes `device`.
        trust_remote_code: Whether code in the model's repository may run.

    Raises:
        InputError: If there is no such model or device, or it cannot be used.
    """
    origin = Origin(EMBEDDED_MODEL if name == "embedded" else name, revision, trust_remote_code)
    found = LanguageModel.load(
        origin.name,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    return Model(found, origin)


def load_editor(folder: str | Path) -> Editor[Any]:
    """Return the trained editor of a checkpoint, such as `results/checkpoints/mend-...` of a run.

    Raises:
        InputError: If the folder holds none.
        DamagedError: If a file is not what was written.
    """
    path = Path(folder) / EDITOR
    if not path.is_file():
        raise InputError(f"{path}: no such file; a checkpoint of a trained editor was expected.")
    outline = read_object(path)
    with parsed(path):
        name = str(outline["name"])
    return EDITORS.get(name).load(Path(folder))


def editor_of(editor: str | Editor[Any], options: Mapping[str, Any]) -> Editor[Any]:
    """Return an editor by name and options, or the given one; `InputError` if it is unknown or has to be trained."""
    if isinstance(editor, Editor):
        if options:
            raise InputError(f"Options ({', '.join(options)}) belong to an editor's name; this one has its options.")
        return editor
    kind = EDITORS.get(editor)
    if kind.trains:
        raise InputError(
            f"The editor '{editor}' has to be trained first (`instructedit run`); its checkpoint was expected: "
            f"editor=instructedit.load_editor(FOLDER) or --editor FOLDER, e.g. results/checkpoints/{editor}-..."
        )
    return make(kind, dict(options))


def requests_of(facts: Fact | Iterable[Fact]) -> list[EditRequest]:
    """Return facts as requests, with ids `own/edit/ROW` where they have none.

    >>> [request.target for request in requests_of([("A is", "b"), {"question": "Who is C?", "answer": "d"}])]
    ['b', 'd']

    Raises:
        InputError: If a row is none; with its number, from 0.
    """
    several = isinstance(facts, Iterable) and not isinstance(facts, str | Mapping)
    one = several and isinstance(facts, tuple) and len(facts) == 2 and all(isinstance(part, str) for part in facts)
    rows: list[Any] = list(facts) if several and not one else [facts]  # type: ignore[arg-type]
    found = [_request(row, number) for number, row in enumerate(rows)]
    if not found:
        raise InputError("facts: found none, at least one was expected.")
    ids = [request.case_id for request in found]
    if len(set(ids)) < len(ids):
        raise InputError(f"facts: two rows have the id '{next(one for one in ids if ids.count(one) > 1)}'.")
    return found


def _request(row: Any, number: int) -> EditRequest:
    if isinstance(row, EditRequest):
        return row
    place = f"facts, row {number}"
    if isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 2:
        row = dict(zip(("prompt", "target"), row, strict=True))
    if not isinstance(row, Mapping):
        expected = "a pair (prompt, new answer) or a mapping with 'prompt' and 'target' was expected"
        raise InputError(f"{place}: found {describe(row)}, {expected}.")
    fields: dict[str, Any] = {}
    for key, value in row.items():
        name = FIELDS.get(key, key)
        if name not in ("prompt", "target", *OTHERS):
            raise InputError(f"{place}: unknown key '{key}'.{did_you_mean(str(key), [*FIELDS, *OTHERS])}")
        if value is not None:
            if name in fields:
                raise InputError(f"{place}: the {name} is given twice, the second time as '{key}'.")
            if not isinstance(value, str) or not (value.strip() or name == "joint"):
                raise InputError(f"{place}, '{key}': found {describe(value)}, a text was expected.")
            fields[name] = value
    for name in ("prompt", "target"):
        if name not in fields:
            raise InputError(f"{place}: no '{name}'; the question and its new answer were expected.")
        fields[name] = fields[name].rstrip() if name == "prompt" else fields[name].lstrip()
    return EditRequest(**{"case_id": f"own/edit/{number}", "task": "own", "subject": "", **fields})


def _made(
    model: LanguageModel, editor: Editor[Any], requests: Sequence[EditRequest], schedule: str, seed: int
) -> AccumulatedEdit:
    if len(requests) == 1:
        edits = editor.edit(model, requests, seed)
        if not is_finite(edits):
            raise InputError(NOT_FINITE)
        return AccumulatedEdit(edits, 1)
    if schedule == "sequential":
        made = AccumulatedEdit()
        for request in requests:
            made.add(model, editor, request, seed)
        return made
    made = AccumulatedEdit.together(model, editor, requests, seed)
    if len(made.failures) == len(requests) and type(editor).edit_together is Editor.edit_together:
        reason = next(iter(made.failures.values()))
        raise InputError(f"{reason.removesuffix('.')}, expected schedule = 'sequential'.")
    return made
