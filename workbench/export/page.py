"""The summary as one HTML file: no script, nothing from elsewhere, and only elements of ours.

The markdown is read by a parser that knows headings, lists, tables, emphasis and code, and nothing else: no link, image
or HTML of whatever text can come of it, even if the markdown did not escape it.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable

from markdown_it import MarkdownIt

from workbench.export.figures import Figure
from workbench.text import plain

_RULES = ("table", "heading", "list", "emphasis", "backticks", "fence", "escape", "entity")
_STYLE = """
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif; color: #222; background: #fff; }
table { border-collapse: collapse; width: 100%; } th, td { border: 1px solid #ccc; padding: .2rem .5rem; }
th, td { text-align: left; vertical-align: top; overflow-wrap: anywhere; }
.right { text-align: right; }
code { background: #f2f2f2; padding: 0 .2rem; } svg { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } code { background: #2a2a2a; } }
"""


def page(parts: Iterable[str | Figure], name: str) -> str:
    """A whole document of pieces of markdown and of charts; ``name`` becomes its title."""
    reader = MarkdownIt("zero", {"html": False}).enable(list(_RULES))
    body = "".join(part.svg() if isinstance(part, Figure) else _read(reader, part) for part in parts)
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(plain(name))}</title>\n<style>{_STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )


def _read(reader: MarkdownIt, markdown: str) -> str:
    """Markdown as HTML. How a column is aligned is told by a class: the policy allows no style of an element's own."""
    tokens = reader.parse(markdown)
    for token in tokens:
        style = token.attrs.pop("style", "")
        if style == "text-align:right":
            token.attrs["class"] = "right"
    rendered: str = reader.renderer.render(tokens, reader.options, {})
    return rendered
