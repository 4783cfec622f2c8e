"""Edits: a tuple of patches for each, their files, and models with an edit in their weights."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .cases import Role
from .errors import InputError, did_you_mean
from .files.state import parsed, read_tensors, write_tensors
from .models.experts import weight_of
from .models.structure import ReplayStart
from .patches import KINDS, Patch

FORMAT = "instructedit-edits-2"

PROMPT_ROLES: tuple[str, ...] = (*get_args(Role), "fluency")
"""Kinds of questions to an edited model: the roles of probes, and free text."""


@dataclass(frozen=True, slots=True)
class Context:
    """A prefix of the prompts to an edited model, made from requests alone.

    Attributes:
        text: The prefix, with the white space that separates it from the prompt.
        roles: The roles that it is for (`PROMPT_ROLES`).

    Raises:
        InputError: If a role is unknown.
    """

    text: str
    roles: tuple[str, ...] = PROMPT_ROLES

    def __post_init__(self) -> None:
        for role in self.roles:
            if role not in PROMPT_ROLES:
                raise InputError(f"Unknown role '{role}' of a context.{did_you_mean(role, list(PROMPT_ROLES))}")

    def prompt_prefix(self, role: str) -> str:
        """Return the prefix of a prompt of this role."""
        return self.text if role in self.roles else ""


@dataclass(frozen=True, slots=True)
class Edits:
    """Independent edits of one model.

    Attributes:
        patches: For each edit its patches. An edit with neither patches nor context is the unedited model.
        facts: For each edit what its editor reports, e.g. `{"delta_norm": 0.3, "steps": 25}`.
        contexts: For each edit the prefix of prompts to the edited model, or None.
    """

    patches: tuple[tuple[Patch, ...], ...]
    facts: tuple[Mapping[str, float], ...] = ()
    contexts: tuple[Context | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.facts:
            object.__setattr__(self, "facts", tuple({} for _ in self.patches))
        if not self.contexts:
            object.__setattr__(self, "contexts", (None,) * len(self.patches))
        assert len(self.facts) == len(self.patches), "one mapping of facts per edit"
        assert len(self.contexts) == len(self.patches), "one context or None per edit"

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def first_block(self) -> int | None:
        """First patched block; None if nothing is patched."""
        return min((patch.block for edit in self.patches for patch in edit), default=None)

    @property
    def cut(self) -> ReplayStart | None:
        """Where a replay under these edits starts; None if nothing is patched."""
        first = self.first_block
        return None if first is None else ReplayStart(first, self.late)

    @property
    def late(self) -> bool:
        """Whether all patches change outputs at the last token of a prompt only (`Patch.late`)."""
        return all(patch.late for edit in self.patches for patch in edit)

    @property
    def whole_prompts(self) -> bool:
        """Whether any patch depends on a prompt's end at its other tokens (`Patch.whole_prompts`)."""
        return any(patch.whole_prompts for edit in self.patches for patch in edit)

    @property
    def by_row(self) -> bool:
        """Whether any patch depends on a token's sequence (`Patch.by_row`)."""
        return any(patch.by_row for edit in self.patches for patch in edit)

    def select(self, indices: Sequence[int]) -> "Edits":
        """Return the edits at these indices."""
        columns: Any = self.patches, self.facts, self.contexts
        return Edits(*(tuple(column[i] for i in indices) for column in columns))

    @staticmethod
    def join(parts: Sequence["Edits"]) -> "Edits":
        """Return the edits of all parts, in order."""
        return Edits(
            tuple(patches for part in parts for patches in part.patches),
            tuple(facts for part in parts for facts in part.facts),
            tuple(context for part in parts for context in part.contexts),
        )

    @staticmethod
    def none(count: int) -> "Edits":
        """Return `count` edits that change nothing."""
        return Edits(tuple(() for _ in range(count)))

    def apply_to(self, model: PreTrainedModel, edit: int = 0) -> PreTrainedModel:
        """Return a copy of the model with one edit added to its weights, for `save_pretrained`.

        The sum has the weights' dtype: in bfloat16 it is rounded, where a patch is not.

        Raises:
            InputError: If a patch is no update of a weight (a codebook, slots), or the edit has a context.
        """
        if self.contexts[edit] is not None:
            raise InputError("The edit adds a prefix to each prompt, which cannot be written into a model.")
        edited = copy.deepcopy(model)
        for patch in self.patches[edit]:
            delta = patch.delta()
            if delta is None:
                raise InputError(
                    f"A {patch.kind} patch on {patch.site} is no update of a weight; it cannot be written into a model."
                )
            with torch.no_grad():
                weight, inputs_first = weight_of(edited, patch.site)
                change = delta if inputs_first else delta.T
                weight.copy_((weight.to(delta.dtype) + change.to(weight.device)).to(weight.dtype))
        return edited

    def save(self, path: Path) -> None:
        """Write the edits to one safetensors file, atomically.

        Raises:
            OSError: If it cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        outline: list[list[dict[str, str | int]]] = []
        for number, edit in enumerate(self.patches):
            outline.append([])
            for index, patch in enumerate(edit):
                outline[-1].append({"kind": patch.kind, **patch.options()})
                for name, tensor in patch.tensors().items():
                    tensors[f"{number}.{index}.{name}"] = tensor
        metadata = {
            "format": FORMAT,
            "edits": json.dumps(outline),
            "facts": json.dumps([dict(facts) for facts in self.facts]),
            "contexts": json.dumps([context and asdict(context) for context in self.contexts]),
        }
        write_tensors(path, tensors, metadata)

    @staticmethod
    def load(path: Path, device: str | torch.device = "cpu") -> "Edits":
        """Read edits written by `save`.

        Raises:
            InputError: If the file holds no edits.
            DamagedError: If it is corrupted, or holds a kind of patch that this version does not know.
        """
        found, metadata = read_tensors(path)
        if metadata.get("format") != FORMAT:
            raise InputError(f"{path}: expected a file of edits ({FORMAT}), found {metadata.get('format')}.")
        tensors = {name: tensor.to(device) for name, tensor in found.items()}
        with parsed(path):
            edits = tuple(
                tuple(_patch(entry, tensors, f"{number}.{index}.") for index, entry in enumerate(outline))
                for number, outline in enumerate(json.loads(metadata["edits"]))
            )
            contexts = tuple(
                None if entry is None else Context(entry["text"], tuple(entry["roles"]))
                for entry in json.loads(metadata["contexts"])
            )
            facts = tuple(json.loads(metadata["facts"]))
            if not len(edits) == len(contexts) == len(facts):
                raise ValueError(f"{len(edits)} edits, {len(facts)} facts and {len(contexts)} contexts")
            return Edits(edits, facts, contexts)


def _patch(entry: dict[str, str | int], tensors: Mapping[str, Tensor], prefix: str) -> Patch:
    options = dict(entry)
    kind = str(options.pop("kind"))
    if kind not in KINDS:
        raise InputError(f"unknown kind of patch '{kind}'.{did_you_mean(kind, list(KINDS))}")
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return KINDS[kind](**options, **own)  # type: ignore[arg-type]
