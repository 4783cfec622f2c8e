"""All of `instructedit speed`: the shapes one after another, and what grows with what."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from instructedit.editors import InputError
from instructedit.editors.models.devices import check_device

from ..results.speed_results import GrowthRow, Machine, Rate, SpeedRecord, SpeedRow
from .growth import CHUNK, Lengths, by_model, grown
from .measure import Bench, Effort
from .shapes import shape_of
from .subjects import timed, untimed

BETWEEN = Effort(repeats=3, chunks=(CHUNK,), trained=(), generated=())
"""Of a shape between S and M, which only says how costs grow with the model."""
BRIEF = Lengths((8, 16), (10,), ("mend",), ("mend",))
LARGE = Effort(
    repeats=3, chunks=(8, 32), slow_cases=1, editors=tuple(name for name in Effort().editors if name != "ft-m")
)
"""Of M, on which one repeat takes minutes; FT-M costs what FT-L does."""
FULL = {
    "cpu": {"S": Effort(chunks=(8, 16, 32, 64, 128)), "between": BETWEEN, "M": LARGE},
    "cuda": {"gpt2-xl": Effort(), "llama-2-7b": Effort()},
}
SHORT = Effort(repeats=2, chunks=(8,), slow_cases=1, trained=("mend",), generated=("mend",), once=True)
QUICK = {
    "cpu": {
        "S": replace(SHORT, editors=tuple(name for name in SHORT.editors if name not in ("ft-m", "calinet"))),
        "M": replace(SHORT, repeats=1, editors=("mend",), trained=(), generated=()),
    },
    "cuda": {"gpt2-xl": replace(SHORT, trained=(), generated=())},
}
"""By device and shape what is measured; a quick run leaves out what would keep it from ending within a minute."""


def run(
    *,
    quick: bool = False,
    shapes: Sequence[str] = (),
    editors: Sequence[str] = (),
    device: str = "cpu",
    threads: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> SpeedRecord:
    """Measure.

    Args:
        quick: Less of everything.
        shapes: Names of shapes; by default those of the device.
        editors: Names of editors; by default all that can be timed.
        device: `cpu` or a card.
        threads: Threads on a CPU.
        tell: Takes sentences for the user.

    Raises:
        InputError: If there is no such shape, editor or device, or engine and slow path differ.
    """
    begun = time.perf_counter()
    kind = _kind(device)
    plans = (QUICK if quick else FULL)[kind]
    names = timed(editors)
    chosen = {name: plans.get(name, SHORT if quick else Effort()) for name in shapes or plans}
    for name in chosen:
        shape_of(name)
    rows: list[SpeedRow] = []
    growth: list[GrowthRow] = []
    grows = not shapes and kind == "cpu"
    gemm: dict[str, Rate] = {}
    weights: dict[str, int] = {}
    sharing: dict[str, int] = {}
    before = torch.get_num_threads()
    if kind == "cpu":
        torch.set_num_threads(threads)
    try:
        if grows:  # first: its memory is told from that of a process that nothing else has used yet
            tell("growth with cases and edits")
            growth = grown(shape_of("S"), BRIEF if quick else Lengths(), names, device)
        for name, effort in chosen.items():
            own = [editor for editor in names if editors or editor in effort.editors]
            tell(f"{name}: {', '.join(own)}, {effort.repeats} times")
            bench = Bench(shape_of(name), own, effort, device)
            rows += bench.run()
            gemm[name], sharing[name] = bench.rate, len(own)
            weights[name] = sum(weight.numel() for weight in bench.model.model.parameters())
            del bench
        if grows:
            growth += by_model(rows, weights)
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    return SpeedRecord(
        machine=Machine(
            processor=_processor(),
            device=torch.cuda.get_device_name(device) if kind == "cuda" else "cpu",
            threads=used,
            python=platform.python_version(),
            torch=torch.__version__,
            transformers=transformers.__version__,
        ),
        quick=quick,
        seconds=time.perf_counter() - begun,
        gemm=gemm,
        sharing=sharing,
        untimed=tuple(untimed()),
        rows=tuple(rows),
        growth=tuple(growth),
    )


def _kind(device: str) -> str:
    """Return `cpu` or `cuda`.

    Raises:
        InputError: If it is neither, or there is no such card.
    """
    check_device(device)
    kind = torch.device(device).type
    if kind not in FULL:
        raise InputError(f"--device: found '{device}', cpu or cuda was expected.")
    return kind


def _processor() -> str:
    """Return the processor's name, as Linux tells it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
