"""The papers that the data sets come from, as BibTeX entries of `citations.bib`."""

import re
from importlib import resources

_TEXT = (resources.files("instructedit.benchmark.tasks") / "citations.bib").read_text(encoding="utf-8")
_ENTRIES = {re.split("[{,]", entry)[1]: entry.strip() for entry in _TEXT.split("\n\n")}


def cite(*keys: str) -> str:
    """Return the entries of some keys as one text that a `.bib` file can hold."""
    return "\n\n".join(_ENTRIES[key] for key in keys)
