"""An editor that cannot edit a model fails its cases with the reason."""

import torch
from transformers import AutoModelForCausalLM

from instructedit.baselines.ftl import FTL
from instructedit.benchmark.run.prepare import CannotEdit
from instructedit.benchmark.scoring.scoring import edit_each
from instructedit.benchmark.setup.model_checks import cannot_edit
from instructedit.editors import LanguageModel

from ...editors.cases import fact
from ..forecast.test_forecast import MIXTURE


def test_the_reason_is_recorded_at_each_case(tokenizer):
    torch.manual_seed(0)
    model = LanguageModel(AutoModelForCausalLM.from_config(MIXTURE), tokenizer)
    reason = cannot_edit(FTL(), model)
    assert reason.startswith("Block 0 of MixtralForCausalLM has no 'down'")
    requests = [fact(0).request, fact(1).request]
    for editor in (CannotEdit(FTL(), reason), FTL()):
        assert edit_each(model, requests, editor, 0)[1] == {0: reason, 1: reason}
