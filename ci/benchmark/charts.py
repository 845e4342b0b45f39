"""Bar charts of wall time as SVG, drawn by hand: legible on white and on black, and small."""

from xml.sax.saxutils import escape

WIDTH, LABELS, VALUES = 760, 300, 90
BAR, GAP, HEAD = 16, 6, 26
COLOURS = {"walrs": "#2f81f7", "pgbackrest": "#d29922", "pg_basebackup": "#8b949e", "cp": "#8b949e", "true": "#8b949e"}
TEXT = "#768390"


def write(directory, name, rows):
    """The chart's file name; none when there is nothing to draw."""
    drawn = [(row, [one for one in row.outcomes if one.median]) for row in rows]
    drawn = [(row, outcomes) for row, outcomes in drawn if outcomes]
    if not drawn:
        return None
    most = max(one.median.wall_seconds for _, outcomes in drawn for one in outcomes)
    parts, y = [], 0
    for row, outcomes in drawn:
        parts.append(text(0, y + 16, f"{row.title}, {row.store}", "start", bold=" font-weight='bold'"))
        y += HEAD
        for one in outcomes:
            parts += bar(y, one, most)
            y += BAR + GAP
        y += GAP
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.svg").write_text(
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {y}' width='{WIDTH}' height='{y}' "
        f"font-family='sans-serif' font-size='12'>\n" + "\n".join(parts) + "\n</svg>\n", encoding="utf-8")
    return f"{name}.svg"


def bar(y, outcome, most):
    wall = outcome.median.wall_seconds
    length = max(1.0, (WIDTH - LABELS - VALUES) * wall / most)
    unit = f"{wall * 1000:.1f} ms" if wall < 1 else f"{wall:.2f} s"
    return [
        text(LABELS - 8, y + 12, outcome.key, "end"),
        f"<rect x='{LABELS}' y='{y}' width='{length:.1f}' height='{BAR}' fill='{COLOURS[outcome.tool]}'/>",
        text(LABELS + length + 6, y + 12, unit, "start"),
    ]


def text(x, y, content, anchor, bold=""):
    return f"<text x='{x:.0f}' y='{y}' text-anchor='{anchor}' fill='{TEXT}'{bold}>{escape(content)}</text>"
