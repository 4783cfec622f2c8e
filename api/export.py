"""Edited models as files: whole models, LoRA adapters, and patches; each is loaded again and asked.

| form | content | edits |
| --- | --- | --- |
| `hf` | the source's files; of the weights only the files that hold edited ones are written anew | updates of weights |
| `peft` | a LoRA adapter | low-rank updates of linear layers |
| `edits` | patches for `load_edits` | all but texts |
"""

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from instructedit.benchmark.scoring.predictions import Prediction, reduced
from instructedit.editors import Edits, InputError, LowRank, Patch, TokenSequence, did_you_mean
from instructedit.editors.compose import compose
from instructedit.editors.files.atomic import whole_file, whole_folder
from instructedit.editors.models.experts import weight_of
from instructedit.editors.models.loading import Origin
from instructedit.editors.models.model_files import INDEX, PICKLES, WEIGHTS

from .answers import facts_rows
from .edited import Edited, name_of
from .plain import ABOUT, EDITS, FORMAT, load_edits, weights_digest

FORMS = ("hf", "peft", "edits")
OTHER_WEIGHTS = (*PICKLES, ".safetensors", ".h5", ".msgpack", ".gguf", ".onnx", ".safetensors.index.json")
"""Ends of names of files that hold weights, or say where they are; such files would be those of the unedited model."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An edited model on disk, after it was loaded again and asked. `str` gives two lines.

    Attributes:
        folder: Where it is.
        form: `hf`, `peft` or `edits`.
        written: Files with edited weights or patches; all others are copies of the source's.
        facts: Facts that the edit carries.
        took_effect: Those whose target is the most likely token at every position when the files are loaded again.
        engine: Those of which the same holds in this package's engine.
        differing: Ids of facts that the two answer differently, because of rounding to the dtype of the files.
        dtype: Of the loaded weights.
    """

    folder: Path
    form: str
    written: tuple[str, ...]
    facts: int
    took_effect: int
    engine: int
    differing: tuple[str, ...]
    dtype: str

    def __str__(self) -> str:
        effect = f"{self.form}: took effect on {self.took_effect} of {self.facts}"
        differ = f" in {self.dtype}; the engine's answers differ for {len(self.differing)} "
        differ += f"(it has {self.engine} of {self.facts})"
        effect += differ if self.differing else ", as in the engine"
        kept = "; all other files are copies of the source's" if self.form == "hf" else ""
        return f"{effect}\nwrote {', '.join(self.written)} to {self.folder}{kept}"


def export(edited: Edited, folder: Path, form: str) -> Exported:
    """See `Edited.save_pretrained`."""
    check_place(folder, form)
    check_form(edited, form)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder) as part:
        written = {"hf": _write_hf, "peft": _write_peft, "edits": _write_edits}[form](edited, part)
    rows = facts_rows(edited.model, edited.requests, edited.prefixes)
    with _loaded(edited, folder, form) as model:
        found = [_ask(model, row, labelled=form == "edits") for row in rows]
    pairs = list(zip(edited.requests, found, edited.taught, strict=True))
    return Exported(
        folder=folder,
        form=form,
        written=written,
        facts=len(rows),
        took_effect=sum(own.exact for own in found),
        engine=sum(own.exact for own in edited.taught),
        differing=tuple(own.case_id for own, new, engine in pairs if new.predicted != engine.predicted),
        dtype=str(model.dtype).removeprefix("torch."),
    )


def check_place(folder: Path, form: str) -> None:
    """Refuse a folder with content, or a form that cannot be written here, by an `InputError` before any edit."""
    if form not in FORMS:
        raise InputError(f"Unknown form '{form}'.{did_you_mean(form, list(FORMS))}")
    if form == "peft" and find_spec("peft") is None:
        raise InputError(
            "'peft' needs the package peft, which is not installed: pip install 'instructedit-bench[peft]'."
        )
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder}: is there already; a new or an empty folder was expected.")


def check_form(edited: Edited, form: str) -> None:
    """Refuse a form that cannot hold an edit, by an `InputError` that names those that can."""
    reasons = {name: _reason(edited, name) for name in FORMS}
    if (reason := reasons[form]) is not None:
        others = " or ".join(f"'{name}'" for name, why in reasons.items() if why is None)
        raise InputError(f"{reason}; {others or 'no form'} can hold this edit.")


def _merged(edited: Edited) -> tuple[Patch, ...]:
    """Return the patches of an edit, those of one layer as one."""
    return compose(Edits.none(1), edited.edits).patches[0]


def _reason(edited: Edited, form: str) -> str | None:
    name = edited.editor.name
    if edited.edits.contexts[0] is not None:
        return f"'{form}' holds no text, and an edit of '{name}' is one, put before each prompt"
    for patch in _merged(edited) if form != "edits" else ():
        if not isinstance(patch, LowRank) and patch.delta() is None:
            return f"'{form}' holds updates of weights, and an edit of '{name}' is none ({patch.kind} at {patch.site})"
        if form == "peft":
            if not isinstance(patch, LowRank):
                return f"'peft' holds low-rank updates, and '{name}' changes whole matrices ({patch.site})"
            modules = dict(edited.model.model.named_modules())
            if weight_of(edited.model.model, patch.site).value.dim() != 2 or patch.site not in modules:
                return f"'peft' holds updates of linear layers, and {patch.site} is an expert in a larger tensor"
    return None


def _write_hf(edited: Edited, part: Path) -> tuple[str, ...]:
    """Copy the source's files, with edited tensors in those that hold them."""
    source = source_folder(edited.origin)
    places = _places(source)
    changes: dict[str, dict[str, Tensor]] = {}
    for patch in _merged(edited):
        delta = patch.delta()
        assert delta is not None
        file, name, inputs_first = _stored(edited, source, places, patch.site)
        changes.setdefault(file, {})[name] = delta if inputs_first else delta.T
    for path in sorted(source.iterdir()):
        weights = path.name.endswith(OTHER_WEIGHTS) and path.name not in {*places.values(), INDEX}
        if path.is_file() and not path.name.startswith(".") and path.name not in changes and not weights:
            shutil.copyfile(path, part / path.name)
    for file, own in changes.items():
        tensors = load_file(source / file)
        for name, change in own.items():
            tensors[name] = (tensors[name].to(change.dtype) + change.cpu()).to(tensors[name].dtype).contiguous()
        with safe_open(source / file, framework="pt") as held:
            metadata = held.metadata()
        _save(part / file, tensors, metadata)
    return tuple(sorted(changes))


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> None:
    with whole_file(path) as new:  # safetensors alone gives the right to read it to the owner only
        save_file(tensors, new, metadata)


def source_folder(origin: Origin) -> Path:
    """Return the folder of a model's files; `InputError` if its weights are in a GGUF file or not on this machine."""
    path = Path(origin.place)
    if path.is_file() or (origin.contents is not None and origin.contents.gguf is not None):
        raise InputError(f"{path}: 'hf' keeps the files of a model, and this one is a GGUF file; use 'edits'.")
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(origin.place, revision=origin.revision, local_files_only=True))
    except (OSError, ValueError) as error:
        raise InputError(f"{origin.place}: its files are not in the local cache of the hub.") from error


def _places(source: Path) -> dict[str, str]:
    if (source / WEIGHTS).is_file():
        with safe_open(source / WEIGHTS, framework="pt") as held:
            return dict.fromkeys(held.keys(), WEIGHTS)
    return dict(json.loads((source / INDEX).read_text(encoding="utf-8"))["weight_map"])


def _stored(edited: Edited, source: Path, places: Mapping[str, str], site: str) -> tuple[str, str, bool]:
    """Return file and name under which a layer's weight is stored, and whether it is [d_in, d_out].

    The name in the files may lack or have the prefix of the base model, or be another one, so the values decide.

    Raises:
        InputError: If no stored tensor has the weight's values, e.g. because transformers joins several at load.
    """
    model = edited.model.model
    weight, inputs_first = weight_of(model, site)
    name, prefix = f"{site}.weight", f"{model.base_model_prefix}."
    likely = [name, name.removeprefix(prefix), prefix + name]
    for key in [*likely, *(key for key in places if key not in likely)]:
        if key in places:
            with safe_open(source / places[key], framework="pt") as held:
                part = held.get_slice(key)
                if tuple(part.get_shape()) == tuple(weight.shape):
                    same = held.get_tensor(key).to(weight.dtype)
                    if torch.equal(same, weight.detach().cpu()):
                        return places[key], key, inputs_first
    raise InputError(
        f"{source}: no file holds the weight of {site} as the model has it, so 'hf' cannot write it; use 'edits'."
    )


def _write_peft(edited: Edited, part: Path) -> tuple[str, ...]:
    """Write a LoRA adapter whose scaling is 1."""
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for patch in _merged(edited):
        assert isinstance(patch, LowRank)
        ranks[patch.site] = patch.a.shape[1]
        tensors[f"base_model.model.{patch.site}.lora_A.weight"] = patch.a.T
        tensors[f"base_model.model.{patch.site}.lora_B.weight"] = patch.b.T
    rank = max(ranks.values())
    patterns = {site: own for site, own in ranks.items() if own != rank}
    path = Path(edited.origin.place)
    modules: Mapping[str, nn.Module] = dict(edited.model.model.named_modules())
    LoraConfig(
        r=rank,
        lora_alpha=rank,
        rank_pattern=patterns,
        alpha_pattern=patterns,
        target_modules=sorted(ranks),
        fan_in_fan_out=any(isinstance(modules[site], Conv1D) for site in ranks),
        base_model_name_or_path=str(path.resolve()) if path.exists() else edited.origin.place,
        revision=edited.model.revision or edited.origin.revision,
        task_type="CAUSAL_LM",
        inference_mode=True,
    ).save_pretrained(str(part))
    file = "adapter_model.safetensors"
    _save(part / file, {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, {"format": "pt"})
    return "adapter_config.json", file


def _write_edits(edited: Edited, part: Path) -> tuple[str, ...]:
    edited.edits.save(part / EDITS)
    model = edited.model.model
    about: dict[str, Any] = {
        "format": FORMAT,
        "model": name_of(edited.origin),
        "revision": edited.model.revision or edited.origin.revision,
        "architecture": type(model).__name__,
        "weights": weights_digest(model),
        "editor": edited.editor.name,
        "options": edited.editor.config.model_dump(mode="json"),
        "facts": [{"prompt": own.prompt, "target": own.target} for own in edited.requests],
    }
    (part / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return EDITS, ABOUT


@contextmanager
def _loaded(edited: Edited, folder: Path, form: str) -> Iterator[PreTrainedModel]:
    """Yield an export as a user loads it: the dtype is that of the files."""
    trust = edited.origin.trust_remote_code
    origin = Origin(folder, None, trust) if form == "hf" else edited.origin
    model = Origin(origin.name, origin.revision, trust).model()
    nn.Module.to(model, edited.model.device).eval()
    if form == "peft":
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of peft about transformers' next version
            adapted: Any = PeftModel.from_pretrained(model, str(folder))
        yield adapted
    elif form == "edits":
        with load_edits(model, folder):
            yield model
    else:
        yield model


def _ask(model: PreTrainedModel, row: TokenSequence, *, labelled: bool) -> Prediction:
    """Return a plain model's prediction of a text's target; with labels, which tell `load_edits` where prompts end."""
    ids = torch.tensor([row.ids], device=model.device)
    labels = ids.clone()
    labels[0, : row.scored[0] + 1] = -100
    with torch.no_grad():
        logits = model(input_ids=ids, labels=labels if labelled else None).logits[0]
    return reduced([row], set(), [(0, logits[list(row.scored)])])[0]
