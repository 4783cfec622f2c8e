"""Reading a site back: its data files as JSON, its pages as tags."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


def data(site: Path, name: str) -> Any:
    """What a data file hands to the page."""
    text = (site / "data" / f"{name}.js").read_text(encoding="utf-8")
    front = f'siteData["{name}"]='
    assert text.startswith(front)
    assert text.endswith(";\n")
    return json.loads(text[len(front) : -2])


class Page(HTMLParser):
    """The tags, attributes, addresses and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def addresses(self) -> list[str]:
        return [value for _, attrs in self.tags for key, value in attrs.items() if key in ("href", "src") and value]
