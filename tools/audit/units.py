"""What `systemd-analyze security` says of the units, on the host itself: the app's, its sealed profile, nginx."""

from __future__ import annotations

import re

from tests.rendering import render
from tools.audit.places import APP, Target, on, put
from tools.audit.table import Found

# by outbound: any, the default, denies some addresses and not all, which weighs 0.2
LIMITS = {"any": 1.1, "127.0.0.1": 0.9, "none": 0.2}
NGINX = 2.5


def exposure(said: str) -> float | None:
    """The number at the end."""
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    return float(found[1]) if found else None


def judged(target: Target, command: str, what: str, limit: float, said: str) -> Found:
    """What was said, held to a limit."""
    level = exposure(said)
    wrong = [] if level is not None and level <= limit else [f"{what}: {said[-200:] if level is None else level}"]
    systemd = on(target.host, "systemctl --version").stdout.split()[1]
    return Found(f"systemd-analyze {systemd}", command, target.kind, f"{what}: {level}", f"{limit}", wrong)


def app(target: Target) -> list[Found]:
    """The release that serves, and what its unit would say with less of a way out."""
    found = []
    for outbound, limit in LIMITS.items():
        name = f"{outbound.partition('.')[0]}@x.service"
        values = {"name": APP, "outbound": outbound if outbound in ("any", "none") else [outbound]}
        put(target.host, f"/run/audit/{name}", render("app@.service", values))
        said = on(target.host, f"systemd-analyze security --no-pager --offline=yes /run/audit/{name}").stdout
        command = "systemd-analyze security --offline=yes app@.service"
        found.append(judged(target, command, f"outbound {outbound}", limit, said))
    return found


def serving(target: Target) -> Found:
    """The release that serves."""
    unit = f"$(systemctl list-units --plain --no-legend '{APP}@*.service' | cut -d' ' -f1)"
    said = on(target.host, f"systemd-analyze security --no-pager {unit}").stdout
    return judged(target, "systemd-analyze security APP@RELEASE", "as it serves", LIMITS["any"], said)


def nginx(target: Target) -> Found:
    """nginx with the drop-in of the role."""
    said = on(target.host, "systemd-analyze security --no-pager nginx.service").stdout
    return judged(target, "systemd-analyze security nginx", "nginx", NGINX, said)
