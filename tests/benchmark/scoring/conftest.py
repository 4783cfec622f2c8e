"""Editors whose scores are computed again."""

import pytest

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.baselines.grace import GRACE, GRACEConfig
from instructedit.baselines.noedit import NoEdit


@pytest.fixture
def editors():
    return {
        "none": NoEdit(),
        "ft-m": FTM(FTMConfig(block=1, lr=0.02, clamp=0.2, steps=5)),
        "grace": GRACE(GRACEConfig(block=2, steps=5, radius=0.5)),
    }
