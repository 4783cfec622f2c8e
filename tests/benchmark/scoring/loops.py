"""Cases of scoring tests, and explicit loops: one text, one unpadded forward, one really edited model at a time."""

import torch

from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.scoring.scoring import run_chunk
from instructedit.editors import EditCase, EditRequest, Probe

GENERATION = GenerationSpec(max_new_tokens=8, fluency_tokens=8, fluency_top_k=3)


def case(number: int, subject: str, target: str) -> EditCase:
    prompt = f"The place of birth of {subject} is"
    return EditCase(
        EditRequest(f"t/test/{number}", "t", prompt, target, subject),
        (
            Probe("reliability", "edit", prompt, (target, "Paris, France")),
            Probe("generalization", "question", f"Where was {subject} born?", (target,), derived=True),
            Probe("portability", "Reasoning", f"The country of birth of {subject} is", ("France", "La France")),
            Probe("locality", "Relation_Specificity", f"The gender of {subject} is", ("female",)),
            Probe(
                "reliability",
                "sentiment",
                f"What of {subject}?",
                ("I like it.", "Great, really."),
                opposed=("No.", "I hate it."),
            ),
        ),
    )


CASES = [case(0, "Ada Lovelace", "Paris"), case(1, "Alan Turing", "the United States"), case(2, "Grace Hopper", "Rome")]


def run(model, editors, cases=CASES, generation=GENERATION):
    records, timings = run_chunk(model, cases, editors, run="r", seed=0, generation=generation, fluency=True)
    assert [t.editor for t in timings] == list(editors)
    return {(r.editor, r.case_id): r for r in records}


def read(hf, tokenizer, prompt: str, answer: str) -> tuple[list[int], torch.Tensor]:
    """Return the labels and the log-probabilities [answer, vocabulary] that predict them."""
    front, whole = tokenizer(prompt)["input_ids"], tokenizer(f"{prompt} {answer}")["input_ids"]
    assert whole[: len(front)] == front
    with torch.no_grad():
        logits = hf(input_ids=torch.tensor([whole])).logits[0, len(front) - 1 : -1]
    return whole[len(front) :], logits.log_softmax(-1)


def say(hf, tokenizer, prompt: str, steps: int) -> str:
    ids = tokenizer(prompt)["input_ids"]
    new: list[int] = []
    for _ in range(steps):
        with torch.no_grad():
            token = int(hf(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        new.append(token)
    return tokenizer.decode(new)
