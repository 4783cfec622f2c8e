"""In-context edit: the new fact is written in front of the question, and the model stays as it is.

This is IKE (arXiv 2305.12740) without its demonstrations, and a control: what an editor gains over telling the model.
The text stands in front of every question, those on unrelated facts included, because nobody can know beforehand which
question an edit bears on.
"""

from collections.abc import Sequence
from string import Formatter
from typing import Literal

from pydantic import field_validator

from instructedit.editors import (
    CaseError,
    Context,
    Cost,
    Editor,
    EditorConfig,
    EditRequest,
    Edits,
    LanguageModel,
    Role,
    Sketch,
)


class InContextConfig(EditorConfig):
    """What is written, and in front of what."""

    template: str = "New fact: {prompt} {target}\n"
    """Text of one fact; `{prompt}` and `{target}` are the request's."""
    roles: tuple[Role | Literal["fluency"], ...] = (
        "reliability",
        "generalization",
        "portability",
        "locality",
        "fluency",
    )
    """What is asked with the text in front; `fluency` is the free continuation of the edit prompt."""

    @field_validator("template")
    @classmethod
    def _places(cls, template: str) -> str:
        names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        if names != {"prompt", "target"}:
            raise ValueError("{prompt} and {target}, and nothing else in braces, were expected")
        return template


class InContext(Editor[InContextConfig]):
    """The fact in front of the question."""

    name = "in-context"
    title = "in-context edit"
    source = "control; Zheng et al. 2023, arXiv 2305.12740, without demonstrations"
    Config = InContextConfig

    def context(self, request: EditRequest) -> Context:
        """Return the text that tells one fact."""
        template = self.config.template
        return Context(template.format(prompt=request.prompt, target=request.target), self.config.roles)

    def cost(self, model: Sketch, requests: int = 1) -> Cost:
        """Return that an edit costs nothing; the questions get longer."""
        return Cost()

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return for each request the text that tells it.

        Raises:
            CaseError: If it leaves no room for the request's own question.
        """
        return self._edits([self._text(model, [request]) for request in requests])

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one text that tells all facts, in their order.

        Raises:
            CaseError: If it leaves no room for one of the questions.
        """
        return self._edits([self._text(model, requests)])

    def _text(self, model: LanguageModel, requests: Sequence[EditRequest]) -> str:
        """Return the text that tells some facts; it must leave room for each one's own question."""
        text = "".join(self.context(request).text for request in requests)
        for request in requests:
            try:
                model.encode(text + request.prompt, request.target)
            except CaseError as error:
                facts = "its fact" if len(requests) == 1 else f"all {len(requests)} facts"
                reason = " ".join(str(error).split())  # the text's lines are no lines of the message
                raise CaseError(f"The editor '{self.name}' puts {facts} in front of a question: {reason}") from error
        return text

    def _edits(self, texts: Sequence[str]) -> Edits:
        contexts = tuple(Context(text, self.config.roles) for text in texts)
        return Edits(tuple(() for _ in texts), contexts=contexts)
