"""Layouts of data that no task reads, recognised by their fields, each with a sentence on how to bring it in."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from instructedit.editors import InputError
from instructedit.editors.files.jsonfile import decoder, describe

from .fact_columns import reads
from .registry import TASKS

_HEAD = 2**20
"""Characters of a file that are searched for its first record."""
_FILE = "FILE"
"""Stands for the name of a file in sentences on several of them."""
_FILES = 4
"""Maximum number of files of a folder that are described."""
_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv")

_CONVERT = (
    "write the facts as a table with the columns prompt and target (`instructedit facts template` writes one to fill "
    "in) and run `instructedit run facts.csv`; docs/guides/own-facts.md says more"
)


class ForeignLayout(NamedTuple):
    """A layout that no task reads, and how to convert it; no advice if a file of it is read as own facts."""

    title: str
    fits: Callable[[Mapping[str, object]], bool]
    advice: str | None = None


FOREIGN_LAYOUTS = (
    ForeignLayout(
        "MQuAKE's layout (a list 'requested_rewrite')",
        lambda record: isinstance(record.get("requested_rewrite"), list),
        "write each edit of 'requested_rewrite' as a record with 'subject', 'prompt' (the subject in place of {}), "
        "'target_new' and 'old' (the 'str' of target_new and target_true), and 'portability' (questions) with "
        "'portability_answer' (new_answer), into the JSON array facts.json and run `instructedit run facts.json`",
    ),
    ForeignLayout(
        "ROME's and MEMIT's layout of CounterFact ('requested_rewrite')",
        lambda record: isinstance(record.get("requested_rewrite"), Mapping),
    ),
    ForeignLayout(
        "RippleEdits' layout ('edit' and lists of 'test_queries')",
        lambda record: isinstance(record.get("edit"), Mapping),
        "KnowEdit has these data in a layout that is read (--data hub, tasks recent and counterfact); else write each "
        "edit as a record with 'subject', 'prompt' (without its last words, the answer), 'target_new' (that answer), "
        'and the test_queries as {"prompt": ..., "ground_truth": [answers and aliases]} in lists under \'portability\' '
        "and 'locality', into the JSON array facts.json and run `instructedit run facts.json`",
    ),
    ForeignLayout(
        "the layout of EasyEdit's edit() (an object of parallel lists)",
        lambda record: isinstance(record.get("prompts"), list),
    ),
    ForeignLayout(
        "the layout of KnowEdit's WikiBio ('concept', 'text', 'labels')",
        lambda record: {"concept", "labels", "target_new"} <= record.keys(),
        "no task edits whole passages yet; records of its 'subject', 'prompt', 'target_new' and 'locality' alone are "
        "read by `instructedit run facts.json`",
    ),
)


def advice(record: Mapping[str, object], file: str | Path = _FILE) -> str | None:
    """Return how to bring in a record of a foreign layout, or who reads it; None if neither is known."""
    own = f"`instructedit run {file}` reads it as own facts"
    for layout in FOREIGN_LAYOUTS:
        if layout.fits(record):
            where = "which no task reads" if layout.advice is None else "which no reader reads"
            return f"is in {layout.title}, {where}{'; ' if layout.advice is None else ': '}{layout.advice or own}"
    if tasks := _readers(record):
        return f"is read by {_options(tasks)}"
    return f"is in no task's layout, but {own}" if reads(record) else None


def unread_layout(record: Mapping[str, object]) -> str | None:
    """Return what is to be done with a record that cannot be read as a fact; None if its layout is none of those."""
    if any(layout.advice and layout.fits(record) for layout in FOREIGN_LAYOUTS):
        return advice(record)
    if reads(record) or "requested_rewrite" in record or not (tasks := _readers(record)):
        return None
    return f"is read by {_options(tasks)}, from the folder that --data names"


def suggestion(field: str, known: Collection[str], task: str) -> str:
    """Return a hint on an unread field: which other tasks read it, or the nearest field that this task reads."""
    bare = field.rpartition(".")[2]
    others = [] if "." in field else [name for name in _readers({bare}, all_required=False) if name != task]
    if others:
        return f"read by {_options(others)}"
    near = get_close_matches(bare, sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def describe_file(path: Path) -> str:
    """Return what a file is and how to convert it, as the end of a sentence that begins with its name."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return f"is a table, which no task reads; `instructedit run {path}` reads it as own facts"
    record = _first_record(path)
    if record is None:
        return f"holds no JSON records: {_CONVERT}"
    fields = ", ".join(map(describe, list(record)[:8]))
    return advice(record, path) or f"has records of {fields}, which no reader reads: {_CONVERT}"


def describe_folder(folder: Path) -> str:
    """Return a sentence for each kind of data file in a folder that lacks the expected file; empty if it has none."""
    files = [path for path in _files(folder) if path.suffix.lower() in _SUFFIXES]
    kinds: dict[str, list[str]] = {}
    for path in files[:_FILES]:
        name, what = path.relative_to(folder).as_posix(), describe_file(path).replace(str(path), _FILE)
        bare = name.removeprefix("benchmark/")
        by_name = [task for task, kind in _tasks() if any(bare in files for files in kind.files.values())]
        if by_name and not what.startswith("is in "):
            what = f"is read by {_options(by_name)}"
        kinds.setdefault(what, []).append(name)
    found = ""
    for what, (first, *more) in kinds.items():
        names = f"{first} (and {', '.join(more)})" if more else first
        found += f" But {names} {what.replace(_FILE, str(folder / first))}."
    return found + (f" {len(files) - _FILES} more data files are there." if len(files) > _FILES else "")


def _readers(fields: Collection[str], *, all_required: bool = True) -> list[str]:
    """Return the tasks that read most of some fields; by default only those whose required fields are all there."""
    present = set(fields)
    read = {
        name: len(present & set(task.fields))
        for name, task in _tasks()
        if not all_required or any(set(required) <= present for required in task.required)
    }
    most = max(read.values(), default=0)
    return [name for name, count in read.items() if most and count == most]


def _tasks() -> Iterator[tuple[str, Any]]:
    """Yield the registered tasks by name; those of a package that cannot be imported are left out."""
    for name in TASKS:
        try:
            task = TASKS.get(name)
        except InputError:
            continue
        yield name, task


def _first_record(path: Path) -> Mapping[str, object] | None:
    """Return the first record of a JSON array or of JSON lines, or the one object of a JSON file; None if none."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_HEAD).lstrip()
        value, _ = decoder().raw_decode(text.removeprefix("[").lstrip())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping) else None


def _files(folder: Path) -> list[Path]:
    try:
        visible = [path for path in sorted(folder.iterdir()) if path.is_file() or not path.name.startswith(".")]
        nested = [sorted(path.iterdir()) if path.is_dir() else [path] for path in visible]
    except OSError:
        return []
    return [path for paths in nested for path in paths if path.is_file()]


def _options(names: Iterable[str]) -> str:
    return " and ".join(f"--task {name}" for name in names)
