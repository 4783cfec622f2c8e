"""Readers of the four task families."""

from .base import TASKS, Split, Task, TaskCases, TaskOptions, make_task, subject_key, subjects
from .sources import Embedded, Folder, Hub, Source, open_source

__all__ = [
    "TASKS",
    "Embedded",
    "Folder",
    "Hub",
    "Source",
    "Split",
    "Task",
    "TaskCases",
    "TaskOptions",
    "make_task",
    "open_source",
    "subject_key",
    "subjects",
]
