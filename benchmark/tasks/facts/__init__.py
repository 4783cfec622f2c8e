"""Own facts: a table or JSON file of facts, read into the cases of one task that is named after the file."""

from ..fact_columns import TEMPLATE as TEMPLATE
from .files import SUFFIXES as SUFFIXES
from .files import is_facts_file as is_facts_file
from .read import SOURCE as SOURCE
from .read import Facts as Facts
from .read import facts_task as facts_task
from .read import load_facts as load_facts
from .read import read_facts as read_facts
from .row import FactRow as FactRow
