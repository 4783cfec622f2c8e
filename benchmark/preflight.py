"""What can be said of a run before it starts."""

from .config import RunConfig
from .outline import outline


def check(config: RunConfig, name: str) -> tuple[str, ...]:
    """Check a run without loading its model.

    Args:
        config: What is asked for.
        name: Preset or file it came from.

    Returns:
        Lines on what would be trained and evaluated.

    Raises:
        InputError: If anything of it cannot be used.
    """
    found = outline(config, name)
    lines = [
        f"training {training.name} ({len(training.cases.train):,} cases, {len(training.cases.validation):,} for "
        "validation)"
        for training in found.trainings
    ]
    lines += [
        f"row {row.name}: " + ", ".join(f"{task} {len(found.cases[task]):,}" for task in row.tasks)
        for row in found.rows
    ]
    return tuple(lines)
