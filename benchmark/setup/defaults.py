"""Options that a run leaves at defaults which were published for another model than its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instructedit.editors import Editor, LanguageModel, Sketch

from ..results.records import Defaults
from .settings import RowSpec


def foreign_defaults(
    rows: Sequence[RowSpec], editors: Mapping[str, Editor[Any]], model: LanguageModel | Sketch
) -> dict[str, Defaults]:
    """Return by row the options left at defaults of another model.

    An option that the user has set is the user's choice, whatever its value.

    Args:
        rows: The rows of a run.
        editors: The editor of each.
        model: The run's model.
    """
    found = {}
    for row in rows:
        config = editors[row.name].config
        published = config.published
        if published is not None and not published.fits(model):
            options = tuple(option for option in published.options if not config.sets(option))
            if options:
                found[row.name] = Defaults(model=published.model, options=options)
    return found


def said(rows: Sequence[RowSpec], found: Mapping[str, Defaults]) -> Iterator[str]:
    """Yield one sentence on the options that were found, by the names that the configuration has for its editors."""
    by_editor = {row.editor: found[row.name] for row in rows if row.name in found}
    words = [f"{editor}: {', '.join(own.options)} ({own.model})" for editor, own in by_editor.items()]
    if words:
        yield (
            f"defaults that were published for another model: {'; '.join(words)}. `instructedit list options "
            "EDITOR` says what they mean."
        )
