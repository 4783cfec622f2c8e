"""What an editor asks of a machine, in numbers that follow from shapes and options."""

from dataclasses import dataclass

from .models.structure import Cut, Site

FLOAT = 4
"""Bytes of a number of an edit or of a network: they are computed in float32 at least."""
ADAM = 4
"""Tensors for each trained one: value, gradient, and Adam's two moments."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one edit takes, and the network it is made with. The model's own weights are no part of it.

    Attributes:
        sites: The edited maps.
        parameters: Trained parameters of the network; 0 for editors that are not trained.
        token_flops: Operations of the network for each token of an edit, forwards.
        edit_flops: Operations of the network for each edit besides, forwards.
        network_bytes: Memory that the network takes besides its parameters, e.g. products of them.
        patch_bytes: Memory of the finished edit, which is kept until the chunk is scored.
        token_bytes: The same for each token of the edit's text, if the edit grows with it.
        edit_bytes: Memory while it is made, the edit included: gradients and an optimiser's state.
        edit_token_bytes: The same for each token of the edit's text.
        network_token_bytes: Memory for each token of the edit's text behind the passes, while the network makes the
            edit; what the passes took is given back by then.
        step_token_bytes: Memory of a training step for each token of an edit's text: what the network keeps for its
            way back.
        passes: Forward passes through all blocks that making it comes to, over the texts of its requests. A pass back
            through frozen weights counts as one forward: only the gradients of inputs are computed.
        head_passes: The same of the language-model head.
        together: Requests of an edit that are worked on at once.
        remembered: Those of which the base pass is kept at once.
        room: Most tokens of the edits that are made at once, if those are two full passes at least; 0 where all are.
        moved_bytes: Memory that is read and written besides the passes, e.g. by an optimiser's steps.
        late: Whether all passes but the first, and scoring, run a text from the end of its prompt on only
            (`Patch.late`).
    """

    sites: tuple[Site, ...] = ()
    parameters: int = 0
    token_flops: float = 0.0
    edit_flops: float = 0.0
    network_bytes: int = 0
    patch_bytes: int = 0
    token_bytes: int = 0
    edit_bytes: int = 0
    edit_token_bytes: int = 0
    network_token_bytes: int = 0
    step_token_bytes: int = 0
    passes: float = 0.0
    head_passes: float = 0.0
    together: int = 1
    remembered: int = 1
    room: int = 0
    moved_bytes: float = 0.0
    late: bool = False

    @property
    def training_bytes(self) -> int:
        """Memory of training the network: weights, gradients and two moments of Adam."""
        return ADAM * FLOAT * self.parameters

    @property
    def first_block(self) -> int | None:
        """First edited block, from which scoring runs again; None if nothing is edited."""
        return min((site.block for site in self.sites), default=None)

    @property
    def cut(self) -> Cut | None:
        """Where a replay under an edit starts; None if nothing is edited."""
        first = self.first_block
        return None if first is None else Cut(first, self.late)


def descent(share: float, steps: float) -> tuple[float, float]:
    """Return the passes through blocks and head of gradient descent on an edit's own tensors.

    The unedited model runs once; each step runs the blocks from the edited one on, forwards and backwards.

    Args:
        share: Share of the blocks from the edited one on.
        steps: Steps.
    """
    return 1 + 2 * steps * share, 1 + 2 * steps
