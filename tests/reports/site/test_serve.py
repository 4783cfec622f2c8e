"""The site served on this machine: finished runs, and one that goes on, which is followed."""

import time
import urllib.request
from pathlib import Path

import pytest

from instructedit.editors import InputError
from instructedit.reports.site import serve

from .runs import ordinary


def page(address: str) -> tuple[str, str | None]:
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode(), answer.headers["Refresh"]


def test_a_finished_run_is_served_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    folder = ordinary(tmp_path / "results")
    before = sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file())
    with serve.served(folder) as address:
        text, refresh = page(f"{address}index.html")
        assert "Cases" in page(f"{address}cases.html")[0]
    assert "<h1>" in text and refresh is None
    assert sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file()) == before
    with pytest.raises(OSError, match="refused"):
        page(address)


def test_a_run_that_goes_on_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "SECONDS", 0.05)
    folder = ordinary(tmp_path / "results")
    run = next(path.parent for path in (folder, *folder.iterdir()) for path in path.glob("run.json"))
    summary, lines = (run / "summary.json").read_bytes(), (run / "cases.jsonl").read_bytes()
    (run / "summary.json").unlink()
    first = lines.index(b"\n") + 1
    (run / "cases.jsonl").write_bytes(lines[:first] + b'{"half')  # a line that is being written
    with serve.served(folder) as address:
        text, refresh = page(f"{address}index.html")
        assert "INCOMPLETE RUN" in text and refresh is not None
        (run / "cases.jsonl").write_bytes(lines)
        (run / "summary.json").write_bytes(summary)
        deadline = time.monotonic() + 20
        while "INCOMPLETE RUN" in page(f"{address}index.html")[0] and time.monotonic() < deadline:
            time.sleep(0.05)
        text, refresh = page(f"{address}index.html")
        assert "INCOMPLETE RUN" not in text and refresh is None


def test_a_folder_without_results_and_a_taken_port_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run with results in it"), serve.served(tmp_path):
        pass
    folder = ordinary(tmp_path / "results")
    with serve.served(folder) as address:
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        with pytest.raises(InputError, match=f"--port: {port} cannot be used"), serve.served(folder, port):
            pass


def test_a_run_is_read_from_a_folder_of_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is refused whose folder is not named by its digest."""
    read: list[str] = []
    monkeypatch.setattr(serve, "write_site", lambda folder, _: read.append(folder.name))
    with serve.served(ordinary(tmp_path / "0123456789abcdef")):
        assert read == ["0123456789abcdef"]
