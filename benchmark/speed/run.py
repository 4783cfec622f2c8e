"""All of `instructedit speed`: one shape after another."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import transformers

from instructedit.editors import EDITORS, InputError
from instructedit.editors.models.devices import check_device

from ..results.speed_results import Machine, SpeedRecord, SpeedRow
from ..run.provenance import processor
from .cases import shape_of, timed_editors
from .measure import Effort, ShapeBenchmark
from .reference_edits import REFERENCES

LARGE = Effort(repeats=3, reference_cases=1, editors=tuple(name for name in REFERENCES if name != "ft-m"))
"""For M and M50k, on which one repeat takes minutes; FT-M costs what FT-L does."""
FULL = {
    "cpu": {"S": Effort(chunks=(8, 16, 32, 64, 128)), "M": LARGE, "M50k": LARGE},
    "cuda": {"gpt2-xl": Effort(chunks=(4, 8, 16)), "llama-2-7b": Effort(chunks=(4, 8, 16))},
}
SHORT = Effort(repeats=2, chunks=(8,), reference_cases=1, trained=("mend",), generated=("mend",), once=True)
QUICK = {
    "cpu": {
        "S": replace(SHORT, editors=tuple(name for name in REFERENCES if name not in ("ft-m", "calinet"))),
        "M": replace(SHORT, repeats=1, editors=("mend",), trained=(), generated=()),
    },
    "cuda": {"gpt2-xl": replace(SHORT, trained=(), generated=())},
}
"""The measurements by device and shape; a quick run ends within a minute."""


def run(
    *,
    quick: bool = False,
    shapes: Sequence[str] = (),
    editors: Sequence[str] = (),
    device: str = "cpu",
    threads: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> SpeedRecord:
    """Measure; by default the shapes of the device and all editors that have a reference.

    Raises:
        InputError: If there is no such shape, editor or device, or engine and reference differ.
    """
    begun = time.perf_counter()
    check_device(device)
    kind = torch.device(device).type
    if kind not in FULL:
        raise InputError(f"--device: found '{device}', expected cpu or cuda.")
    efforts = (QUICK if quick else FULL)[kind]
    names = timed_editors(editors)
    chosen = {shape_of(name): efforts.get(name, SHORT if quick else Effort()) for name in shapes or efforts}
    rows: list[SpeedRow] = []
    before = torch.get_num_threads()
    if kind == "cpu":
        torch.set_num_threads(threads)
    try:
        for shape, effort in chosen.items():
            own = [editor for editor in names if editors or editor in effort.editors]
            tell(f"{shape.name}: {', '.join(own)}, {effort.repeats} times")
            rows += ShapeBenchmark(shape, own, effort, device).run()
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    return SpeedRecord(
        machine=Machine(
            processor=processor(),
            device=torch.cuda.get_device_name(device) if kind == "cuda" else "cpu",
            threads=used,
            python=platform.python_version(),
            torch=torch.__version__,
            transformers=transformers.__version__,
        ),
        quick=quick,
        seconds=time.perf_counter() - begun,
        untimed=tuple(name for name in EDITORS if name not in REFERENCES),
        rows=tuple(rows),
    )
