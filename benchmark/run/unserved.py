"""Editors that cannot edit a model: their rows fail, with the reason in each record, and the others go on."""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from instructedit.editors import Editor, EditRequest, InstructedProbes, LanguageModel, Sketch, UnservedError

from ..setup.resolve import Outline


def unserved(editor: Editor[Any], model: LanguageModel | Sketch) -> str | None:
    """Return why an editor cannot edit a model, which lacks what it changes; None if it can."""
    sketch = model if isinstance(model, Sketch) else Sketch(model.model, model.structure)
    try:
        editor.sites(sketch)
    except UnservedError as error:
        return str(error)
    return None


def unable_notes(found: Outline, model: LanguageModel | Sketch) -> Iterator[str]:
    """Yield one sentence on each editor of a run that cannot edit its model.

    Raises:
        InputError: If an editor is told a block that the model does not have.
    """
    reasons: dict[str, str] = {}
    for row in found.rows:
        with found.config.origin.at(f"editors.{row.editor}", row.editor):
            if reason := unserved(found.editors[row.name], model):
                reasons[row.editor] = reason
    for editor, reason in reasons.items():
        yield f"'{editor}' cannot edit this model, and its rows will fail: {reason}"


class Unable(Editor[Any]):
    """Stands for an editor that cannot edit a model: it refuses all requests.

    Args:
        editor: The editor.
        reason: Why.
    """

    def __init__(self, editor: Editor[Any], reason: str) -> None:
        super().__init__(editor.config)
        self._editor, self._reason = editor, reason

    @property
    def instructed_probes(self) -> InstructedProbes:  # noqa: D102
        return self._editor.instructed_probes

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> NoReturn:  # noqa: D102
        raise UnservedError(self._reason)

    edit_together = edit
