"""Line charts over time as SVG, written by hand: they follow the reader's light or dark."""

import dataclasses
import html
import math

# Blue, vermilion and green are told apart by every kind of eye.
COLOURS = {"a": ("#0072b2", "#56b4e9"), "b": ("#d55e00", "#ff9a52"), "c": ("#00805f", "#37c99e"), "d": ("#7a4f9e", "#c39be6")}
STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #3d444d; }
  .title { font-size: 16px; font-weight: 600; fill: #1f2328; }
  .panel { font-size: 12.5px; font-weight: 600; fill: #1f2328; }
  .note { font-size: 11px; fill: #59636e; }
  .back { fill: #ffffff; }
  .grid { stroke: #d1d9e0; stroke-width: 0.7; }
  .axis { stroke: #818b98; stroke-width: 1; fill: none; }
  .mark { stroke: #59636e; stroke-width: 1.2; stroke-dasharray: 5 4; fill: none; }
  .line { fill: none; stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }
"""
DARK = """
    text { fill: #b7bdc8; }
    .title, .panel { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .back { fill: #0d1117; }
    .grid { stroke: #2f3742; }
    .axis { stroke: #656c76; }
    .mark { stroke: #9198a1; }
"""
LEFT, RIGHT, GAP = 62, 20, 74
WIDE, HIGH, BETWEEN = 400, 168, 46
HEAD, FOOT = 108, 44


@dataclasses.dataclass
class Line:
    """Points `(seconds, value)`; `tone` is a key of COLOURS."""

    name: str
    tone: str
    points: list


@dataclasses.dataclass
class Panel:
    """One pair of axes. `marks` are dashed lines, as `(value, text)`."""

    title: str
    lines: list
    marks: list = dataclasses.field(default_factory=list)
    top: float = 0.0


def draw(path, title, note, columns, unit="seconds since the start"):
    """Writes a chart: `columns` of panels, those of one column share their time."""
    rows = max(map(len, columns))
    width = LEFT + len(columns) * WIDE + (len(columns) - 1) * GAP + RIGHT
    height = HEAD + rows * HIGH + (rows - 1) * BETWEEN + FOOT
    dark = DARK + "".join(f"    .{tone} {{ stroke: {dark}; }} .dot-{tone} {{ fill: {dark}; }}\n" for tone, (_, dark) in COLOURS.items())
    light = "".join(f"  .{tone} {{ stroke: {light}; }} .dot-{tone} {{ fill: {light}; }}\n" for tone, (light, _) in COLOURS.items())
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{STYLE}{light}  @media (prefers-color-scheme: dark) {{{dark}  }}\n</style>",
        f'<rect class="back" width="{width}" height="{height}" rx="8"/>',
        text(LEFT, 26, title, "title"), text(LEFT, 44, note, "note"),
        *legend([line for column in columns for panel in column for line in panel.lines]),
    ]
    for number, column in enumerate(columns):
        left = LEFT + number * (WIDE + GAP)
        until = max((line.points[-1][0] for panel in column for line in panel.lines if line.points), default=1)
        for row, panel in enumerate(column):
            last = row == len(column) - 1
            out += axes(panel, left, HEAD + row * (HIGH + BETWEEN), until, unit if last else "")
    path.write_text("\n".join([*out, "</svg>", ""]))


def legend(lines):
    x, known = LEFT, set()
    for line in lines:
        if line.name not in known:
            known.add(line.name)
            yield f'<rect class="dot-{line.tone}" x="{x}" y="62" width="14" height="4" rx="2"/>'
            yield text(x + 20, 68, line.name)
            x += 40 + 6.5 * len(line.name)


def axes(panel, left, above, until, unit):
    """The frame, the grid, the marks and the lines of one panel."""
    top = panel.top or 1.08 * max([value for line in panel.lines for _, value in line.points] + [mark for mark, _ in panel.marks])
    top = top or 1
    x = lambda seconds: left + WIDE * seconds / until  # noqa: E731
    y = lambda value: above + HIGH * (1 - min(value, top) / top)  # noqa: E731
    yield text(left, above - 8, panel.title, "panel")
    for value in ticks(top):
        yield f'<path class="grid" d="M{left} {y(value):.1f}H{left + WIDE}"/>'
        yield text(left - 7, y(value) + 4, number(value), anchor="end")
    for seconds in ticks(until, 8):
        yield f'<path class="axis" d="M{x(seconds):.1f} {above + HIGH}v4"/>'
        yield text(x(seconds), above + HIGH + 18, number(seconds), anchor="middle")
    yield f'<path class="axis" d="M{left} {above}V{above + HIGH}H{left + WIDE}"/>'
    if unit:
        yield text(left + WIDE / 2, above + HIGH + 36, unit, "note", "middle")
    for line in panel.lines:
        points = " ".join(f"{x(seconds):.1f},{y(value):.1f}" for seconds, value in thinned(line.points))
        yield f'<polyline class="line {line.tone}" points="{points}"/>'
    for value, said in panel.marks:
        yield f'<path class="mark" d="M{left} {y(value):.1f}H{left + WIDE}"/>'
        yield text(left + WIDE - 4, y(value) - 5, said, "note", "end")


def text(x, y, said, kind="", anchor="start"):
    kind = f' class="{kind}"' if kind else ""
    anchor = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}{anchor}>{html.escape(said)}</text>'


def ticks(top, most=5):
    """Round values from 0 to the top."""
    step = 10 ** math.floor(math.log10(top / most))
    step *= next(times for times in (1, 2, 5, 10) if top / (step * times) <= most)
    return [step * number for number in range(int(top / step + 1e-9) + 1)]


def number(value):
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def thinned(points, most=400):
    """The points, fewer of them where there are more than anyone can see."""
    every = max(1, len(points) // most)
    return [*points[::every], points[-1]] if points else []
