"""A text that replaces another before the layout has come is as high as it should be."""

from __future__ import annotations

from textual.app import App, ComposeResult

from workbench.widgets.sheet import Sheet


class Two(App[None]):
    CSS = "Sheet { height: auto; }"

    def compose(self) -> ComposeResult:
        yield Sheet("", id="sheet")


async def test_a_text_that_replaces_one_not_laid_out_yet_has_its_own_height() -> None:
    async with Two().run_test(size=(40, 10)) as pilot:
        sheet = pilot.app.query_one(Sheet)
        sheet.update("one line")
        pilot.app.screen._refresh_layout()  # another widget asked for it, before this one's turn
        sheet.update("three\nlines\nnow")
        await pilot.pause(0.1)
        assert sheet.size.height == 3
