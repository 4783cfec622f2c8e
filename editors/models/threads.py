"""How many threads a CPU computes with: one, unless the user says otherwise.

Several threads wait for each other after every operation, by spinning. Beside one other busy process that took 76.5 s
where one thread takes 28.7 s, and on a quiet machine it saves 7 % (docs/decisions/0018-one-thread.md).
"""

import os
import sys

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What torch asks for the number of its threads when it is imported. A user's own setting wins."""


def chosen() -> bool:
    """Tell whether the environment names a number of threads."""
    return any(os.environ.get(name) for name in VARIABLES)


def default_threads() -> None:
    """Make one thread the default of a torch that is imported later; one that is imported already is left as it is."""
    if "torch" not in sys.modules and not chosen():
        os.environ["OMP_NUM_THREADS"] = "1"


def use_threads(count: int) -> None:
    """Compute with so many threads, whatever the environment says."""
    for name in VARIABLES:
        os.environ[name] = str(count)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)


def settle_threads() -> None:
    """Give torch one thread where it was imported before us and still has as many as it takes by itself.

    A number that the program or the environment chose stays as it is.
    """
    import psutil
    import torch

    own = {os.cpu_count(), psutil.cpu_count(logical=False)}
    if not chosen() and torch.get_num_threads() in own - {1, None}:
        torch.set_num_threads(1)
