from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from data.differences import Row, Span, differences


def sides(rows: list[Row]) -> tuple[str, str]:
    left = "\n".join("".join(span.text for span in row.left) for row in rows if row.left is not None)
    right = "\n".join("".join(span.text for span in row.right) for row in rows if row.right is not None)
    return left, right


@given(st.text("ab \n", max_size=60), st.text("ab \n", max_size=60))
def test_both_texts_are_there_in_full(a: str, b: str) -> None:
    assert sides(differences(a, b)) == (a, b)
    assert all(row.kind == "same" for row in differences(a, a))


def test_what_differs() -> None:
    rows = differences("title\nversion 5.1 of it\nend", "title\nversion 7.4 of it\nmore\nend")
    assert [row.kind for row in rows] == ["same", "changed", "added", "same"]
    assert rows[1].left is not None and [s.text for s in rows[1].left if s.changed] == ["5", "1"]
    assert rows[2].right == (Span("more", True),) and rows[2].left is None


def test_the_cost_is_bounded() -> None:
    a = "\n".join(f"{i % 7} line" for i in range(50_000))
    b = "\n".join(f"{i % 5} line" for i in range(50_000))
    begin = time.monotonic()
    assert sides(differences(a, b)) == (a, b)
    assert sides(differences("x y " * 100_000, "y x " * 100_000)) == ("x y " * 100_000, "y x " * 100_000)
    assert time.monotonic() - begin < 20
