"""The docs site: `make docs`. The Markdown of this folder is its source."""

from typing import Any

from pygments.lexers.special import TextLexer

project = "Layer-Domain Control"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_site"]
suppress_warnings = ["toc.not_included"]  # tables that a page of results links to
myst_heading_anchors = 3
nitpicky = True
html_theme = "furo"
html_title = "LDC"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
highlight_language = "none"


def setup(app: Any) -> None:
    """Show the picture of imports as its text."""
    app.add_lexer("mermaid", TextLexer)
