"""What `instructedit doctor` finds: this installation and machine, and how a model is understood.

The versions that are checked are the ranges of the package's metadata: an installed package does not contain
`constraints.txt`, and both ends of each range are tested (`tox -e lowest`, `tox -e newest`).
"""

import os
import platform
import re
from contextlib import suppress
from importlib.metadata import requires, version
from typing import Any

import psutil
import torch
from huggingface_hub import constants
from pydantic import BaseModel

from instructedit.editors import EDITORS, InputError, LanguageModel, MetaModel, TrainedEditor, make
from instructedit.editors.models.loading import DTYPES
from instructedit.editors.writing_systems import JOINT_RULE

from ..setup.config import EMBEDDED_MODEL
from ..setup.model_checks import cannot_edit
from .forecast import ADAM, FLOAT
from .machine import Place, cores, free
from .report import short

DISTRIBUTION = "instructedit-bench"
SHOWN = ("torch", "transformers", "accelerate", "datasets", "evaluate")
"""Packages whose versions are printed even if they are right."""


class Package(BaseModel):
    """A package that the project needs, its version if it is installed, and the range of tested versions."""

    name: str
    version: str | None
    tested: str
    fits: bool


class Machine(BaseModel):
    """This installation and the machine: its memory, what is free of it where models are loaded, and free disk space.

    All sizes are in bytes.
    """

    version: str
    python: str
    platform: str
    packages: tuple[Package, ...]
    devices: tuple[str, ...]
    cores: int
    memory: int
    free: int
    threads: int
    offline: bool
    """Whether `HF_HUB_OFFLINE` keeps the hub from being asked."""
    results: str
    writable: bool
    disk: int
    problems: tuple[str, ...]


class EditorReport(BaseModel):
    """One editor with its default options on a model: edited layers, or why it cannot edit it, and what it needs.

    `training` is the number of bytes that its training needs besides the model.
    """

    name: str
    works: bool
    edits: str
    needs: tuple[str, ...]
    training: int = 0


class ModelReport(BaseModel):
    """How a model is understood: its structure, its tokenizer, and which editors can edit it.

    `parts` counts the layers that can be edited, `context` tokens of a text, and `memory` bytes of the weights in the
    dtype of the runs; `stored` is the dtype that its configuration names. The tokenizer knows `tokens`, the model has
    logits for `vocabulary` of them.
    """

    name: str
    architecture: str
    parameters: int
    blocks: int
    width: int
    parts: dict[str, int]
    context: int
    stored: str | None
    dtype: str
    memory: int
    tokenizer: str | None
    tokens: int
    vocabulary: int
    bos: str | None
    """Token that the tokenizer puts before a text."""
    chat_template: bool
    joint: str
    """Rule that joins prompts and answers."""
    trial: str
    """Result of the trial with the weights, or why there was none."""
    editors: tuple[EditorReport, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def check_machine(place: Place) -> Machine:
    """Look at the installation and the machine; nothing is written."""
    packages = tuple(_package(text) for text in requires(DISTRIBUTION) or () if "extra ==" not in text)
    there = free(place)
    root = place.out.absolute()
    folder = next(path for path in (root, *root.parents) if path.exists())
    writable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    problems = [
        f"{own.name}: found {own.version or 'none'}, {own.tested} is tested." for own in packages if not own.fits
    ]
    if not writable:
        problems.append(f"{place.out}: cannot be written; --out names another folder for results.")
    return Machine(
        version=version(DISTRIBUTION),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=packages,
        devices=tuple(_devices()),
        cores=cores(),
        memory=int(psutil.virtual_memory().total),
        free=there.memory,
        threads=torch.get_num_threads(),
        offline=bool(constants.HF_HUB_OFFLINE),
        results=str(place.out),
        writable=writable,
        disk=there.disk,
        problems=tuple(problems),
    )


def check_model(
    name: str,
    place: Place,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    load: bool = True,
) -> ModelReport:
    """Look at a model: its shapes on the meta device, and, if its weights are there and fit, the trial of each load.

    Raises:
        InputError: If there is no such model, or its shapes are none that can be edited.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype: found '{dtype}', one of {', '.join(DTYPES)} was expected.")
    path = EMBEDDED_MODEL if name == "embedded" else name
    meta = MetaModel.load(path, revision, trust_remote_code=trust_remote_code)
    memory = meta.parameters * DTYPES[dtype].itemsize
    editors = tuple(_editor(own, meta) for own in EDITORS)
    problems = [meta.lacks] if meta.lacks else []
    notes = list(meta.notes)
    if not load or meta.lacks:
        trial = "none: the weights were not loaded"
    elif memory > free(place).memory:
        trial = f"none: the weights do not fit into the free memory in {dtype}"
        problems.append(f"{name}: its weights take {memory / 1e9:,.1f} GB in {dtype}, more memory than is free.")
    else:
        where = {"device": place.device, "device_map": place.device_map}
        try:
            model = LanguageModel.load(
                path, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code, **where
            )
            found = model.trial
            trial = f"passed, packing by {found.packing}, generation by {found.generation}"
            notes += [note for note in found.notes if note not in notes]
        except InputError as error:
            trial = "failed"
            problems.append(str(error))
    sites = [site.part for block in meta.structure.sites for site in block]
    tokenizer, stored = meta.tokenizer, getattr(meta.model.config, "dtype", None)
    return ModelReport(
        name=name,
        architecture=type(meta.model).__name__,
        parameters=meta.parameters,
        blocks=len(meta.structure),
        width=meta.width,
        parts={part: sites.count(part) for part in dict.fromkeys(sites)},
        context=meta.context,
        stored=None if stored is None else str(stored).removeprefix("torch."),
        dtype=dtype,
        memory=memory,
        tokenizer=None if tokenizer is None else type(tokenizer.backend_tokenizer.model).__name__,
        tokens=0 if tokenizer is None else len(tokenizer),
        vocabulary=meta.vocabulary,
        bos=_bos(tokenizer),
        chat_template=bool(getattr(tokenizer, "chat_template", None)),
        joint=JOINT_RULE,
        trial=trial,
        editors=editors,
        notes=tuple(notes),
        problems=tuple(problems),
    )


def _package(text: str) -> Package:
    from transformers.utils.versions import require_version

    text = text.partition(";")[0].strip()
    name = re.split(r"[<>=!~ \[]", text, maxsplit=1)[0]
    found, fits = None, False
    with suppress(ImportError):
        found = version(name)
        require_version(text)
        fits = True
    return Package(name=name, version=found, tested=text.removeprefix(name), fits=fits)


def _devices() -> list[str]:
    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        there, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        found.append(f"cuda:{number} {name}, {there / 1e9:.1f} of {total / 1e9:.1f} GB free")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def _editor(name: str, meta: MetaModel) -> EditorReport:
    try:
        kind = EDITORS.get(name)
        editor = make(kind)
        reason = cannot_edit(editor, meta)
    except InputError as error:
        return EditorReport(name=name, works=False, edits=str(error), needs=())
    needs = ["training"] * kind.trains + ["an instruction"] * kind.instructed
    published = kind.Config.published
    if published is not None and not published.fits(meta):
        needs.append(f"tuning (defaults of {published.model})")
    if reason is not None:
        return EditorReport(name=name, works=False, edits=reason, needs=tuple(needs))
    network = editor.parameters(meta) if isinstance(editor, TrainedEditor) else 0
    blocks, _, parts = short(editor.sites(meta)).partition(" ")
    edits = f"block{'s' * ('-' in blocks)} {blocks}: {parts.replace('+', ', ')}" if blocks else "no layer"
    return EditorReport(name=name, works=True, edits=edits, needs=tuple(needs), training=ADAM * FLOAT * network)


def _bos(tokenizer: Any) -> str | None:
    if tokenizer is None or tokenizer.bos_token_id is None:
        return None
    ids = tokenizer("a").input_ids
    return str(tokenizer.bos_token) if ids and ids[0] == tokenizer.bos_token_id else None
