"""Own facts: a table or JSON file of facts, read into the cases of one task that is named after the file."""

from .files import SUFFIXES, is_facts_file
from .read import SOURCE, Facts, facts_task, load_facts, read_facts
from .row import FactRow
from .template import TEMPLATE

__all__ = [
    "SOURCE",
    "SUFFIXES",
    "TEMPLATE",
    "FactRow",
    "Facts",
    "facts_task",
    "is_facts_file",
    "load_facts",
    "read_facts",
]
