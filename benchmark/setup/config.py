"""The configuration of a run: a preset or a TOML file, overridden by options of the command line."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from instructedit.editors import EDITORS
from instructedit.editors.errors import InputError, did_you_mean
from instructedit.editors.files.jsonfile import DEEPEST, MOST_DIGITS, describe, read_text
from instructedit.editors.files.strict import complaint, validated

from ..results.records import GenerationSpec, Schedule, Split
from ..tasks.facts import SUFFIXES, facts_task
from .origin import Origin

PRESETS = Path(str(resources.files("instructedit.benchmark"))) / "presets"
EMBEDDED_MODEL = Path(str(resources.files("instructedit.benchmark"))) / "embedded" / "model"

PROBES = "instructed_probes"
"""Key of a row for which of its probes carry the instruction."""

MOST_BYTES = 10**7
"""Maximum size of a TOML file."""
LONGEST = 10_000
"""Maximum number of characters of a text in it."""

Positive = Annotated[int, Field(ge=1)]
Sampling = Literal["balanced", "proportional"] | dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class RunConfig(BaseModel):
    """The configuration of a run. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = ""
    """One line for `instructedit list presets`."""
    setting: str = "direct"
    """The tasks that train the editors and those that are evaluated; see `instructedit list settings`."""
    schedule: Schedule = "single"
    edited: tuple[str, ...] | None = None
    """Tasks whose cases `batch` and `sequential` edit; None: all evaluated ones that `held_out` does not name, or all
    if none is left."""
    batch_size: Positive | None = None
    """Edits of one joint edit of `batch`, each made on the clean model; the last may have fewer. None: all in one."""
    at: tuple[Positive, ...] = ()
    """Numbers of edits after which `sequential` scores all cases edited so far."""
    model: str = "embedded"
    """`embedded`, a folder, or a hub id."""
    revision: str | None = None
    """Commit, branch or tag of a hub model."""
    trust_remote_code: bool = False
    """Whether code in the model's folder or repository may run; read it first."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    data: str = "embedded"
    """`embedded`, a folder in KnowEdit's layout, or `hub[:OWNER/NAME[@REVISION]]`."""
    tasks: tuple[str, ...] = ("recent", "counterfact", "zsre", "convsent")
    """Evaluated tasks, of which a setting may leave some out."""
    facts: str | None = None
    """File of own facts: one more task, named after the file, or the only one where `tasks` is not given. It is
    evaluated in every setting and never trained on."""
    task_options: dict[str, dict[str, Any]] = {}
    """Options of tasks by name, e.g. `[task_options.convsent]` with `edit = "reply"`."""
    split: Split = "test"
    """Evaluated split; choose hyper-parameters on `train` or, of trained editors, on `validation`."""
    editors: dict[str, dict[str, Any]] = {"none": {}}
    """Options of each editor by the name of its row, in order. The name is that of the editor unless `method` gives it,
    so one run can hold several variants of a method. `extends` names a row whose options are inherited.
    `instructed_probes` is `none`, `all but locality` or `all`: which probes carry the instruction; by default it is the
    editor's choice."""
    train: tuple[str, ...] = ()
    """Tasks that editors are trained on, in the order in which `task-scaling` adds them; empty: as the setting has
    it."""
    held_out: tuple[str, ...] = ()
    """Tasks that `hold-out` leaves out, one at a time; empty: zsre. No run trains on their test subjects."""
    train_limit: Positive | dict[str, Positive] | None = None
    """Maximum number of training cases of each task, or by task; it includes those for validation."""
    sampling: Sampling = "balanced"
    """How often a task is drawn in training: all alike, in proportion to their cases, or by given weights."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Fraction of the training subjects that is kept for validation."""
    instructions: str = "default"
    """`default` for the shipped bank of instructions, or a JSON file."""
    instruction: str = "seen"
    """Condition under which instructed editors get their instructions when they are evaluated."""
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of evaluated cases per task."""
    seed: int = 0
    chunk: int = Field(default=8, ge=1)
    """Cases that are edited and scored together. Most editors gain little from more; GRACE takes half the time of 8 in
    chunks of 32."""
    chat: str = "none"
    """Text around every prompt, of edits and probes alike: `none`, `template` (the model's own chat template), or a
    named context, `wild`."""
    fluency: bool = True
    generation: GenerationSpec = GenerationSpec()
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @property
    def origin(self) -> Origin:
        """Where it was written."""
        return self._origin

    @field_validator("tasks", "train", "held_out", "edited")
    @classmethod
    def _once(cls, tasks: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if tasks is not None and len(set(tasks)) < len(tasks):
            raise ValueError("each task may be named once")
        return tasks

    @model_validator(mode="after")
    def _with_facts(self) -> Self:
        if self.facts_task is not None and self.facts_task not in self.tasks:
            tasks = self.tasks if "tasks" in self.model_fields_set else ()
            self.__dict__["tasks"] = (*tasks, self.facts_task)  # the model is frozen for all others
        return self

    @property
    def facts_task(self) -> str | None:
        """Name of the task that the own facts are; None without any."""
        return facts_task(self.facts) if self.facts is not None else None

    @field_validator("editors")
    @classmethod
    def _extended(cls, editors: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {row: _extend(editors, row) for row in editors}


def _extend(editors: Mapping[str, Mapping[str, Any]], row: str) -> dict[str, Any]:
    own = dict(editors[row])
    if "extends" not in own:
        return own
    name = own.pop("extends")
    if not isinstance(name, str) or name == row or "extends" in editors.get(name, {"extends": None}):
        raise ValueError(f"the row '{row}' extends {name!r}, but the name of a row that extends none was expected")
    return {"method": name, **editors[name], **own}


class SuiteRun(NamedTuple):
    """One run of a preset, with a label that is unique among the runs of the same seed."""

    label: str
    config: RunConfig


def presets() -> list[str]:
    """Return the names of the shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_suite(
    name: str,
    given: Mapping[str, Any] | None = None,
    *,
    setting: str | None = None,
    seeds: Sequence[int] = (),
    editors: Sequence[str] = (),
    added: Sequence[str] = (),
) -> tuple[SuiteRun, ...]:
    """Read the runs of a preset, or of a TOML file.

    Without tables `[[runs]]` the file is one run. Each such table is a run of its own: its keys replace those at the
    top, `only` names the rows of editors that take part, and `name` is the label of the run, by default its setting.
    `seeds` at the top repeats each run for each seed.

    Args:
        name: A preset's name, or a path that ends in `.toml`.
        given: Keys that replace those of every run; editors are picked by `editors`.
        setting: Only the runs of this setting; if there is none, the keys at the top with this setting.
        seeds: Instead of the file's seeds.
        editors: Only these rows; one that the file does not have is added with its defaults to every run.
        added: Editors that are added with their defaults to every run, beside its rows.

    Raises:
        InputError: If there is no such file, or it is broken, or a key is unknown or mistyped.
    """
    top = read_document(name)
    tables = _tables(top, name)
    several = tables != [{}]
    own_seeds = _seeds(top, tables, name)
    wanted = seeds or own_seeds
    if setting is not None:
        tables = [table for table in tables if _setting(top, table) == setting] or [{"setting": setting}]
    runs = {_label(top, table): _options(top, table, name) for table in tables}
    if len(runs) < len(tables):
        raise InputError(f"{name}: two runs have the same name; give each its own.")
    known = {row for options, _ in runs.values() for row in options["editors"]}
    if twice := [row for row in added if row in known]:
        found_row = f"--add-editor: {name} has a row '{twice[0]}' already"
        raise InputError(f"{found_row}; expected an editor that it does not have.")
    for option, names in (("--editor", editors), ("--add-editor", added)):
        if missing := [row for row in names if row not in known and row not in EDITORS]:
            raise InputError(
                f"{option}: there is no editor '{missing[0]}', and no row of that name in {name}."
                f"{did_you_mean(missing[0], list({*known, *EDITORS}))}"
            )
    found = []
    for label, (options, every) in runs.items():
        rows = options["editors"]
        if editors:
            rows = {row: rows.get(row, {}) for row in editors if row in rows or row not in known}
        if rows or not editors:
            rows = {**rows, **{row: {} for row in added if row not in rows}}
            origin = Origin(name, label if several else None, frozenset(given or ()), every)
            config = make_config({**options, **(given or {}), "editors": rows}, origin)
            found.append(SuiteRun(label, config))
    seeded = [SuiteRun(label, own.model_copy(update={"seed": seed})) for seed in wanted for label, own in found]
    return tuple(seeded if wanted else found)


def make_config(options: Mapping[str, Any], origin: Origin | str) -> RunConfig:
    """Check plain options, without any conversion; an `InputError` names the `origin` of an unknown or mistyped key."""
    origin = Origin(origin) if isinstance(origin, str) else origin
    try:
        config = validated(RunConfig, options)
    except ValidationError as error:
        key, unknown, text = complaint(error, RunConfig, options)
        if unknown:
            raise InputError(f"{origin.place}: unknown key '{key}'.{text}") from error
        raise InputError(f"{origin.of(key)}: {text}.") from error
    config._origin = origin
    return config


def read_document(name: str) -> dict[str, Any]:
    """Return a preset, or a TOML file, as it is written; `InputError` if there is no such file, or it is broken."""
    path = PRESETS / f"{name}.toml" if name in presets() else Path(name)
    if path.suffix != ".toml":
        raise InputError(
            f"Unknown preset '{name}'.{did_you_mean(name, presets())} A file is named by its path, which ends in "
            f".toml, of own facts in {', '.join(SUFFIXES)}."
        )
    text = read_text(path, "a TOML file", MOST_BYTES)
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise InputError(f"{path}: found more than {DEEPEST} levels of nesting, a few were expected.") from error
    except ValueError as error:  # numbers of thousands of digits and impossible dates too
        raise InputError(f"{path}: not valid TOML: {str(error).rstrip('.')}.") from error
    _check(document, str(path))
    return document


def _check(value: object, place: str, keys: tuple[str, ...] = ()) -> None:
    found = _wrong(value) if len(keys) <= DEEPEST else f"more than {DEEPEST} levels of nesting, a few were"
    if found is not None:
        raise InputError(f"{place}: key '{'.'.join(keys)[:100]}': found {found} expected.")
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if keys == ("runs",) and isinstance(item, dict):
            _check(item, f"{place}, run '{str(item.get('name', item.get('setting', key)))[:100]}'")
        else:
            _check(item, place, (*keys, str(key)))


def _wrong(value: object) -> str | None:
    """Return what is wrong with a value under any key, and what was expected; None if nothing."""
    match value:
        case str() if len(value) > LONGEST:
            return f"a text of {len(value):,} characters, at most {LONGEST:,} were"
        case int() if abs(value) >= 10**MOST_DIGITS:
            return f"{describe(value)}, at most {MOST_DIGITS} digits were"
        case float() if not math.isfinite(value):
            return f"{value}, a finite number was"
        case date() | time():
            return "a date or time, a text, a number, a truth value, a list or a table was"
    return None


def _tables(top: dict[str, Any], origin: str) -> list[dict[str, Any]]:
    tables = top.pop("runs", [{}])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{origin}: key 'runs': found {describe(tables)}, one or more tables [[runs]] were expected.")
    for number, table in enumerate(tables):
        if not isinstance(table.get("name", ""), str) or not table.get("name", "x").strip():
            raise InputError(
                f"{origin}: key 'runs.{number}.name': found {describe(table['name'])}, a name was expected."
            )
    return tables


def _seeds(top: dict[str, Any], tables: Sequence[Mapping[str, Any]], origin: str) -> list[int]:
    """Take the seeds out of the options; empty where the options name one seed or none."""
    seeds = top.pop("seeds", None)
    if seeds is None:
        return []
    numbers = isinstance(seeds, list) and bool(seeds) and all(type(seed) is int for seed in seeds)
    if not numbers or len(set(seeds)) < len(seeds) or any("seed" in part for part in (top, *tables)):
        raise InputError(
            f"{origin}: key 'seeds': found {describe(seeds)}, different whole numbers and no 'seed' were expected."
        )
    return list(seeds)


def _setting(top: Mapping[str, Any], table: Mapping[str, Any]) -> object:
    return {"setting": RunConfig.model_fields["setting"].default, **top, **table}["setting"]


def _label(top: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    return str(table.get("name", _setting(top, table)))


def _options(
    top: Mapping[str, Any], table: Mapping[str, Any], origin: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the options of one run, checked, with the rows of editors that take part in it; and all rows."""
    written = Origin(origin, _label(top, table) if table else None)
    place = written.place
    options = {**top, **{key: value for key, value in table.items() if key not in ("name", "only")}}
    rows = make_config(options, written).editors
    only = table.get("only", list(rows))
    for row in only if isinstance(only, list) else [only]:
        if not isinstance(row, str) or row not in rows:
            shown = repr(row) if isinstance(row, str) else describe(row)
            raise InputError(
                f"{place}: key 'only': no row {shown} among the editors.{did_you_mean(str(row), list(rows))}"
            )
    return {**options, "editors": {row: own for row, own in rows.items() if row in only}}, rows
