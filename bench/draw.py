"""Tables and plots of docs/performance.md, drawn from bench/figures/: `python -m bench.draw`.

The same figures give the same text: a unit test sees that what stands in the documentation is what was measured.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from html import escape

from bench import record
from bench.cases import CASES, Case, Result, met, of, ratio, ratios
from bench.record import Figures
from tools.run import ROOT

PAGE = ROOT / "docs/performance.md"
PLOTS = ROOT / "docs/performance"

WIDTH, LEFT, BAR, GAP, TOP = 760, 330, 20, 26, 44
COLOURS = {"seed": "#8a8f98", "bare": "#c9a227", "role": "#1f7a5c"}
WORDS = {"seed": "plain", "bare": "Gunicorn itself", "role": "Flask Fleet"}
UNITS = {"rate": "requests a second", "p99": "ms", "p50": "ms", "errors": "errors"}


def measured(figures: Figures) -> list[tuple[Case, list[Result]]]:
    """The cases of which there are figures."""
    return [(case, found) for case in CASES if (found := record.results(figures, case.name))]


def number(value: float) -> str:
    """A figure as it is read: 12,345 or 12.3 or 0.25."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def median(found: Sequence[Result], side: str, figure: str) -> str:
    """The median of a side, as it is read; nothing where there is none."""
    values = of(found, side, figure) if any(figure in each.figures for each in found) else []
    return number(statistics.median(values)) if values else ""


def goal(case: Case) -> str:
    """What is wanted."""
    if case.goal is None:
        return "no error"
    return f"{'at most' if case.less_is_better else 'at least'} {case.goal:g}"


def row(case: Case, found: Sequence[Result]) -> list[str]:
    """A line of the table."""
    pairs = ratios(found, "role", case.against, case.figure)
    middle = ratio(found, "role", case.against, case.figure)
    spread = f"**{middle:.2f}** ({min(pairs):.2f} to {max(pairs):.2f})" if middle is not None else ""
    times = [
        " / ".join(filter(None, [median(found, side, "p50"), median(found, side, "p99")]))
        for side in (case.against, "role")
    ]
    wrong = [number(sum(of(found, side, "errors"))) for side in (case.against, "role")]
    return [
        case.title,
        f"{median(found, case.against, case.figure)} {UNITS[case.figure]}",
        f"{median(found, 'role', case.figure)} {UNITS[case.figure]}",
        spread,
        f"{goal(case)}: {'met' if met(case, found) else '**not met**'}",
        " and ".join(times) if any(times) else "",
        " and ".join(wrong),
    ]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def table(figures: Figures) -> str:
    """All cases."""
    head = ["what", "other side", "Flask Fleet", "ratio (of all rounds)", "goal", "p50 / p99, ms", "errors"]
    return markdown(head, [row(case, found) for case, found in measured(figures)])


def provenance(figures: Figures) -> str:
    """With what each case was measured."""
    lines = []
    for case, found in measured(figures):
        made = figures[case.name]
        rounds = len({each.round for each in found})
        lines.append([case.title, f"`{made['command']}`", str(rounds), made["when"], made["revision"]])
    machines = {json.dumps(figures[case.name]["machine"], sort_keys=True) for case, _ in measured(figures)}
    told = []
    for each in sorted(machines):
        m = json.loads(each)
        told.append(
            f"Machine: {m['cpu']}, {m['memory']}, Linux {m['kernel']}. Hosts: {m['host']}, nginx {m['nginx']},"
            f" Python {m['python']}, {m['packages']}. Clients: wrk {m['wrk']}."
        )
    return "\n".join(told) + "\n\n" + markdown(["what", "command", "rounds", "on", "revision"], lines)


def plot(figures: Figures) -> str:
    """The ratios of the cases that have one, as bars: a dot for each round, and a line where both sides are equal."""
    shown = [
        (case, found)
        for case, found in measured(figures)
        if ratio(found, "role", case.against, case.figure) is not None
    ]
    most = max([2.0, *(max(ratios(found, "role", case.against, case.figure)) for case, found in shown)])
    scale = (WIDTH - LEFT - 60) / most
    height = TOP + len(shown) * (BAR + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="13" role="img" aria-label="Flask Fleet as a multiple of the other side">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="22" font-size="15" fill="#222">{WORDS["role"]} as a multiple of the other side,'
        " medians and rounds</text>",
    ]
    for place, (case, found) in enumerate(shown):
        middle = ratio(found, "role", case.against, case.figure) or 0.0
        y = TOP + place * (BAR + GAP)
        better = "less is better" if case.less_is_better else "more is better"
        parts += [
            f'<text x="10" y="{y + 11}" fill="#222">{escape(case.title.partition(";")[0])}</text>',
            f'<text x="10" y="{y + 27}" fill="#777" font-size="11">of {WORDS[case.against]}; {better}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{middle * scale:.1f}" height="{BAR}" fill="{COLOURS["role"]}"/>',
            *(
                f'<circle cx="{LEFT + each * scale:.1f}" cy="{y + BAR / 2:g}" r="3" fill="#fff" stroke="#222"/>'
                for each in ratios(found, "role", case.against, case.figure)
            ),
            f'<text x="{LEFT + max(ratios(found, "role", case.against, case.figure)) * scale + 8:.1f}" y="{y + 15}"'
            f' fill="#222">{middle:.2f}</text>',
        ]
    one = LEFT + scale
    line = (
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 8}" y2="{height - 10}" stroke="#b33" stroke-dasharray="4 3"/>'
    )
    return "\n".join([*parts, line, "</svg>"]) + "\n"


WAYS = {
    "role": "`flaskctl hello activate ID`",
    "restart": "changed in place, `systemctl restart`",
    "link": "a directory, a link, `systemctl restart` (Ansistrano)",
    "bare": "`bench/baseline/bare.sh`",
}


def spread(values: Sequence[float]) -> str:
    """The median, and the ends."""
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def releases(figures: Figures) -> str:
    """What users meet in a release, by the way that it is made in."""
    found = record.results(figures, "release")
    rows = [
        [
            WAYS[side],
            *(spread(of(found, side, figure)) for figure in ("ready", "drained")),
            f"{number(sum(of(found, side, 'errors')))} of"
            f" {number(sum(of(found, side, 'errors')) + sum(of(found, side, 'requests')))}",
            spread(of(found, side, "slowest")),
            f"{spread(of(found, side, 'memory'))}, {spread(of(found, side, 'peak'))}",
        ]
        for side in ("role", "restart", "link")
    ]
    head = ["release", "new code answers, s", "old one has ended, s", "requests failed", "slowest request, ms"]
    return markdown([*head, "memory before, at the peak, MB"], rows)


def first(figures: Figures) -> str:
    """How long a first deploy takes."""
    found = record.results(figures, "first")
    pairs = ratios(found, "role", "bare", "seconds")
    rows = [[WAYS["bare"], spread(of(found, "bare", "seconds")), "1"]]
    ratio_of = f"**{statistics.median(pairs):.2f}** ({min(pairs):.2f} to {max(pairs):.2f})"
    rows += [["`ansible-playbook site.yml`", spread(of(found, "role", "seconds")), ratio_of]]
    return markdown(["first deploy", "seconds", "ratio (of all rounds)"], rows)


def made(figures: Figures, case: str) -> str:
    """When, at which revision and by which command a case was measured."""
    return f"`{figures[case]['command']}`, {figures[case]['when']}, revision {figures[case]['revision']}."


def filled(page: str, name: str, text: str) -> str:
    """A page with what stands between two marks replaced."""
    begin, end = f"<!-- {name}: drawn by bench/draw.py -->", f"<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page has no place for {name}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def drawn() -> dict[str, str]:
    """Every file that is drawn, by its path from the top of the repository."""
    figures = record.read("serving")
    page = filled(PAGE.read_text(), "serving", f"{table(figures)}\n\n{provenance(figures)}")
    for name, case, tabled in (("releases", "release", releases), ("first", "first", first)):
        if found := record.read(name):
            page = filled(page, name, f"{tabled(found)}\n\n{made(found, case)}")
    return {"docs/performance.md": page, "docs/performance/serving.svg": plot(figures)}


def write() -> None:
    """Draw them."""
    PLOTS.mkdir(exist_ok=True)
    for name, text in drawn().items():
        (ROOT / name).write_text(text)


if __name__ == "__main__":
    write()
