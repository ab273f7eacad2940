"""The command prune: old releases, virtualenvs and engines go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from flaskctl import Json
from flaskctl.app import App
from flaskctl.certificate import forget_certificate
from flaskctl.engines import prune_engines
from flaskctl.errors import Usage
from flaskctl.files import erase, read_json
from flaskctl.lock import locked
from flaskctl.plan import Pruning, Release, plan_pruning
from flaskctl.recover import recover
from flaskctl.requirements import venv_base
from flaskctl.static import link_kept
from flaskctl.wheels import forget_wheels


def prune(app: App, keep: int | None) -> Json:
    count = int(app.settings().get("keep_releases", 5)) if keep is None else keep
    with locked(app):
        answer = prune_to(app, count)
        if not app.dry:
            prune_engines(app)
        return answer


def prune_to(app: App, keep: int) -> Json:
    """Remove all releases but `keep`, under the lock; what has to stay beside these is named, with the reason."""
    if keep < 1:
        raise Usage("--keep wants 1 or more")
    recover(app)
    releases = app.releases()
    bound = why_stay(app, releases)
    venvs = [path.name for path in app.venvs_dir.glob("*")]
    plan = plan_pruning(releases, venvs, keep, bound)
    if not app.dry:
        carry_out_pruning(app, plan, bound)
    gone = [f"{len(plan.releases)} release(s)"] if plan.releases else []
    gone += [f"{len(plan.venvs)} virtualenv(s)"] if plan.venvs else []
    gone += forget_certificate(app, app.settings())
    gone += forget_cache(app)
    does = "would remove" if app.dry else "removed"
    said = f"{does} {' and '.join(gone)}" if gone else "nothing to remove"
    beyond = {release: bound[release] for release in plan.beyond}
    return {
        "removed": list(plan.releases),
        "venvs": list(plan.venvs),
        "beyond": beyond,
        "repairs": app.repairs,
        "changed": bool(gone or app.repairs),
        "msg": "; ".join([said, *(f"{release} stays too: {why}" for release, why in beyond.items())]),
    }


def forget_cache(app: App) -> list[str]:
    """Remove the answers that nginx has kept, where it is to keep none any more."""
    if app.settings().get("cache") or not app.cache_dir.is_dir():
        return []
    if not app.dry:
        erase(app.cache_dir)
    return ["what nginx kept of its answers"]


def why_stay(app: App, releases: Sequence[Release]) -> dict[str, str]:
    """Return the releases that must stay, those that count first in front, each with the reason."""
    state = app.state()
    rollout = read_json(app.rollout_file)
    staged = [release.id for release in releases if rollout and release.when >= str(rollout.get("since"))]
    found: dict[str, str] = {}
    for why, names in (
        ("it is current", [state.current]),
        ("a rollback goes there", [app.rollback_to(state, releases)]),
        ("an activation of it was cut", [state.intent.to, state.intent.origin] if state.intent else []),
        ("something runs from there", sorted(app.in_use())),
        ("a rollout under way has staged it", staged),
    ):
        for name in filter(None, names):
            found.setdefault(name, why)
    return found


def carry_out_pruning(app: App, plan: Pruning, bound: Iterable[str]) -> None:
    for release in plan.releases:
        mounts = app.host.mounts_below(app.releases_dir / release)
        if mounts:
            app.warnings.append(f"{release} stays: {', '.join(mounts)} is mounted in it")
            continue
        app.host.checkpoint("prune-release")
        erase(app.releases_dir / release / "manifest.json")  # without it, what a kill leaves is no release
        erase(app.releases_dir / release)
    if not app.linked("previous"):
        erase(app.base / "previous")
    link_kept(app)
    kept = {*bound, *(release.id for release in app.releases())}
    for path in [path for path in app.releases_dir.glob("*") if path.name not in kept]:
        erase(path)
    reload = False
    for path in [*app.units_dir.glob(f"{app.name}@*.service.d"), *app.units_dir.glob(f"{app.name}.*@*")]:
        match = re.search(r"@([0-9a-f]{12})\.(service|timer)(\.d)?\Z", path.name)
        if match and match.group(1) not in kept:
            reload = erase(path) or reload
            erase(app.timer_stamp(path.name))
    if reload:
        app.reload()
    for venv in plan.venvs:
        app.host.checkpoint("prune-venv")
        erase(app.venvs_dir / venv / ".complete")
        erase(app.venvs_dir / venv)
    forget_wheels(app, {venv_base(path.name) for path in app.venvs_dir.glob("*")})
