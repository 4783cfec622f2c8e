"""The contract of an editor.

An editor is one class: a name, a frozen configuration, and `edit`, which turns requests into patches. It receives
requests, never a probe, and never writes to the model. A package adds one by an entry point in the group
`instructedit.editors`; `docs/architecture.md` has an example of twenty lines.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer
from torch import Tensor

from .cases import EditRequest, InstructedProbes
from .compose import compose
from .edits import Context, Edits
from .engine.model import LanguageModel
from .errors import DamagedError, InputError
from .files.atomic import write_whole
from .files.state import parsed, read_object, read_tensors, sha256_of, write_tensors
from .files.strict import complaint, validated
from .instruction import instruction_context
from .models.meta_device import MetaModel
from .models.structure import Site
from .models.tokens import Encoder, TokenSequence
from .texts import EditTexts, edit_texts

if TYPE_CHECKING:
    from .search import Range


EDITOR, WEIGHTS = "editor.json", "state.safetensors"
"""Files of a saved editor; the first is written last."""


class Published(NamedTuple):
    """The model that an editor's defaults were published for, recognised by its `model_type` in transformers and shape.

    `options` are those whose right values depend on the model; nested ones with dots, e.g. `training.lr`.
    """

    model: str
    family: str
    blocks: int
    width: int
    options: tuple[str, ...]

    def fits(self, model: LanguageModel | MetaModel) -> bool:
        """Tell whether a model is that one."""
        shape = (model.model.config.model_type, len(model.structure), model.structure.width)
        return shape == (self.family, self.blocks, self.width)


class Options(BaseModel):
    """Base of the options of an editor and of groups of them: frozen and complete.

    Unknown keys and numbers that are not finite are errors. `instructedit list options` prints the docstring below each
    option. `published` is the model that the defaults were published for, None for any. Options in `added` are not
    written where they have the value given there, so that runs and checkpoints keep their digests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    published: ClassVar[Published | None] = None
    added: ClassVar[Mapping[str, Any]] = {}

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = write(self)
        added = {"end_of_turn": False, **self.added}
        return {name: value for name, value in found.items() if added.get(name, ...) != value}

    def sets(self, option: str) -> bool:
        """Tell whether an option was set explicitly; a nested one is named with dots."""
        name, _, inner = option.partition(".")
        if name not in self.model_fields_set:
            return False
        value = getattr(self, name)
        return value.sets(inner) if inner and isinstance(value, Options) else True


class EditorConfig(Options):
    """Base of all editor configurations."""

    end_of_turn: bool = False
    """Whether a target is trained with the token that ends an answer behind it: the end of the assistant's turn of the
    chat template under `chat = "template"`, else the end of text. It has no effect on editors that train no target."""


C = TypeVar("C", bound=EditorConfig)


class Editor(ABC, Generic[C]):
    """A method of knowledge editing.

    Attributes:
        name: Registered name, lower case.
        title: Name in tables.
        source: Paper of the method.
        version: Raised when a change of the code changes edits, so that old results are not taken for new ones.
        trains: Whether it has to be trained before it edits; see `TrainedEditor`.
        instructed: Whether it uses a request's instruction.
        schedule_notes: Footnotes on the editor in tables, by schedule (`single`, `batch`, `sequential`), e.g. that its
            published form is another one.
        Config: Its configuration class; every field has a default.
        search: Ranges of the options that `instructedit tune` searches; without any it cannot be tuned.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    version: ClassVar[str] = "1"
    trains: ClassVar[bool] = False
    instructed: ClassVar[bool] = False
    schedule_notes: ClassVar[Mapping[str, str]] = {}
    Config: ClassVar[type[EditorConfig]] = EditorConfig
    search: ClassVar[Mapping[str, "Range"]] = MappingProxyType({})

    def __init__(self, config: C | None = None) -> None:
        self.config: C = config if config is not None else cast(C, self.Config())

    def encode(self, model: Encoder, request: EditRequest) -> TokenSequence:
        """Return the text of a request's prompt and target."""
        return model.encode(request.prompt, request.target, request.joint, end=self.config.end_of_turn)

    def texts(self, model: Encoder, request: EditRequest) -> EditTexts:
        """Return the texts an edit is made from: for a fact the one of `encode`, for an attitude one for each reply.

        Raises:
            CaseError: If no wanted text fits the model's context.
        """
        ends = self.config.end_of_turn
        return edit_texts(request, lambda answer: self.encode(model, replace(request, target=answer)), ends=ends)

    @property
    def instructed_probes(self) -> InstructedProbes:
        """Which probes carry the instruction, unless a row of a run sets it."""
        return "none"

    def context(self, request: EditRequest) -> Context | None:
        """Return the prefix of the probes of a request, in training too; None for no prefix.

        A prefix of an editor's own is part of its edits (`Edits.contexts`); the instruction follows from the request.
        """
        return instruction_context(request, self.instructed_probes)

    def own_context(self, request: EditRequest) -> Context | None:
        """Return the prefix of the probes if it is the editor's own; None for the instruction and for no prefix."""
        found = self.context(request)
        return None if found == instruction_context(request, self.instructed_probes) else found

    def sites(self, model: LanguageModel | MetaModel) -> tuple[Site, ...]:
        """Return the linear layers of a model that edits change; empty if they change none.

        Raises:
            InputError: If the model has no such block.
            UnservedError: If the model lacks what the editor changes.
        """
        return ()

    def materials(self) -> Mapping[str, str | Path]:
        """Return what edits depend on besides requests and configuration, by name: texts (`str`) and files (`Path`).

        Their sha256 are part of the digest of a run. They must not contain probes of the cases that are tested.
        """
        return {}

    def material_digests(self) -> dict[str, str] | None:
        """Return the sha256 of each text and file of `materials`; None if there is none."""
        return {
            name: sha256_of(own) if isinstance(own, Path) else hashlib.sha256(own.encode()).hexdigest()
            for name, own in self.materials().items()
        } or None

    def unit(self, option: str, model: LanguageModel, requests: Sequence[EditRequest]) -> float:
        """Return the unit of an option whose range is `Scaled`, measured on the requests that are tuned on.

        Raises:
            InputError: If it cannot be measured.
        """
        raise InputError(f"The editor '{self.name}' has a scaled range for '{option}', but measures no unit.")

    @abstractmethod
    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Make one independent edit for each request, in their order.

        An edit depends on the model, its request, the configuration and the seed of the run alone, not on the other
        requests; an editor that draws numbers derives one stream for each request from the seed and the request's id.

        Raises:
            CaseError: If a request cannot be edited, e.g. because it exceeds the model's context.
        """

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Make a single edit that carries all requests.

        Raises:
            InputError: If the method has no such form.
        """
        raise InputError(
            f"The editor '{self.name}' makes one edit at a time; it has no form for {len(requests)} requests together."
        )

    def edit_next(self, model: LanguageModel, request: EditRequest, before: Edits, seed: int = 0) -> Edits:
        """Return one edit that carries all changes so far, which `before` carries, and one more.

        The model is the unedited one; at the start `before` is `Edits.none(1)`.

        Raises:
            CaseError: If the request cannot be edited.
        """
        return compose(before, self.edit(model.edited(before), [request], seed))

    def state(self) -> dict[str, Tensor]:
        """Return trained weights and buffers by name; empty for editors that are not trained."""
        return {}

    def about(self) -> dict[str, Any]:
        """Return what `load_state` needs in addition to configuration and tensors, as plain values for JSON."""
        return {}

    def load_state(self, state: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Set the state that `state` and `about` returned.

        Raises:
            InputError: If they do not fit.
        """
        assert not state, f"{self.name} has no state"

    def save(self, folder: Path) -> None:
        """Write state and configuration to a folder: `state.safetensors` if there is a state, then `editor.json`.

        Raises:
            OSError: If they cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        outline = {
            "format": "instructedit-editor-1",
            "name": self.name,
            "version": self.version,
            "config": self.config.model_dump(mode="json"),
            **self.about(),
        }
        if state := self.state():
            write_tensors(folder / WEIGHTS, state)
            outline["weights_sha256"] = sha256_of(folder / WEIGHTS)
        # last: its presence means that the editor is complete
        write_whole(folder / EDITOR, json.dumps(outline, indent=1) + "\n")

    @staticmethod
    def saved(folder: Path) -> bool:
        """Tell whether a folder holds a complete editor."""
        return (folder / EDITOR).exists()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an editor written by `save`.

        Raises:
            InputError: If the folder holds none, or one of another name or version.
            DamagedError: If a file is not what `save` wrote.
        """
        path, weights = folder / EDITOR, folder / WEIGHTS
        if not cls.saved(folder):
            raise InputError(f"{path}: no such file; a folder written by Editor.save was expected.")
        outline = read_object(path)
        with parsed(path):
            config, found = outline["config"], {key: outline[key] for key in ("name", "version")}
        for key, own in (("name", cls.name), ("version", cls.version)):
            if found[key] != own:
                raise InputError(f"{path}: holds an editor of {key} '{found[key]}', but '{own}' was expected.")
        with parsed(path):
            editor = make(cls, config)
        state: dict[str, Tensor] = {}
        if (wanted := outline.get("weights_sha256")) is not None:
            state, _ = read_tensors(weights)
            if (now := sha256_of(weights)) != wanted:
                raise DamagedError(weights, f"its sha256 is {now}, {wanted} was written to {EDITOR}")
        with parsed(path):
            try:
                editor.load_state(state, outline)
            except InputError as error:
                raise DamagedError(weights, str(error).removesuffix(".")) from error
        return editor


E = TypeVar("E", bound=Editor[Any])


def make(editor: type[E], options: dict[str, Any] | None = None) -> E:
    """Make an editor from plain options.

    Raises:
        InputError: If an option is unknown (with a suggestion) or has the wrong type.
    """
    options = options or {}
    try:
        return editor(validated(editor.Config, options))
    except ValidationError as error:
        key, unknown, text = complaint(error, editor.Config, options)
        if unknown:
            raise InputError(f"The editor '{editor.name}' has no option '{key}'.{text}") from error
        raise InputError(f"Option '{key}' of the editor '{editor.name}': {text}.") from error
