"""Options that several commands share, each declared once, and what they have in common."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from instructedit.editors.errors import InputError
from instructedit.editors.models.threads import use_threads


def _threads(count: int | None) -> int | None:
    if count is not None:
        use_threads(count)  # before the command imports torch
    return count


def _form(name: str | None) -> str | None:
    if name is not None:
        from instructedit.export import FORMS

        if name not in FORMS:
            raise InputError(f"--as: found '{name}', {', '.join(FORMS[:-1])} or {FORMS[-1]} was expected.")
    return name


Preset = Annotated[str, Argument(metavar="PRESET_OR_TOML", help="Name of a preset, or path of a TOML file.")]
PresetOrFacts = Annotated[
    str,
    Argument(
        metavar="FACTS_OR_PRESET",
        help="File of own facts (.csv, .tsv, .parquet, .json, .jsonl), name of a preset, or path of a TOML file.",
    ),
]
Results = Annotated[
    Path, Argument(metavar="DIR", help="Folder of a run, folder of all runs, or a suite in it: suites/NAME.")
]
ResultFolders = Annotated[
    list[Path], Argument(metavar="DIR...", help="Folders of runs, folders of one run, or suites in them: suites/NAME.")
]

Data = Annotated[
    str | None,
    Option(metavar="DIR", help="KnowEdit folder, 'hub', 'hub:OWNER/NAME', 'hub:OWNER/NAME@REVISION' or 'embedded'."),
]
Model = Annotated[str | None, Option(metavar="DIR_OR_HUB_ID", help="Model folder, hub id or 'embedded'.")]
Out = Annotated[Path, Option(metavar="DIR", help="Folder of all runs.")]
Checkpoints = Annotated[
    Path | None, Option(metavar="DIR", help="Folder of trained editors; by default 'checkpoints' beside the runs.")
]
BasePasses = Annotated[
    Path | None,
    Option(
        metavar="DIR",
        envvar="INSTRUCTEDIT_BASE_PASSES",
        help="Keep what the unedited model computes here, and read it in later runs of this model and data.",
    ),
]
Dtype = Annotated[
    str | None, Option(help="dtype of the weights: float32, bfloat16 or float16; by default the preset's.")
]
TrustRemoteCode = Annotated[
    bool, Option("--trust-remote-code", help="Allow code in the model's folder or repository to run.")
]
Device = Annotated[str | None, Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")]
DeviceMap = Annotated[str | None, Option(help="'auto' spreads a model over all GPUs.")]
Threads = Annotated[
    int | None,
    Option(
        metavar="N",
        min=1,
        callback=_threads,
        help="CPU threads; by default OMP_NUM_THREADS, else one, which other processes cannot slow down.",
    ),
]
"""Its callback does all that is needed."""
Workers = Annotated[
    str,
    Option(
        metavar="N|auto",
        envvar="INSTRUCTEDIT_WORKERS",
        help="Processes that compute, each with --threads threads or a card of its own; 'auto': one for each CPU "
        "core or card, if memory allows.",
    ),
]
ExecutorName = Annotated[
    str | None,
    Option(
        "--executor",
        metavar="NAME",
        help="Where to compute: local (this process), processes, ray or slurm; by default local for one worker, else "
        "processes.",
    ),
]
ExecutorOption = Annotated[
    list[str] | None,
    Option(metavar="KEY=VALUE", help="Option of ray (address, gpus) or of slurm (submitit's parameters) (repeatable)."),
]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
Form = Annotated[
    str | None,
    Option(
        "--as",
        metavar="hf|peft|edits",
        callback=_form,
        help="A whole model (default), a LoRA adapter, or patches for load_edits.",
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="Check everything, print what would run, and stop.")]

Full = Annotated[bool, Option("--full", help="Print the whole report instead of one screen.")]

Schedule = Annotated[
    list[str] | None, Option(help="single, batch or sequential; by default single where a folder has several.")
]
Format = Annotated[str, Option("--format", help="terminal, markdown, csv, json, html or latex.")]
OutFile = Annotated[Path | None, Option(metavar="FILE", help="Write to this file instead of printing.")]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given: those that are neither None nor False."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def single_value(name: str, values: list[str] | None, why: str) -> str | None:
    """Return the value of an option that may be given once; typer alone would silently take the last one.

    Raises:
        InputError: If there are several.
    """
    if values and len(set(values)) > 1:
        raise InputError(f"--{name}: found {' and '.join(values)}, expected one: {why}. Make a table of each.")
    return values[0] if values else None


def one_protocol(values: list[str] | None) -> str | None:
    """Return the value of `--protocol`."""
    return single_value("protocol", values, "a column never mixes protocols, which measure different things")


def one_schedule(values: list[str] | None) -> str | None:
    """Return the value of `--schedule`."""
    return single_value("schedule", values, "a column never mixes schedules, which edit different models")


def say(text: str) -> None:
    """Print a line on standard error."""
    typer.echo(text, err=True)


def quiet_libraries() -> None:
    """Keep libraries from printing their own progress, beside what `start` sets."""
    from transformers.utils import logging

    logging.disable_progress_bar()
