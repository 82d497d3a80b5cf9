"""Text that changes, and its height with it."""

from __future__ import annotations

from textual.content import Content
from textual.visual import VisualType
from textual.widgets import Static


class Sheet(Static):
    """A Static that is always as high as its newest text.

    Textual (8.2) keeps a widget's size until its count of layouts rises, and does not count a text that replaces
    another whose layout is still to come: the new one then stands in the old one's height, a single line of an
    explanation for example, until something else moves.
    """

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        """Show another text."""
        self._layout_updates += layout
        super().update(content, layout=layout)


def beside(label: Content, text: Content, width: int) -> Content:
    """``text`` behind ``label``, wrapped to ``width`` cells; its further lines begin below the first."""
    indent = label.cell_length
    first, *others = text.wrap(max(10, width - indent)) or [Content("")]
    return Content("\n").join([label + first, *(Content(" " * indent) + line for line in others)])
