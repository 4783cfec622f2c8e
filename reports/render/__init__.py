"""Tables as Markdown, LaTeX, HTML, CSV and terminal text."""
