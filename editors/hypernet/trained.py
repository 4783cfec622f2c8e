"""Training and persistence of editors with a network."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from ..editor import EDITOR
from ..engine.model import LanguageModel
from ..errors import DamagedError, InputError
from ..files.state import fill
from ..models.structure import Site
from .network_editor import NetworkEditor, Shape, TrainedConfig
from .saves import drop_saves
from .trainer import Trainer, identity
from .training import TrainingSet

C = TypeVar("C", bound=TrainedConfig)


class TrainedEditor(NetworkEditor[C]):
    """An editor with a network that `fit` trains.

    Attributes:
        origin: Identity of its training, as `trainer.identity` returns it; None until it is trained.
    """

    origin: str | None = None

    def fit(
        self,
        model: LanguageModel,
        training: TrainingSet,
        folder: Path,
        *,
        seed: int = 0,
        steps: int | None = None,
        track: str | None = None,
        report: Callable[[str], None] = lambda _: None,
        progress: bool = False,
    ) -> None:
        """Train the network and save the editor in a folder.

        The same call resumes a training that was stopped, and reads a finished one. Damaged files are reported and
        made again.

        Args:
            model: The frozen base model.
            training: Cases to train and to validate on.
            folder: Folder of states, metrics and the finished editor.
            seed: Seed of the network and of everything that is drawn.
            steps: Maximum number of steps, instead of the configured one.
            track: `wandb` or `trackio`, to also log the metrics there.
            report: Receives sentences for the user.
            progress: Whether to show a progress bar.

        Raises:
            InputError: If there is nothing to train on, or the folder holds another training.
        """
        wanted = identity(self, model, training, seed, steps)
        if (found := self._finished(folder, report)) is not None:
            if found.config != self.config:
                raise InputError(f"{folder}: holds a '{self.name}' of another configuration; choose another folder.")
            self.network, self.shape, self.origin = found.network, found.shape, found.origin
            self._check(model)
            if self.origin != wanted:
                raise InputError(
                    f"{folder}: holds a '{self.name}' of another training (cases, seed or steps); "
                    "choose another folder."
                )
            return
        if model.model.dtype == torch.float16:
            raise InputError(
                f"The editor '{self.name}' cannot be trained in float16, where small gradients underflow; use dtype "
                "'bfloat16' or 'float32'."
            )
        self.build(model, seed)
        Trainer(self, model, training, folder, seed, steps, report).run(track, progress)
        self.origin = wanted
        self.save(folder)
        drop_saves(folder)

    def _finished(self, folder: Path, report: Callable[[str], None]) -> Self | None:
        """Return the finished editor of a folder; None if there is none, or it is damaged and will be trained again."""
        if not self.saved(folder):
            return None
        try:
            return type(self).load(folder)
        except DamagedError as error:
            report(f"note: {error} It is trained again.")
            (folder / EDITOR).unlink()
            return None

    def state(self) -> dict[str, Tensor]:
        """Return weights and statistics of the network."""
        return {} if self.network is None else dict(self.network.state_dict())

    def about(self) -> dict[str, Any]:
        """Return the shape the network was built for, and the identity of its training."""
        return {} if self.shape is None else {"shape": asdict(self.shape), "origin": self.origin}

    def load_state(self, state: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Build the network for the saved shape and load its weights.

        Raises:
            InputError: If the weights do not fit the shape and the configuration.
        """
        if "shape" not in about and not state:
            return
        sites = tuple(Site(**site) for site in about["shape"]["sites"])
        self.shape = Shape(**{**about["shape"], "sites": sites})
        self.origin = about.get("origin")
        self.network = self.make_network(self.shape, 0)
        fill(self.network, state)
        self.network.eval()
