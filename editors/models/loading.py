"""Loading of a model: its configuration, its tokenizer and its weights.

Whatever a library raises becomes one sentence: where, the library's message, and what to do. The same steps on the meta
device, where weights have shapes and no storage, tell in advance whether a model can be loaded.
"""

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import __version__ as version
from transformers.dynamic_module_utils import get_relative_import_files

from ..errors import InputError
from .devices import check_device
from .faults import STAGES, TRUST, UPGRADE, message, odd_value, quantisation, remedy_of, unloadable
from .hub import out_of_reach
from .model_files import Contents, survey
from .tokens import require_offsets

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SAME_MODEL = "config.json and weights of the same model were expected"


def locate(name: str | Path) -> str:
    """Return the folder, GGUF file or hub id that a user named.

    Raises:
        InputError: If it is written as a path and there is no such folder.
    """
    path = Path(name).expanduser()
    if isinstance(name, Path) or name.startswith((".", "/", "~")) or name.endswith(".gguf") or path.is_file():
        expected = "a model folder (config.json, *.safetensors, tokenizer.json) or a GGUF file was expected"
        if path.is_file() and path.suffix != ".gguf":
            raise InputError(f"{path}: is a file; {expected}.")
        if not path.exists():
            raise InputError(f"{path}: no such folder; {expected}.")
        return str(path)
    if not name.strip():
        raise InputError("The model's name is empty; 'embedded', a folder, a GGUF file or a hub id was expected.")
    if not path.exists():
        out_of_reach()  # the hub's client alone tries for half a minute
    return name


@dataclass(frozen=True)
class Origin:
    """Where a model is loaded from: a folder, a GGUF file or a hub id; and notes for the user on what was loaded."""

    name: str | Path
    revision: str | None = None
    trust_remote_code: bool = False
    notes: list[str] = field(default_factory=list)

    @cached_property
    def place(self) -> str:
        """Folder, GGUF file or hub id, for messages."""
        return locate(self.name)

    @cached_property
    def contents(self) -> Contents | None:
        """What is in the folder; None for a hub id that is not on this machine."""
        path = Path(self.place)
        if path.is_file():
            return survey(path.parent, path.name)
        if path.is_dir():
            return survey(path)
        cached = self._cached()
        try:
            return None if cached is None else survey(cached)
        except InputError:
            return None  # what is not in the cache yet can be fetched

    @property
    def bare(self) -> bool:
        """Whether there are no weights on this machine, so that only shapes can be known."""
        return self.contents is None or not self.contents.weights

    @cached_property
    def lacks(self) -> str | None:
        """Why a folder without weights cannot be loaded; None where they are there or can be fetched."""
        if not self.bare or not Path(self.place).is_dir():
            return None
        what, remedy = "it holds no weights", "*.safetensors were expected; download the model whole"
        return str(unloadable(self.place, what, remedy))

    @cached_property
    def config(self) -> Any:
        """The configuration.

        Raises:
            InputError: If there is none, or a model made of it could not be edited.
        """
        if self.contents and self.contents.config is not None:
            self._check_kind(self.contents.config)
        with self._explained("config"):
            config = AutoConfig.from_pretrained(**self._options)
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(
                f"{self.place} is an encoder-decoder model; instructedit edits decoder-only language models."
            )
        with self._explained("config"):
            fault = None if self._gguf else quantisation(config)
        if fault is not None:
            raise unloadable(self.place, *fault)
        return config

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            InputError: If there is none, or it gives no character offsets.
        """
        if self.contents is not None and not self.contents.tokenizer and Path(self.place).exists():
            raise unloadable(
                self.place,
                "it holds no tokenizer (tokenizer.json)",
                "save the one of the model that it was made from beside it: "
                f"AutoTokenizer.from_pretrained(BASE).save_pretrained('{self.place}')",
            )
        with self._explained("tokenizer"):
            found = AutoTokenizer.from_pretrained(**self._options)
            vocabulary, special = found.get_vocab(), set(found.all_special_tokens)
        if not isinstance(found, PreTrainedTokenizerBase) or vocabulary.keys() <= special:
            what = f"its tokenizer holds {len(vocabulary)} tokens, none of ordinary text"
            raise unloadable(self.place, what, STAGES["tokenizer"])
        require_offsets(found)
        return found

    def model(
        self, dtype: str | None = None, device_map: str | Mapping[str, int | str] | None = None
    ) -> PreTrainedModel:
        """Load the weights.

        Args:
            dtype: `float32`, `bfloat16` or `float16`; None: as the configuration says.
            device_map: As in accelerate; `meta` for shapes alone.

        Raises:
            InputError: If they are missing, or are not those of the configuration.
        """
        with self._explained("weights"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                config=self.config,
                dtype="auto" if dtype is None else DTYPES[dtype],
                device_map=device_map,
                use_safetensors=None if self._gguf else True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, with their names and shapes
                **self._options,
            )
        model, info = loaded
        self._check_weights(info)
        if self._gguf:  # the weights are plain now, and the marks of the quantiser would refuse to save them
            model.hf_quantizer, model.is_quantized = None, False
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
        with self.named():
            check_vocabulary(model, self.tokenizer)
        assert isinstance(model, PreTrainedModel)
        return model

    def shapes(self) -> PreTrainedModel:
        """Return the model on the meta device, checked against its weights if they are on this machine.

        Raises:
            InputError: If it could not be loaded.
        """
        if not self.bare:
            return self.model(device_map="meta")
        if self.lacks is None:
            self.notes.append(
                f"{self.place}: its weights are not on this machine; its configuration and tokenizer were checked."
            )
        with self._explained("model"), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.config, trust_remote_code=self.trust_remote_code)
        assert isinstance(model, PreTrainedModel)
        return model

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add the model's place to errors that do not name it."""
        try:
            yield
        except InputError as error:
            if self.place in str(error):
                raise
            raise InputError(f"{self.place}: {error}") from error

    def _check_kind(self, raw: Mapping[str, Any]) -> None:
        """Refuse a kind of model that is unknown or needs code of its own, and values that no model can have."""
        path, kind, own = Path(self.place, "config.json"), raw.get("model_type"), raw.get("auto_map")
        own = own if isinstance(own, dict) else {}
        if self.trust_remote_code and "AutoConfig" in own:
            return
        if not isinstance(kind, str) or not kind:
            expected = "the name of an architecture, such as 'llama', was expected"
            raise unloadable(path, f"key 'model_type': found {kind!r}", expected)
        if kind in CONFIG_MAPPING:
            with self._explained("config"):
                fault = odd_value(raw)
            if fault is not None:
                raise unloadable(path, *fault)
        elif own:
            files = sorted({str(value).split("--")[-1].partition(".")[0] + ".py" for value in own.values()})
            raise unloadable(self.place, f"the model needs code of its own ({', '.join(files)})", TRUST)
        else:
            raise unloadable(path, f"key 'model_type': transformers {version} knows no '{kind}'", UPGRADE)

    def _check_weights(self, info: Mapping[str, Any]) -> None:
        """Refuse weights that do not fit: transformers would fill the gaps with random numbers."""
        if other := sorted(info["mismatched_keys"]):
            key, found, expected = other[0]
            raise unloadable(
                self.place,
                f"{len(other)} weights of the checkpoint have another shape than by config.json, the first is {key}: "
                f"found {list(found)}, expected {list(expected)}",
                SAME_MODEL,
            )
        if lacking := sorted(info["missing_keys"]):
            raise InputError(
                f"{self.place}: the checkpoint lacks {len(lacking)} weights of the model, the first is {lacking[0]}; "
                f"{SAME_MODEL}."
            )
        if left := sorted(info["unexpected_keys"]):
            self.notes.append(
                f"{self.place}: {len(left)} weights of the checkpoint have no place in the model and are not read, the "
                f"first is {left[0]}."
            )

    @property
    def _gguf(self) -> str | None:
        return self.contents.gguf if self.contents else None

    @property
    def _options(self) -> dict[str, Any]:
        folder = Path(self.place).parent if Path(self.place).is_file() else self.place
        options = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        gguf = {"gguf_file": self._gguf} if self._gguf else {}
        return {"pretrained_model_name_or_path": str(folder), **options, **gguf}

    def _cached(self) -> Path | None:
        """Return the cached snapshot of a hub model, if it holds weights."""
        from huggingface_hub import try_to_load_from_cache

        try:
            found = try_to_load_from_cache(self.place, "config.json", revision=self.revision)
        except (ValueError, OSError):
            return None  # no hub id: the loader's error says so
        folder = Path(found).parent if isinstance(found, str) else None
        return folder if folder is not None and any(folder.glob("*.safetensors")) else None

    @contextmanager
    def _explained(self, stage: str) -> Iterator[None]:
        """Turn whatever a library raises into one sentence."""
        try:
            yield
        except InputError:
            raise
        except BaseException as error:
            # a crash in the Rust code of tokenizers is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            local = Path(self.place).exists()
            why = None if local else out_of_reach()
            reason = f"the hub cannot be reached ({why}), and the local cache lacks it" if why else message(error)
            prefix = "" if local else f"there is no folder {self.place}, and as a hub id: "
            raise unloadable(self.place, prefix + reason, remedy_of(error, stage, local=local)) from error


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer with ids beyond the embedding.

    Special tokens that no text contains may exceed it: many published tokenizers have one more for padding.

    Raises:
        InputError: If it has such ids.
    """
    embedding: Any = model.get_input_embeddings()
    size = int(embedding.weight.shape[0])
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    own = set(tokenizer("a").input_ids)
    ids = {id_: token for token, id_ in tokenizer.get_vocab().items() if token not in special or id_ in own}
    if (largest := max(ids, default=0)) >= size:
        raise InputError(
            f"{type(model).__name__}: its tokenizer has ids up to {largest} ({ids[largest]!r}), but the embedding has "
            f"only {size} rows; put the tokenizer beside it that it was trained with, or resize the embedding "
            "(model.resize_token_embeddings(len(tokenizer))) and save it."
        )


def code_of(model: PreTrainedModel) -> str | None:
    """Return the sha256 of a model's own code and of the modules of its own that it imports; None if it has none.

    transformers copies such code to a folder that may hold older files, so only imported files count.
    """
    if not type(model).__module__.startswith("transformers_modules"):
        return None
    file = inspect.getfile(type(model))
    digest = hashlib.sha256()
    for path in sorted({Path(file), *map(Path, get_relative_import_files(file))}):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def load(
    origin: Origin,
    dtype: str = "float32",
    device: str | None = None,
    device_map: str | Mapping[str, int | str] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer; see `LanguageModel.load`.

    Raises:
        InputError: If there is no such model or device, or it cannot be used.
    """
    check_device(device, device_map)
    if dtype not in DTYPES:
        raise InputError(f"Unknown dtype '{dtype}'; one of {', '.join(DTYPES)} was expected.")
    origin.config  # noqa: B018 - its faults are reported first
    if origin.lacks is not None:
        raise InputError(origin.lacks)
    tokenizer = origin.tokenizer
    model = origin.model(dtype, device_map)
    if device_map is None:
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.nn.Module.to(model, place)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"The model cannot be put on device '{place}': {message(error)}") from error
    return model, tokenizer
