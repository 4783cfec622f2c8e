"""Results as pandas data frames, for users' own analyses.

from instructedit.benchmark.results.frames import means_frame, scores_frame

means = means_frame("results")   # one row per cell of a table, over all finished runs of a folder
scores = scores_frame("results/d48979a32fc16461")   # one row per score of every case
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.editors.errors import InputError

from .integrity import read_run
from .records import CaseRecord, RunSummary, read_record, run_folders
from .run_folder import RunFolder

if TYPE_CHECKING:
    from pandas import DataFrame


def means_frame(path: str | Path) -> "DataFrame":
    """Return the means of one run, or of all finished runs in a folder.

    Columns: `run`, `setting`, `seed`, then the fields of `summary.json`'s means (`editor`, `task`, `stage`, `measure`,
    `subset`, `derived`, `protocol`, `mean`, `n`, `low`, `high`, `method`).

    Raises:
        InputError: If there is no finished run, or a file is damaged.
    """
    rows = []
    for folder in finished_runs(Path(path)):
        run = read_run(folder / "run.json")
        spec = {"run": run.digest, "setting": run.spec.setting, "seed": run.spec.seed}
        rows += [{**spec, **mean.model_dump()} for mean in read_record(folder / "summary.json", RunSummary).means]
    return _frame(rows)


def scores_frame(path: str | Path) -> "DataFrame":
    """Return every score of one run, or of all finished runs in a folder.

    Columns: `run`, `editor`, `task`, `case_id`, `stage`, `status`, then the fields of a score (`measure`, `subset`,
    `derived`, `protocol`, `value`, `probe`). A failed case has one row without a score.

    Raises:
        InputError: If there is no finished run, or a file is damaged.
    """
    rows = []
    for case in _cases(Path(path)):
        own = {name: getattr(case, name) for name in ("run", "editor", "task", "case_id", "stage", "status")}
        rows += [{**own, **score.model_dump()} for score in case.scores] or [own]
    return _frame(rows)


def answers_frame(path: str | Path) -> "DataFrame":
    """Return the answer to every probe of one run, or of all finished runs in a folder.

    Columns: `run`, `editor`, `task`, `case_id`, `stage`, `target`, then the fields of an answer (`role`, `subset`,
    `derived`, `prompt`, `accepted`, `opposed`, `before`, `generated`), and a column with the score by each protocol.

    Raises:
        InputError: If there is no finished run, or a file is damaged.
    """
    rows = []
    for case in _cases(Path(path)):
        own = {name: getattr(case, name) for name in ("run", "editor", "task", "case_id", "stage", "target")}
        for number, answer in enumerate(case.answers):
            scores: dict[str, float] = {s.protocol: s.value for s in case.scores if s.probe == number}
            rows.append({**own, **answer.model_dump(), **scores})
    return _frame(rows)


def finished_runs(path: Path) -> tuple[Path, ...]:
    """Return the folders of finished runs: `path` itself, or those in it; `InputError` if there is none."""
    finished = tuple(folder for folder in run_folders(path) if (folder / "summary.json").is_file())
    if not finished:
        raise InputError(f"{path}: no finished run is there; expected a run's folder or a folder of runs.")
    return finished


def _cases(path: Path) -> Iterator[CaseRecord]:
    for folder in finished_runs(path):
        yield from RunFolder(folder).records(read_run(folder / "run.json"))


def _frame(rows: list[dict[str, Any]]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame(rows)
