"""InstructEdit: one editor for many tasks, steered by an instruction (arXiv 2402.16123).

MEND's hypernetwork and objective, trained on a mix of tasks, with an instruction in front of the edit's prompt:

    Task: {task}
    Description: {description}
    Input: {prompt}

There is no encoder for the instruction and no parameter more: it acts through x_t and delta_t alone, by what the base
model makes of it.
"""

from typing import Literal

from .cases import EditRequest
from .edits import Context
from .gradient import GradientConfig, GradientEditor
from .rows import Encoder, Row

TOLD = {
    "edit only": (),
    "edit and queries": ("reliability", "generalization", "portability", "fluency"),
    "all": ("reliability", "generalization", "portability", "locality", "fluency"),
}
"""Roles of the probes that carry the instruction."""


class InstructEditConfig(GradientConfig):
    """MEND's configuration, and where the instruction stands."""

    instruct: Literal["edit only", "edit and queries", "all"] = "edit only"
    """Which texts carry the instruction besides the edit's own: no probe; all but locality, as in the published
    script; or every probe. It changes what is asked, so it is part of the protocol."""


class InstructEdit(GradientEditor[InstructEditConfig]):
    """Instruction-steered editing with one hypernetwork for all tasks."""

    name = "instructedit"
    title = "InstructEdit"
    source = "Zhang et al. 2024, arXiv 2402.16123"
    instructed = True
    Config = InstructEditConfig

    def encode(self, model: Encoder, request: EditRequest) -> Row:
        """Return instruction, prompt and target as one text; without an instruction MEND's."""
        return model.encode(_front(request) + request.prompt, request.target)

    def context(self, request: EditRequest) -> Context | None:
        """Return the instruction as what the edited model is asked with."""
        roles = TOLD[self.config.instruct]
        return Context(_front(request), roles) if roles and request.instruction is not None else None


def _front(request: EditRequest) -> str:
    return "" if request.instruction is None else f"{request.instruction}\nInput: "
