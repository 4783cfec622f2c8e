"""Knowledge editors: the contract they keep, the patches they make and the engine that runs them.

Names that need torch are imported on first use (`api.py`), so that reports read result files without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .cases import EditCase as EditCase
from .cases import EditRequest as EditRequest
from .cases import InstructedProbes as InstructedProbes
from .cases import Probe as Probe
from .cases import Role as Role
from .chat import ChatFormat as ChatFormat
from .errors import CaseError as CaseError
from .errors import DamagedError as DamagedError
from .errors import InputError as InputError
from .errors import ReservedTokenError as ReservedTokenError
from .errors import UnservedError as UnservedError
from .errors import did_you_mean as did_you_mean
from .models.threads import default_threads
from .registry import EDITORS as EDITORS
from .registry import Registry as Registry
from .search import Choice as Choice
from .search import Either as Either
from .search import LogUniform as LogUniform
from .search import Range as Range
from .search import Scaled as Scaled
from .search import Uniform as Uniform
from .seeds import seed_of as seed_of

if TYPE_CHECKING:
    from .api import *  # noqa: F403

default_threads()  # torch reads the number once, when it is imported


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".api", __name__), name)
