"""Options that several commands share, each declared once, and what they have in common."""

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option, echo

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


Text = str | None
Texts = list[str] | None
File = Path | None
"""Types of options that may be missing; `Texts` are repeatable."""

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
    Text,
    Option(metavar="DIR", help="KnowEdit folder, 'hub', 'hub:OWNER/NAME', 'hub:OWNER/NAME@REVISION' or 'embedded'."),
]
Model = Annotated[Text, Option(metavar="DIR_OR_HUB_ID", help="Model folder, hub id or 'embedded'.")]
Out = Annotated[Path, Option(metavar="DIR", help="Folder of all runs.")]
Checkpoints = Annotated[
    File, Option(metavar="DIR", help="Folder of trained editors; by default 'checkpoints' beside the runs.")
]
BasePasses = Annotated[
    File,
    Option(
        metavar="DIR",
        envvar="INSTRUCTEDIT_BASE_PASSES",
        help="Keep what the unedited model computes here, and read it in later runs of this model and data.",
    ),
]
Dtype = Annotated[Text, Option(help="dtype of the weights: float32, bfloat16 or float16; by default the preset's.")]
TrustRemoteCode = Annotated[
    bool, Option("--trust-remote-code", help="Allow code in the model's folder or repository to run.")
]
Device = Annotated[Text, Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")]
DeviceMap = Annotated[Text, Option(help="'auto' spreads a model over all GPUs.")]
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
    Text,
    Option(
        "--executor",
        metavar="NAME",
        help="Where to compute: local (this process), processes, ray or slurm; by default local for one worker, else "
        "processes.",
    ),
]
ExecutorOption = Annotated[
    Texts,
    Option(metavar="KEY=VALUE", help="Option of ray (address, gpus) or of slurm (submitit's parameters) (repeatable)."),
]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
Form = Annotated[
    Text,
    Option(
        "--as",
        metavar="hf|peft|edits",
        callback=_form,
        help="A whole model (default), a LoRA adapter, or patches for load_edits.",
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="Check everything, print what would run, and stop.")]

Full = Annotated[bool, Option("--full", help="Print the whole report instead of one screen.")]

Schedule = Annotated[Texts, Option(help="single, batch or sequential; by default single where a folder has several.")]
Format = Annotated[str, Option("--format", help="terminal, markdown, csv, json, html or latex.")]
OutFile = Annotated[File, Option(metavar="FILE", help="Write to this file instead of printing.")]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given: those that are neither None nor False."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def only(name: Literal["protocol", "schedule"], values: list[str] | None) -> str | None:
    """Return the value of an option that typer may find several times; `InputError` if there are several values."""
    if values and len(set(values)) > 1:
        what = {"protocol": "measure different things", "schedule": "edit different models"}[name]
        why = f"a column never mixes {name}s, which {what}"
        raise InputError(f"--{name}: found {' and '.join(values)}, expected one: {why}. Make a table of each.")
    return values[0] if values else None


def say(text: str) -> None:
    """Print a line on standard error."""
    echo(text, err=True)


def quiet_libraries() -> None:
    """Keep libraries from printing their own progress, beside what `start` sets."""
    from transformers.utils import logging

    logging.disable_progress_bar()
