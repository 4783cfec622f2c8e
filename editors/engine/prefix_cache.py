"""What of a block edits cannot change: its attention, and the maps of its MLP in front of the first patched one.

An edit of an MLP changes nothing in front of its first map, so that a replay has to run neither the attention of the
first patched block nor the product of an up map that it patches: what they put out is kept when the unedited model
runs, and told when the block runs again. The block's own code stays what it is. A view of it has some modules whose
`forward` is another; hooks are those of the modules they stand for, so that patches come on top of what is told.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from .block_view import Halt
from .pieces import Pieces


class Front:
    """What the modules in front of a block's first patched map put out, by the numbers of a base pass's tokens.

    Modules that are called behind one of the maps are left out. Where one cannot be told (it puts out more than one
    tensor, or the block writes to what it put out), nothing is.

    Args:
        block: The block.
        prefix: Its dotted name, with a dot behind.
        names: The modules (`Structure.front`).
        maps: Those among them that are maps of the MLP.

    Attributes:
        usable: Whether nothing has spoken against telling.
    """

    def __init__(self, block: nn.Module, prefix: str, names: Sequence[str], maps: Collection[str]) -> None:
        self.names = tuple(name.removeprefix(prefix) for name in names)
        self._block, self._prefix = block, prefix
        self._maps = {name.removeprefix(prefix) for name in maps}
        self.usable = True
        self._parts: dict[str, Pieces] = {}
        self._shape: dict[str, Callable[[Tensor], Any]] = {}
        self._places: dict[int, int] = {}
        self._heard: list[tuple[str, Tensor, int]] = []

    def listening(self, tokens: int, halt: bool) -> nn.Module:
        """Return the block, whose modules are listened to in one pass.

        Args:
            tokens: How many tokens they will treat.
            halt: Whether the pass ends once all have been heard.
        """
        self._heard = []
        modules = {name: self._block.get_submodule(name) for name in self.names}
        return _with(
            self._block,
            {name: partial(self._hear, name, module.forward, tokens, halt) for name, module in modules.items()},
        )

    def _hear(self, name: str, forward: Callable[..., Any], tokens: int, halt: bool, *given: Any, **named: Any) -> Any:
        out = forward(*given, **named)
        heard = {found for found, _, _ in self._heard}
        if name not in heard and name not in self._maps and heard & self._maps:
            return out
        first, others = (out[0], out[1:]) if isinstance(out, tuple) else (out, None)
        alone = isinstance(first, Tensor) and all(other is None for other in others or ())
        if name in heard or not alone or first.shape[:-1] not in ((tokens,), (1, tokens)):
            self.usable = False
            return out
        shape = partial(_shaped, flat=first.dim() == 2, others=None if others is None else len(others))
        self._shape[name] = shape
        self._heard.append((name, first, first._version))
        if halt and self._maps <= heard | {name}:
            raise Halt
        return out

    def close(self, numbers: Sequence[int]) -> None:
        """Keep what was heard in a pass.

        Args:
            numbers: Numbers of the tokens that were treated.
        """
        heard = {name for name, _, _ in self._heard}
        written = any(tensor._version != version for _, tensor, version in self._heard)
        self.usable = self.usable and not written and self._maps <= heard and heard > self._maps
        if not self.usable:
            self._parts.clear()
            return
        for name, tensor, _ in self._heard:
            self._parts.setdefault(name, Pieces()).append(tensor.detach().reshape(-1, tensor.shape[-1]))
        first = len(self._places)
        self._places.update(zip(numbers, range(first, first + len(numbers)), strict=True))
        self._heard = []

    def told(self, names: Collection[str], numbers: Sequence[int]) -> nn.Module | None:
        """Return the block, some of whose modules are told what they put out.

        Args:
            names: The modules, by their dotted names in the model.
            numbers: Numbers of the tokens.

        Returns:
            The block; None where it is not known of all maps and tokens.
        """
        wanted = {name.removeprefix(self._prefix) for name in names}
        known = self.usable and bool(wanted) and wanted & self._maps <= self._parts.keys()
        if not known or not all(number in self._places for number in numbers):
            return None
        forwards: dict[str, Callable[..., Any]] = {}
        places = [self._places[number] for number in numbers]
        for name in wanted & self._parts.keys():
            forwards[name] = partial(_tell, self._shape[name](self._parts[name].picked(places)))
        return _with(self._block, forwards)


def _shaped(value: Tensor, flat: bool, others: int | None) -> Any:
    """Return what a module puts out: a tensor [tokens, width] or [1, tokens, width], alone or in front of nothing."""
    out = value if flat else value[None]
    return out if others is None else (out, *[None] * others)


def _tell(value: Any, *_: Any, **__: Any) -> Any:
    return value


def _with(block: nn.Module, forwards: Mapping[str, Callable[..., Any]]) -> nn.Module:
    """Return a view of a block, some of whose modules, by their names in it, compute something else."""
    made: dict[str, nn.Module] = {"": shallow(block)}

    def twin(name: str) -> nn.Module:
        if name not in made:
            parent, _, last = name.rpartition(".")
            siblings = twin(parent)._modules
            made[name] = siblings[last] = shallow(siblings[last])
        return made[name]

    for name, forward in forwards.items():
        twin(name).forward = forward
    return made[""]


def shallow(module: Any) -> Any:
    """Return a module that shares parameters, hooks and children with another; children can be put in place."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    # accelerate binds a dispatched model's forward to the original; leaves keep theirs
    twin.__dict__.pop("forward", None)
    return twin
