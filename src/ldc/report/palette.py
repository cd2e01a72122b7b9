"""Colours: a ramp with even steps of lightness, readable in grey, and three lines that differ in dash and hue."""

from __future__ import annotations

import math

LEVELS = 32
"""Steps of the ramp."""

INK, MUTED, RULE = "#1d2126", "#5d646d", "#d9d6cf"

REGIME_LINES: dict[str, tuple[str, str, str]] = {
    "attn": ("Attention-only run", "#0072b2", "solid"),
    "mlp": ("MLP-only run", "#d55e00", "dashed"),
    "all": ("All run", INK, "dotted"),
}
"""Label, colour (Okabe and Ito) and dash of the origin's three lines."""


def _srgb(lightness: float, chroma: float, hue_degrees: float) -> str:
    """OKLCH as a hex colour, clipped to sRGB. Constants: Ottosson (2020), A perceptual color space."""
    a = chroma * math.cos(math.radians(hue_degrees))
    b = chroma * math.sin(math.radians(hue_degrees))
    l3 = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m3 = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s3 = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * l3 - 3.3077115913 * m3 + 0.2309699292 * s3,
        -1.2684380046 * l3 + 2.6097574011 * m3 - 0.3413193965 * s3,
        -0.0041960863 * l3 - 0.7034186147 * m3 + 1.7076147010 * s3,
    )
    channels = []
    for value in linear:
        clipped = min(1.0, max(0.0, value))
        gamma = 12.92 * clipped if clipped <= 0.0031308 else 1.055 * clipped ** (1 / 2.4) - 0.055
        channels.append(round(255 * gamma))
    return "#{:02x}{:02x}{:02x}".format(*channels)


def ramp(dark: bool = False) -> list[str]:
    """`LEVELS` colours from little to much: pale to deep on paper, deep to pale on a dark page."""
    colours = []
    for level in range(LEVELS):
        t = level / (LEVELS - 1)
        depth = 1 - t if dark else t
        low, high = (0.30, 0.90) if dark else (0.30, 0.955)
        lightness = high - (high - low) * depth
        chroma = 0.020 + 0.075 * math.sin(math.pi * min(1.0, 0.08 + 0.72 * depth))
        colours.append(_srgb(lightness, chroma, 98 + 172 * depth**0.8))
    return colours


def signed_ramp(dark: bool = False) -> list[str]:
    """`LEVELS` + 1 colours for values around zero: orange below, grey at zero, blue above, with equal contrast."""
    colours = []
    for step in range(LEVELS + 1):
        t = 2 * step / LEVELS - 1
        depth = abs(t)
        lightness = 0.30 + 0.55 * depth if dark else 0.955 - 0.53 * depth
        colours.append(_srgb(lightness, 0.004 + 0.125 * depth**0.9, 245 if t > 0 else 48))
    return colours


def over(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour: contrast at least 4.58 (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    light = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))
    return "#000000" if (light + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def level(value: float, low: float, high: float) -> int:
    """The step of the ramp for a value between low and high; the middle step if these are equal."""
    if not high > low:
        return LEVELS // 2
    share = (value - low) / (high - low)
    return min(LEVELS - 1, max(0, round(share * (LEVELS - 1))))
