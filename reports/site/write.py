"""From results to a folder of pages: everything is written beside it first, and takes its place when it is whole."""

from collections.abc import Iterator
from pathlib import Path

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import whole_folder

from .cases import Cases
from .collect import Collected, collect
from .means import table
from .pages import ASSETS, HERE, overview, static_pages
from .script import data_script

MARK = "data/site.js"
"""The file by which a site is known; a folder without it is not replaced."""


def write_site(directory: Path, out: Path) -> Path:
    """Write the report site of a run, of all runs of a folder, or of a suite, and return its first page.

    The same results give the same bytes every time. A site that is there is replaced as a whole, and only once the new
    one is complete.

    Args:
        directory: A run's folder, a folder of runs, or the index of a suite; see `collect`.
        out: The site's folder; made if it is not there.

    Raises:
        InputError: If the results cannot be read, `out` is a folder of something else, or it cannot be written.
    """
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is no site that could be replaced; a new or an empty folder was expected.")
    site = collect(directory)
    try:
        # resolved, because `.` has no name of its own in its parent's folder
        place = out.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(place) as part:
            for name, content in _files(site):
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{error.filename or out}: the site cannot be written ({error.strerror}).") from error
    return out / "index.html"


def _files(site: Collected) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the site as its path and its bytes."""
    for name in ASSETS:
        yield f"assets/{name}", (HERE / "assets" / name).read_bytes()
    for figure in site.figures:
        for path in (figure.picture, *([figure.numbers] if figure.numbers else [])):
            yield f"figures/{path.name}", path.read_bytes()
    cases = {}
    for run in site.runs:
        cases[run.digest] = found = Cases(run)
        for number, content in enumerate(found.chunks()):
            name = f"{run.digest}/{number}"
            yield f"data/{name}.js", data_script(name, content).encode()
        yield f"data/{run.digest}/index.js", data_script(f"{run.digest}/index", found.index()).encode()
    yield "data/means.js", data_script("means", table(site)).encode()
    for name, text in static_pages(site, cases):
        yield name, text.encode()
    yield MARK, data_script("site", overview(site)).encode()
