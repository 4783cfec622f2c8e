"""The files of a model's folder, checked before any library reads them, so that an error names the file at fault."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .faults import unloadable

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
"""Files that hold a vocabulary; `*.tiktoken` is another."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
TRAINING_STATE = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt")
"""Pickles that are no weights."""
FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of safetensors that plain weights have."""
GGUF_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")

SAVE_LINE = (
    "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
    "M.from_pretrained('{folder}', dtype='auto').save_pretrained('OUT'); "
    "T.from_pretrained('{folder}').save_pretrained('OUT')"
)
"""Python that writes safetensors from the pickles that transformers knows by name; a test runs it."""
STATE_LINE = (
    "import torch; from safetensors.torch import save_file; save_file({{name: weight.clone() for name, weight in "
    "torch.load('{folder}/{file}', weights_only=True).items()}}, '{folder}/model.safetensors', {{'format': 'pt'}})"
)
"""The same for a pickled state under any other name."""
MERGE_LINE = (
    "from peft import AutoPeftModelForCausalLM as M; M.from_pretrained('{folder}').merge_and_unload()"
    ".save_pretrained('OUT')"
)
COMPLETE = "a folder with config.json, *.safetensors and tokenizer.json, as save_pretrained writes it, was expected"
AGAIN = "download it again, or copy it whole"


@dataclass(frozen=True)
class Contents:
    """What a model's folder holds: `config.json` or the name of a GGUF file, and whether weights and tokenizer."""

    config: Mapping[str, Any] | None
    gguf: str | None
    weights: bool
    tokenizer: bool


def survey(folder: Path, gguf: str | None = None) -> Contents:
    """Check a model's folder, or the GGUF file in it that the user named.

    Raises:
        InputError: If a file that a model needs is missing or malformed.
    """
    try:
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        raise unloadable(folder, what, "grant the right to read it") from error
    if gguf is None:
        _check_adapter(folder, files)
        whole = "config.json" in files and any(file.endswith((".safetensors", INDEX, *PICKLES)) for file in files)
        gguf = None if whole else _only_gguf(folder, files)
    if gguf is not None:
        _check_gguf(folder / gguf)
        return Contents(None, gguf, weights=True, tokenizer=True)
    if "config.json" not in files:
        inside = sorted(str(path.parent) for path in folder.glob("*/config.json"))
        what = "it holds no config.json" if files or inside else "the folder is empty"
        raise unloadable(folder, what, f"name the folder of one model: {', '.join(inside)}" if inside else COMPLETE)
    config = read_object(folder / "config.json")
    # transformers ignores these where they are damaged
    for file in ("generation_config.json", "tokenizer_config.json", "tokenizer.json"):
        if file in files:
            read_object(folder / file)
    return Contents(config, None, _has_weights(folder, files), _has_tokenizer(folder, files))


def read_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file, which may hold Infinity as some configurations do.

    Raises:
        InputError: If it cannot be read or holds something else.
    """
    again = "download it again, or copy it from where the model was published"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unloadable(path, f"it cannot be read ({error.strerror})", again) from error
    except (ValueError, RecursionError) as error:
        raise unloadable(path, f"it is not valid JSON ({error})", again) from error
    if not isinstance(found, dict):
        raise unloadable(path, f"found {type(found).__name__} {str(found)[:40]!r}, an object was expected", again)
    return found


def _only_gguf(folder: Path, files: list[str]) -> str | None:
    found = [file for file in files if file.endswith(".gguf")]
    if len(found) > 1 and not any(map(GGUF_SHARD.search, found)):
        what = f"it holds {len(found)} GGUF files: {', '.join(found)}"
        raise unloadable(folder, what, f"name one of them: {folder / found[0]}")
    return found[0] if found else None


def _check_gguf(path: Path) -> None:
    if GGUF_SHARD.search(path.name):
        what = "it is one part of a GGUF that was split, which transformers does not read"
        raise unloadable(path, what, f"join the parts: llama-gguf-split --merge {path.name} whole.gguf")
    if not _start(path).startswith(b"GGUF"):
        raise unloadable(path, "it does not begin as a GGUF file does", AGAIN)
    if find_spec("gguf") is None:
        raise unloadable(path, "reading GGUF needs the package gguf, which is not installed", "pip install gguf")


def _check_adapter(folder: Path, files: list[str]) -> None:
    if "adapter_config.json" not in files:
        return
    path, merge = folder / "adapter_config.json", f"{MERGE_LINE.format(folder=folder)} (`pip install peft`)"
    if "config.json" in files:
        what = "a PEFT adapter is beside a whole model, and whether it counts would depend on installed packages"
        raise unloadable(path, what, f"merge it: {merge}, or remove the adapter's files")
    base = read_object(path).get("base_model_name_or_path")
    raise unloadable(
        folder,
        f"it holds a PEFT adapter (adapter_config.json) of the model {base!r} and no model",
        f"merge it first: {merge}, save the base model's tokenizer beside it, and name OUT",
    )


def _has_weights(folder: Path, files: list[str]) -> bool:
    if WEIGHTS in files or INDEX in files:
        for shard in [WEIGHTS] if WEIGHTS in files else _shards(folder):
            for name, dtype in dtypes(folder / shard).items():
                if name.endswith(".weight") and dtype not in FLOATS:
                    what = f"the weight {name} is stored as {dtype}: quantised, though config.json does not say so"
                    raise unloadable(folder / shard, what, "name the model with plain weights that it was made from")
        return True
    if other := [file for file in files if file.endswith(".safetensors")]:
        what = f"the weights are called {', '.join(other[:3])}, and there is neither {WEIGHTS} nor {INDEX}"
        raise unloadable(folder, what, f"rename a single file to {WEIGHTS}, or download the index of several")
    if pickles := [file for file in files if file.endswith(PICKLES) and file not in TRAINING_STATE]:
        known = next((file for file in pickles if file.startswith("pytorch_model")), None)
        line = (SAVE_LINE if known else STATE_LINE).format(folder=folder, file=pickles[0])
        raise unloadable(
            folder / (known or pickles[0]),
            "the weights are a pickle, which can run any code when it is read, and there are no safetensors",
            f'if you trust its origin, write safetensors{" and name OUT" if known else ""}: python -c "{line}"',
        )
    return False


def _shards(folder: Path) -> list[str]:
    """Return the files that an index names, after checking that they hold what it says."""
    index = folder / INDEX
    found = read_object(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) for file in found.values()):
        what = f"key 'weight_map': found {str(found)[:40]!r}, an object of file names was expected"
        raise unloadable(index, what, AGAIN)
    shards = sorted(set(found.values()))
    if lost := [shard for shard in shards if not (folder / shard).is_file()]:
        raise unloadable(index, f"{len(lost)} of its {len(shards)} files are missing, the first is {lost[0]}", AGAIN)
    held = {name for shard in shards for name in dtypes(folder / shard)}
    if absent := sorted(found.keys() - held):
        what = f"it names {len(absent)} weights that its files do not hold, the first is {absent[0]}"
        raise unloadable(index, what, AGAIN)
    return shards


def dtypes(path: Path) -> dict[str, str]:
    """Return the type of each tensor of a safetensors file, as the format writes it (`F32`).

    Raises:
        InputError: If the file is cut off or is something else.
    """
    _start(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_slice(name).get_dtype() for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        what = f"its {path.stat().st_size:,} bytes are no whole safetensors file ({error})"
        raise unloadable(path, what, AGAIN) from error


def _has_tokenizer(folder: Path, files: list[str]) -> bool:
    if "tokenizer.json" not in files:
        for file in files:
            kind = _tokenizer_kind(folder / file) if file.endswith((".tiktoken", ".model")) else None
            if kind is not None and find_spec(kind) is None:
                raise unloadable(
                    folder / file,
                    f"the tokenizer is of {kind}, there is no tokenizer.json, and the package {kind} that converts it "
                    "is not installed",
                    f"pip install {kind}{' protobuf' if kind == 'sentencepiece' else ''}, or put the model's "
                    "tokenizer.json beside it",
                )
    return any(file in TOKENIZERS or file.endswith(".tiktoken") for file in files)


def _tokenizer_kind(path: Path) -> str | None:
    """Return the library that wrote a vocabulary: tiktoken's has lines `BASE64 RANK`."""
    if re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", _start(path)):
        return "tiktoken"
    return "sentencepiece" if path.suffix == ".model" else None


def _start(path: Path) -> bytes:
    """Return the first bytes of a file that is readable and no pointer of git-lfs."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise unloadable(path, f"it cannot be read ({error.strerror})", AGAIN) from error
    if start.startswith(b"version https://git-lfs"):
        raise unloadable(path, "it is a pointer of git-lfs and not the file itself", "git lfs pull fetches it")
    return start
