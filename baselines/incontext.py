"""In-context edit: the new fact is written in front of the question, and the model stays as it is.

This is IKE (arXiv 2305.12740) without its demonstrations, and a control: what an editor gains over telling the model.
The text stands in front of every question, those on unrelated facts included, because nobody can know beforehand which
question an edit bears on. Of an attitude edit with several replies it shows the first, unless `replies` says more.
"""

from collections.abc import Sequence
from string import Formatter
from typing import Literal

from pydantic import Field, field_validator

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
from instructedit.editors.scripts import join
from instructedit.editors.texts import LEFT_OUT


class InContextConfig(EditorConfig):
    """What is written, and in front of what."""

    template: str = "New fact: {prompt} {target}\n"
    """Text of one fact; `{prompt}` and `{target}` are the request's. One space between the two is the joint of prompt
    and answer: there is none where their writing system has none."""
    replies: int = Field(default=1, ge=1)
    """Most replies shown of an attitude edit that has several, each as a fact of its own. More leave less room for
    questions; those that leave none for the edit's own prompt are left out."""
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
        return Context(self._told(request, self.config.replies), self.config.roles)

    def _told(self, request: EditRequest, replies: int) -> str:
        """Return the text of one request with at most so many replies."""
        answers = request.replies[:replies] or (request.target,)
        template = self.config.template.replace("{prompt} {target}", "{text}")
        return "".join(
            template.format(text=join(request.prompt, answer, request.joint)[0], prompt=request.prompt, target=answer)
            for answer in answers
        )

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

    def _text(self, model: LanguageModel, requests: Sequence[EditRequest]) -> tuple[str, int]:
        """Return the text that tells some facts, and how many replies it leaves out.

        It must leave room for each request's own question; replies of each request are left out until it does.
        """
        most = max((min(self.config.replies, len(request.replies) or 1) for request in requests), default=1)
        for replies in range(most, 0, -1):
            text = "".join(self._told(request, replies) for request in requests)
            try:
                for request in requests:
                    model.encode(text + request.prompt, request.target, request.joint)
            except CaseError as error:
                facts = "its fact" if len(requests) == 1 else f"all {len(requests)} facts"
                reason = " ".join(str(error).split())  # the text's lines are no lines of the message
                refused = CaseError(f"The editor '{self.name}' puts {facts} in front of a question: {reason}")
                refused.__cause__ = error
                continue
            return text, sum(max(0, min(most, len(request.replies)) - replies) for request in requests)
        raise refused

    def _edits(self, found: Sequence[tuple[str, int]]) -> Edits:
        contexts = tuple(Context(text, self.config.roles) for text, _ in found)
        facts = tuple({LEFT_OUT: float(count)} if count else {} for _, count in found)
        return Edits(tuple(() for _ in found), facts, contexts)
