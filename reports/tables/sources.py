"""From folders to the results of a table: which runs, and whether their numbers may share a column."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from instructedit.benchmark.results.integrity import read_finished, read_run
from instructedit.benchmark.results.records import RunFile, RunSummary, find_run
from instructedit.benchmark.results.suite_results import (
    SeedMean,
    SeedPair,
    SuiteEntry,
    SuiteFile,
    SuiteGroup,
    find_suite,
    find_suites,
)
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.benchmark.scoring.rules import DEFAULT, RULES
from instructedit.editors.errors import InputError


def read_groups(
    directories: Sequence[Path], settings: Sequence[str] | None, schedule: str | None
) -> tuple[list[SuiteGroup], tuple[str, ...]]:
    """Read the chosen runs from their cases; runs that differ only in the seed form a group.

    Args:
        directories: Folders of runs, folders of one run, or indices of suites.
        settings: Wanted settings; None takes all.
        schedule: Wanted schedule; None takes `single` of a folder of several runs, and any of a run's own folder.

    Returns:
        The groups, equal in all that a column must not mix, and warnings of what is missing or unequal in them.

    Raises:
        InputError: If there is no such run, a file cannot be read, or two runs may not share a column.
    """
    summaries = [summarise_suite(out, suite) for out, suite in _chosen(directories, settings, schedule)]
    groups = [group for summary in summaries for group in summary.groups]
    check_comparable([group.run for group in groups])
    return groups, tuple(dict.fromkeys(text for summary in summaries for text in summary.warnings))


def read_runs(
    directories: Sequence[Path], settings: Sequence[str] | None, schedule: str | None
) -> list[tuple[RunFile, RunSummary]]:
    """Read the chosen runs, each separately, from their summaries; arguments and errors as `read_groups`."""
    chosen = _chosen(directories, settings, schedule)
    runs = [read_finished(out / entry.digest) for out, suite in chosen for entry in suite.runs]
    check_comparable([run for run, _ in runs])
    return runs


def group_of(run: RunFile, summary: RunSummary) -> SuiteGroup:
    """Return the numbers of one run, over the subsets of a case, as those of a group of one seed."""
    return SuiteGroup(
        label=run.spec.setting,
        run=run,
        seeds=(run.spec.seed,),
        digests=(run.digest,),
        failed={},
        means=tuple(
            SeedMean(row=mean.editor, per_seed=(mean.mean,), **mean.model_dump(exclude={"editor", "subset"}))
            for mean in summary.means
            if mean.subset is None
        ),
        comparisons=(),
        pairs=tuple(SeedPair(row=pair.editor, **pair.model_dump(exclude={"editor"})) for pair in summary.comparisons),
        health=summary.health,
    )


def read_suites(directories: Sequence[Path]) -> list[tuple[Path, SuiteFile]]:
    """Return the folder of runs and the index of each suite in some folders, each run once; a run is one of its own.

    Raises:
        InputError: If a folder has neither, or an index cannot be read.
    """
    found, seen = [], set()
    for directory in directories:
        for out, suite in find_suites(directory) or [_alone(directory)]:
            runs = tuple(entry for entry in suite.runs if (out.resolve(), entry.digest) not in seen)
            seen |= {(out.resolve(), entry.digest) for entry in runs}
            if runs:
                found.append((out, suite.model_copy(update={"runs": runs})))
    return found


def check_comparable(runs: Sequence[RunFile]) -> None:
    """Refuse runs whose numbers may not share a column.

    Raises:
        InputError: If two runs differ in one of `_conditions`, with both values.
    """
    for number, run in enumerate(runs):
        own = _conditions(run)
        for other in runs[:number]:
            for what, value in _conditions(other).items():
                if what in own and own[what] != value:
                    raise InputError(
                        f"Run {other.digest} ({other.spec.setting}) and run {run.digest} ({run.spec.setting}) differ "
                        f"in {what}: {value}, {own[what]}. A column never mixes the two; make a table of each, or "
                        "choose with --setting and --schedule."
                    )


def _conditions(run: RunFile) -> dict[str, Any]:
    """Return what the numbers of a column must share. Of two runs only conditions that both have are compared."""
    spec = run.spec
    found: dict[str, Any] = {
        "schedule": spec.schedule,
        "split": spec.split,
        "base model": spec.model_fingerprint[:12],
        "tokenizer": spec.tokenizer_fingerprint[:12],
        "dtype": spec.dtype,
    }
    if spec.schedule != "single":
        found |= {"edited tasks": spec.edited, "numbers of edits": spec.at, "edits of a batch": spec.batch_size}
    for task, files in spec.data.items():
        found[f"data of {task}"] = {name: digest[:12] for name, digest in sorted(files.items())}
    found |= {f"reader of {task}": version for task, version in spec.readers.items()}
    again = spec.rescored
    found["rule of free generation"] = f"{again.rule} {again.code or ''}".strip() if again else RULES[DEFAULT].identity
    found |= {"limit": spec.limit, "decoding": spec.generation.model_dump()}
    if spec.instructions:
        found["bank of instructions"] = spec.instructions[:12]
    return found


def _chosen(
    directories: Sequence[Path], settings: Sequence[str] | None, schedule: str | None
) -> Iterator[tuple[Path, SuiteFile]]:
    """Yield the chosen runs of each folder, each run once."""
    seen: set[str] = set()
    refused: dict[str, None] = {}
    for directory in directories:
        found = find_suite(directory)
        (out, suite), named = found or _alone(directory), found is None
        # A folder of several runs is searched; a run that is named itself is never skipped silently.
        wanted = schedule or (None if named else "single")
        taken = []
        for entry in suite.runs:
            if (settings and entry.setting not in settings) or (wanted and entry.schedule != wanted):
                if named:
                    raise InputError(
                        f"{directory}: run {entry.digest} has setting {entry.setting} and schedule {entry.schedule}; "
                        f"expected {_wanted(settings, schedule)}."
                    )
                refused[f"{entry.setting} ({entry.schedule})"] = None
            elif entry.digest not in seen:
                taken.append(entry)
                seen.add(entry.digest)
        if taken:
            yield out, suite.model_copy(update={"runs": tuple(taken)})
    if not seen:
        raise InputError(
            f"{', '.join(map(str, directories))}: no run with {_wanted(settings, schedule or 'single')}; found "
            f"{', '.join(refused) or 'none'}."
        )


def _wanted(settings: Sequence[str] | None, schedule: str | None) -> str:
    words = [f"setting {' or '.join(settings)}"] if settings else []
    return ", ".join([*words, f"schedule {schedule}"] if schedule else words)


def _alone(directory: Path) -> tuple[Path, SuiteFile]:
    folder = find_run(directory)
    run = read_run(folder / "run.json")
    shared = run.spec.model_dump(include={"setting", "schedule", "seed"})
    entry = SuiteEntry(label=run.spec.setting, digest=folder.name, **shared)
    return folder.parent, SuiteFile(name=run.name, runs=(entry,))
