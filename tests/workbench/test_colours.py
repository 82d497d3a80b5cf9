"""The colours of curves: apart for every reader, on either background, and on terminals of sixteen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from rich.color import Color, ColorSystem

from workbench.plot import GREY, PALETTE, RGB
from workbench.widgets.chart import OF_SIXTEEN, ON_LIGHT

# Machado, Oliveira and Fernandes 2009, severity 1: what a reader without one kind of cone sees, in linear RGB.
READERS = {
    "every cone": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
APART = 15.0  # in CIELAB, where 2.3 is just noticeable


def linear(rgb: RGB) -> np.ndarray:
    share = np.array(rgb) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ light / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(rgb: RGB, background: RGB) -> float:
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (rgb, background))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("light", [False, True])
def test_no_two_runs_of_a_comparison_look_alike(reader: str, light: bool) -> None:
    shown = [ON_LIGHT[rgb] if light else rgb for rgb in PALETTE]
    seen = [lab(np.clip(np.array(READERS[reader]) @ linear(rgb), 0, 1)) for rgb in shown]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > APART


@pytest.mark.parametrize("light", [False, True])
def test_each_stands_out_from_its_background(light: bool) -> None:
    background = (245, 245, 245) if light else (18, 18, 18)
    assert min(contrast(ON_LIGHT[rgb] if light else rgb, background) for rgb in PALETTE) > 2.5


def test_a_terminal_of_sixteen_colours_tells_them_apart() -> None:
    numbers = [Color.from_rgb(*OF_SIXTEEN[rgb]).downgrade(ColorSystem.STANDARD).number for rgb in (*PALETTE, GREY)]
    assert len(set(numbers)) == len(PALETTE) + 1
