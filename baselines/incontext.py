"""In-context edit: the new fact is a prefix of the prompt, and the model is unchanged.

This is IKE (arXiv 2305.12740) without its demonstrations. It is a control for what an editor gains over a prefix. The
prefix precedes every prompt, including those on unrelated facts, because it is not known beforehand which ones an edit
affects. Of an attitude edit with several replies it shows the first, unless `replies` is larger.
"""

from collections.abc import Sequence
from string import Formatter
from typing import Literal

from pydantic import Field, field_validator

from instructedit.editors import CaseError, Context, Editor, EditorConfig, EditRequest, Edits, LanguageModel, Role
from instructedit.editors.texts import LEFT_OUT
from instructedit.editors.writing_systems import join


class InContextConfig(EditorConfig):
    """The text of the prefix, and the prompts that get it."""

    template: str = "New fact: {prompt} {target}\n"
    """Text of one fact; `{prompt}` and `{target}` are those of the request. One space between the two stands for the
    joint of prompt and answer, which is empty in writing systems without spaces."""
    replies: int = Field(default=1, ge=1)
    """Maximum number of replies shown of an attitude edit, each as its own fact. More leave less room for prompts;
    replies that leave no room for the edit's own prompt are left out."""
    roles: tuple[Role | Literal["fluency"], ...] = (
        "reliability",
        "generalization",
        "portability",
        "locality",
        "fluency",
    )
    """Roles of the probes with the prefix; `fluency` is the free continuation of the edit prompt."""

    @field_validator("template")
    @classmethod
    def _places(cls, template: str) -> str:
        names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        if names != {"prompt", "target"}:
            raise ValueError("expected {prompt} and {target}, and nothing else in braces")
        return template


class InContext(Editor[InContextConfig]):
    """The fact as a prefix."""

    name = "in-context"
    title = "in-context edit"
    source = "control; Zheng et al. 2023, arXiv 2305.12740, without demonstrations"
    Config = InContextConfig

    def context(self, request: EditRequest) -> Context:
        """Return the prefix of one request."""
        return Context(self._fact(request, self.config.replies), self.config.roles)

    def _fact(self, request: EditRequest, replies: int) -> str:
        answers = request.replies[:replies] or (request.target,)
        template = self.config.template.replace("{prompt} {target}", "{text}")
        return "".join(
            template.format(text=join(request.prompt, answer, request.joint)[0], prompt=request.prompt, target=answer)
            for answer in answers
        )

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one prefix for each request.

        Raises:
            CaseError: If it leaves no room for the request's own prompt.
        """
        return self._edits([self._text(model, [request]) for request in requests])

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Return one prefix with all facts, in order.

        Raises:
            CaseError: If it leaves no room for one of the prompts.
        """
        return self._edits([self._text(model, requests)])

    def _text(self, model: LanguageModel, requests: Sequence[EditRequest]) -> tuple[str, int]:
        """Return the prefix of some facts, and how many replies it leaves out to fit before each request's prompt."""
        most = max((min(self.config.replies, len(request.replies) or 1) for request in requests), default=1)
        for replies in range(most, 0, -1):
            text = "".join(self._fact(request, replies) for request in requests)
            try:
                for request in requests:
                    model.encode(text + request.prompt, request.target, request.joint)
            except CaseError as error:
                facts = "its fact" if len(requests) == 1 else f"all {len(requests)} facts"
                reason = " ".join(str(error).split())  # the text may have several lines
                refused = CaseError(f"The editor '{self.name}' puts {facts} before a prompt: {reason}")
                refused.__cause__ = error
                continue
            return text, sum(max(0, min(most, len(request.replies)) - replies) for request in requests)
        raise refused

    def _edits(self, found: Sequence[tuple[str, int]]) -> Edits:
        contexts = tuple(Context(text, self.config.roles) for text, _ in found)
        facts = tuple({LEFT_OUT: float(count)} if count else {} for _, count in found)
        return Edits(tuple(() for _ in found), facts, contexts)
