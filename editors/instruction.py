"""The instruction as a prefix.

    Task: {task}
    Description: {description}
    Input: {prompt}

An instructed editor makes its edit from a text with this prefix. Which probes carry it is an option of every row of a
run (`instructed_probes`), so that editors without instructions can be evaluated under the same prefix.
"""

from .cases import EditRequest, InstructedProbes
from .edits import PROMPT_ROLES, Context

ROLES: dict[InstructedProbes, tuple[str, ...]] = {
    "none": (),
    "all but locality": tuple(role for role in PROMPT_ROLES if role != "locality"),
    "all": PROMPT_ROLES,
}
"""Roles of the probes that carry the instruction."""


def instruction_prefix(request: EditRequest) -> str:
    """Return the prefix of a prompt under a request's instruction; empty without one."""
    return "" if request.instruction is None else f"{request.instruction}\nInput: "


def instruction_context(request: EditRequest, probes: InstructedProbes) -> Context | None:
    """Return the context of a case whose probes carry its instruction; None if none of them does."""
    roles = ROLES[probes]
    return Context(instruction_prefix(request), roles) if roles and request.instruction is not None else None
