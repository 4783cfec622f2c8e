"""Where, when and with what a run is made."""

import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import instructedit.editors
from instructedit.editors import LanguageModel
from instructedit.editors.models.loading import code_of
from instructedit.editors.writing_systems import JOINT_RULE

from .. import scoring
from ..results.records import ModelTrial, Provenance, RunFile
from ..scoring.matching import NORMALISATION
from ..scoring.metrics import WORDS
from ..setup.config import RunConfig

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "evaluate",
    "numpy",
    "accelerate",
    "safetensors",
    "pydantic",
)


def provenance(model: LanguageModel, config: RunConfig, command: list[str]) -> Provenance:
    """Return what is known about this machine, this program and the model."""
    return Provenance(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        version=_version("instructedit-bench") or "unknown",
        git_revision=_git_revision(),
        python=sys.version.split()[0],
        platform=platform.platform(),
        device=_device(model),
        threads=torch.get_num_threads(),
        packages={package: found for package in PACKAGES if (found := _version(package))},
        model=config.model,
        model_revision=model.revision,
        trust_remote_code=config.trust_remote_code,
        code=code_of(model.model),
        model_type=str(model.model.config.model_type),
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        trial=ModelTrial.model_validate(asdict(model.trial) | {"sites": dict(model.trial.sites)}),
        rules={"joint": JOINT_RULE, "normalisation": NORMALISATION, "words": WORDS},
    )


def base_identity(file: RunFile) -> str:
    """Return a digest of what decides the unedited model's numbers on given sequences: model, machine and code.

    The code is that of the engine and of scoring, not the commit: an editor that is being written changes neither.
    """
    spec, made = file.spec, file.provenance
    folders = (Path(instructedit.editors.__file__).parent, Path(scoring.__file__).parent)
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    what = (
        spec.model_dump_json(include={"model_fingerprint", "tokenizer_fingerprint", "dtype", "chat"}),
        made.model_dump_json(include={"python", "device", "threads", "packages", "rules", "trial"}),
        processor(),
        *(sha256(path.read_bytes()).hexdigest() for path in sources),
    )
    return sha256("\n".join(what).encode()).hexdigest()


def processor() -> str:
    """Return the processor's name as Linux reports it; elsewhere the one Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(model: LanguageModel) -> str:
    if model.device.type == "cuda":
        return torch.cuda.get_device_name(model.device)
    return str(model.device)


def _git_revision() -> str | None:
    """Return the commit of this source tree, with `+` if it was changed; None for an installed wheel."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str | None:
        try:
            found = subprocess.run(  # noqa: S603 - fixed words
                ["git", *words],  # noqa: S607 - the user's own git
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return found.stdout.strip()

    # An installed package inside somebody else's repository must not report that repository's commit.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit = git("rev-parse", "HEAD")
    return commit if commit is None else commit + ("+" if git("status", "--porcelain") else "")
