"""Some kills of everything that writes; `tox -e kills` makes it a thousand."""

import json
import sys
from collections import deque
from zlib import crc32

import pytest

from ..benchmark.instructions.server import says, serving
from ..benchmark.instructions.worlds import TEXTS
from ..benchmark.worlds import CONFIG, write_data, write_model, write_training
from ..cli.test_instructions import PRESET
from .campaign import Campaign, Job, Warm

SMALL = CONFIG.replace("limit = 5", "limit = 3")
TRAINED = """
chunk = 2
limit = 2
setting = "multi-task"
train = ["counterfact", "recent"]
tasks = ["counterfact"]

[generation]
max_new_tokens = 4
fluency_tokens = 4

[editors.none]

[editors.mend]
rank = 8
blocks = [-1]

[editors.mend.training]
steps = 12
batch = 2
accumulate = 1
warmup = 2
validate_every = 4
save_every = 3
validation_cases = 4
patience = 12
"""
KINDS = ("run", "training", "batch", "sequential", "suite", "site", "pack", "rescore", "instructions")


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    warm = Warm(tmp_path_factory.mktemp("warm"))
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_training(write_data(folder / "data", records=3), counterfact=12, recent=6, convsent=30, zsre=6)
    write_model(folder / "model")
    write_model(folder / "llama", "llama")
    (folder / "run.toml").write_text(SMALL)
    (folder / "training.toml").write_text(TRAINED)
    (folder / "loop.toml").write_text(PRESET)
    return folder


@pytest.fixture(scope="session")
def endpoint():
    """A server whose reply follows from the request, as often as it is asked."""

    class Endless(deque):
        def popleft(self):
            def reply(handler):
                asked = json.dumps(handler.server.requests[-1]["body"]["messages"])
                first = crc32(asked.encode()) % 4
                says(json.dumps(TEXTS[first : first + 3]))(handler)

            return reply

    with serving() as server:
        server.script = Endless([None])
        yield server


@pytest.fixture(scope="session")
def finished(warm, world, tmp_path_factory):
    """The folder of a finished suite of two runs."""
    out = tmp_path_factory.mktemp("finished") / "out"
    words = command(world, "run", "--task", "recent", "--seeds", "0,1", out=str(out))
    code, _ = warm.live(words, out, log=world / "log")
    assert code == 0, (world / "log").read_text()
    return out


def command(world, preset, *more, out="{out}"):
    given = ("--data", world / "data", "--model", world / "model", "--device", "cpu", "--out", out)
    return [str(word) for word in ("run", world / f"{preset}.toml", *given, *more)]


def job(kind, world, request):
    one = ("--task", "counterfact")
    match kind:
        case "run":
            return Job(kind, [command(world, "run", "--task", "recent")])
        case "training":
            return Job(kind, [command(world, "training")])
        case "batch":
            return Job(kind, [command(world, "run", *one, "--schedule", "batch", "--batch-size", "2")])
        case "sequential":
            return Job(kind, [command(world, "run", *one, "--schedule", "sequential")])
        case "suite":
            suite = command(world, "run", *one, "--seeds", "0,1", "--base-passes", "{out}/passes")
            return Job(
                kind, [suite, ["report", "{out}/suites/run"], ["figures", "{out}/suites/run", "--format", "svg"]]
            )
        case "site":
            return Job(kind, [["report", str(request.getfixturevalue("finished")), "--html", "{out}/site"]])
        case "pack":
            named = ["--name", "N", "--authors", "A"]
            return Job(
                kind,
                [
                    [
                        "leaderboard",
                        "pack",
                        str(request.getfixturevalue("finished")),
                        "--out",
                        "{out}/packed.zip",
                        *named,
                    ]
                ],
                once="is there already",
            )
        case "rescore":
            rescore = ["rescore", "{out}/suites/run", "--rule", "contains"]
            return Job(kind, [command(world, "run", "--task", "recent"), rescore])
        case "instructions":
            server = request.getfixturevalue("endpoint")
            given = ("--preset", world / "loop.toml", "--data", world / "data", "--model", world / "llama")
            small = ("--cases", 2, "--test-cases", 2, "--rounds", 2, "--candidates", 3, "--device", "cpu")
            asked = ("--task", "counterfact", "--proposer", "openai", "--out", "{out}")
            words = ["instructions", "optimize", *map(str, (*asked, *given, *small))]
            told = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-none", "OPENAI_MODEL": "tiny"}
            return Job(kind, [words], told)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_it_ends_in_the_bytes_of_an_unbroken_one(kind, warm, world, tmp_path, request):
    kills = request.config.getoption("--kills") // len(KINDS)
    tally = Campaign(warm, job(kind, world, request), tmp_path).run(kills)
    sys.stderr.write(f"{kind}: {dict(tally.kills)} in {tally.jobs} jobs\n")
    assert not tally.faults, "\n".join(tally.faults)
