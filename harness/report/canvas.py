"""What every figure is drawn with: an SVG that collects shapes, scales, ticks and axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from sys import float_info

from markupsafe import Markup

WIDTH = 480
"""User units; narrow, so that text is still legible when a phone shrinks it."""
MARGIN = 16.0
COLOURS = 8
SMALLEST = 5e-324
"""The smallest float above 0."""
LARGEST = 1e307
"""Largest value of a linear axis: its room would overflow beyond."""
FLAT = 1e-13
"""Values that differ by a smaller share of their size are one value to an axis."""
CHARACTER = 7.2
"""Mean width of a character of the figures' font, to place text; never to cut it."""


class Canvas:
    """Collects shapes. Every text goes through `Markup.format`, which escapes it.

    Shapes have classes, not colours: the page's style has a light and a dark theme.

    label: what a screen reader says.
    """

    def __init__(self, height: float, label: str, width: float = WIDTH) -> None:
        self.width, self.height, self.label = width, height, label
        self._parts: list[Markup] = []

    def add(self, template: str, *values: object) -> None:
        texts = [short(value) if isinstance(value, float) else value for value in values]
        self._parts.append(Markup(template).format(*texts))  # noqa: S704 - own templates

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.add('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>', x1, y1, x2, y2, kind)

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        template = '<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>'
        self.add(template, x, y, kind, anchor, text)

    def path(self, points: Iterable[tuple[float, float]], kind: str, close: bool = False) -> None:
        steps = "L".join(f"{short(x)} {short(y)}" for x, y in points)
        if steps:
            self.add('<path d="M{}{}" class="{}"/>', steps, "Z" if close else "", kind)

    def rect(self, x: float, y: float, wide: float, high: float, kind: str, title: str) -> None:
        place = '<rect x="{}" y="{}" width="{}" height="{}"'
        self.add(place + ' class="{}"><title>{}</title></rect>', x, y, wide, high, kind, title)

    def mark(self, x: float, y: float, series: int, title: str = "", kind: str = "mark") -> None:
        """Adds a point. Both its shape and its colour show its series."""
        shape, colour = SHAPES[series % len(SHAPES)], series % COLOURS
        place = '<path d="{}" transform="translate({} {})"'
        style = ' class="{} s{}"><title>{}</title></path>'
        self.add(place + style, shape, x, y, kind, colour, title)

    def svg(self) -> Markup:
        body = Markup("").join(self._parts)
        return Markup(
            '<svg class="figure" viewBox="0 0 {} {}" role="img" aria-label="{}" '
            'xmlns="http://www.w3.org/2000/svg">{}</svg>'
        ).format(short(self.width), short(self.height), self.label, body)


SHAPES = (
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0Z",
    "M-3 -3H3V3H-3Z",
    "M0 -4L4 3H-4Z",
    "M0 -4.5L4.5 0L0 4.5L-4.5 0Z",
    "M0 4L4 -3H-4Z",
    "M-4 -1H-1V-4H1V-1H4V1H1V4H-1V1H-4Z",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from `low` to `high` onto positions from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = log10(value), log10(low), log10(high)
        return self.start + (value - low) / ((high - low) or 1) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns round values on the scale, with their texts."""
        values = log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high)
        step = 0.0 if self.log or len(values) < 2 else values[1] - values[0]
        return [(value, tick_text(value, step)) for value in values]


def fit_scale(values: Sequence[float], start: float, end: float, log: bool = False) -> Scale:
    """Returns a scale over these values, with a little room at both ends."""
    known = [value for value in values if isfinite(value) and (value > 0 or not log)]
    if not known:
        return Scale(1 if log else 0, 10 if log else 1, start, end, log)
    low, high = min(known), max(known)
    if log:
        room = 10 ** (0.04 * (log10(high) - log10(low)) or 0.2)
        # A loss may have grown to the largest float.
        low, high = max(low / room, SMALLEST), min(high * room, float_info.max)
        return Scale(low, high, start, end, log)
    low, high = max(low, -LARGEST), min(high, LARGEST)
    flat = high - low <= FLAT * max(abs(low), abs(high))
    room = 0.05 * (max(abs(low), abs(high)) or 10.0) if flat else 0.05 * (high - low)
    return Scale(low - room, high + room, start, end)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Returns round values between low and high, at steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(wanted, 1)
    if not rough > float_info.min:
        return []
    exponent = floor(log10(rough))
    factor = next(m for m in (1, 2, 5, 10) if m * 10.0**exponent >= rough * 0.999)
    step = factor * 10.0**exponent
    # Read from decimal digits, so that three steps of 0.1 are 0.3.
    return [
        float(f"{i * factor}e{exponent}") for i in range(ceil(low / step), floor(high / step) + 1)
    ]


def log_ticks(low: float, high: float) -> list[float]:
    """Returns the powers of ten between low and high; of many, every second or third."""
    first, last = ceil(log10(low)), floor(log10(high))
    every = max(1, -(-(last - first + 1) // 8))
    return [10.0**power for power in range(first, last + 1, every)]


def axes(canvas: Canvas, x: Scale, y: Scale, x_label: str, y_label: str) -> None:
    """Draws grid, ticks and names of both axes; y runs upward."""
    for tick, text in y.ticks():
        canvas.line(x.start, y(tick), x.end, y(tick), "grid")
        canvas.text(x.start - 6, y(tick) + 4, text, "tick", "end")
    for tick, text in x.ticks():
        canvas.line(x(tick), y.start, x(tick), y.start + 4, "axis")
        canvas.text(x(tick), y.start + 17, text, "tick", "middle")
    canvas.line(x.start, y.start, x.end, y.start, "axis")
    canvas.text((x.start + x.end) / 2, y.start + 34, x_label, "name", "middle")
    canvas.text(x.start - 50, y.end - 8, y_label, "name")


def legend_places(names: Sequence[str], top: float) -> list[tuple[float, float]]:
    """Returns where each name of a legend stands: its left end and its baseline, in rows."""
    places: list[tuple[float, float]] = []
    x, y = MARGIN, top
    for name in names:
        wide = 34 + CHARACTER * len(name)
        if x + wide > WIDTH and x > MARGIN:
            x, y = MARGIN, y + 18
        places.append((x, y))
        x += wide
    return places


def tick_text(value: float, step: float = 0.0) -> str:
    """Returns the text of a tick, with the digits that tell it from the next: "0.01", "1e5",
    "1.5e-14".

    step: the distance to the next tick; 0 if the tick is a power of ten.
    """
    if value == 0:
        return "0"
    digits = floor(log10(abs(value))) - floor(log10(step)) if step else 0
    digits = min(max(digits, 0), 16)
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.{max(digits + 1, 6)}g}"
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def short(number: float) -> str:
    """Returns a coordinate with one decimal: a tenth of a unit is less than a pixel."""
    return f"{number:.1f}".removesuffix(".0")
