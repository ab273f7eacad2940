"""The command prune: old releases, virtualenvs and engines go."""

from __future__ import annotations

import re
from collections.abc import Iterable

from flaskctl import Json
from flaskctl.app import App
from flaskctl.engines import prune_engines
from flaskctl.errors import Usage
from flaskctl.files import erase
from flaskctl.lock import locked
from flaskctl.plan import Pruning, plan_pruning
from flaskctl.recover import recover


def prune(app: App, keep: int | None) -> Json:
    count = int(app.settings().get("keep_releases", 5)) if keep is None else keep
    with locked(app):
        answer = prune_to(app, count)
        if not app.dry:
            prune_engines(app)
        return answer


def prune_to(app: App, keep: int) -> Json:
    """Remove what is older than the newest `keep` releases, under the lock."""
    if keep < 1:
        raise Usage("--keep wants 1 or more")
    recover(app)
    state, releases = app.state(), app.releases()
    intent = [state.intent.to, state.intent.origin] if state.intent else []
    linked = [state.current, state.previous, app.rollback_to(state, releases), *intent]
    protected = [*filter(None, linked), *state.running, *state.jobs]
    venvs = [path.name for path in app.venvs_dir.glob("*")]
    plan = plan_pruning(releases, venvs, keep, protected)
    if not app.dry:
        carry_out_pruning(app, plan, protected)
    gone = [f"{len(plan.releases)} release(s)"] if plan.releases else []
    gone += [f"{len(plan.venvs)} virtualenv(s)"] if plan.venvs else []
    does = "would remove" if app.dry else "removed"
    return {
        "removed": list(plan.releases),
        "venvs": list(plan.venvs),
        "repairs": app.repairs,
        "changed": bool(gone or app.repairs),
        "msg": f"{does} {' and '.join(gone)}" if gone else "nothing to remove",
    }


def carry_out_pruning(app: App, plan: Pruning, protected: Iterable[str]) -> None:
    for release in plan.releases:
        mounts = app.host.mounts_below(app.releases_dir / release)
        if mounts:
            app.warnings.append(f"{release} stays: {', '.join(mounts)} is mounted in it")
            continue
        app.host.checkpoint("prune-release")
        erase(app.releases_dir / release / "manifest.json")  # without it, what a kill leaves is no release
        erase(app.releases_dir / release)
    kept = {*protected, *(release.id for release in app.releases())}
    for path in [path for path in app.releases_dir.glob("*") if path.name not in kept]:
        erase(path)
    reload = False
    for path in [*app.units_dir.glob(f"{app.name}@*.service.d"), *app.units_dir.glob(f"{app.name}.*@*")]:
        match = re.search(r"@([0-9a-f]{12})\.(service|timer)(\.d)?\Z", path.name)
        if match and match.group(1) not in kept:
            reload = erase(path) or reload
    if reload:
        app.host.systemctl("daemon-reload")
    for venv in plan.venvs:
        app.host.checkpoint("prune-venv")
        erase(app.venvs_dir / venv / ".complete")
        erase(app.venvs_dir / venv)
