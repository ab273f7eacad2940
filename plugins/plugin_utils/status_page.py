# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How a fleet stands, as one page for a browser: no script, nothing from elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 240, 36  # of a sparkline, in pixels

STYLE = """\
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --quiet: #6e7781; --line: #d0d7de; }
@media (prefers-color-scheme: dark) {
  :root { --good: #3fb950; --bad: #ff7b72; --quiet: #9198a1; --line: #3d444d; }
}
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h1 span { display: block; font-size: 1rem; font-weight: normal; }
.good { color: var(--good); } .bad { color: var(--bad); } .quiet { color: var(--quiet); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } code { font-size: .9em; }
time { white-space: nowrap; } svg { display: block; } .bar { fill: var(--quiet); } .failed { fill: var(--bad); }
.switch { stroke: var(--good); stroke-dasharray: 3 2; }
"""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>{app} <span class="{mood}">{said}</span></h1>
{wrong}<div class="wide"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="quiet">Seen {when}. Traffic: requests before and after the last activation, the dashed line.
What failed is red.</p>
</body>
</html>
"""


def moment(seconds: float) -> str:
    """Return a time of the epoch as people read it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def sparkline(traffic: Mapping[str, Any] | None) -> str:
    """Return a drawing of the requests in each step of time, and of those that failed."""
    if not traffic or not any(traffic["requests"]):
        return '<span class="quiet">none</span>'
    requests, errors = traffic["requests"], traffic["errors"]
    most, wide = max(requests), WIDTH / len(requests)
    bars = []
    for number, (all_of, failed) in enumerate(zip(requests, errors, strict=True)):
        for name, count in (("bar", all_of), ("failed", failed)):
            tall = HEIGHT * count / most
            if count:
                at, size = f'x="{number * wide:.1f}" y="{HEIGHT - tall:.1f}"', f'width="{wide:.1f}" height="{tall:.1f}"'
                bars.append(f'<rect class="{name}" {at} {size}/>')
    switch = wide * (traffic["switched"] - traffic["start"]) / traffic["step"]
    said = f"{sum(requests)} requests, {sum(errors)} failed, at most {most} in {traffic['step']} s"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{said}"><title>{said}</title>{"".join(bars)}'
        f'<line class="switch" x1="{switch:.1f}" x2="{switch:.1f}" y1="0" y2="{HEIGHT}"/></svg>'
    )


def words(things: Sequence[Any] | None) -> str:
    """Return a list for a cell of the table."""
    return "<br>".join(escape(str(thing)) for thing in things or ()) or '<span class="quiet">-</span>'


def text(value: Any) -> str:
    """Return a value for a cell of the table."""
    return escape(str(value)) if value not in (None, "") else '<span class="quiet">-</span>'


def row(line: Mapping[str, Any]) -> str:
    """Return the line of a host."""
    mood = "bad" if line["problems"] else "good"
    cells = [
        f'<span class="{mood}">{escape(line["host"])}</span>',
        f"<code>{text(line['serving'])}</code>",
        f"<time>{text(line.get('since'))}</time>",
        f"<code>{text(line.get('previous'))}</code>",
        text(line.get("workers")),
        text(line.get("certificate_days")),
        words(line.get("drift")),
        words(line["problems"]),
        sparkline(line.get("traffic")),
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


HEAD = ("host", "serves", "since", "before it", "workers", "certificate, days", "drift", "wrong", "traffic")


def page(stands: Mapping[str, Any], app: str, now: float | None = None) -> str:
    """Return the page. `stands`: what fleet_status returned; `now`: seconds of the epoch, else those of the clock."""
    lines, wrong = stands["hosts"], stands["wrong"]
    serving = {line["serving"] for line in lines if line["serving"]}
    many = f"{len(lines)} host{'s' if len(lines) != 1 else ''}"
    said = f"{many}, all serve {next(iter(serving))}" if stands["agrees"] else f"{many}, {len(wrong) or 1} wrong"
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in wrong)
    return PAGE.format(
        title=escape(f"{app}: {said}"),
        style=STYLE,
        app=escape(app),
        mood="good" if stands["agrees"] else "bad",
        said=escape(said),
        wrong=f'<ul class="bad">{listed}</ul>\n' if listed else "",
        head="".join(f"<th>{name}</th>" for name in HEAD),
        rows="\n".join(row(line) for line in lines),
        when=moment(now if now is not None else datetime.datetime.now().timestamp()),
    )
