"""What an editor is and what it needs: cases, the model engine, patches, the contract, the registry.

The names are imported on first use, so that reports can read result files without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .models.threads import default_threads

if TYPE_CHECKING:
    from .cases import EditCase as EditCase
    from .cases import EditRequest as EditRequest
    from .cases import InstructedProbes as InstructedProbes
    from .cases import Probe as Probe
    from .cases import Role as Role
    from .descent.editor import DescentEditor as DescentEditor
    from .descent.editor import EditInputs as EditInputs
    from .descent.minimise import Descent as Descent
    from .descent.minimise import minimise as minimise
    from .descent.variables import TokenShift as TokenShift
    from .descent.variables import Variables as Variables
    from .editor import Editor as Editor
    from .editor import EditorConfig as EditorConfig
    from .editor import Published as Published
    from .editor import make as make
    from .edits import Context as Context
    from .edits import Edits as Edits
    from .engine.model import LanguageModel as LanguageModel
    from .engine.passes import BasePass as BasePass
    from .engine.sketch import Sketch as Sketch
    from .errors import CaseError as CaseError
    from .errors import DamagedError as DamagedError
    from .errors import InputError as InputError
    from .errors import UnservedError as UnservedError
    from .errors import did_you_mean as did_you_mean
    from .hypernet.gradient_editor import GradientConfig as GradientConfig
    from .hypernet.gradient_editor import GradientEditor as GradientEditor
    from .hypernet.gradient_editor import gradient_factors as gradient_factors
    from .hypernet.hypernetwork import Hypernetwork as Hypernetwork
    from .hypernet.network_editor import Shape as Shape
    from .hypernet.network_editor import TrainedConfig as TrainedConfig
    from .hypernet.objective import ObjectiveConfig as ObjectiveConfig
    from .hypernet.trained import TrainedEditor as TrainedEditor
    from .hypernet.training import TrainingConfig as TrainingConfig
    from .hypernet.training import TrainingSet as TrainingSet
    from .instruction import instruction_context as instruction_context
    from .models.parts import Part as Part
    from .models.structure import Cut as Cut
    from .models.structure import Site as Site
    from .models.structure import Structure as Structure
    from .models.tokens import Encoder as Encoder
    from .models.tokens import Row as Row
    from .patches import Codebook as Codebook
    from .patches import Dense as Dense
    from .patches import LowRank as LowRank
    from .patches import Patch as Patch
    from .patches import Slots as Slots
    from .patches import Span as Span
    from .registry import EDITORS as EDITORS
    from .registry import Registry as Registry
    from .scripts import join as join
    from .search import Choice as Choice
    from .search import Either as Either
    from .search import LogUniform as LogUniform
    from .search import Range as Range
    from .search import Scaled as Scaled
    from .search import Uniform as Uniform
    from .seeds import seed_of as seed_of
    from .texts import EditRows as EditRows
    from .texts import EditTexts as EditTexts
    from .texts import subject_token as subject_token
    from .texts import token_losses as token_losses

_HOME = {
    "BasePass": "engine.passes",
    "CaseError": "errors",
    "Choice": "search",
    "Codebook": "patches",
    "Context": "edits",
    "Cut": "models.structure",
    "DamagedError": "errors",
    "Dense": "patches",
    "Descent": "descent.minimise",
    "DescentEditor": "descent.editor",
    "EDITORS": "registry",
    "EditCase": "cases",
    "EditInputs": "descent.editor",
    "EditRequest": "cases",
    "EditRows": "texts",
    "EditTexts": "texts",
    "Editor": "editor",
    "EditorConfig": "editor",
    "Edits": "edits",
    "Either": "search",
    "Encoder": "models.tokens",
    "Factors": "engine.capture",
    "GradientConfig": "hypernet.gradient_editor",
    "GradientEditor": "hypernet.gradient_editor",
    "Hypernetwork": "hypernet.hypernetwork",
    "InputError": "errors",
    "InstructedProbes": "cases",
    "LanguageModel": "engine.model",
    "LogUniform": "search",
    "LowRank": "patches",
    "ObjectiveConfig": "hypernet.objective",
    "Part": "models.parts",
    "Patch": "patches",
    "Probe": "cases",
    "Published": "editor",
    "Range": "search",
    "Registry": "registry",
    "Role": "cases",
    "Row": "models.tokens",
    "Scaled": "search",
    "Shape": "hypernet.network_editor",
    "Site": "models.structure",
    "Sketch": "engine.sketch",
    "Slots": "patches",
    "Span": "patches",
    "Structure": "models.structure",
    "TokenShift": "descent.variables",
    "TrainedConfig": "hypernet.network_editor",
    "TrainedEditor": "hypernet.trained",
    "TrainingConfig": "hypernet.training",
    "TrainingSet": "hypernet.training",
    "Uniform": "search",
    "UnservedError": "errors",
    "Variables": "descent.variables",
    "did_you_mean": "errors",
    "gradient_factors": "hypernet.gradient_editor",
    "instruction_context": "instruction",
    "join": "scripts",
    "make": "editor",
    "minimise": "descent.minimise",
    "seed_of": "seeds",
    "subject_token": "texts",
    "token_losses": "texts",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - one list, above

default_threads()  # torch reads it once, when it is imported


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
