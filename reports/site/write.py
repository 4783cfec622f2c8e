"""Write results as a folder of web pages, all or none."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import whole_folder

from .cases import Cases
from .collect import Collected, collect
from .figures import Figure, write_site_figures
from .means import table
from .pages import ASSETS, HERE, static_pages

MARK = "data/site.js"
"""The file that identifies a site; a folder without it is not replaced."""

_ESCAPES = {
    # A parser of HTML would end a script at </script> and change its state at <!--.
    "<": "\\u003c",
    # Line ends in JavaScript before 2019, but not in JSON.
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def write_site(directory: Path, out: Path) -> Path:
    """Write the report site of a run, of all runs of a folder, or of a suite, and return its first page.

    The same results give the same bytes. An existing site is replaced as a whole, once the new one is complete.
    `directory` is as `collect` takes it.

    Raises:
        InputError: If the results cannot be read, `out` is a folder of something else, or it cannot be written.
    """
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is no site that could be replaced; a new or an empty folder was expected.")
    site = collect(directory)
    try:
        # resolved, because `.` has no name in its parent folder
        place = out.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(place) as part:
            try:
                figures = write_site_figures(site, directory, part / "figures")
            except InputError as error:
                if isinstance(error.__cause__, OSError):  # its sentence names a folder that is not there afterwards
                    raise error.__cause__ from None
                raise
            for name, content in _files(site, figures):
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{error.filename or out}: the site cannot be written ({error.strerror}).") from error
    return out / "index.html"


def _files(site: Collected, figures: Sequence[Figure]) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the site but its figures as its path and its bytes."""
    for name in ASSETS:
        yield f"assets/{name}", (HERE / "assets" / name).read_bytes()
    cases = {}
    for run in site.runs:
        cases[run.digest] = found = Cases(run)
        for number, content in enumerate(found.chunks()):
            name = f"{run.digest}/{number}"
            yield f"data/{name}.js", data_script(name, content).encode()
        yield f"data/{run.digest}/index.js", data_script(f"{run.digest}/index", found.index()).encode()
    yield "data/means.js", data_script("means", table(site)).encode()
    for name, text in static_pages(site, cases, figures):
        yield name, text.encode()
    overview = {"title": site.title, "runs": [(run.digest, run.described) for run in site.runs]}
    yield MARK, data_script("site", overview).encode()


def data_script(name: str, value: Any) -> str:
    """Return a script that hands a value to the page as `siteData[name]`; `assets/data.js` loads it.

    `name` is the file's path under `data/`, without `.js`. Keys of objects in the value have to be the program's own: a
    key `__proto__` from the data would not be a key. Texts from the data are put into lists. NaN is an error.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return f"siteData[{json.dumps(name)}]={text};\n"
