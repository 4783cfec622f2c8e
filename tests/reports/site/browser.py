"""A headless Chromium for the tests; they are skipped where it, its driver or selenium is missing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install .[browser]")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
if not (CHROMIUM and DRIVER):
    pytest.skip("chromium or chromedriver is not installed", allow_module_level=True)


class Browser:
    """Pages from disk in Chromium."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, site: Path, address: str) -> None:
        """Open a new page and wait until it has drawn what it loads."""
        self.driver.get("about:blank")
        self.driver.get(f"{site.as_uri()}/{address}")
        drawn = "document.querySelector('[data-drawn], .failed, details.part')"
        self.wait(f"{drawn} || document.querySelector('script[src]') === null")

    def wait(self, condition: str, seconds: float = 10) -> None:
        """Wait until an expression of JavaScript is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, seconds, poll_frequency=0.02).until(lambda _: self.run(f"return !!({condition})"))

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """Texts of all elements that match."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def errors(self) -> list[str]:
        """Messages of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window's content, and wait until the page is drawn in it.

        Listeners of media queries run before the callbacks of the next frame.
        """
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def prefer(self, scheme: str) -> None:
        """Set the preferred colour scheme: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def scripts(self, on: bool) -> None:
        """Switch the page's own scripts on or off, from the next page on."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not on})

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def choose(self, field: str, value: str) -> None:
        """Choose in a select as a user does: by its column or its name, with the events of a choice."""
        self.run(
            """
            const name = arguments[0];
            const select = document.querySelector(`select[data-column="${name}"], select[name="${name}"]`);
            select.value = arguments[1];
            if (select.value !== arguments[1]) throw new Error("no such choice");
            for (const type of ["input", "change"]) select.dispatchEvent(new Event(type, { bubbles: true }));
            """,
            field,
            value,
        )

    def search(self, words: str) -> None:
        """Type into the field of the search."""
        self.run(
            """
            const field = document.querySelector("input[data-search]");
            field.value = arguments[0];
            field.dispatchEvent(new Event("input", { bubbles: true }));
            """,
            words,
        )

    def column(self, table: str, name: str) -> list[str]:
        """Texts of a column of what is shown of a table."""
        return self.run(
            """
            const table = document.getElementById(arguments[0]);
            const place = [...table.tHead.rows[0].cells].findIndex((head) => head.dataset.column === arguments[1]);
            return [...table.tBodies[0].rows].map((row) => row.cells[place]?.textContent ?? row.textContent);
            """,
            table,
            name,
        )

    def status(self) -> str:
        """How many rows a table shows."""
        return self.texts("[role=status]")[0]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own and stop it afterwards."""
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        browser = Browser(driver)
        browser.resize(1200)
        yield browser
    finally:
        driver.quit()
