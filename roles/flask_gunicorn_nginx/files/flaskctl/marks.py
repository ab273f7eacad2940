"""The commands that have nginx answer in place of the app: drain, undrain, maintenance."""

from __future__ import annotations

from pathlib import Path

from flaskctl import Json
from flaskctl.app import App
from flaskctl.files import erase, read_text, write
from flaskctl.lock import locked

PAGE = """\
<!doctype html>
<meta name="viewport" content="width=device-width">
<title>Maintenance</title>
<p>This service is being maintained. Please come back in a few minutes.</p>
"""


def mark(app: App, path: Path, text: str | None, event: str) -> Json:
    """Put a file that nginx looks at in place, or take it away, and say so in the audit log."""
    settings = app.settings()
    with locked(app):
        changed = read_text(path) != text
        if changed and not app.dry:
            app.host.checkpoint(f"mark-{'drained' if path == app.drained_file else 'maintenance'}")
            erase(path) if text is None else write(path, text, 0o644 if path == app.page_file else 0o600)
            app.audit(event, app.linked("current"))
    site = read_text(app.at(app.site_path(settings))) or ""
    if text is not None and str(path.name) not in site:
        app.warnings.append(f"nginx does not look at {path}: run the playbook")
    return {"drained": app.drained_file.exists(), "maintenance": app.page_file.exists(), "changed": changed}


def drain(app: App, seconds: int) -> Json:
    """Have the readiness path answer 503, so that a load balancer sends no more requests; serve those that come."""
    answer = mark(app, app.drained_file, "flaskctl drain\n", "drain")
    if answer["changed"] and not app.dry:
        app.host.sleep(seconds)
    return {**answer, "msg": f"{app.name} is drained" + ("" if answer["changed"] else " already")}


def undrain(app: App) -> Json:
    answer = mark(app, app.drained_file, None, "undrain")
    return {**answer, "msg": f"{app.name} is ready" + ("" if answer["changed"] else " already")}


def maintenance(app: App, mode: str, page: str | None) -> Json:
    """Have nginx answer every path of the app but its health path with 503 and a page."""
    # on again without a page: the one that is there stays
    text = (page or read_text(app.page_file) or PAGE) if mode == "on" else None
    answer = mark(app, app.page_file, text, f"maintenance {mode}")
    return {**answer, "msg": f"maintenance is {mode}" + ("" if answer["changed"] else " already")}
