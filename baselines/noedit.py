"""The control: no edit. Its row says what the model answers before anything is changed."""

from collections.abc import Sequence

from instructedit.editors import Cost, Editor, EditorConfig, EditRequest, Edits, LanguageModel, Sketch


class NoEdit(Editor[EditorConfig]):
    """Changes nothing; locality is 1 by definition, all else is where the editors start from."""

    name = "none"
    title = "no edit"
    source = "control"

    def cost(self, model: Sketch, requests: int = 1) -> Cost:
        """Return that nothing costs nothing."""
        return Cost()

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one empty edit for each request."""
        return Edits.none(len(requests))

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one empty edit."""
        return Edits.none(1)
