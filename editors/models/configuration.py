"""Values of a model's configuration, which architectures store under different names.

All are read from the configuration of the text part, which multimodal models nest. What may differ between blocks
(heads, widths of MLPs) is read from the modules (`structure.py`).
"""

from typing import Any

LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_target_positions",
    "n_ctx",
    "context_length",
)
"""Names of the maximum number of tokens; the first that is a positive number counts."""
WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
ACTIVATIONS = ("activation_function", "hidden_activation", "hidden_act", "activation")
"""Names of the activation; Gemma's `hidden_activation` overrules its `hidden_act`."""
UNLIMITED = 1_000_000
"""Context length where the configuration sets no limit, as for XLNet and state-space models."""


def text_config(config: Any) -> Any:
    """Return the configuration of a model's text part, which is the configuration itself for models of text alone."""
    find = getattr(config, "get_text_config", None)
    if find is None or getattr(config, "is_encoder_decoder", False):
        return config
    try:
        return find(decoder=True)
    except ValueError:  # several parts with text
        return config


def context_length(config: Any) -> int:
    """Return the maximum number of tokens of a text."""
    return _number(config, LIMITS) or UNLIMITED


def width(config: Any) -> int | None:
    """Return the width of the residual stream (not of the embeddings, which OPT-350m projects)."""
    return _number(config, WIDTHS)


def depth(config: Any) -> int | None:
    """Return the number of blocks."""
    return _number(config, DEPTHS)


def activation_name(config: Any) -> str | None:
    """Return the activation's name in transformers, if the configuration has it; modules may use another one."""
    own = text_config(config)
    found = (getattr(own, key, None) for key in ACTIVATIONS)
    return next((name for name in found if isinstance(name, str)), None)


def _number(config: Any, names: tuple[str, ...]) -> int | None:
    own = text_config(config)
    for name in names:
        value = getattr(own, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
