"""Layouts of data that no reader reads, known by their fields, each with a sentence on how to bring it in."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from instructedit.editors import InputError
from instructedit.editors.files.jsonfile import decoder, describe

_FIRST = 2**20
"""Characters of a file that are looked at to find its first record."""
_FILES = 4
"""Files of a folder that are described."""
_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv")

_OWN = (
    'write each edit as {"subject": ..., "prompt": ..., "target_new": ..., "rephrase_prompt": ..., "locality": '
    '{"Neighborhood": [{"prompt": ..., "ground_truth": ...}]}} (the first three are required) into the JSON array '
    "wiki_counterfact/test_cf.json and run --task counterfact; docs/tasks.md says more"
)


class Layout(NamedTuple):
    """A layout that no reader reads.

    Attributes:
        title: Whose it is.
        fits: Tells by its fields whether a record has it.
        advice: How to bring it in.
    """

    title: str
    fits: Callable[[Mapping[str, object]], bool]
    advice: str


LAYOUTS = (
    Layout(
        "MQuAKE's layout (a list 'requested_rewrite')",
        lambda record: isinstance(record.get("requested_rewrite"), list),
        "write each edit of 'requested_rewrite' as a record with 'subject', 'prompt' (the subject in place of {}) and "
        "'target_new' (its 'str'), 'questions' with 'new_answer' as \"portability\": {\"Reasoning\": [{\"prompt\": "
        '..., "ground_truth": ...}]}, into the JSON array wiki_counterfact/test_cf.json and run --task counterfact',
    ),
    Layout(
        "ROME's and MEMIT's layout of CounterFact ('requested_rewrite')",
        lambda record: isinstance(record.get("requested_rewrite"), Mapping),
        "write each case as a flat record with 'subject', 'prompt' (the subject in place of {}), 'target_new' and "
        "'ground_truth' (the 'str' of target_new and target_true), 'rephrase_prompt' (of paraphrase_prompts), "
        "'locality_prompt' (of neighborhood_prompts) and 'locality_ground_truth' (target_true) into the JSON array "
        "counterfact/counterfact-edit.json and run --task rome-counterfact",
    ),
    Layout(
        "RippleEdits' layout ('edit' and lists of 'test_queries')",
        lambda record: isinstance(record.get("edit"), Mapping),
        "KnowEdit has these data in a layout that is read (--data hub, tasks recent and counterfact); else write each "
        "edit as a record with 'subject', 'prompt' (without its last words, the answer), 'target_new' (that answer), "
        'and the test_queries as {"prompt": ..., "ground_truth": [answers and aliases]} in lists under \'portability\' '
        "and 'locality', into the JSON array wiki_recent/recent_test.json and run --task recent",
    ),
    Layout(
        "the layout of EasyEdit's edit() (an object of parallel lists)",
        lambda record: "prompts" in record and isinstance(record.get("prompts"), list),
        f"make one record of each place in the lists: {_OWN}",
    ),
    Layout(
        "the layout of KnowEdit's WikiBio ('concept', 'text', 'labels')",
        lambda record: {"concept", "labels", "target_new"} <= record.keys(),
        "no task edits whole passages yet; its 'subject', 'prompt', 'target_new' and 'locality' are read where "
        "the file is called wiki_counterfact/test_cf.json, by --task counterfact",
    ),
)


def advice(record: Mapping[str, object], but: str | None = None) -> str | None:
    """Return how to bring in a record: the layout that no reader reads, or the tasks whose readers read most of it.

    Args:
        record: The record.
        but: Task whose reader could not read it.
    """
    for layout in LAYOUTS:
        if layout.fits(record):
            return f"is in {layout.title}, which no reader reads: {layout.advice}"
    tasks = readers(record)
    if tasks and but not in tasks:
        return f"is read by {_tasks(tasks)}"
    return None


def readers(names: Collection[str], *, every: bool = True) -> tuple[str, ...]:
    """Return the tasks whose readers read the most of some fields.

    Args:
        names: The fields.
        every: Whether all that a reader requires must be among them.
    """
    from .base import TASKS

    wanted = set(names)
    scores: dict[str, int] = {}
    for name in TASKS:
        try:
            task = TASKS.get(name)
        except InputError:  # somebody's package that cannot be imported
            continue
        if not every or any(set(required) <= wanted for required in task.required):
            scores[name] = len(wanted & set(task.fields))
    best = max(scores.values(), default=0)
    return tuple(name for name, score in scores.items() if best and score == best)


def suggestion(field: str, known: Collection[str], task: str) -> str:
    """Return what to say of a field that a reader does not read: whose reader does, or the nearest that it does."""
    bare = field.rpartition(".")[2]
    others = () if "." in field else tuple(name for name in readers({bare}, every=False) if name != task)
    if others:
        return f"read by {_tasks(others)}"
    near = get_close_matches(bare, sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def describe_file(path: Path) -> str:
    """Return what a file is and how to bring it in, as the end of a sentence that begins with its name."""
    return ": ".join(_told(path))


def describe_folder(folder: Path, names: Mapping[str, tuple[str, ...]]) -> str:
    """Return a sentence on the data files that a folder holds instead of the one that was looked for; empty if none.

    Args:
        folder: The folder.
        names: Accepted file names of each task.
    """
    files = [path for path in _files(folder) if path.suffix.lower() in _SUFFIXES]
    found: dict[str, dict[str, list[str]]] = {}
    for path in files[:_FILES]:
        name = path.relative_to(folder).as_posix()
        what, *how = _told(path)
        if not what.startswith("is in "):
            by_name = [task for task, accepted in names.items() if name.removeprefix("benchmark/") in accepted]
            what, how = (f"is read by {_tasks(by_name)}", []) if by_name else (what, how)
        found.setdefault("".join(how), {}).setdefault(what, []).append(name)
    sentences = [
        f" But {', '.join(f'{_and(own)} {what}' for what, own in kinds.items())}{f': {how}' if how else ''}."
        for how, kinds in found.items()
    ]
    return "".join(sentences) + (f" {len(files) - _FILES} more data files are there." if len(files) > _FILES else "")


def _told(path: Path) -> tuple[str, ...]:
    """Return what a file is, and how to bring it in where no reader reads it."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return "is a table, which no reader reads", _OWN
    record = first_record(path)
    if record is None:
        return "holds no JSON records", _OWN
    for layout in LAYOUTS:
        if layout.fits(record):
            return f"is in {layout.title}, which no reader reads", layout.advice
    if tasks := readers(record):
        return (f"is read by {_tasks(tasks)}",)
    return f"has records of {', '.join(map(describe, list(record)[:8]))}, which no reader reads", _OWN


def _and(names: list[str]) -> str:
    """Return names of files as the singular subject of a sentence."""
    return names[0] + (f" (and {', '.join(names[1:])})" if names[1:] else "")


def first_record(path: Path) -> Mapping[str, object] | None:
    """Return the first record of a JSON array or of JSON lines, or the one object of a JSON file; None if none."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_FIRST).lstrip()
        value, _ = decoder().raw_decode(text.removeprefix("[").lstrip())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping) else None


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of the folders in it, by name."""
    try:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from sorted(inner for inner in path.iterdir() if inner.is_file())
            elif path.is_file():
                yield path
    except OSError:
        return


def _tasks(names: Iterable[str]) -> str:
    return " and ".join(f"--task {name}" for name in names)
