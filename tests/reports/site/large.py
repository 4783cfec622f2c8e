"""How a site of many cases behaves: `python -m tests.reports.site.large FOLDER`, from the root of a checkout.

Makes a run of 20,000 cases under nine rows (1.5 GB of lines), builds its site, and measures it in Chromium from disk,
each page in a fresh load. Not a part of the tests: it takes minutes. A folder that is there is measured as it is.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from instructedit.reports.site.write import write_site

from .browser import Browser, chromium
from .runs import large

REPEATS = 5
FILTERS = {
    "a search": ("input[data-search]", "town 13"),
    "a search without hits": ("input[data-search]", "nowhere to be found"),
    "an outcome under any editor": ("select[name=outcome]", "wrong"),
    "an outcome under one editor": ("select[name=editor]", "editor-3"),
}
TIMED = """
const field = document.querySelector(arguments[0]);
field.value = arguments[1];
const begun = performance.now();
field.dispatchEvent(new Event("input", { bubbles: true }));
document.body.offsetHeight; // the new rows are laid out
return [performance.now() - begun, document.querySelector("[role=status]").textContent];
"""


def main(folder: Path) -> None:
    """Make what is not there, measure, and say what was found."""

    def tell(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    if not (found := [path.parent for path in folder.glob("*/run.json")]):
        found = [large(folder, cases=20_000, editors=9, tell=tell)]
    (run,) = found
    if not (folder / "site").is_dir():
        begun = time.process_time()
        write_site(run, folder / "site")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        tell(f"built in {time.process_time() - begun:.0f} s of processor time, at most {memory:.0f} MB of memory")
    sizes = [path.stat().st_size for path in (folder / "site").rglob("*") if path.is_file()]
    tell(f"site: {sum(sizes) / 1e6:.0f} MB in {len(sizes)} files, the largest {max(sizes) / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        _measure(browser, folder / "site", run.name, tell)


def _measure(browser: Browser, site: Path, run: str, tell: Callable[[str], object]) -> None:
    for page in ("index.html", "means.html", "cases.html", f"case.html#{run}/zsre/test/12345"):
        seconds = []
        for _ in range(REPEATS):
            browser.driver.get("about:blank")
            begun = time.perf_counter()
            browser.open(site, page)
            seconds.append(time.perf_counter() - begun)
        tell(f"{page}: drawn after {statistics.median(seconds):.2f} s (at most {max(seconds):.2f} s)")
    browser.open(site, "cases.html")
    for name, (selector, value) in FILTERS.items():
        found = []
        for _ in range(REPEATS):
            found.append(browser.run(TIMED, selector, value))
            if selector.startswith("input"):
                browser.run(TIMED, selector, "")
        times = [milliseconds for milliseconds, _ in found]
        tell(f"{name}: {statistics.median(times):.0f} ms (first {times[0]:.0f} ms), {found[0][1]}")
    begun = browser.run(
        "const begun = performance.now(); document.querySelector('th[data-column=reliability] button').click();"
        "document.body.offsetHeight; return performance.now() - begun"
    )
    tell(f"sorting all by a column: {begun:.0f} ms")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
