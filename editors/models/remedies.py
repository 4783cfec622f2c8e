"""What to do about what a library says: missing packages, odd values of a configuration, quantised weights."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from math import inf
from typing import Any

from transformers import CONFIG_MAPPING

PACKAGES = {
    "google": "protobuf",
    "protobuf": "protobuf",
    "compressed_tensors": "compressed-tensors",
    "gptqmodel": "gptqmodel optimum",
    "optimum": "optimum gptqmodel",
    "awq": "gptqmodel",
    "mamba_ssm": "mamba-ssm",
    "causal_conv1d": "causal-conv1d",
    "flash_attn": "flash-attn",
    "PIL": "pillow",
    "cv2": "opencv-python",
}
"""What pip calls a module that is called otherwise."""

QUANTISERS = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "optimum gptqmodel",
    "awq": "gptqmodel",
    "compressed-tensors": "compressed-tensors",
    "torchao": "torchao",
    "hqq": "hqq",
    "quanto": "optimum-quanto",
    "aqlm": "aqlm",
    "auto-round": "auto-round",
}
"""Packages that read quantised weights, by method."""

STAGES = {
    "config": "check config.json; as the model's publisher wrote it, it was expected",
    "model": "check config.json; as the model's publisher wrote it, it was expected",
    "tokenizer": "put the tokenizer.json of the model that it was made from beside it",
    "weights": "config.json and weights of the same model were expected; download it again",
}
"""What helps where nothing more is known of an error in a folder."""

TRUST = "--trust-remote-code (trust_remote_code = true in a preset) lets it run; read it first"
OFFLINE = "name a folder, or a hub id of a model that is on this machine or can be reached"

REMEDIES = (
    (r"trust_remote_code", TRUST),
    (
        r"does not recognize this architecture|Unrecognized model",
        "a newer transformers may (pip install -U transformers)",
    ),
    (
        r"[Oo]ut of memory|can't allocate memory|not enough memory",
        "--dtype bfloat16 halves the weights, --device-map auto spreads them",
    ),
    (r"[Ss]afetensor|deserializing header", "download the weights again"),
)
"""What helps, by what a message says."""

ACCESS = r"\bgated\b|\b40[13]\b|access to model .* is restricted"
"""What a message of the hub says of a model that is there and may not be read."""

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)
"""Sizes that every decoder has under these names or others that its class knows; none of them can be 0."""
LEFT_OUT = ("num_key_value_heads", "head_dim")
"""Sizes that follow from others where null stands for them."""
TINY = 5e-324
"""Least number above 0."""
MOST, LAYERS = 2**31 - 1, 10_000
"""More than any model has: with more blocks, building one without weights would not end."""
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def whole(error: BaseException) -> str:
    """Return all that an error says, in one line; its kind too where the text alone says little."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError | ValueError | ImportError) and text and " " in text:
        return text
    return f"{type(error).__name__}: {text}".rstrip(": ")


def remedy_of(error: BaseException, stage: str, *, local: bool) -> str:
    """Return what to do about an error of a loader.

    Args:
        error: The error.
        stage: What was loaded, a key of `STAGES`.
        local: Whether it lies in a folder.
    """
    text = whole(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        return f"pip install {PACKAGES.get(module, module)}"
    for pattern, remedy in REMEDIES:
        if re.search(pattern, text):
            return remedy
    if not local and re.search(ACCESS, text, re.IGNORECASE):
        return "ask for access on its page, then `hf auth login`"
    if found := re.search(r"pip install [^`'\"\n]*[^`'\"\s.,)]", text):
        return found[0]
    for module, package in PACKAGES.items():
        if isinstance(error, ImportError) and module in text:
            return f"pip install {package}"
    return STAGES[stage] if local else OFFLINE


def quantised(config: Any) -> tuple[str, str] | None:
    """Return what is wrong with weights that are quantised, and what to do; None where they are plain.

    A packed weight has neither a gradient nor a norm, its shape is not that of its map, and a small change of it rounds
    away: the edits and the numbers of this package are those of plain weights.
    """
    marks = [getattr(part, "quantization_config", None) for part in (config, config.get_text_config())]
    mark = next((mark for mark in marks if mark is not None), None)
    if mark is None:
        return None
    options: dict[str, Any] = mark if isinstance(mark, dict) else mark.to_dict() if hasattr(mark, "to_dict") else {}
    method = str(getattr(options.get("quant_method"), "value", options.get("quant_method") or "unknown method"))
    if options.get("load_in_4bit") or options.get("load_in_8bit"):
        method = "bitsandbytes"
    package = QUANTISERS.get(method)
    lines = "name the model with plain weights that it was made from"
    if method == "bitsandbytes":
        lines += (
            ", or write one: from transformers import AutoModelForCausalLM as M; "
            "M.from_pretrained(FOLDER).dequantize().save_pretrained(OUT)"
        )
    if package is not None:
        there = all(find_spec(QUANTISERS_MODULES.get(word, word)) is not None for word in package.split())
        lines += f"; reading the quantised ones takes `pip install {package}`" + (
            "" if there else ", which is not there"
        )
    return (
        f"its weights are quantised (quantization_config of config.json: {method}), and only plain ones are edited",
        lines,
    )


QUANTISERS_MODULES = {
    "compressed-tensors": "compressed_tensors",
    "optimum-quanto": "optimum",
    "auto-round": "auto_round",
}
"""What Python calls a package of `QUANTISERS` that is called otherwise."""


def odd_values(raw: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what is wrong with a value of `config.json` that no model can have, though one may be made of it."""
    kind = CONFIG_MAPPING[raw["model_type"]]
    if isinstance(part := raw.get("text_config"), dict):
        part = {"model_type": getattr(kind.sub_configs.get("text_config"), "model_type", None), **part}
        if part["model_type"] in CONFIG_MAPPING and (found := odd_values(part)):
            return f"{found[0]} in text_config", found[1]
    try:
        usual = kind()
    except Exception:  # some need arguments; then nothing is known of what is usual
        usual = None
    names = {own: name for name, own in kind.attribute_map.items()}
    for key, value in raw.items():
        name = names.get(key, key)
        if value is None and (name not in SIZES or name in LEFT_OUT or getattr(usual, name, None) is None):
            continue  # what stands for it is the architecture's own affair
        found = _size(name, value) or _number(name, value) or _rope(name, value)
        if found is not None:
            what, expected = found
            return f"key '{key}': found {what}", f"{expected} was expected"
    return None


def _size(name: str, value: object) -> tuple[str, str] | None:
    """Return what a size or the id of a token is instead, and what was expected."""
    if name not in SIZES and name not in TOKENS:
        return None
    values = value if isinstance(value, list) and (value or name in TOKENS) else [value]
    if name in TOKENS:
        fits = all(one is None or (type(one) is int and abs(one) <= MOST) for one in values)
        return None if fits else (repr(value), "the id of a token")
    most = LAYERS if name == "num_hidden_layers" else MOST
    fits = all(type(one) is int and 0 < one <= most for one in values)
    return None if fits else (repr(value), f"a whole number from 1 to {most:,}")


def _number(name: str, value: object) -> tuple[str, str] | None:
    """Return what a number that is no size is instead, and what was expected."""
    if name.endswith(("_eps", "_epsilon")) and not _within(value, 0, inf):
        return repr(value), "a number of 0 or more"
    if name.endswith(("dropout", "pdrop")) and not _within(value, 0, 1):
        return repr(value), "a number from 0 to 1"
    if name == "rope_theta" and not _within(value, TINY, inf):
        return repr(value), "a number above 0"
    return None


def _rope(name: str, value: object) -> tuple[str, str] | None:
    """Return what is wrong with the settings of rotary positions, which may be nested by kind of layer."""
    if name in ("rope_parameters", "rope_scaling") and isinstance(value, dict):
        for part in (value, *(own for own in value.values() if isinstance(own, dict))):
            theta = part.get("rope_theta", 1.0)
            if not _within(theta, TINY, inf):
                return f"rope_theta {theta!r}", "a number above 0"
    return None


def _within(value: object, least: float, most: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and least <= value <= most and value != inf  # type: ignore[operator]
