"""InstructEdit: one editor for many tasks, steered by an instruction (arXiv 2402.16123).

MEND's hypernetwork and objective, trained on a mix of tasks, with an instruction before the edit's prompt:

    Task: {task}
    Description: {description}
    Input: {prompt}

There are no additional parameters: the instruction acts through x_t and delta_t of the base model. The published
script (EasyEdit, `test_InstructEdit.py`) puts the same instruction before the probes of reliability, generalization and
portability, but not of locality: `instruct = "edit and queries"`.
"""

from typing import Literal

from .cases import EditRequest, InstructedProbes
from .hypernet.gradient_editor import GradientEditor
from .hypernet.hypernetwork import GradientConfig
from .instruction import instruction_prefix
from .models.tokens import Encoder, TokenSequence

PROBES: dict[str, InstructedProbes] = {"edit only": "none", "edit and queries": "all but locality", "all": "all"}
"""Which probes carry the instruction, by the option `instruct`."""


class InstructEditConfig(GradientConfig):
    """MEND's configuration, and which texts carry the instruction."""

    instruct: Literal["edit only", "edit and queries", "all"] = "edit and queries"
    """Which probes carry the instruction: none; all but locality, as in the published script; or all. It applies in
    training too. A row can set it differently for evaluation (`instructed_probes`)."""


class InstructEdit(GradientEditor[InstructEditConfig]):
    """Instruction-steered editing with one hypernetwork for all tasks."""

    name = "instructedit"
    title = "InstructEdit"
    source = "Zhang et al. 2024, arXiv 2402.16123"
    instructed = True
    Config = InstructEditConfig

    def encode(self, model: Encoder, request: EditRequest) -> TokenSequence:
        """Return instruction, prompt and target as one text."""
        prompt = instruction_prefix(request) + request.prompt
        return model.encode(prompt, request.target, request.joint, end=self.config.end_of_turn)

    @property
    def instructed_probes(self) -> InstructedProbes:
        """See `Editor.instructed_probes`."""
        return PROBES[self.config.instruct]
