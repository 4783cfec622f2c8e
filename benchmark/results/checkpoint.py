"""`checkpoint.json` of a trained editor: everything that decides its weights, and the name of its folder."""

from typing import Any

from instructedit.editors import ChatFormat

from .records import FileRecord, digest_of

RECORD = "checkpoint.json"


class Checkpoint(FileRecord):
    """Everything that decides the weights of a trained editor."""

    editor: str
    version: str
    config: dict[str, Any]
    base: str
    """Fingerprint of the base model."""
    tokenizer: str
    training: str
    """Digest of the training set."""
    instructions: str | None
    """Digest of the instruction bank, for editors that read instructions."""
    seed: int
    chat: ChatFormat | None = None
    """Text around every prompt; None for bare prompts."""

    @property
    def folder_name(self) -> str:
        """Name of the folder of the trained editor."""
        own = digest_of(self, {"chat"} if self.chat is None else ())
        return f"{self.editor}-{self.base[:8]}-{self.training[:8]}-{own[:8]}"
