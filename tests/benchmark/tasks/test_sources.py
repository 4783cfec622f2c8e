"""Where files come from. The hub is a cache folder made here, or a server on this machine."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants as hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from instructedit.benchmark.tasks.sources import Embedded, Folder, Hub, open_source
from instructedit.editors import InputError
from instructedit.editors.models.hub import out_of_reach

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = ["wiki_recent/recent_test.json", "benchmark_wiki_recent_recent_test.json"]


@pytest.mark.parametrize("layout", ["", "benchmark"])
@pytest.mark.parametrize("name", NAMES)
def test_folder_finds_every_accepted_name_in_both_layouts(tmp_path, layout, name):
    file = tmp_path / layout / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    source = open_source(str(tmp_path))
    assert source.find(NAMES) == (name, file)
    assert (source.name, source.revision) == ("folder", None)


def test_first_accepted_name_wins(tmp_path):
    for name in ("b.json", "a.json"):
        (tmp_path / name).touch()
    assert Folder(tmp_path).find(["a.json", "b.json"])[0] == "a.json"


def test_missing_file_sentence(tmp_path):
    with pytest.raises(InputError) as error:
        Folder(tmp_path).find(["a.json", "b.json"])
    assert str(error.value) == (
        f"Folder {tmp_path} has no file a.json or b.json, neither directly in it nor under benchmark/."
    )


def test_no_name_is_the_embedded_world():
    source = open_source(None)
    assert isinstance(source, Embedded)
    assert source.name == "embedded"
    assert source.path.parts[-2:] == ("embedded", "data")


def test_hub_names():
    assert open_source("hub").name == "zjunlp/KnowEdit"
    assert open_source("hub:someone/data").name == "someone/data"
    assert open_source("hub:someone/data@v1").name == "someone/data"


@pytest.mark.parametrize("text", ["nowhere", "hub:", "hub:name-without-owner", "hub:a/b/c"])
def test_unknown_source_sentence(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        open_source(text)
    assert str(error.value) == (
        f"Data source '{text}' is not there, expected an existing folder, 'hub', 'hub:OWNER/NAME' or "
        "'hub:OWNER/NAME@REVISION'."
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A hub cache that holds one file of one commit."""
    repo = tmp_path / "datasets--zjunlp--KnowEdit"
    file = repo / "snapshots" / COMMIT / "benchmark" / "wiki_recent" / "recent_test.json"
    file.parent.mkdir(parents=True)
    file.write_text("[]")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    return file


@pytest.mark.parametrize("text", ["hub", "hub:zjunlp/KnowEdit@main", f"hub:zjunlp/KnowEdit@{COMMIT}"])
def test_hub_offline_reads_its_cache_and_records_the_commit(cache, text):
    source = open_source(text)
    assert source.revision is None
    assert source.find(["missing.json", *NAMES]) == (NAMES[0], cache)
    assert source.revision == COMMIT


def test_hub_reads_all_files_from_one_commit(cache, tmp_path):
    source = Hub()
    source.find(NAMES)
    moved = cache.parents[3] / ("f" * 40) / "benchmark" / "wiki_recent" / "recent_test.json"
    moved.parent.mkdir(parents=True)
    moved.write_text("[]")
    (tmp_path / "datasets--zjunlp--KnowEdit" / "refs" / "main").write_text("f" * 40)
    assert source.find(NAMES) == (NAMES[0], cache)
    assert Hub().find(NAMES) == (NAMES[0], moved)


def test_hub_offline_without_the_file(cache):
    with pytest.raises(InputError) as error:
        Hub().find(["a.json", "b.json"])
    assert str(error.value) == (
        "The hub data set zjunlp/KnowEdit cannot be reached and the local cache lacks a.json or b.json; connect, "
        "or name a folder that holds the files."
    )


def test_hub_with_an_impossible_id(cache):
    with pytest.raises(InputError, match=r"^The hub data set -a-/b@v1 cannot be read: "):
        open_source("hub:-a-/b@v1").find(["a.json"])


class FakeHub(BaseHTTPRequestHandler):
    """Holds `benchmark/wiki_recent/recent_test.json` of `some/data`."""

    def do_HEAD(self):
        if not self.path.startswith("/datasets/some/data/"):
            self._answer(404, {"X-Error-Code": "RepoNotFound", "X-Repo-Commit": COMMIT})
        elif self.path.endswith("/benchmark/wiki_recent/recent_test.json"):
            self._answer(200, {"ETag": '"abc"', "X-Repo-Commit": COMMIT, "Content-Length": "2"})
        else:
            self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(b"[]")

    def _answer(self, status, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(hub, "ENDPOINT", endpoint)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    out_of_reach.cache_clear()
    yield
    out_of_reach.cache_clear()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_hub_online(server):
    source = open_source("hub:some/data")
    name, file = source.find(["missing.json", *NAMES])
    assert (name, file.read_text(), source.revision) == (NAMES[0], "[]", COMMIT)
    with pytest.raises(InputError) as error:
        source.find(["a.json", "b.json"])
    assert str(error.value) == "The hub data set some/data has no file a.json or b.json."


def test_hub_that_cannot_be_reached_is_asked_once(monkeypatch):
    asked = []

    def download(repo, name, local_files_only, **options):
        asked.append((name, local_files_only))
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("instructedit.editors.models.hub.out_of_reach", lambda: None)
    with pytest.raises(InputError, match="cannot be reached"):
        Hub().find(["a.json"])
    assert asked == [("a.json", False), ("benchmark/a.json", True)]


def test_hub_online_without_the_repository(server):
    with pytest.raises(InputError, match=r"^The hub data set other/data cannot be read: "):
        open_source("hub:other/data").find(["a.json"])
