"""The registry of tasks, apart from `base` so that readers can say which task reads a file."""

from typing import Any

from instructedit.editors import Registry

TASKS: Registry[Any] = Registry("task", "instructedit.tasks")
"""All tasks, those of installed packages included; each is a `type[Task]`, and `base` exports it under that type."""
