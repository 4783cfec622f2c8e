"""The command as a process of its own: threads, signals, standard output, locale, names, the hub out of reach."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from instructedit.benchmark.results.records import RunFile, read_record
from instructedit.cli.main import app

from ..benchmark.worlds import CONFIG, write_data, write_model

SENTENCE = "instructedit: stopped; finished results are on disk, re-running the same command resumes.\n"
MAIN = "import sys; from instructedit.cli.start import main; sys.argv[0] = 'instructedit'; main()"
CORES = os.cpu_count() or 1


def child(code, *words, folder=None, **environment):
    """Run code in an interpreter whose environment names no number of threads and no encoding."""
    mine = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL", "HF_HUB_OFFLINE")
    kept = {name: value for name, value in os.environ.items() if name not in mine}
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        cwd=folder,
        check=False,
        env={**kept, **environment},
        preexec_fn=heed,
    )


def heed():
    """Undo that a shell lets its background jobs, such as these tests may be in, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


AFTER_MAIN = f"""
try:
    {MAIN}
except SystemExit:
    import torch
    print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("code", "words", "environment", "threads"),
    [
        ("import instructedit.editors, torch; print(torch.get_num_threads())", [], {}, 1),
        (
            "import torch; from instructedit.editors.models.threads import settle_threads; settle_threads();"
            "print(torch.get_num_threads())",
            [],
            {},
            1,
        ),
        (AFTER_MAIN, ["speed", "--read", "nosuch"], {"OMP_NUM_THREADS": "2"}, min(2, CORES)),
        (AFTER_MAIN, ["speed", "--read", "nosuch", "--threads", "2"], {"OMP_NUM_THREADS": "1"}, min(2, CORES)),
    ],
    ids=["library", "torch first", "environment", "--threads"],
)
def test_one_thread_unless_the_user_says_otherwise(code, words, environment, threads, tmp_path):
    found = child(code, *words, folder=tmp_path, **environment)
    assert found.stdout.split()[-1:] == [str(threads).encode()], found.stderr


def test_a_number_that_the_program_chose_stays():
    code = "import torch; torch.set_num_threads(7); from instructedit.editors.models.threads import settle_threads;"
    assert child(code + "settle_threads(); print(torch.get_num_threads())").stdout == b"7\n"


SIGNALLED = """
import os, sys
count = [0]
def hook(event, _):
    if event == "import":
        count[0] += 1
        if count[0] == NUMBER:
            os.kill(os.getpid(), SIGNAL)
from instructedit.cli.start import main
sys.addaudithook(hook)
main()
"""


@pytest.mark.parametrize(
    ("number", "sent"),
    [(5, signal.SIGINT), (150, signal.SIGTERM), (1200, signal.SIGTERM), (2500, signal.SIGINT)],
    ids=str,
)
def test_a_signal_during_imports_is_one_sentence(number, sent, tmp_path):
    code = SIGNALLED.replace("NUMBER", str(number)).replace("SIGNAL", str(int(sent)))
    found = child(code, "run", "quickstart", "--dry-run", folder=tmp_path, HF_HUB_OFFLINE="1")
    assert found.returncode == 128 + sent, found.stderr
    assert found.stderr.decode() == SENTENCE
    assert not found.stdout


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_signal_that_a_callback_swallows_ends_the_process_all_the_same(sent):
    code = f"""
import os, weakref
from instructedit.cli import stopping
stopping.install()
stopping.work()
class Thing: pass
thing = Thing()
reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), {int(sent)}))
del thing
print("went on")
"""
    found = child(code)
    assert (found.returncode, found.stderr.decode(), found.stdout) == (128 + sent, SENTENCE, b"")


def test_a_signal_that_is_ignored_stays_so():
    """As under nohup."""
    code = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from instructedit.cli import stopping;"
    found = child(code + "stopping.install(); os.kill(os.getpid(), signal.SIGINT); print('on')")
    assert (found.returncode, found.stdout) == (0, b"on\n")


def shell(line, folder, **environment):
    return subprocess.run(
        ["bash", "-c", line.replace("COMMAND", f"'{sys.executable}' -c \"{MAIN}\"")],
        capture_output=True,
        cwd=folder,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("COMMAND list > /dev/full", 1, "instructedit: standard output cannot be written (No space left on device).\n"),
        ("set -o pipefail; COMMAND list | true", 141, ""),
        ("COMMAND list >&-", 0, ""),
        ("COMMAND list <&- >&- 2>&-", 0, ""),
        ("COMMAND report nosuch 2>&-", 2, ""),
        ("COMMAND report nosuch 2>/dev/full", 2, ""),
    ],
)
def test_standard_output_that_takes_nothing_ends_no_work(line, code, said, tmp_path):
    found = shell(line.replace("| true", "| (exec <&-; sleep 2)"), tmp_path)
    assert (found.returncode, found.stderr.decode()) == (code, said)


def test_characters_that_the_terminal_lacks_are_replaced():
    code = r"""
from instructedit.cli.start import Streams
Streams()
import typer
from rich.console import Console
from rich.table import Table
Console().print(Table("1.0\u2020", "\u5317\u4eac"))
typer.echo("\u5317\u4eac\u2020 \udcff")
typer.echo("\u5317\u4eac \udcff", err=True)
"""
    found = child(code, LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii", PYTHONCOERCECLOCALE="0")
    assert found.returncode == 0, found.stderr
    assert "1.0?" in found.stdout.decode("ascii") and found.stdout.endswith(b"??? ?\n")
    assert found.stderr == b"\\u5317\\u4eac \\udcff\n"
    found = child(code, PYTHONIOENCODING="utf-8")
    assert found.stdout.decode("utf-8").endswith("\u5317\u4eac\u2020 ?\n")


def test_names_that_are_not_utf8(tmp_path):
    """Of the preset, the data and the results; they stand in run.json and in the suite's index."""
    preset, data, out = (os.fsdecode(name) for name in (b"p\xfe.toml", b"d\xfe", b"o\xff"))
    write_data(tmp_path / data, records=2)
    write_model(tmp_path / "model")
    (tmp_path / preset).write_text(CONFIG)
    words = ["run", preset, "--data", data, "--model", "model", "--out", out, "--task", "recent", "--device", "cpu"]
    found = child(MAIN, *words, folder=tmp_path, HF_HUB_OFFLINE="1")
    assert found.returncode == 0, found.stderr
    (path,) = (tmp_path / out).glob("*/run.json")
    file = read_record(path, RunFile)
    assert file.name == "p\\udcfe.toml" and file.provenance.command[4] == "d\\udcfe"
    assert file.provenance.threads == 1
    (index,) = (tmp_path / out / "suites").glob("*.json")
    assert file.digest in index.read_text()


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["run", f"{LONG}.toml"],
        ["run", f"{'y/' * 3000}a.toml"],
        ["run", "quickstart", "--data", LONG, "--dry-run"],
        ["run", "quickstart", "--data", f"./{LONG}", "--dry-run"],
        ["run", "quickstart", "--model", f"./{LONG}", "--dry-run"],
        ["run", "quickstart", "--out", LONG, "--dry-run"],
        ["report", LONG],
        ["report", "/proc/self/mem"],
        ["show", LONG, "counterfact/test/1"],
        ["figures", LONG],
        ["directions", LONG],
        ["table", "tasks", LONG],
        ["leaderboard", "pack", LONG, "--out", "x.zip", "--name", "n", "--authors", "a"],
        ["leaderboard", "validate", LONG],
        ["leaderboard", "rerun", LONG],
        ["leaderboard", "build", LONG, "--out", "site"],
        ["speed", "--read", LONG],
        ["embedded", "--out", "/proc/nosuch"],
        ["embedded", "--out", LONG],
        ["instructions", "show", LONG],
        ["instructions", "optimize", "--task", "counterfact", "--instructions", LONG, "--out", "o"],
    ],
    ids=lambda words: " ".join(words).replace(LONG, "LONG")[:50],
)
def test_names_that_no_system_takes_are_a_sentence(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2 or "--dry-run" in words, found.output
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception


def test_a_hub_that_does_not_answer_is_known_in_seconds():
    code = """
import time
from instructedit.editors import InputError
from instructedit.editors.models.loading import Origin, locate
begun = time.monotonic()
try:
    Origin(locate("nosuch/model")).config
except InputError as error:
    print(error, "after", time.monotonic() - begun)
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = child(code, HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
    text, _, seconds = found.stdout.decode().rpartition(" after ")
    assert "the hub cannot be reached" in text and float(seconds) < 8, found


def test_python_m_is_the_command():
    begun = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "instructedit.cli", "list", "presets"], capture_output=True, check=False
    )
    assert found.returncode == 0 and b"quickstart" in found.stdout and time.monotonic() - begun < 30
