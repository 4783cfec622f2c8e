"""An editor that cannot edit a model fails its cases with the reason; one that can is let alone."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from instructedit.baselines.ftl import FTL, FTConfig
from instructedit.baselines.mend import MEND
from instructedit.benchmark.run.unserved import Unable, unserved
from instructedit.benchmark.scoring.scoring import edit_each
from instructedit.editors import LanguageModel, Sketch
from instructedit.editors.models.structure import described

from ...editors.cases import fact

MIXTURE = AutoConfig.for_model(
    "mixtral", hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=400, num_local_experts=4, bos_token_id=0, eos_token_id=0, pad_token_id=0,
)  # fmt: skip
LACKING = "Block 0 of MixtralForCausalLM has no 'down'; it has: expert up, expert down, query, key, value, output."


def test_the_reason_is_known_before_the_weights_are_read_and_stands_at_each_case(tokenizer):
    assert unserved(FTL(), Sketch.of(MIXTURE)) == LACKING
    assert "Block 1 of MixtralForCausalLM has no 'up'" in (unserved(MEND(), Sketch.of(MIXTURE)) or "")
    torch.manual_seed(0)
    model = LanguageModel(AutoModelForCausalLM.from_config(MIXTURE), tokenizer)
    editor = Unable(FTL(), unserved(FTL(), model) or "")
    requests = [fact(0).request, fact(1).request]
    for found in (edit_each(model, requests, editor, 0), edit_each(model, requests, FTL(), 0)):
        assert found[1] == {0: LACKING, 1: LACKING}


def test_an_editor_that_names_a_part_which_is_there_can_edit():
    for part in ("expert down", "query", "output"):
        assert unserved(FTL(FTConfig(part=part)), Sketch.of(MIXTURE)) is None


def test_the_modules_of_parts_are_named_in_short():
    structure = Sketch.of(MIXTURE).structure
    sites = [*structure.find(1, "expert up"), *structure.find(2, "expert up"), *structure.find(2, "query")]
    assert described(sites) == (
        "expert up of blocks 1, 2: mlp.experts.gate_up_proj.* (4); query of block 2: self_attn.q_proj"
    )


def test_a_new_option_at_its_default_is_no_part_of_what_is_written():
    assert "part" not in FTConfig().model_dump(mode="json")
    assert FTConfig(part="output").model_dump(mode="json")["part"] == "output"
    assert FTConfig(**FTConfig().model_dump()) == FTConfig()
