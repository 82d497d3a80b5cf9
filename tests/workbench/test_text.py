"""Text from files cannot steer a terminal."""

from __future__ import annotations

import os
import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.text import plain, quoted


def test_escapes_become_symbols() -> None:
    assert plain("\x1b[31mred\x07\r\x7f\x9b0m") == "␛[31mred␇␍␡�0m"
    assert plain("a\nb\tc") == "a␊b␉c"
    assert plain("a\nb", lines=True) == "a\nb"
    assert "\u202e" not in plain("x\u202etxt.exe")


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in plain(text))
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize("word", ["plain", "a b", "$(touch x)", "it's", "a\x1b[31m'\\b\n", "\u202ebidi", "\udcff\x9b"])
def test_a_quoted_word_is_shown_safely_and_means_itself_to_a_shell(word: str) -> None:
    line = quoted(word)
    assert plain(line) == line
    said = subprocess.run(["bash", "-c", f"printf %s {line}"], capture_output=True, check=True).stdout
    assert said == os.fsencode(word)
