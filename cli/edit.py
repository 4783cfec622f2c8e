"""The command `edit`: one fact edited in, and the answers before and after."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option, echo

from instructedit.editors.errors import InputError
from instructedit.editors.files.jsonfile import describe
from instructedit.editors.search import replaced
from instructedit.editors.writing_systems import blank
from instructedit.reports.render.literal import literal

from . import options
from .options import File, Text, Texts, quiet_libraries

if TYPE_CHECKING:
    from instructedit.answers import Answers
    from instructedit.edited import Edited


def edit(
    prompt: Annotated[str, Argument(metavar="PROMPT", help="The question, or the text before the answer.")],
    answer: Annotated[str, Argument(metavar="ANSWER", help="The new answer.")],
    model: Annotated[str, Option(metavar="DIR_OR_HUB_ID", help="Model folder, hub id or 'embedded'.")] = "embedded",
    editor: Annotated[
        str, Option(metavar="NAME_OR_DIR", help="An editor, or the checkpoint folder of a trained one.")
    ] = "ft-m",
    ask: Annotated[Texts, Option(metavar="PROMPT", help="Another prompt to ask (repeatable).")] = None,
    set_: Annotated[
        Texts, Option("--set", metavar="OPTION=VALUE", help="An option of the editor (repeatable); values as in TOML.")
    ] = None,
    subject: Annotated[Text, Option(help="What the fact is about, for editors that use it.")] = None,
    instruction: Annotated[Text, Option(help="Description of the task, for instructed editors.")] = None,
    seed: Annotated[int, Option(help="Seed of editors that draw random numbers.")] = 0,
    out: Annotated[File, Option(metavar="DIR", help="Also write the edited model into this new folder.")] = None,
    form: options.Form = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead.")] = False,
    dtype: Annotated[str, Option(help="dtype of the weights: float32, bfloat16 or float16.")] = "float32",
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = None,
    threads: options.Threads = None,
) -> None:
    """Edit one fact into a model, and print the answers before and after."""
    quiet_libraries()
    import instructedit
    from instructedit.export import check_place

    for argument, text in (("PROMPT", prompt), ("ANSWER", answer)):
        if blank(text):
            raise InputError(f"{argument}: found {describe(text)}, a text was expected.")
    if out is not None:
        check_place(out, form or "hf")
    elif form is not None:
        raise InputError(f"--as: found '{form}' without --out, which names the folder to write.")
    own = instructedit.load_editor(editor) if Path(editor).is_dir() else editor
    loaded = instructedit.load(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    fact = {"prompt": prompt, "target": answer, "subject": subject, "instruction": instruction}
    edited = loaded.edit(fact, own, seed=seed, **_options(set_ or []))
    answers = edited.ask([prompt, *(ask or [])])
    exported = None if out is None else edited.save_pretrained(out, form or "hf")
    if as_json:
        found = {
            "model": model,
            "editor": edited.editor.name,
            "options": edited.editor.config.model_dump(mode="json"),
            "answers": answers.to_dict(),
            "health": asdict(edited.health),
            "exported": exported and asdict(exported),
        }
        echo(json.dumps(found, ensure_ascii=False, indent=1, default=str))
        return
    _draw(answers, answer, edited)
    if exported is not None:
        echo(str(exported))


def _draw(answers: "Answers", wanted: str, edited: "Edited") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for number, (prompt, before, after) in enumerate(answers.rows):
        console.print(Text(prompt, "bold"))
        grid = Table.grid(padding=(0, 2))
        for word, text in {**({} if number else {"wanted": literal(wanted)}), "before": before, "after": after}.items():
            grid.add_row(Text(f"  {word}", "dim"), Text(text))
        console.print(grid)
        console.print()
    console.print(Text.assemble((edited.editor.title, "bold"), f": {edited.health}"))


def _options(words: list[str]) -> dict[str, Any]:
    """Return the options of `--set`; a value that is no TOML is a text."""
    found: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not mark or not name.strip():
            raise InputError(f"--set: found '{word}', OPTION=VALUE was expected, e.g. lr=1e-3.")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        found[name.strip()] = parsed
    return replaced({}, found)
