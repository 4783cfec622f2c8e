"""The published values as shipped data, each with its reading error, and known reasons for differences from ours."""

from functools import cache
from importlib.resources import files

from instructedit.benchmark.results.records import Measure, Record, RunFile

from ..tables.paper_numbers import Address


class PublishedModel(Record):
    """A model of the paper, recognised in results by its type and exact number of parameters."""

    title: str
    model_type: str
    parameters: int


class PublishedCell(Record):
    """One published value."""

    table: str
    setting: str
    task: str
    measure: Measure
    editor: str
    """Registered name of the method; `none` is the paper's Base."""
    variant: str
    model: str
    value: float
    """Percent; fluency is 100 times n-gram entropy."""
    error: float
    """Reading error: maximum distance of the transcribed value from the exact one."""

    @property
    def address(self) -> Address:
        """The address of the cell; see `paper_numbers.Address`."""
        return Address(self.setting, self.task, self.measure, self.editor, self.variant)


class Where(Record):
    """Cells that a reason concerns; None is all."""

    table: tuple[str, ...] | None = None
    task: tuple[str, ...] | None = None
    measure: tuple[Measure, ...] | None = None
    editor: tuple[str, ...] | None = None
    model: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """Return the cells in words."""
        words = (f"{name} {', '.join(values)}" for name, values in self if values is not None)
        return "; ".join(words) or "all cells"


class Reason(Record):
    """A known reason why a published value may differ from a measured one."""

    text: str
    where: Where

    def concerns(self, cell: PublishedCell) -> bool:
        """Tell whether it is a reason for this cell."""
        return all(values is None or getattr(cell, name) in values for name, values in self.where)


class Published(Record):
    """`published/paper_results.json`."""

    source: str
    models: dict[str, PublishedModel]
    reasons: tuple[Reason, ...]
    cells: tuple[PublishedCell, ...]

    def reasons_for(self, *cells: PublishedCell) -> tuple[int, ...]:
        """Return the numbers, from 1, of the reasons that concern any of some cells."""
        return tuple(n for n, reason in enumerate(self.reasons, 1) if any(map(reason.concerns, cells)))

    def model_of(self, run: RunFile) -> str | None:
        """Return the paper's model that a run edits, by type and number of parameters; None if it is another model."""
        kind = run.provenance.model_type, run.provenance.parameters
        return next((name for name, model in self.models.items() if (model.model_type, model.parameters) == kind), None)


@cache
def published() -> Published:
    """Read the published values."""
    text = files("instructedit.reports").joinpath("published", "paper_results.json").read_text(encoding="utf-8")
    return Published.model_validate_json(text)
