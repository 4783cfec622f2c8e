"""The command `view`: the report site in the browser, while runs go on too."""

from typing import Annotated

from typer import Option, echo

from .options import Results, say


def view(
    directory: Results,
    port: Annotated[int, Option(min=0, max=65535, help="Port of this machine; 0 takes any free one.")] = 0,
    browser: Annotated[bool, Option(help="Whether to open the browser.")] = True,
) -> None:
    """Serve the report site of results on this machine, and follow a run that is going on. Ctrl-C ends it."""
    import webbrowser
    from threading import Event

    from instructedit.reports.site.serve import served

    with served(directory, port, say) as address:
        echo(f"Site: {address} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)
        Event().wait()
