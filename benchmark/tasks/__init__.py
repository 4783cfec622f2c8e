"""Readers of the four task families."""

from .base import TASKS as TASKS
from .sources import open_source as open_source
