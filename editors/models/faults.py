"""What can be wrong with a model that is to be loaded, and what to do about it."""

import re
from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING

from ..errors import InputError

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
"""Packages to install, by the module that is missing, where the two names differ."""

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

TRUST = "--trust-remote-code (trust_remote_code = true in a preset) lets it run; read it first"
UPGRADE = "a newer transformers may (pip install -U transformers)"
REMEDIES = (
    (r"trust_remote_code", TRUST),
    (r"does not recognize this architecture|Unrecognized model", UPGRADE),
    (
        r"[Oo]ut of memory|can't allocate memory|not enough memory",
        "--dtype bfloat16 halves the weights, --device-map auto spreads them",
    ),
    (r"[Ss]afetensor|deserializing header", "download the weights again"),
)
"""Remedies by a pattern of the message; the first that fits counts."""
STAGES = {
    "config": "check config.json; as the model's publisher wrote it, it was expected",
    "model": "check config.json; as the model's publisher wrote it, it was expected",
    "tokenizer": "put the tokenizer.json of the model that it was made from beside it",
    "weights": "config.json and weights of the same model were expected; download it again",
}
"""Remedies for any other error with a folder, by what was loaded."""


def unloadable(place: str | Path, what: str, remedy: str) -> InputError:
    """Return the error of a model that cannot be loaded: where, what is wrong, what to do."""
    return InputError(f"{place}: the model cannot be loaded: {what.strip().rstrip('.;:')}; {remedy}.")


def message(error: BaseException) -> str:
    """Return an error's message in one line, with its class where the text alone says little."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError | ValueError | ImportError) and " " in text:
        return text
    return f"{type(error).__name__}: {text}".rstrip(": ")


def remedy_of(error: BaseException, stage: str, *, local: bool) -> str:
    """Return what to do about an error of transformers at a stage of `STAGES`; `local`: with a folder."""
    text = message(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        return f"pip install {PACKAGES.get(module, module)}"
    for pattern, remedy in REMEDIES:
        if re.search(pattern, text):
            return remedy
    if not local and re.search(r"\bgated\b|\b40[13]\b|access to model .* is restricted", text, re.IGNORECASE):
        return "ask for access on its page, then `hf auth login`"
    if found := re.search(r"pip install [^`'\"\n]*[^`'\"\s.,)]", text):
        return found[0]
    if isinstance(error, ImportError) and (named := [module for module in PACKAGES if module in text]):
        return f"pip install {PACKAGES[named[0]]}"
    return STAGES[stage] if local else "name a folder, or a hub id of a model that is on this machine or can be reached"


def quantisation(config: Any) -> tuple[str, str] | None:
    """Return fault and remedy of quantised weights; None for plain ones.

    Packed weights have no gradient, no norm and not the layer's shape, and a small update of them is rounded away.
    """
    marks = (getattr(part, "quantization_config", None) for part in (config, config.get_text_config()))
    mark = next((mark for mark in marks if mark is not None), None)
    if mark is None:
        return None
    options: dict[str, Any] = mark if isinstance(mark, dict) else mark.to_dict() if hasattr(mark, "to_dict") else {}
    method = str(getattr(options.get("quant_method"), "value", options.get("quant_method") or "unknown method"))
    remedy = "name the model with plain weights that it was made from"
    if options.get("load_in_4bit") or options.get("load_in_8bit") or method == "bitsandbytes":
        method = "bitsandbytes"
        remedy += (
            ", or write one: from transformers import AutoModelForCausalLM as M; "
            "M.from_pretrained(FOLDER).dequantize().save_pretrained(OUT)"
        )
    if method in QUANTISERS:
        remedy += f"; reading the quantised ones takes `pip install {QUANTISERS[method]}`"
    what = f"its weights are quantised (quantization_config of config.json: {method}), and only plain ones are edited"
    return what, remedy


MOST, LAYERS = 2**31 - 1, 10_000
"""More than any model has; building a model of more blocks would not end, even without weights."""
SIZES = re.compile(
    "hidden_size|num_attention_heads|num_key_value_heads|head_dim|intermediate_size|vocab_size|max_position_embeddings"
    "|num_hidden_layers"
)
"""Sizes that every decoder has, under these names or others that its configuration class maps to them."""
DERIVED = ("num_key_value_heads", "head_dim")
"""Sizes that may be null: they follow from others."""


def _whole(least: int, most: int) -> Callable[[object], bool]:

    def fits(value: object) -> bool:
        values = value if isinstance(value, list) and value else [value]
        return all(type(one) is int and least <= one <= most for one in values)

    return fits


def _is_token(value: object) -> bool:
    ids = value if isinstance(value, list) else [value]
    return all(one is None or (type(one) is int and abs(one) <= MOST) for one in ids)


def _between(least: float, most: float) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and least <= value <= most and value != inf  # type: ignore[operator]

    return fits


RULES: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("num_hidden_layers", _whole(1, LAYERS), f"a whole number from 1 to {LAYERS:,}"),
    (SIZES.pattern, _whole(1, MOST), f"a whole number from 1 to {MOST:,}"),
    ("(bos|eos|pad)_token_id", _is_token, "the id of a token"),
    (".*_(eps|epsilon)", _between(0, inf), "a number of 0 or more"),
    (".*(dropout|pdrop)", _between(0, 1), "a number from 0 to 1"),
    ("rope_theta", _between(5e-324, inf), "a number above 0"),
)
"""Keys of a configuration, the values they may have, and those values in words; the first that fits counts."""


def odd_value(raw: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return fault and remedy of a value in `config.json` that no model can have, though one may be built with it."""
    kind = CONFIG_MAPPING[raw["model_type"]]
    if isinstance(part := raw.get("text_config"), dict):
        part = {"model_type": getattr(kind.sub_configs.get("text_config"), "model_type", None), **part}
        if part["model_type"] in CONFIG_MAPPING and (found := odd_value(part)):
            return f"{found[0]} in text_config", found[1]
    try:
        default = kind()
    except Exception:  # some need arguments; then the usual values are unknown
        default = None
    names = {own: name for name, own in kind.attribute_map.items()}
    for key, name, value in _entries(raw, names):
        required = SIZES.fullmatch(name) and name not in DERIVED and getattr(default, name, None) is not None
        if value is None and not required:
            continue
        for pattern, fits, expected in RULES:
            if re.fullmatch(pattern, name):
                if not fits(value):
                    shown = f"rope_theta {value!r}" if key.startswith("rope_") and key != name else repr(value)
                    return f"key '{key}': found {shown}", f"{expected} was expected"
                break
    return None


def _entries(raw: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Yield key, usual name and value of a configuration; settings of rotary positions may be nested by layer type."""
    for key, value in raw.items():
        yield key, names.get(key, key), value
        if key in ("rope_parameters", "rope_scaling") and isinstance(value, dict):
            for part in (value, *(own for own in value.values() if isinstance(own, dict))):
                if "rope_theta" in part:
                    yield key, "rope_theta", part["rope_theta"]
