"""How the certificate of an app stands: what is to be done about it, what is wrong with it, what is left of another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flaskctl import Json
from flaskctl.acme import DUE, NEW, bundle, request, standing
from flaskctl.app import App
from flaskctl.files import read_json, read_text
from flaskctl.host import Host, stopped
from flaskctl.nginx_config import directives
from flaskctl.self_signed import is_due, units
from flaskctl.tls_pair import Certificate, Run, certificates, faults

PARTS = ("fullchain.pem", "privkey.pem")


def runner(host: Host) -> Run:
    """Return how this host runs a program that reads standard input."""

    def run(argv: Sequence[str], text: str) -> tuple[int, str, str]:
        done = host.run(argv, input=text)
        return done.rc, done.out, done.err

    return run


def unfit(app: App, pair: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Return why a certificate and its key are not fit for these names."""
    certificate_path, key_path = map(str, pair)
    return faults(certificate_path, key_path, names, app.host.now(), runner(app.host))


def lineage_files(app: App) -> list[Path]:
    return [app.lineage_dir / part for part in PARTS]


def pair_of(paths: Sequence[Path]) -> str:
    """Return certificate and key in one text, so that both are replaced in one step; nothing where one is missing."""
    texts = [read_text(path) for path in paths]
    return bundle([text or "" for text in texts]) if all(texts) else ""


def certificate_standing(app: App, settings: Json) -> str:
    """Return what is to be done about a certificate that is not the user's own: due, new or nothing."""
    if settings.get("selfsigned"):
        own = own_certificate(app)
        return DUE if is_due(own, names_of(app, settings), app.host.now(), runner(app.host)) else ""
    wanted, asked = request(settings), read_json(app.request_file)
    if wanted is None:
        return ""
    pair = pair_of(lineage_files(app))
    fetched = certificates(pair, runner(app.host))[:1] if pair else []
    ended = not fetched or fetched[0].ends < app.host.now()
    return standing(wanted, asked, pair, read_text(app.certificate_file) or "", ended)


def own_certificate(app: App) -> Certificate | None:
    """Return the certificate in the file that the role keeps for the app."""
    return next(iter(certificates(read_text(app.certificate_file) or "", runner(app.host))), None)


def names_of(app: App, settings: Json) -> list[str]:
    """Return the names that a certificate has to have: those that the directory was asked for with."""
    asked = ((read_json(app.request_file) or {}).get("request") or {}) if request(settings) else {}
    return list(asked.get("names") or settings.get("certificate_names") or [])


def present_pair(app: App, settings: Json) -> list[str]:
    """Return the files that the site has now, where that is one with TLS."""
    found = {each.name: each.args for each in directives(read_text(app.at(app.site_path(settings))) or "")}
    paths = [found.get(name, ("",))[0] for name in ("ssl_certificate", "ssl_certificate_key")]
    return paths if all(paths) else []


def unused(app: App, settings: Json) -> list[Path]:
    """Return what was made for a certificate that the app is to have another way, or not at all: no settings."""
    asks, path = bool(request(settings)), settings.get("certificate")
    found = [] if asks else [app.request_file, app.account_file]
    found += [app.certificate_file] if not path or app.at(path) != app.certificate_file else []
    found += [] if settings.get("selfsigned") else units(app)
    return [each for each in found if each.exists()]


# what status says


def certificate_problems(app: App, settings: Json, days: int | None) -> list[str]:
    """Return what is wrong with the certificate, its renewal too; nothing for who may not read the key."""
    if not settings.get("certificate") or not settings.get("key") or not app.host.is_root():
        return []
    again = app.as_root(f"flaskctl {app.name} certificate")
    names, pair = names_of(app, settings), [app.at(settings[key]) for key in ("certificate", "key")]
    found = [f"{fault}: {again}" for fault in unfit(app, pair, names)]
    state = certificate_standing(app, settings)
    timer = renewal(app, settings)
    if settings.get("selfsigned"):
        return found + renewal_problems(app, days, *timer)
    if state == DUE:
        found.append(f"there is no certificate of the directory yet for what is set: {again} asks for one")
    elif state == NEW:
        new = unfit(app, lineage_files(app), names)
        why = f" because {new[0]}" if new else ""
        found.append(f"the renewed certificate in {app.lineage_dir} is not used{why}: {again}")
    if app.request_file in unused(app, settings):
        gone = app.as_root(f"flaskctl {app.name} prune")
        found.append(f"certbot renews {app.lineage_dir.name}, which nothing uses: {gone} ends that")
    return found + (renewal_problems(app, days, *timer) if timer else [])


def renewal(app: App, settings: Json) -> tuple[str, ...]:
    """Return the timer and the service that renew the certificate; nothing where that is the user's own business."""
    if settings.get("selfsigned"):
        return app.renewal_timer, app.renewal_service
    return ("certbot.timer", "certbot.service") if request(settings) else ()


def renewal_failed(app: App, settings: Json) -> bool | None:
    """Return whether the last renewal failed; None where nothing here renews."""
    service = renewal(app, settings)[1:]
    return app.host.show(*service)[service[0]].get("ActiveState") == "failed" if service else None


def renewal_problems(app: App, days: int | None, timer: str, service: str) -> list[str]:
    shown = app.host.show(service, timer)
    found = []
    if stopped(shown.get(timer, {})):
        found.append(f"{timer} is not active: {app.as_root(f'systemctl enable --now {timer}')}")
    if shown.get(service, {}).get("ActiveState") == "failed":
        left = f"{days} days are left; " if days is not None else ""
        found.append(f"the last renewal failed: {left}{app.as_root(f'journalctl -u {service}')} tells why")
    return found
