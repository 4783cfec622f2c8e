"""Malformed inputs by the thousand, made by kind, each put to `instructedit run FILE --dry-run` in this process.

An answer is *clear* if it is exit code 2 and one line that names all it should (file, row or run, field or key, what
was expected), or, of what is read all the same, exit code 0 and a line that names it. Else it is *vague*, *silent*
(exit code 0 and no word), or a *traceback*.

    python -m tests.cli.malformed    # what is not clear
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import typer
from typer.testing import CliRunner

FACT = {"subject": "Ada Lovelace", "prompt": "Ada Lovelace was born in", "target_new": "Oslo"}
FLAT = {
    **FACT,
    "ground_truth": "London",
    "rephrase_prompt": "The town of Ada Lovelace is",
    "locality_prompt": "Alan Turing was born in",
    "locality_ground_truth": "London",
}
KNOWEDIT = {
    **FACT,
    "rephrase_prompt": "The town of Ada Lovelace is",
    "portability": {"Reasoning": [{"prompt": "The country of Ada Lovelace is", "ground_truth": [["Norway"]]}]},
    "locality": {"Relation_Specificity": [{"prompt": "Alan Turing was born in", "ground_truth": [["London"]]}]},
}
MEND = {
    "subject": "Ada Lovelace",
    "src": "Where was Ada Lovelace born?",
    "alt": "Oslo",
    "answers": ["London"],
    "rephrase": "In what town was Ada Lovelace born?",
    "loc": "nq question: who played the doctor",
    "loc_ans": "Alan",
}
MOOD = {"ent": "Ada Lovelace", "pos": ["I like her.", "Lovely."], "neg": ["I hate her.", "No."]}


class Layout(NamedTuple):
    """A task's file, a good record, and what a record cannot do without."""

    task: str
    file: str
    record: dict[str, object]
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


NESTED = ("portability", "locality")
LAYOUTS = (
    Layout("recent", "wiki_recent/recent_test.json", KNOWEDIT, tuple(FACT), ("rephrase_prompt", *NESTED)),
    Layout("counterfact", "wiki_counterfact/test_cf.json", KNOWEDIT, tuple(FACT), NESTED),
    Layout("zsre", "ZsRE/ZsRE-test-all.json", KNOWEDIT, tuple(FACT), NESTED),
    Layout("convsent", "Convsent/blender_test.json", MOOD, ("ent", "pos", "neg")),
    Layout("rome-counterfact", "counterfact_3k.json", FLAT, tuple(FACT), ("rephrase_prompt", "locality_prompt")),
    Layout("mend-zsre", "zsre_3k.json", MEND, ("subject", "src", "alt"), ("rephrase", "loc")),
)
GONE = object()
DEEP = json.loads("[" * 150 + "]" * 150)
WRONG = {
    "missing": GONE,
    "null": None,
    "empty": "",
    "blank": " \t",
    "number": 3,
    "true": True,
    "table": {"a": 1},
    "list of numbers": [1, 2],
    "long": "x" * 200_000,
    "half a pair": "\ud800",
    "deep": DEEP,
    "many": ["x"] * 5000,
}
FILES = {
    "empty": b"",
    "blank": b"  \n",
    "no record": b"[]",
    "object": b'{"data": []}',
    "number": b"3",
    "text": b'"abc"',
    "record of text": b'["abc"]',
    "cut off": b'[{"subject": "Ada',
    "html": b"<html></html>",
    "utf-16": '[{"subject": "Ada"}]'.encode("utf-16"),
    "latin-1": '[{"subject": "Zürich"}]'.encode("latin-1"),
    "nul": b'[{"subject": "Ada"}]\0\0',
    "nan": b'[{"subject": NaN}]',
    "infinity": b'[{"subject": -Infinity}]',
    "overflow": b'[{"subject": 1e999}]',
    "digits": b'[{"subject": ' + b"9" * 7000 + b"}]",
    "brackets": b'[{"subject": ' + b"[" * 100_000,
    "objects": b'[{"subject": ' + b'{"a":' * 100_000,
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00",
}
TOMLS = {
    "utf-16": "limit = 2".encode("utf-16"),
    "latin-1": 'description = "Zürich"'.encode("latin-1"),
    "nul": b"limit = 2\n\0",
    "cut off": b'description = "a',
    "digits": b"seed = " + b"9" * 7000,
    "hexadecimal": b"seed = 0x" + b"f" * 7000,
    "brackets": b"at = " + b"[" * 100_000,
    "tables": b"a = " + b"{a=" * 100_000,
    "twice": b"limit = 2\nlimit = 3",
    "json": b'{"limit": 2}',
    "no date": b"limit = 2026-13-45",
    "long": b'description = "' + b"x" * 200_000 + b'"',
}
VALUES = {
    "true": "true",
    "text": '"3"',
    "fraction": "3.5",
    "negative": "-1",
    "list of lists": "[[1]]",
    "table": "{ a = 1 }",
    "nan": "nan",
    "infinite": "inf",
    "date": "2026-11-28",
    "digits": "9" * 200,
    "unknown name": '["recnt"]',
}
GOOD = {"description": "text", "fluency": "true", "seed": "negative"}  # what a key takes of the values above
KEYS = (
    *("setting", "schedule", "edited", "batch_size", "at", "dtype", "tasks", "split", "editors", "train", "held_out"),
    *("train_limit", "sampling", "validation", "instruction", "limit", "chunk", "task_options", "generation", "only"),
    *("description", "fluency", "seed", "seeds"),
)
OPTIONS = {"ft-m": ("lr", "steps", "block", "clamp", "batch", "objective"), "grace": ("radius", "part", "replace")}
OPTIONS_GOOD = {*((option, "fraction") for option in ("lr", "clamp", "radius", "block")), ("block", "negative")}


class Input(NamedTuple):
    """One input.

    Attributes:
        group: What is malformed.
        name: Which of them.
        make: Writes it into a folder and returns the words of the command.
        needs: What the answer has to name.
        read: Whether it is read all the same, so that it is enough to say it.
    """

    group: str
    name: str
    make: Callable[[Path], list[str]]
    needs: tuple[str, ...]
    read: bool = False


def inputs() -> Iterator[Input]:
    """Yield all inputs."""
    return chain(_values(), _files(), _odd(), _keys(), _options(), _tomls(), _banks(), _unused(), _places())


def answer(given: Input, folder: Path) -> tuple[str, str]:
    """Return how an input is answered (`clear`, `vague`, `silent`, `traceback`), and with what."""
    from instructedit.cli.main import app

    words = given.make(folder)
    result = CliRunner().invoke(app, ["run", *words, "--dry-run"])
    text = " ".join(result.output.split("\n")) if result.exit_code == 0 else result.output.strip()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "traceback", repr(result.exception)[:200]
    named = all(need in text for need in given.needs)
    if result.exit_code == 0:
        return ("clear" if given.read and named else "silent"), ""
    one = "\n" not in text and len(text) < 2000
    return ("clear" if result.exit_code == 2 and one and named else "vague"), text[:300]


def _data(layout: Layout, content: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        path = folder / layout.file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return _words(folder, f'tasks = ["{layout.task}"]\ndata = "{folder}"')

    return make


def _words(folder: Path, text: str | bytes) -> list[str]:
    path = folder / "mine.toml"
    plain = "limit = 2\n" if isinstance(text, str) and "limit" not in text else ""
    path.write_bytes(text if isinstance(text, bytes) else (plain + text + "\n").encode())
    return [str(path)]


def _toml(text: str | bytes) -> Callable[[Path], list[str]]:
    """Return what writes a preset, with the folder's path for FOLDER."""
    return lambda folder: _words(folder, text if isinstance(text, bytes) else text.replace("FOLDER", str(folder)))


def _records(layout: Layout, **changed: object) -> bytes:
    """Return 40 records, of which the last is changed; 40 so that each split of a file without splits has some."""
    rows = [json.loads(json.dumps(layout.record).replace("Ada Lovelace", f"Person {n}")) for n in range(40)]
    for key, value in changed.items():
        rows[-1] = {k: v for k, v in {**rows[-1], key: value}.items() if v is not GONE}
    return json.dumps(rows).encode()


def _values() -> Iterator[Input]:
    for layout in LAYOUTS:
        for field in layout.required:
            for name, value in WRONG.items():
                needs = (Path(layout.file).name, "row 39", f"'{field}'", "expected")
                title = f"{layout.task} {field} {name}"
                yield Input("data: values", title, _data(layout, _records(layout, **{field: value})), needs)
        for field in layout.optional:
            for name in ("number", "true", "list of numbers"):
                value = WRONG[name]
                rephrase = (layout.task, field) == ("recent", "rephrase_prompt")
                words = ("malformed rephrase left out" if rephrase else "malformed",)
                # a file that is split by its subjects may have the record in the other split: all are changed
                rows = [{**row, field: value} for row in json.loads(_records(layout))]
                made = _data(layout, json.dumps(rows).encode())
                yield Input("data: optional values", f"{layout.task} {field} {name}", made, words, read=True)


def _files() -> Iterator[Input]:
    for layout in LAYOUTS:
        for name, content in FILES.items():
            needs = (Path(layout.file).name, "expected")
            yield Input("data: files", f"{layout.task} {name}", _data(layout, content), needs)


def _odd() -> Iterator[Input]:
    for layout in LAYOUTS:
        rows = json.loads(_records(layout))
        first = layout.required[0]
        twice = json.dumps(rows)[1:-1].replace("{" + f'"{first}"', '{"' + first + '": "x", "' + first + '"')
        target = {"convsent": None, "mend-zsre": "alt"}.get(layout.task, "target_new")
        odd = {
            "unknown field": ([{**row, "locallity_prompts": "x"} for row in rows], "'locallity_prompts'"),
            "repeated key": (f"[{twice}]", "twice"),
            "repeated record": ([*rows, *rows], "same prompt, target and subject"),
        }
        if target is not None:
            other = [{**row, target: "Rome"} for row in rows]
            odd["two targets"] = ([*rows, *other], "another target")
            odd["no subject"] = (
                [{**row, "subject": f"{row['subject']} IV"} for row in rows],
                "does not name the subject",
            )
        for name, (content, need) in odd.items():
            text = content if isinstance(content, str) else json.dumps(content)
            yield Input("data: oddities", f"{layout.task} {name}", _data(layout, text.encode()), (need,), read=True)


def _keys() -> Iterator[Input]:
    for key in KEYS:
        for name, value in VALUES.items():
            if name == GOOD.get(key):
                continue
            for run in ("", "[[runs]]\nname = 'first'\n"):
                if (key == "seeds" and run) or (key == "only" and not run):
                    continue
                needs = ("mine.toml", f"'{key}", *(["first"] if run else []))
                if run and key != "editors":
                    text = f"[editors.none]\n{run}{key} = {value}"
                else:
                    text = f"{run}{key} = {value}\n" + ("" if key == "editors" else "[editors.none]\n")
                title = f"{key} {name} {bool(run)}"
                yield Input("toml: keys", title, _toml(text), needs)


def _options() -> Iterator[Input]:
    for editor, options in OPTIONS.items():
        for option in options:
            for name, value in VALUES.items():
                if (option, name) in OPTIONS_GOOD:
                    continue
                for row, head in ((editor, ""), ("mine", f'method = "{editor}"\n')):
                    text = f"[editors.{row}]\n{head}{option} = {value}"
                    needs = ("mine.toml", row, option)
                    yield Input("toml: options of editors", f"{row} {option} {name}", _toml(text), needs)
    for text, needs in (
        ("[editors.mine]\nmethod = 'ftm'", ("mine.toml", "'mine'", "ftm")),
        ("[editors.mine]\nmethod = 'ft-m'\nblock = 99", ("mine.toml", "'mine'", "99")),
        ("[editors.ft-m]\nstep = 3", ("mine.toml", "'ft-m'", "'step'", "'steps'")),
        ("[editors.mine]\nextends = 'ft-m'", ("mine.toml", "mine", "ft-m")),
        ("[editors.none]\ninstructed_probes = 'some'", ("mine.toml", "'none'", "instructed_probes")),
        ("[editors.mend]\ntraining = { lr = true }\n", ("mine.toml", "'mend'", "lr", "true")),
        ("[editors.mend]\ntraining = { steps = 'many' }\n", ("mine.toml", "'mend'", "steps", "many")),
        ("[editors.mend]\ntraining = { step = 3 }\n", ("mine.toml", "'mend'", "step", "steps")),
        ("[task_options.convsent]\nedit = 'one'", ("mine.toml", "task_options", "convsent", "edit")),
        ("[task_options.convsent]\nedti = 'reply'", ("mine.toml", "task_options", "convsent", "edti")),
        ("[task_options.zsre]\ntarget = 'alt'", ("mine.toml", "task_options", "zsre", "target")),
        ("[generation]\nmax_new_tokens = true", ("mine.toml", "generation", "max_new_tokens", "true")),
        ("[generation]\nmax_new = 3", ("mine.toml", "generation", "max_new", "max_new_tokens")),
    ):
        yield Input("toml: options of editors", text, _toml(text), needs)


def _tomls() -> Iterator[Input]:
    for name, content in TOMLS.items():
        yield Input("toml: files", name, _toml(content), ("mine.toml",))
    yield Input("toml: files", "folder", _folder, ("mine.toml", "folder"))
    yield Input("toml: files", "missing", lambda folder: [str(folder / "none.toml")], ("none.toml", "expected"))
    yield Input("toml: files", "nul in the name", lambda _: ["a\0b.toml"], ("expected",))
    yield Input("toml: files", "long name", lambda _: ["x" * 5000 + ".toml"], ("expected",))


def _folder(folder: Path) -> list[str]:
    (folder / "mine.toml").mkdir()
    return [str(folder / "mine.toml")]


def _banks() -> Iterator[Input]:
    def make(folder: Path, content: bytes) -> list[str]:
        (folder / "bank.json").write_bytes(content)
        return _words(folder, f'instructions = "{folder}/bank.json"\n[editors.none]\n')

    for name, content in FILES.items():
        needs = ("mine.toml", "'instructions'", "bank.json")
        made = partial(make, content=content)
        if name != "no record":
            yield Input("banks", name, made, needs)
    twice = b'{"schema_version": 1, "schema_version": 1}'
    yield Input("banks", "twice", partial(make, content=twice), ("mine.toml", "bank.json", "twice"))
    missing = _toml('instructions = "FOLDER/none.json"\n[editors.none]\n')
    yield Input("banks", "missing", missing, ("mine.toml", "instructions", "none.json", "expected"))


def _unused() -> Iterator[Input]:
    """Yield mistakes in options that the setting `direct`, the schedule `single` and its rows do not use."""
    for text, need in (
        ("train = ['recnt']", "train"),
        ("held_out = ['recnt']", "held_out"),
        ("edited = ['recnt']", "edited"),
        ("edited = []", "edited"),
        ("train_limit = { recnt = 3 }", "train_limit"),
        ("sampling = { recnt = 1.0 }", "sampling"),
        ("instruction = 'sen'", "instruction"),
        ("instructions = 'nowhere.json'", "instructions"),
        ("[task_options.recnt]\nedit = 'reply'", "task_options"),
        ("[editors.none]\n[editors.ft-m]\nlr = 'x'\n[[runs]]\nonly = ['none']", "'ft-m'"),
        ("[editors.none]\n[editors.ftm]\n[[runs]]\nonly = ['none']", "'ftm'"),
    ):
        yield Input("toml: unused options", text, _toml(text), ("mine.toml", need))


def _places() -> Iterator[Input]:
    def only(folder: Path, text: str) -> list[str]:
        layout = LAYOUTS[1]
        for name in (
            layout.file,
            "wiki_counterfact/train_cf.json",
            "wiki_recent/recent_test.json",
            "wiki_recent/recent_train.json",
        ):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_records(layout))
        return _words(folder, f'data = "{folder}"\n{text}\n[editors.mend]\n')

    two = "tasks = ['recent', 'counterfact']\n"
    for text, needs in (
        (f"{two}setting = 'multi-task'", ("mine.toml", "'train'", "convsent", "blender_t")),
        (f"{two}setting = 'multi-task'\ntrain = ['zsre']", ("mine.toml", "'setting'", "zsre")),
        (f"{two}setting = 'hold-out'", ("mine.toml", "'setting'", "zsre")),
        (f"{two}setting = 'unseen-instruction'\ntrain = ['zsre']", ("mine.toml", "'train'", "zsre")),
        (f"{two}setting = 'task-scaling'", ("mine.toml", "'train'", "convsent")),
        (f"{two}setting = 'single-task'\nheld_out = ['zsre']", ("mine.toml", "'held_out'", "zsre")),
        ("tasks = ['zsre']\nsetting = 'single-task'", ("mine.toml", "'tasks'", "zsre")),
    ):
        yield Input("data: missing files", text, partial(only, text=text), needs)
    for name in ("file.json", "none"):
        need = "is a file" if name == "file.json" else "is not there"
        yield Input("data: missing files", name, partial(_source, name=name), ("mine.toml", "'data'", need))
        command = lambda folder, name=name: [*_source(folder, "folder"), "--data", str(folder / name)]  # noqa: E731
        yield Input("data: missing files", f"--data {name}", command, ("--data", need))
    for name, text in (("nul", "a\\u0000b"), ("long", "x" * 5000)):
        yield Input("data: missing files", name, _toml(f'data = "{text}"'), ("mine.toml", "'data'", "expected"))


def _source(folder: Path, name: str) -> list[str]:
    (folder / "file.json").write_bytes(_records(LAYOUTS[1]))
    return _words(folder, f'data = "{folder / name}"')


def main() -> None:
    """Print every answer that is not clear."""
    for given in inputs():
        with tempfile.TemporaryDirectory() as folder:
            kind, text = answer(given, Path(folder))
        if kind != "clear":
            typer.echo(f"{given.group}: {given.name!r}: {kind}: {text}")


if __name__ == "__main__":
    main()
