"""From folders to the results that a table is made of: which runs, and whether their numbers may stand side by side."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructedit.benchmark.results.guard import read_run
from instructedit.benchmark.results.records import RunFile, RunSummary, find_run
from instructedit.benchmark.results.suite_results import SuiteEntry, SuiteFile, SuiteGroup, find_suite
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.editors.errors import InputError

from .load import load


@dataclass(frozen=True, slots=True)
class Choice:
    """Which runs of a folder are wanted.

    Attributes:
        settings: Settings; None takes all.
        schedule: The one schedule; None takes `single` of a folder of several runs, and a run's own folder as it is.
    """

    settings: tuple[str, ...] | None = None
    schedule: str | None = None

    def __str__(self) -> str:
        """Return the choice in words."""
        words = [f"setting {' or '.join(self.settings)}"] if self.settings else []
        return ", ".join([*words, f"schedule {self.schedule}"] if self.schedule else words)


def read_groups(directories: Sequence[Path], choice: Choice) -> tuple[list[SuiteGroup], tuple[str, ...]]:
    """Read the chosen runs from their cases, those that differ in the seed alone put together.

    Args:
        directories: Folders of runs, or of a run, or indices of suites.
        choice: What is wanted of them.

    Returns:
        The groups, alike in all that a column must not mix, and warnings of what is missing or unlike in them.

    Raises:
        InputError: If there is no such run, a file cannot be read, or two runs may not stand side by side.
    """
    groups: list[SuiteGroup] = []
    warnings: list[str] = []
    for out, suite in _chosen(directories, choice):
        summary = summarise_suite(out, suite)
        groups += summary.groups
        warnings += summary.warnings
    check_alike([group.run for group in groups])
    return groups, tuple(dict.fromkeys(warnings))


def read_runs(directories: Sequence[Path], choice: Choice) -> list[tuple[RunFile, RunSummary]]:
    """Read the chosen runs, each by itself, from their summaries.

    Args:
        directories: Folders of runs, or of a run, or indices of suites.
        choice: What is wanted of them.

    Raises:
        InputError: As `read_groups`.
    """
    runs = [load(out / entry.digest) for out, suite in _chosen(directories, choice) for entry in suite.runs]
    check_alike([run for run, _ in runs])
    return runs


def check_alike(runs: Sequence[RunFile]) -> None:
    """Refuse runs whose numbers may not share a column: see `_decides`.

    Raises:
        InputError: If two differ, with the two, the field and both values.
    """
    for number, run in enumerate(runs):
        ours = _decides(run)
        for other in runs[:number]:
            for what, value in _decides(other).items():
                if what in ours and ours[what] != value:
                    raise InputError(
                        f"Run {other.digest} ({other.spec.setting}) and run {run.digest} ({run.spec.setting}) differ "
                        f"in {what}: {value}, {ours[what]}. A column never mixes the two; make a table of each, or "
                        "choose with --setting and --schedule."
                    )


def _decides(run: RunFile) -> dict[str, Any]:
    """Return what numbers must share to stand in one column; of data, only what two runs both have is compared."""
    spec = run.spec
    return {
        "schedule": spec.schedule,
        "split": spec.split,
        "base model": spec.model_fingerprint[:12],
        "tokenizer": spec.tokenizer_fingerprint[:12],
        "number type": spec.dtype,
        **(
            {}
            if spec.schedule == "single"
            else {"edited tasks": spec.edited, "numbers of edits": spec.at, "edits of a batch": spec.batch_size}
        ),
        **{
            f"data of {task}": {name: of[:12] for name, of in sorted(files.items())}
            for task, files in spec.data.items()
        },
        **{f"reader of {task}": version for task, version in spec.readers.items()},
        "limit": spec.limit,
        "decoding": spec.generation.model_dump(),
        **({"bank of instructions": spec.instructions[:12]} if spec.instructions else {}),
    }


def _chosen(directories: Sequence[Path], choice: Choice) -> Iterator[tuple[Path, SuiteFile]]:
    """Yield the chosen runs of each folder; a run that was met before is passed over."""
    seen: set[str] = set()
    refused: list[SuiteEntry] = []
    found = False
    for directory in directories:
        out, suite, named = _runs(directory)
        # A folder of several runs is searched; a run that is named itself is never passed over in silence.
        schedule = choice.schedule or (None if named else "single")
        taken = []
        for entry in suite.runs:
            fits = entry.setting in (choice.settings or (entry.setting,)) and entry.schedule == (
                schedule or entry.schedule
            )
            if named and not fits:
                raise InputError(
                    f"{directory}: run {entry.digest} has setting {entry.setting} and schedule {entry.schedule}; "
                    f"{choice} was expected."
                )
            if not fits:
                refused.append(entry)
            elif entry.digest not in seen:
                taken.append(entry)
                seen.add(entry.digest)
        if taken:
            found = True
            yield out, suite.model_copy(update={"runs": tuple(taken)})
    if not found:
        wanted = Choice(choice.settings, choice.schedule or "single")
        raise InputError(f"{', '.join(map(str, directories))}: no run with {wanted}; there is {_listed(refused)}.")


def _runs(directory: Path) -> tuple[Path, SuiteFile, bool]:
    """Return the folder of runs, the runs in it, and whether it is one run."""
    if suite := find_suite(directory):
        return *suite, False
    folder = find_run(directory)
    run = read_run(folder / "run.json")
    spec = run.spec
    entry = SuiteEntry(
        label=spec.setting, setting=spec.setting, schedule=spec.schedule, seed=spec.seed, digest=folder.name
    )
    return folder.parent, SuiteFile(name=run.name, runs=(entry,)), True


def _listed(entries: Iterable[SuiteEntry]) -> str:
    kinds = dict.fromkeys(f"{entry.setting} ({entry.schedule})" for entry in entries)
    return ", ".join(kinds) or "none"
