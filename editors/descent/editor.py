"""Base of editors that fit the variables of an edit by gradient descent, such as fine-tuning and CaliNet."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from ..cases import EditRequest
from ..editor import Editor, EditorConfig
from ..edits import Edits
from ..engine.model import LanguageModel
from ..models.tokens import TokenSequence
from ..texts import EditRows, counted
from .minimise import Descent, minimise
from .variables import Variables

C = TypeVar("C", bound=EditorConfig)


class DescentEditor(Editor[C]):
    """Fits one set of variables for each request, or one for all of them.

    A subclass implements `descent` and `variables`. The loss is that of the requests' texts (`texts.py`).
    """

    @property
    @abstractmethod
    def descent(self) -> Descent:
        """How edits are optimised."""

    @abstractmethod
    def variables(self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Variables]:
        """Return the variables of the edit of each group of requests at their initial values."""

    def row(self, row: TokenSequence) -> TokenSequence:
        """Return the token sequence to run for a text: the text itself, unless a subclass cuts it."""
        return row

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Fit variables for each request, all requests side by side."""
        return self.fitted(model, [[request] for request in requests], seed)

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Fit one set of variables to the mean loss of all requests."""
        return self.fitted(model, [requests], seed)

    def fitted(self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], seed: int) -> Edits:
        """Return one edit for each group of requests."""
        requests = [request for group in groups for request in group]
        edit_of = [number for number, group in enumerate(groups) for _ in group]
        texts = [self.texts(model, request) for request in requests]
        flat = EditRows.of(texts)
        edits = minimise(
            model,
            [self.row(row) for row in flat.rows],
            [edit_of[request] for request in flat.requests],
            self.variables(model, groups, seed),
            self.descent,
            flat.loss,
            requests=flat.requests,
            seed=seed,
        )
        return counted(edits, texts, edit_of)
