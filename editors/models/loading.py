"""The one place that loads a model: its configuration, its tokenizer and its weights.

Whatever a library raises on the way becomes one sentence: where, the library's whole message, and what to do next. The
same steps on the meta device, where weights have shapes and no storage, tell beforehand whether a model can be loaded.
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
from .folder import Contents, survey, unloadable
from .hub import out_of_reach
from .remedies import STAGES, TRUST, odd_values, quantised, remedy_of, whole
from .tokens import require_offsets

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        out_of_reach()  # known before the hub's client tries for half a minute
    return name


@dataclass(frozen=True)
class Origin:
    """Where a model is read from.

    Attributes:
        name: Folder, GGUF file or hub id.
        revision: Commit, branch or tag of a hub model.
        trust_remote_code: Whether code in the model's repository may run.
    """

    name: str | Path
    revision: str | None = None
    trust_remote_code: bool = False
    notes: list[str] = field(default_factory=list)
    """Sentences for the user on what was read."""

    @cached_property
    def place(self) -> str:
        """Folder, GGUF file or hub id, for messages."""
        return locate(self.name)

    @cached_property
    def contents(self) -> Contents | None:
        """What lies in the folder; None for a hub id that is not on this machine."""
        path = Path(self.place)
        if path.is_file():
            return survey(path.parent, path.name)
        if path.is_dir():
            return survey(path)
        cached = self._cached()
        try:
            return None if cached is None else survey(cached)
        except InputError:
            return None  # what was not fetched yet can be; if not, the loader says so

    @property
    def bare(self) -> bool:
        """Whether there are no weights on this machine, so that shapes alone can be known."""
        return self.contents is None or not self.contents.weights

    @cached_property
    def lacks(self) -> str | None:
        """Sentence on what a folder without weights cannot be used for; None where they are there or can be fetched."""
        if not self.bare or not Path(self.place).is_dir():
            return None
        return str(
            unloadable(self.place, "it holds no weights", "*.safetensors were expected; download the model whole")
        )

    @cached_property
    def config(self) -> Any:
        """The configuration, looked through.

        Raises:
            InputError: If there is none, or a model made of it could not be edited.
        """
        raw = self.contents.config if self.contents else None
        if raw is not None:
            self._known(raw)
        with self._said("config"):
            config = AutoConfig.from_pretrained(self._source, **self._options, **self._gguf)
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(
                f"{self.place} is an encoder-decoder model; instructedit edits decoder-only language models."
            )
        if not self._gguf:
            with self._said("config"):
                what = quantised(config)
            if what is not None:
                raise unloadable(f"{self.place}", *what)
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
        with self._said("tokenizer"):
            found = AutoTokenizer.from_pretrained(self._source, **self._options, **self._gguf)
            vocabulary = found.get_vocab()
            special = set(found.all_special_tokens)
        if not isinstance(found, PreTrainedTokenizerBase) or vocabulary.keys() <= special:
            raise unloadable(
                self.place, f"its tokenizer holds {len(vocabulary)} tokens, none of ordinary text", STAGES["tokenizer"]
            )
        require_offsets(found)
        return found

    def model(
        self,
        dtype: str | None = None,
        device_map: str | Mapping[str, int | str] | None = None,
    ) -> PreTrainedModel:
        """Load the weights.

        Args:
            dtype: `float32`, `bfloat16` or `float16`; None: as the configuration has it.
            device_map: As in accelerate; `meta` for shapes alone.

        Raises:
            InputError: If they are not there, or not those of the configuration.
        """
        with self._said("weights"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                self._source,
                config=self.config,
                dtype="auto" if dtype is None else DTYPES[dtype],
                device_map=device_map,
                use_safetensors=None if self._gguf else True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, with their names and shapes
                **self._options,
                **self._gguf,
            )
        model, loading = loaded
        # transformers fills what a checkpoint lacks with random numbers.
        if other := sorted(loading["mismatched_keys"]):
            key, found, expected = other[0]
            raise unloadable(
                self.place,
                f"{len(other)} weights of the checkpoint have another shape than by config.json, the first is {key}: "
                f"found {list(found)}, expected {list(expected)}",
                "config.json and weights of the same model were expected",
            )
        if lacking := sorted(loading["missing_keys"]):
            raise InputError(
                f"{self.place}: the checkpoint lacks {len(lacking)} weights of the model, the first is {lacking[0]}; "
                "config.json and weights of the same model were expected."
            )
        if left := sorted(loading["unexpected_keys"]):
            self.notes.append(
                f"{self.place}: {len(left)} weights of the checkpoint have no place in the model and are not read, the "
                f"first is {left[0]}."
            )
        if self._gguf:  # what was read is plain now, and the marks of the quantiser would refuse to save it
            model.hf_quantizer, model.is_quantized = None, False
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
        self._fits(model)
        assert isinstance(model, PreTrainedModel)
        return model

    def shapes(self) -> PreTrainedModel:
        """Return the model on the meta device; its weights are held against it if they are on this machine.

        Raises:
            InputError: If it could not be loaded.
        """
        if not self.bare:
            return self.model(device_map="meta")
        if self.lacks is None:
            self.notes.append(
                f"{self.place}: its weights are not on this machine; its configuration and tokenizer were looked at."
            )
        with self._said("model"), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.config, trust_remote_code=self.trust_remote_code)
        assert isinstance(model, PreTrainedModel)
        return model

    def _fits(self, model: PreTrainedModel) -> None:
        """Refuse a tokenizer with ids that the embedding has no row for.

        Special tokens that no text is made of are left out: many a published tokenizer has one more of them, to pad.
        """
        embedding: Any = model.get_input_embeddings()
        rows = int(embedding.weight.shape[0])
        added = self.tokenizer.added_tokens_decoder
        special = {*self.tokenizer.all_special_tokens, *(str(token) for token in added.values() if token.special)}
        own = set(self.tokenizer("a").input_ids)
        token, largest = max(
            (
                (token, number)
                for token, number in self.tokenizer.get_vocab().items()
                if token not in special or number in own
            ),
            key=lambda item: item[1],
        )
        if largest >= rows:
            raise unloadable(
                self.place,
                f"its tokenizer gives ids up to {largest} ({token!r}), but the embedding has {rows} rows",
                "put the tokenizer beside it that it was trained with, or resize the embedding "
                "(model.resize_token_embeddings(len(tokenizer))) and save it",
            )

    @property
    def _source(self) -> str:
        return str(Path(self.place).parent) if Path(self.place).is_file() else self.place

    @property
    def _gguf(self) -> dict[str, str]:
        return {"gguf_file": self.contents.gguf} if self.contents and self.contents.gguf else {}

    @property
    def _options(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    def _cached(self) -> Path | None:
        """Return the folder of a hub model with its weights, if it is on this machine."""
        from huggingface_hub import try_to_load_from_cache

        try:
            found = try_to_load_from_cache(self.place, "config.json", revision=self.revision)
        except (ValueError, OSError):
            return None  # no hub id; the loader says so
        folder = Path(found).parent if isinstance(found, str) else None
        return folder if folder is not None and any(folder.glob("*.safetensors")) else None

    def _known(self, raw: Mapping[str, Any]) -> None:
        """Refuse a kind of model that needs code of its own, or is unknown."""
        place, kind, own = Path(self.place, "config.json"), raw.get("model_type"), raw.get("auto_map")
        own = own if isinstance(own, dict) else {}
        if self.trust_remote_code and "AutoConfig" in own:
            return
        if not isinstance(kind, str) or not kind:
            raise unloadable(
                place, f"key 'model_type': found {kind!r}", "the name of an architecture, such as 'llama', was expected"
            )
        if kind in CONFIG_MAPPING:
            with self._said("config"):
                odd = odd_values(raw)
            if odd is not None:
                raise unloadable(place, *odd)
            return
        if own:
            files = sorted({str(value).split("--")[-1].partition(".")[0] + ".py" for value in own.values()})
            raise unloadable(self.place, f"the model needs code of its own ({', '.join(files)})", TRUST)
        raise unloadable(
            place,
            f"key 'model_type': transformers {version} knows no '{kind}'",
            "a newer transformers may (pip install -U transformers)",
        )

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let what a model is refused for name where it is from."""
        try:
            yield
        except InputError as error:
            if self.place in str(error):
                raise
            raise InputError(f"{self.place}: {error}") from error

    @contextmanager
    def _said(self, stage: str) -> Iterator[None]:
        """Turn whatever a library raises into one sentence."""
        try:
            yield
        except InputError:
            raise
        except BaseException as error:
            # tokenizers' own kind of crash is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            local = "" if Path(self.place).exists() else f"there is no folder {self.place}, and as a hub id: "
            why = out_of_reach() if local else None
            reason = whole(error) if why is None else f"the hub cannot be reached ({why}), and the local cache lacks it"
            raise unloadable(self.place, local + reason, remedy_of(error, stage, local=not local)) from error


def code_of(model: PreTrainedModel) -> str | None:
    """Return the sha256 of the code that a model brings along, with all that it imports of its own; None if it is none.

    transformers copies such code to a folder where older files may lie, so only what is imported counts.
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
    from .devices import check_device

    check_device(device, device_map)
    if dtype not in DTYPES:
        raise InputError(f"Unknown dtype '{dtype}'; one of {', '.join(DTYPES)} was expected.")
    origin.config  # noqa: B018 - what is wrong with it is said first
    if origin.lacks is not None:
        raise InputError(origin.lacks)
    tokenizer = origin.tokenizer
    model = origin.model(dtype, device_map)
    if device_map is None:
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.nn.Module.to(model, place)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"The model cannot be put on device '{place}': {whole(error)}") from error
    return model, tokenizer
