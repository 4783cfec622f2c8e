"""The command `export`: the edited model of a run, as files."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from . import options
from .options import Text, quiet_libraries, say


def export(
    run: Annotated[Path, Argument(metavar="RUN", help="Folder of a run.")],
    case: Annotated[Text, Argument(metavar="[CASE]", help="Id of a case, in a run that edits each case alone.")] = None,
    *,
    editor: Annotated[str, Option(metavar="ROW", help="Row of the run.")],
    out: Annotated[Path, Option(metavar="DIR", help="New folder for the edited model.")],
    stage: Annotated[Text, Option(help="after-all or batch: the edit that a run of these schedules keeps.")] = None,
    form: options.Form = None,
    model: Annotated[Text, Option(metavar="DIR_OR_HUB_ID", help="The run's model, if it is elsewhere now.")] = None,
    data: options.Data = None,
    checkpoints: options.Checkpoints = None,
    device: options.Device = None,
    threads: options.Threads = None,
) -> None:
    """Write the edited model of a run, load it again, and ask it the facts of the edit."""
    quiet_libraries()
    import instructedit
    from instructedit.export import check_place

    check_place(out, form or "hf")
    edited = instructedit.edit_of_run(
        run,
        case,
        editor=editor,
        stage=stage,
        model=model,
        data=data,
        checkpoints=checkpoints,
        device=device,
        report=say,
    )
    echo(str(edited.save_pretrained(out, form or "hf")))
