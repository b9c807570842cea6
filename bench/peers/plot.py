"""Line and bar plots as SVG: one figure a scenario, one panel a measure, one colour a server."""
import math
import textwrap
from xml.sax.saxutils import escape

# Okabe and Ito: told apart by every kind of eye. The server that this is about is the dark one.
COLOURS = {"posthaste": "#0072B2", "postfix": "#D55E00", "exim": "#009E73", "opensmtpd": "#CC79A7", "haraka": "#8A6D00"}
OTHER = "#555555"
INK, PALE, GRID = "#222222", "#666666", "#E4E4E4"
PANEL_W, PANEL_H = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 92, 34, 48
COLUMNS = 2
HEAD, TITLE_STEP = 46, 18
# Pixels of a bold letter of 13, about.
LETTER = 7.4
FONT = 'font-family="Helvetica, Arial, sans-serif"'


def number(value):
    """As short as a label on an axis must be."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


class Scale:
    """Where a value stands between two pixels, by its logarithm."""

    def __init__(self, values, low, high, whole_decades):
        least, most = math.log10(min(values)), math.log10(max(values))
        if whole_decades:
            least, most = math.floor(least + 1e-9), math.ceil(most - 1e-9)
        self.least, self.most = (least - 0.5, most + 0.5) if most - least < 0.3 else (least, most)
        self.low, self.high = low, high

    def at(self, value):
        share = (math.log10(value) - self.least) / (self.most - self.least)
        return self.low + share * (self.high - self.low)

    def ticks(self):
        first, last = math.ceil(self.least - 1e-9), math.floor(self.most + 1e-9)
        steps = (1,) if last - first >= 2 else (1, 2, 5)
        marks = [step * 10.0**power for power in range(first - 1, last + 1) for step in steps]
        return [mark for mark in marks if self.least - 1e-9 <= math.log10(mark) <= self.most + 1e-9]


def text(x, y, words, size=11, colour=INK, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}" {FONT}>{escape(words)}</text>')


def line(x1, y1, x2, y2, colour, width=1.0):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def apart(places, least):
    """Label heights moved until none lies on another; order kept."""
    placed = []
    for y, name in sorted(places):
        placed.append([max(y, placed[-1][0] + least) if placed else y, name])
    overshoot = placed[-1][0] - (PANEL_H - BOTTOM + 4) if placed else 0
    return [(y - max(0, overshoot), name) for y, name in placed]


def line_panel(title, label, series):
    """`series`: name → [(x, median, least, most)]. Both axes are logarithmic."""
    points = [point for own in series.values() for point in own]
    xs = Scale([p[0] for p in points], LEFT, PANEL_W - RIGHT, False)
    ys = Scale([value for p in points for value in p[1:]], PANEL_H - BOTTOM, TOP, True)
    parts = [text(LEFT, TOP - 14, title, 12, weight="bold")]
    for tick in ys.ticks():
        y = ys.at(tick)
        parts += [line(LEFT, y, PANEL_W - RIGHT, y, GRID), text(LEFT - 6, y + 4, number(tick), 10, PALE, "end")]
    for x in sorted({p[0] for p in points}):
        parts += [line(xs.at(x), PANEL_H - BOTTOM, xs.at(x), PANEL_H - BOTTOM + 4, PALE),
                  text(xs.at(x), PANEL_H - BOTTOM + 16, number(x), 10, PALE, "middle")]
    parts.append(text((LEFT + PANEL_W - RIGHT) / 2, PANEL_H - BOTTOM + 34, label, 11, PALE, "middle"))
    ends = []
    for name, own in series.items():
        colour = COLOURS.get(name, OTHER)
        own = sorted(own)
        path = " ".join(f"{xs.at(x):.1f},{ys.at(y):.1f}" for x, y, _, _ in own)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, least, most in own:
            parts.append(line(xs.at(x), ys.at(least), xs.at(x), ys.at(most), colour, 1.5))
            parts.append(f'<circle cx="{xs.at(x):.1f}" cy="{ys.at(y):.1f}" r="3" fill="{colour}"/>')
        ends.append((ys.at(own[-1][1]), name))
    for y, name in apart(ends, 13):
        parts.append(text(PANEL_W - RIGHT + 8, y + 4, name, 11, COLOURS.get(name, OTHER), weight="bold"))
    return parts


def bar_panel(title, rows):
    """`rows`: (group, name, median, least, most). Linear from nought: lengths may be compared."""
    most = max(row[4] for row in rows) or 1
    left, right = LEFT + 30, PANEL_W - RIGHT + 20
    parts = [text(LEFT, TOP - 14, title, 12, weight="bold")]
    groups = list(dict.fromkeys(row[0] for row in rows))
    step = min(26, (PANEL_H - TOP - 20) / (len(rows) + (len(groups) if groups != [""] else 0)))
    y = TOP
    for group in groups:
        if group:
            parts.append(text(LEFT, y + step * 0.7, group, 10, PALE))
            y += step
        for _, name, median, least, top in (row for row in rows if row[0] == group):
            colour, middle = COLOURS.get(name, OTHER), y + step * 0.45
            to = lambda value: left + (right - left) * value / most
            parts.append(text(left - 6, middle + 4, name, 11, colour, "end", "bold"))
            parts.append(f'<rect x="{left}" y="{y:.1f}" width="{max(1.0, to(median) - left):.1f}" height="{step * 0.72:.1f}" fill="{colour}" fill-opacity="0.8"/>')
            parts.append(line(to(least), middle, to(top), middle, INK, 1.5))
            parts.append(text(max(to(median), to(top)) + 6, middle + 4, number(median), 11))
            y += step
    return parts


def figure(title, panels):
    """Panels side by side on white, so that it reads on a dark page too."""
    rows = math.ceil(len(panels) / COLUMNS)
    width = PANEL_W * min(COLUMNS, len(panels))
    words = textwrap.wrap(title, int((width - 32) / LETTER))
    head = HEAD + TITLE_STEP * (len(words) - 1)
    height = head + PANEL_H * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *(text(16, 26 + TITLE_STEP * row, line, 13, weight="bold") for row, line in enumerate(words)),
    ]
    for index, panel in enumerate(panels):
        x, y = index % COLUMNS * PANEL_W, head + index // COLUMNS * PANEL_H
        parts += [f'<g transform="translate({x} {y})">', *panel, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"
