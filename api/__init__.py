"""Knowledge editing of language models: edit a model, ask it before and after, evaluate editors, read results.

    import instructedit

    model = instructedit.load("embedded")
    edited = model.edit([("The capital of Andoria is", "Lumen")], editor="ft-m")
    edited.ask(["The capital of Andoria is"])

Names are imported on first use, so that `import instructedit` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instructedit.editors import EditRequest as EditRequest

    from .edited import Edited as Edited
    from .models import Model as Model
    from .models import load as load
    from .models import load_editor as load_editor
    from .plain import load_edits as load_edits
    from .results import Results as Results
    from .results import evaluate as evaluate
    from .results import read as read
    from .runs import edit_of_run as edit_of_run

_HOMES = {
    "EditRequest": "instructedit.editors",
    "Edited": ".edited",
    "Model": ".models",
    "Results": ".results",
    "edit_of_run": ".runs",
    "evaluate": ".results",
    "load": ".models",
    "load_editor": ".models",
    "load_edits": ".plain",
    "read": ".results",
}
"""The module of each public name."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
