"""Number of CPU threads: one, unless the user sets it.

Several threads wait for each other after every operation, by spinning. With one other busy process that took 76.5 s
where one thread takes 28.7 s; on an idle machine it saves 7 % (docs/decisions/0018-one-thread.md).
"""

import os
import sys

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that torch reads when it is imported; a user's setting takes precedence."""


def chosen() -> bool:
    """Tell whether the environment sets the number of threads."""
    return any(os.environ.get(name) for name in VARIABLES)


def default_threads() -> None:
    """Make one thread the default if torch is not imported yet."""
    if "torch" not in sys.modules and not chosen():
        os.environ["OMP_NUM_THREADS"] = "1"


def use_threads(count: int) -> None:
    """Set the number of threads, regardless of the environment."""
    for name in VARIABLES:
        os.environ[name] = str(count)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)


def settle_threads() -> None:
    """Set one thread if torch was imported before this package and still has its default number.

    A number that the program or the environment set is kept.
    """
    import psutil
    import torch

    own = {os.cpu_count(), psutil.cpu_count(logical=False)}
    if not chosen() and torch.get_num_threads() in own - {1, None}:
        torch.set_num_threads(1)
