"""What lies in a model's folder, read before any library touches it, so that a fault is said of the file it is in."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
"""Files of which a model's folder has at least one if it has a tokenizer; `*.tiktoken` is another."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
ASIDE = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt")
"""Pickles of a training that are no weights."""
FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of safetensors that a weight may have; all others hold packed or scaled numbers."""
POINTER = b"version https://git-lfs"
"""How the file begins that git keeps in the place of a large one."""

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
"""The same from a pickled state of any other name."""
MERGE_LINE = (
    "from peft import AutoPeftModelForCausalLM as M; M.from_pretrained('{folder}').merge_and_unload()"
    ".save_pretrained('OUT')"
)


def unloadable(place: str | Path, what: str, remedy: str) -> InputError:
    """Return the one sentence on a model that cannot be loaded: where, what is there, what to do."""
    return InputError(f"{place}: the model cannot be loaded: {what.strip().rstrip('.;:')}; {remedy}.")


@dataclass(frozen=True)
class Contents:
    """What a model's folder holds.

    Attributes:
        config: Its `config.json`; None where a GGUF file stands for it.
        gguf: Name of the GGUF file that is read; None for safetensors.
        weights: Whether there are any weights.
        tokenizer: Whether there is any tokenizer.
    """

    config: Mapping[str, Any] | None
    gguf: str | None
    weights: bool
    tokenizer: bool


def survey(folder: Path, gguf: str | None = None) -> Contents:
    """Look through a model's folder.

    Args:
        folder: The folder.
        gguf: Name of a file in it that the user named instead.

    Raises:
        InputError: If a file that a model needs is not there, or cannot be what it has to be.
    """
    try:
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise unloadable(
            folder, f"the folder cannot be read ({error.strerror})", "grant the right to read it"
        ) from error
    if gguf is None and "config.json" not in files:
        gguf = _without_config(folder, files)
    elif gguf is None and not any(file.endswith((".safetensors", INDEX, *PICKLES)) for file in files):
        gguf = _gguf(folder, files)
    if gguf is not None:
        _split(folder, gguf)
        return Contents(None, gguf, weights=True, tokenizer=True)
    config = read_json(folder / "config.json")
    if "generation_config.json" in files:
        read_json(folder / "generation_config.json")  # transformers goes on without it, and without its end tokens
    if "adapter_config.json" in files:
        raise unloadable(
            folder / "adapter_config.json",
            "a PEFT adapter lies beside a whole model, and whether it counts would depend on installed packages",
            f"merge it: {MERGE_LINE.format(folder=folder)} (`pip install peft`), or take the adapter's files away",
        )
    tokenizer = any(file in TOKENIZERS or file.endswith(".tiktoken") for file in files)
    if tokenizer:
        _tokenizer(folder, files)
    return Contents(config, None, _weights(folder, files), tokenizer)


def _without_config(folder: Path, files: list[str]) -> str | None:
    """Return the GGUF file of a folder that has no configuration, or say what the folder is instead."""
    if "adapter_config.json" in files:
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise unloadable(
            folder,
            f"it holds a PEFT adapter (adapter_config.json) of the model {base!r} and no model",
            f"merge it first: {MERGE_LINE.format(folder=folder)} (`pip install peft`), save the base model's "
            "tokenizer beside it, and name OUT",
        )
    if found := _gguf(folder, files):
        return found
    inside = sorted(str(path.parent) for path in folder.glob("*/config.json"))
    raise unloadable(
        folder,
        "it holds no config.json" if files or inside else "the folder is empty",
        f"name the folder of one model: {', '.join(inside)}"
        if inside
        else "a folder with config.json, *.safetensors and tokenizer.json, as save_pretrained writes it, was expected",
    )


def _gguf(folder: Path, files: list[str]) -> str | None:
    found = [file for file in files if file.endswith(".gguf")]
    if len(found) > 1 and not any(re.search(r"-\d{5}-of-\d{5}\.gguf$", file) for file in found):
        raise unloadable(
            folder, f"it holds {len(found)} GGUF files: {', '.join(found)}", f"name one of them: {folder / found[0]}"
        )
    return found[0] if found else None


def _split(folder: Path, gguf: str) -> None:
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", gguf):
        raise unloadable(
            folder / gguf,
            "it is one part of a GGUF that was cut in pieces, which transformers does not read",
            f"join them: llama-gguf-split --merge {gguf} whole.gguf",
        )
    try:
        start = (folder / gguf).open("rb").read(len(POINTER))
    except OSError as error:
        raise unloadable(folder / gguf, f"it cannot be read ({error.strerror})", "a GGUF file was expected") from error
    if start.startswith(POINTER):
        raise _pointer(folder / gguf)
    if not start.startswith(b"GGUF"):
        raise unloadable(folder / gguf, "it does not begin as a GGUF file does", "download it again")
    if find_spec("gguf") is None:
        raise unloadable(folder / gguf, "reading GGUF needs the package gguf, which is not there", "pip install gguf")


def read_json(path: Path) -> dict[str, Any]:
    """Return an object of a JSON file.

    Raises:
        InputError: If it cannot be read, or is something else.
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


def _weights(folder: Path, files: list[str]) -> bool:
    """Return whether there are weights; those that are there are held against their own headers."""
    if WEIGHTS in files:
        shards = [WEIGHTS]
    elif INDEX in files:
        shards = _shards(folder)
    elif other := [file for file in files if file.endswith(".safetensors")]:
        raise unloadable(
            folder,
            f"the weights are called {', '.join(other[:3])}, and there is neither {WEIGHTS} nor {INDEX}",
            f"rename a single file to {WEIGHTS}, or download the index of several",
        )
    elif pickles := [file for file in files if file.endswith(PICKLES) and file not in ASIDE]:
        known = next((file for file in pickles if file.startswith("pytorch_model")), None)
        line = SAVE_LINE if known else STATE_LINE
        raise unloadable(
            folder / (known or pickles[0]),
            "the weights are a pickle, which can run any code when it is read, and there are no safetensors",
            f"if you trust where it is from, write safetensors{' and name OUT' if known else ''}: "
            f'python -c "{line.format(folder=folder, file=pickles[0])}"',
        )
    else:
        return False
    for shard in shards:
        for name, dtype in header(folder / shard):
            if name.endswith(".weight") and dtype not in FLOATS:
                raise unloadable(
                    folder / shard,
                    f"the weight {name} is stored as {dtype}, so it is quantised though config.json does not say so",
                    "name the model with plain weights that it was made from",
                )
    return True


def _shards(folder: Path) -> list[str]:
    found = read_json(folder / INDEX).get("weight_map")
    again = "download the model again"
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) for file in found.values()):
        raise unloadable(
            folder / INDEX, f"key 'weight_map': found {str(found)[:40]!r}, an object of file names was expected", again
        )
    shards = sorted(set(found.values()))
    lost = [shard for shard in shards if not (folder / shard).is_file()]
    if lost:
        raise unloadable(
            folder / INDEX, f"{len(lost)} of its {len(shards)} files are not there, the first is {lost[0]}", again
        )
    held = {name for shard in shards for name, _ in header(folder / shard)}
    if absent := sorted(found.keys() - held):
        raise unloadable(
            folder / INDEX,
            f"it names {len(absent)} weights that its files do not hold, the first is {absent[0]}",
            again,
        )
    return shards


def header(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and type of each tensor of a safetensors file.

    Raises:
        InputError: If the file is cut off, or is something else.
    """
    again = "download it again, or copy it whole"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if POINTER.startswith(start) and start:
                raise _pointer(path)
            found = json.loads(file.read(length)) if 2 <= length <= size - 8 else None
    except OSError as error:
        raise unloadable(path, f"it cannot be read ({error.strerror})", again) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise unloadable(path, f"its {size:,} bytes do not begin with the header of a safetensors file", again)
    tensors = {name: entry for name, entry in found.items() if name != "__metadata__"}
    try:
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        types = [(name, str(entry["dtype"])) for name, entry in tensors.items()]
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise unloadable(path, "its header does not say where its weights lie", again) from error
    if end != size:
        raise unloadable(
            path, f"it has {size:,} bytes, but {end:,} by its header, so it is cut off or was written over", again
        )
    yield from types


def _pointer(path: Path) -> InputError:
    return unloadable(path, "it is a pointer of git-lfs and not the file itself", "git lfs pull fetches it")


def _tokenizer(folder: Path, files: list[str]) -> None:
    """Refuse a tokenizer of a kind whose package is not there."""
    for file in ("tokenizer_config.json", "tokenizer.json"):
        if file in files:
            read_json(folder / file)
    if "tokenizer.json" in files:
        return
    for file in files:
        if file.endswith((".tiktoken", ".model")):
            kind = _kind(folder / file)
            if kind and find_spec(kind) is None:
                raise unloadable(
                    folder / file,
                    f"the tokenizer is of {kind} and there is no tokenizer.json; the package {kind} is needed to make "
                    "it fast, and is not there",
                    f"pip install {kind}{' protobuf' if kind == 'sentencepiece' else ''}, or put the model's "
                    "tokenizer.json beside it",
                )


def _kind(path: Path) -> str | None:
    """Return the library that wrote a vocabulary: tiktoken's is lines of text, `BASE64 RANK`."""
    start = path.open("rb").read(256)
    if start.startswith(POINTER):
        raise _pointer(path)
    if re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", start):
        return "tiktoken"
    return "sentencepiece" if path.suffix == ".model" else None
