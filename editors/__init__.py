"""What an editor is and what it needs: cases, the model engine, patches, the contract, the registry.

The names are imported on first use, so that reports can read result files without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .threads import default_threads

if TYPE_CHECKING:
    from .cases import EditCase as EditCase
    from .cases import EditRequest as EditRequest
    from .cases import InstructedProbes as InstructedProbes
    from .cases import Probe as Probe
    from .cases import Role as Role
    from .cost import Cost as Cost
    from .editor import Editor as Editor
    from .editor import EditorConfig as EditorConfig
    from .editor import Published as Published
    from .editor import make as make
    from .edits import Context as Context
    from .edits import Edits as Edits
    from .errors import CaseError as CaseError
    from .errors import DamagedError as DamagedError
    from .errors import InputError as InputError
    from .errors import UnservedError as UnservedError
    from .errors import did_you_mean as did_you_mean
    from .free import Free as Free
    from .free import FreeMatrix as FreeMatrix
    from .free import FreeTensors as FreeTensors
    from .free import FreeTogether as FreeTogether
    from .gradient import GradientConfig as GradientConfig
    from .gradient import GradientEditor as GradientEditor
    from .gradient import gradient_factors as gradient_factors
    from .hypernetwork import Hypernetwork as Hypernetwork
    from .instruction import instruction_context as instruction_context
    from .model import LanguageModel as LanguageModel
    from .objective import ObjectiveConfig as ObjectiveConfig
    from .optimise import Descent as Descent
    from .optimise import minimise as minimise
    from .parts import Part as Part
    from .passes import BasePass as BasePass
    from .patches import Codebook as Codebook
    from .patches import Dense as Dense
    from .patches import LowRank as LowRank
    from .patches import Patch as Patch
    from .patches import Slots as Slots
    from .registry import EDITORS as EDITORS
    from .registry import Registry as Registry
    from .rows import Encoder as Encoder
    from .rows import Row as Row
    from .search import Choice as Choice
    from .search import Either as Either
    from .search import LogUniform as LogUniform
    from .search import Range as Range
    from .search import Scaled as Scaled
    from .search import Uniform as Uniform
    from .seeds import seed_of as seed_of
    from .sketch import Sketch as Sketch
    from .structure import Cut as Cut
    from .structure import Site as Site
    from .structure import Structure as Structure
    from .trained import Shape as Shape
    from .trained import TrainedConfig as TrainedConfig
    from .trained import TrainedEditor as TrainedEditor
    from .training import TrainingConfig as TrainingConfig
    from .training import TrainingSet as TrainingSet

_HOME = {
    "BasePass": "passes",
    "CaseError": "errors",
    "Choice": "search",
    "Codebook": "patches",
    "Context": "edits",
    "Cost": "cost",
    "Cut": "structure",
    "DamagedError": "errors",
    "Dense": "patches",
    "Descent": "optimise",
    "EDITORS": "registry",
    "EditCase": "cases",
    "EditRequest": "cases",
    "Editor": "editor",
    "EditorConfig": "editor",
    "Edits": "edits",
    "Either": "search",
    "Encoder": "rows",
    "Factors": "taps",
    "Free": "free",
    "FreeMatrix": "free",
    "FreeTensors": "free",
    "FreeTogether": "free",
    "GradientConfig": "gradient",
    "GradientEditor": "gradient",
    "Hypernetwork": "hypernetwork",
    "InputError": "errors",
    "InstructedProbes": "cases",
    "LanguageModel": "model",
    "LogUniform": "search",
    "LowRank": "patches",
    "ObjectiveConfig": "objective",
    "Part": "parts",
    "Patch": "patches",
    "Probe": "cases",
    "Published": "editor",
    "Range": "search",
    "Registry": "registry",
    "Role": "cases",
    "Row": "rows",
    "Scaled": "search",
    "Shape": "trained",
    "Site": "structure",
    "Sketch": "sketch",
    "Slots": "patches",
    "Structure": "structure",
    "TrainedConfig": "trained",
    "TrainedEditor": "trained",
    "TrainingConfig": "training",
    "TrainingSet": "training",
    "Uniform": "search",
    "UnservedError": "errors",
    "did_you_mean": "errors",
    "gradient_factors": "gradient",
    "instruction_context": "instruction",
    "make": "editor",
    "minimise": "optimise",
    "seed_of": "seeds",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - one list, above

default_threads()  # torch reads it once, when it is imported


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
