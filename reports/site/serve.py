"""Serve a report site on this machine alone, and make it again while runs add results."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from instructedit.benchmark.results.integrity import read_run
from instructedit.benchmark.results.records import SUITES, run_folders
from instructedit.benchmark.results.run_folder import RunFolder, write_record
from instructedit.benchmark.results.suite_results import find_suite
from instructedit.benchmark.results.summary import summarise
from instructedit.editors.errors import InputError

from ..tables.build import summarise_folder
from .write import write_site

SECONDS = 10
"""Seconds between two looks at the results, and between two loads of a page while a run goes on."""
_COPIED = ("run.json", "summary.json", "cases.jsonl")


@contextmanager
def served(directory: Path, port: int = 0, report: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """Serve the site of some results and yield its address; a port of 0 takes any free one.

    The site is made again when the results have changed. Runs that are going on are summed up from their finished
    lines, marked as incomplete; the pages then load themselves again. Nothing is written beside the results.

    Raises:
        InputError: If the results cannot be read, or the port is taken.
    """
    with TemporaryDirectory(prefix="instructedit-view-") as place:
        site, ended = Path(place) / "site", Event()
        going = _make(directory, Path(place), site)
        pages = partial(_Pages, directory=str(site), going=going)
        try:
            server = ThreadingHTTPServer(("127.0.0.1", port), pages)
        except (OSError, OverflowError) as error:
            raise InputError(f"--port: {port} cannot be used ({error}); a free port was expected.") from error
        threads = [
            Thread(target=server.serve_forever, daemon=True),
            Thread(target=_follow, args=(directory, Path(place), site, going, ended, report), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            ended.set()
            server.shutdown()
            server.server_close()
            threads[1].join()


class _Pages(SimpleHTTPRequestHandler):
    """Files of the site; without a log, and not kept by the browser, since they change."""

    def __init__(self, *args: Any, going: set[str], **options: Any) -> None:
        self._going = going
        super().__init__(*args, **options)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        if self._going and self.path.split("?")[0].endswith((".html", "/")):
            self.send_header("Refresh", str(SECONDS))
        super().end_headers()

    def log_message(self, *args: object) -> None:
        pass


def _follow(
    directory: Path, place: Path, site: Path, going: set[str], ended: Event, report: Callable[[str], None]
) -> None:
    """Make the site again whenever the results have changed, until `ended`."""
    seen = _state(directory)
    while not ended.wait(SECONDS):
        now = _state(directory)
        if now == seen:
            continue
        try:
            found = _make(directory, place, site)
        except InputError as error:  # e.g. a line that is being written; the next look reads it
            report(f"note: {error}")
            continue
        going.clear()
        going.update(found)
        seen = now


def _state(directory: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of change of each result file."""
    root = next((found[0] for found in [find_suite(directory)] if found), directory)
    files = [path for name in _COPIED for path in (*root.glob(name), *root.glob(f"*/{name}"))]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()}


def _make(directory: Path, place: Path, site: Path) -> set[str]:
    """Write the site of the results as they are now; return the runs that are not finished."""
    found = find_suite(directory)
    root = directory if found is None else found[0]
    copy = place / "results" / root.resolve().name  # a run's folder has its digest for a name
    shutil.rmtree(copy, ignore_errors=True)
    going = set()
    for folder in run_folders(root):
        if not (folder / "cases.jsonl").is_file():
            continue
        target = copy / folder.relative_to(root)
        target.mkdir(parents=True)
        for name in _COPIED:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        if not (target / "summary.json").is_file():
            going.add(folder.name)
            _sum_up(target)
    if not copy.is_dir():
        raise InputError(f"{directory}: no run with results in it; a folder with a run.json was expected.")
    for name in (SUITES, "figures"):
        if (root / name).is_dir():
            shutil.copytree(root / name, copy / name)
    chosen = copy if found is None or directory == root else copy / directory.relative_to(root)
    if find_suite(chosen) is not None:
        summarise_folder(chosen)
    write_site(chosen, site)
    return going


def _sum_up(folder: Path) -> None:
    """Write the summary of the finished lines of a run that is going on; a half-written last line is dropped."""
    path = folder / "cases.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"\n") + 1])
    run = read_run(folder / "run.json")
    write_record(folder / "summary.json", summarise(run, RunFolder(folder).records(run)))
