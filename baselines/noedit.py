"""The control: no edit. Its row shows the scores of the unedited model."""

from collections.abc import Sequence

from instructedit.editors import Editor, EditorConfig, EditRequest, Edits, LanguageModel


class NoEdit(Editor[EditorConfig]):
    """Changes nothing; its locality is 1 by definition."""

    name = "none"
    title = "no edit"
    source = "control"

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one empty edit for each request."""
        return Edits.none(len(requests))

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one empty edit."""
        return Edits.none(1)
