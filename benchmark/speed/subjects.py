"""The editors that are timed, ready to edit: with options that suit a random model, and networks drawn at random."""

from collections.abc import Sequence
from typing import Any

from instructedit.editors import EDITORS, EditCase, Editor, InputError, LanguageModel, TrainedEditor, did_you_mean, make

from .cases import instructed
from .slow_edits import REFERENCES

OPTIONS: dict[str, dict[str, Any]] = {
    "calinet": {"steps": 10},
    "grace": {"steps": 200},
    "instructedit": {"instruct": "edit only"},
    "ke": {"max_scale": 100.0},
}
"""Options besides the defaults.

CaliNet takes ten steps: with random weights it does not reach the loss at which it stops, and the longer it goes on,
the further two ways of rounding lead apart (on S by 4e-5 in a log-probability after 10 steps, 3e-4 after 20, 0.3 after
200). GRACE takes the 200 steps of EasyEdit, whose times the page has beside ours. With KE's own scale, the gates of a
network drawn at random change next to nothing. All editors are timed with bare probes, InstructEdit too.
"""
GENERATED = ("ft-l", "grace", "mend")
"""Editors whose answers and texts are timed: a dense change, a codebook, and a low-rank one."""


def timed(asked: Sequence[str] = ()) -> list[str]:
    """Return the names of the editors that are timed: all that the slow path knows, or those asked for.

    Raises:
        InputError: If one of those asked for is not registered, or the slow path has no reference for it.
    """
    known = [name for name in REFERENCES if name in EDITORS]
    for name in asked:
        if name not in EDITORS:
            raise InputError(f"Unknown editor '{name}'.{did_you_mean(name, EDITORS.names())}")
        if name not in known:
            raise InputError(f"The editor '{name}' cannot be timed: the slow path knows {', '.join(known)} only.")
    return [name for name in known if not asked or name in asked]


def untimed() -> list[str]:
    """Return the registered editors that the slow path has no reference for."""
    return [name for name in EDITORS if name not in REFERENCES]


def prepared(
    name: str, model: LanguageModel, cases: Sequence[EditCase], **options: Any
) -> tuple[Editor[Any], list[EditCase]]:
    """Return an editor that is ready to edit, and the cases as it is given them; `options` go before `OPTIONS`.

    A network is drawn at random; its running statistics are those of the cases' own tokens.
    """
    editor = make(EDITORS.get(name), {**OPTIONS.get(name, {}), **options})
    own = instructed(cases, model.model.config.vocab_size) if editor.instructed else list(cases)
    if isinstance(editor, TrainedEditor):
        editor.build(model)
        editor.observe(model, [case.request for case in own])
    return editor, own
