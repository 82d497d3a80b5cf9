"""Peak arithmetic of graphics cards: what MFU is measured against. Torch-free.

Dense tensor-core peaks in bf16 with float32 accumulation, without sparsity, from the vendors' data sheets and
white papers (NVIDIA A100, H100, H200, B200, L4, L40S, A10, A40, A30, T4, V100, Ampere GA102, Ada and Blackwell RTX;
AMD MI250X, MI300X). Consumer GeForce cards halve their rate when accumulating in float32, which training does: their
figure is the halved one. Cards before Ampere have no bf16; theirs is the fp16 peak.
"""

from __future__ import annotations

import re

_T = 1e12

# The first pattern found in the card's name, as the driver gives it, decides: special names before general ones.
_PEAKS: tuple[tuple[str, float], ...] = (
    (r"\bGB?200\b|\bB200\b", 2250 * _T),
    (r"\bGB?300\b|\bB300\b", 2250 * _T),
    (r"\bB100\b", 1750 * _T),
    (r"\bGH200\b|\bH200\b(?!.*\bNVL\b)", 989.4 * _T),
    (r"\bH200\b.*\bNVL\b", 835.5 * _T),
    (r"\bH100\b.*\bNVL\b", 835.5 * _T),
    (r"\bH100\b.*\bPCIE\b", 756 * _T),
    (r"\bH100\b", 989.4 * _T),
    (r"\bH800\b", 989.4 * _T),
    (r"\bH20\b", 148 * _T),
    (r"\bA100\b|\bA800\b", 312 * _T),
    (r"\bA30\b", 165 * _T),
    (r"\bA40\b", 149.7 * _T),
    (r"\bA10G\b", 70 * _T),
    (r"\bA10\b", 125 * _T),
    (r"\bL40S\b", 362 * _T),
    (r"\bL40\b", 181 * _T),
    (r"\bL4\b", 121 * _T),
    (r"\bT4\b", 65 * _T),  # fp16
    (r"\bV100\b", 125 * _T),  # fp16
    (r"\bRTX\s*A6000\b", 154.8 * _T),
    (r"\bRTX 6000 ADA\b", 364.2 * _T),
    (r"\bRTX 5090\b(?!.*LAPTOP)", 209.5 * _T),
    (r"\bRTX 5080\b(?!.*LAPTOP)", 112.6 * _T),
    (r"\bRTX 5070 TI\b(?!.*LAPTOP)", 87.9 * _T),
    (r"\bRTX 5070\b(?!.*LAPTOP)", 61.7 * _T),
    (r"\bRTX 4090\b(?!.*LAPTOP)", 165.2 * _T),
    (r"\bRTX 4080 SUPER\b(?!.*LAPTOP)", 104.4 * _T),
    (r"\bRTX 4080\b(?!.*LAPTOP)", 97.5 * _T),
    (r"\bRTX 4070 TI SUPER\b(?!.*LAPTOP)", 88.2 * _T),
    (r"\bRTX 4070 TI\b(?!.*LAPTOP)", 80.2 * _T),
    (r"\bRTX 4070 SUPER\b(?!.*LAPTOP)", 71.0 * _T),
    (r"\bRTX 4070\b(?!.*LAPTOP)", 58.3 * _T),
    (r"\bRTX 4060 TI\b(?!.*LAPTOP)", 44.1 * _T),
    (r"\bRTX 4060\b(?!.*LAPTOP)", 30.2 * _T),
    (r"\bRTX 3090 TI\b", 80.0 * _T),
    (r"\bRTX 3090\b", 71.2 * _T),
    (r"\bRTX 3080 TI\b(?!.*LAPTOP)", 68.2 * _T),
    (r"\bRTX 3080\b(?!.*LAPTOP)", 59.5 * _T),
    (r"\bRTX 3070\b(?!.*(LAPTOP|TI))", 40.6 * _T),
    (r"\bRTX 3060\b(?!.*(LAPTOP|TI))", 25.5 * _T),
    (r"\bMI300X\b", 1307.4 * _T),
    (r"\bMI250X\b", 383 * _T),
)


def peak_flops(device_name: str) -> float | None:
    """Dense peak of the card of that name, in FLOP/s (bf16; fp16 before Ampere); None for a card that is not known."""
    name = device_name.upper().replace("-", " ").replace("_", " ")
    for pattern, peak in _PEAKS:
        if re.search(pattern, name):
            return peak
    return None


def is_card(device_name: str) -> bool:
    """Whether a device's name is that of a graphics card rather than of a processor."""
    return peak_flops(device_name) is not None or bool(re.search(r"NVIDIA|GEFORCE|QUADRO|TESLA", device_name.upper()))
