"""A proposer that runs a chat model of transformers on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.editors import InputError

from .conversation import ChatModelProposer, Exchange, Message, rendered

if TYPE_CHECKING:
    from instructedit.editors import LanguageModel

MAX_NEW_TOKENS = 1024
"""Maximum number of tokens of an answer; fewer if the context is too short."""
TEMPERATURE = 0.8


class LocalProposer(ChatModelProposer):
    """Uses a chat model from a folder or the hub, which is loaded at the first request.

    It is loaded like any other model: from safetensors only, and code of its repository runs only if it is trusted. The
    same seed gives the same answer on the same machine, and global random generators are left unchanged. By default the
    device is `cuda` if there is a GPU; weights are `bfloat16` there and `float32` on a CPU.
    """

    def __init__(self, model: str | Path, *, device: str | None = None, trust_remote_code: bool = False) -> None:
        from instructedit.editors.models.loading import locate

        self._place = locate(model)
        self._device, self._trust = device, trust_remote_code
        self._loaded: LanguageModel | None = None

    @property
    def model(self) -> str:
        """The hub id, or the name of the folder; see `Proposer.model`."""
        folder = Path(self._place)
        return folder.resolve().name if folder.is_dir() else self._place

    @property
    def settings(self) -> dict[str, object]:
        """See `Proposer.settings`."""
        drawn = {"temperature": TEMPERATURE, "max_new_tokens": MAX_NEW_TOKENS}
        return {"model": str(self._place), "revision": None, "dtype": None, **drawn}

    def _load(self) -> "LanguageModel":
        import torch

        from instructedit.editors import LanguageModel

        if self._loaded is None:
            device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
            self._loaded = LanguageModel.load(self._place, dtype=dtype, device=device, trust_remote_code=self._trust)
        return self._loaded

    def _answer(self, conversation: Sequence[Message], count: int, seed: int, exchange: Exchange) -> str:
        import torch
        from transformers import GenerationConfig

        found = self._load()
        ids = self._encoded(found.tokenizer, conversation, exchange)
        exchange.input_tokens += len(ids)
        room = min(MAX_NEW_TOKENS, found.context - len(ids))
        if room < 1:
            raise InputError(
                f"{self.model}: the prompt has {len(ids):,} tokens, and the model takes {found.context:,} with the "
                "answer; fewer --examples or --shown make it shorter."
            )
        prompt = torch.tensor([ids], device=found.device)
        # often only the tokenizer has the token that ends a turn of a chat
        ends = sorted({*found.end_ids, found.tokenizer.eos_token_id} - {None})
        drawn = GenerationConfig(
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            top_p=0.95,
            max_new_tokens=room,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
        )
        with torch.inference_mode(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            try:
                rows = found.model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=drawn)
            except torch.OutOfMemoryError:
                rows = None
        if rows is None:
            raise InputError(f"{self.model}: there is not enough memory on {found.device} for an answer.")
        answer: list[int] = rows[0, len(ids) :].tolist()
        exchange.output_tokens += len(answer)
        if len(answer) == room and answer[-1] not in ends:
            exchange.note(f"The reply was cut off at {room:,} tokens.")
        return str(found.tokenizer.decode(answer, skip_special_tokens=True))

    def _encoded(self, tokenizer: Any, conversation: Sequence[Message], exchange: Exchange) -> list[int]:
        """Return the tokens of a conversation by the model's own chat template."""
        if not tokenizer.chat_template:
            exchange.note(f"{self.model} has no chat template; it receives the messages as plain text.")
            return list(tokenizer(f"{rendered(conversation)}\n\n[assistant]\n")["input_ids"])
        text = self._templated(tokenizer, conversation, exchange)
        # the template includes the special tokens
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _templated(self, tokenizer: Any, conversation: Sequence[Message], exchange: Exchange) -> str:
        from jinja2 import TemplateError

        # reasoning models are asked not to think, which would fill the answer; other templates ignore the option
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        try:
            return str(tokenizer.apply_chat_template(list(conversation), **options))
        except TemplateError:  # some templates, Gemma's among them, have no system message
            exchange.note(f"{self.model} takes no system message; it is put before the first question.")
        system, first, *others = conversation
        merged = [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *others]
        try:
            return str(tokenizer.apply_chat_template(merged, **options))
        except TemplateError as error:
            raise InputError(f"{self.model}: its chat template does not take the messages: {error}") from error
