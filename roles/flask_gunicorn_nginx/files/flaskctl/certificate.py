"""The command certificate: one that is due is fetched, checked, and taken by nginx, or the old one stays."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from flaskctl import Json
from flaskctl.acme import DUE, bundle, certbot_argv, certbot_lines, complaint, request
from flaskctl.app import App, apps
from flaskctl.certificate_state import (
    certificate_standing,
    lineage_files,
    names_of,
    own_certificate,
    pair_of,
    present_pair,
    runner,
    unfit,
    unused,
)
from flaskctl.errors import Refused
from flaskctl.files import erase, fingerprint, read_json, read_text, write, write_json
from flaskctl.host import stopped
from flaskctl.layout import PATH, SETTINGS, WEBROOT
from flaskctl.lock import LOCK_SECONDS, open_lock, wait_for_lock
from flaskctl.record import recorded, recorded_name
from flaskctl.self_signed import DAYS, end_renewing, keep_renewing, make, units
from flaskctl.tls_pair import certificates

SHOWN_SECONDS = 10.0  # how long nginx may take to show what it has read
TEMPORARY_DAYS = 7
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def certificate(app: App, temporary: bool, account: str | None = None) -> Json:
    """Fetch or make a certificate where one is due, check it, and have nginx take it.

    `temporary`: before the site stands. Where it has no certificate, it gets the one that it had another way, or
    one of its own making, so that nginx can start; nobody is asked for anything. `account`: with what the directory
    tells whose account this is to be, as JSON; it is kept, for whoever asks again by hand.
    """
    settings = app.settings()
    if not settings.get("certificate"):
        raise Refused(f"{app.name} has no certificate", remedy="set flask_gunicorn_nginx_tls, and run the playbook")
    if not app.host.is_root():
        raise Refused("this reads keys, and needs root", remedy=app.as_root(app.said))
    if temporary:
        return begin(app, settings)
    if settings.get("selfsigned"):
        with certificate_locked(app):
            return renew_own(app, settings)
    if account and not app.dry:
        keep_account(app, account)
    # from certbot's own hook: it has just fetched one
    renewed = "RENEWED_LINEAGE" in app.host.environment()
    fetched = certificate_standing(app, settings) == DUE and not renewed
    if fetched and app.dry:
        return {"changed": True, "msg": f"would ask for a certificate for {', '.join(settings['certificate_names'])}"}
    if fetched:
        fetch(app, settings)
    with certificate_locked(app):
        answer = take(app, settings)
    return {**answer, "changed": answer["changed"] or fetched}


@contextlib.contextmanager
def certificate_locked(app: App) -> Iterator[None]:
    """Hold off another one that does this. Not by the app's lock: a renewal may come during a release."""
    if app.dry:
        yield
        return
    with open_lock(app.certificate_lock_file) as file:
        wait_for_lock(app, file, LOCK_SECONDS, f"another one puts a certificate of {app.name} in place")
        yield


# asking


def fetch(app: App, settings: Json) -> None:
    """Ask the directory for a certificate, through certbot."""
    asked = read_json(app.request_file)
    if asked is None and (app.lineage_dir.exists() or app.lineage_conf.exists()):
        raise Refused(
            f"certbot has a certificate {app.lineage_dir.name} already, which the role did not ask for",
            remedy=app.as_root(f"certbot delete --cert-name {app.lineage_dir.name}"),
        )
    note_directory(app, app.certificate_file.parent)
    note_directory(app, app.at(WEBROOT))
    # before certbot makes anything: what a cut run leaves is ours too
    put(app, app.request_file, asked or {})
    environment = {**app.host.environment(), "PATH": PATH}
    if settings["acme"].get("ca_bundle"):
        write_authorities(app)
        environment["REQUESTS_CA_BUNDLE"] = str(app.authorities_file)
    config = app.account_file if settings["acme"].get("eab") else None
    if config and not config.exists():
        raise Refused(
            f"{app.name} has no key for its account at the directory",
            remedy="run the playbook, which has it (eab in flask_gunicorn_nginx_tls)",
        )
    argv = certbot_argv(app.name, app.lineage_dir.name, settings, str(config) if config else "")
    done = app.host.run(argv, env=environment)
    names = ", ".join(settings["certificate_names"])
    if done.rc:
        why = complaint(f"{done.err}\n{done.out}")
        app.audit("certificate refused", None, names=settings["certificate_names"])
        again = app.as_root(f"flaskctl {app.name} certificate")
        raise Refused(
            f"there is no certificate for {names}: the directory or certbot refused; what nginx has stays",
            why,
            f"mend what it says, then {again} asks again; the whole story is in /var/log/letsencrypt/letsencrypt.log",
        )
    put(app, app.request_file, {"request": request(settings)})
    app.audit("certificate", None, names=settings["certificate_names"])


def keep_account(app: App, account: str) -> None:
    """Keep the words by which the directory knows whose account it is, as certbot reads them; for root alone."""
    note_directory(app, app.account_file.parent)
    if read_text(app.account_file) != certbot_lines(account):
        put(app, app.account_file, certbot_lines(account), 0o600)


def write_authorities(app: App) -> None:
    """Put the authorities of this host and those of all its apps' directories in one file: certbot takes only one."""
    found = [read_text(app.at(SYSTEM_BUNDLE)) or ""]
    for name in apps(app.host):
        path = ((read_json(app.at(f"{SETTINGS}/{name}.json")) or {}).get("acme") or {}).get("ca_bundle")
        text = read_text(app.at(path)) if path else ""
        if text is None:
            raise Refused(f"{path}, with the authority of the directory, is not there", remedy="put it there")
        found.append(text or "")
    if read_text(app.authorities_file) != bundle(found):
        put(app, app.authorities_file, bundle(found))


# before the first


def begin(app: App, settings: Json) -> Json:
    """Give a site that has none a certificate to start with."""
    path = app.at(settings["certificate"])
    if path != app.certificate_file or path.exists():
        return {"changed": False, "msg": f"{settings['certificate']} is there" if path.exists() else "it is not ours"}
    before = [app.at(each) for each in present_pair(app, settings)]
    if before and not settings.get("selfsigned") and not unfit(app, before, []):
        text, what = pair_of(before), f"{before[0]}, until there is another one"
    else:
        days = DAYS if settings.get("selfsigned") else TEMPORARY_DAYS
        text = make(settings["certificate_names"], days, runner(app.host))
        what = f"one of its own making, for {days} days at most"
    if not app.dry:
        note_directory(app, app.certificate_file.parent)
        put(app, app.certificate_file, text, 0o600)
    return {"changed": True, "msg": f"{app.name} has {what}"}


# taking


def take(app: App, settings: Json) -> Json:
    """Have nginx take the pair that is there, if it is fit; else the one from before stays, in place and in nginx."""
    ours = bool(request(settings))
    pair = lineage_files(app) if ours else [app.at(settings[key]) for key in ("certificate", "key")]
    wrong = unfit(app, pair, names_of(app, settings))
    if wrong:
        stays = "; the one from before stays" if ours else ""
        again = app.as_root(f"flaskctl {app.name} certificate")
        raise Refused(f"{wrong[0]}{stays}", "\n".join(wrong[1:]), f"mend that, then {again}")
    text, before = pair_of(pair), read_text(app.certificate_file) if ours else None
    shown = app.host.peer_certificates(settings["verify"]) if nginx_runs(app) else set()
    own = certificates(text, runner(app.host))[0]
    if (not ours or text == before) and shown <= {own.digest()}:
        if ours and not app.dry:
            note_file(app, app.certificate_file)
        return {"changed": False, "msg": f"nginx has the certificate of {pair[0]}"}
    if not app.dry and ours:
        replace(app, settings, text, before)
    elif not app.dry:
        refuse(reload(app, settings, own.digest()))
    return {"changed": True, "msg": f"nginx {'would take' if app.dry else 'has taken'} the certificate of {pair[0]}"}


def renew_own(app: App, settings: Json) -> Json:
    """Make another certificate where one is due, and have nginx take it; from then on a timer does that."""
    days = f"one that nobody else has signed, for {DAYS} days"
    due = certificate_standing(app, settings) == DUE
    shown = app.host.peer_certificates(settings["verify"]) if nginx_runs(app) else set()
    own = own_certificate(app)
    if due and not app.dry:
        note_directory(app, app.certificate_file.parent)
        text = make(settings["certificate_names"], DAYS, runner(app.host))
        replace(app, settings, text, read_text(app.certificate_file))
    elif own and not shown <= {own.digest()} and not app.dry:
        refuse(reload(app, settings, own.digest()))
    else:
        timer = keep_renewing(app)
        return {"changed": due or timer, "msg": f"{app.name} {'would get' if due else 'has'} {days}"}
    keep_renewing(app)
    return {"changed": True, "msg": f"nginx has taken {days}"}


def replace(app: App, settings: Json, text: str, before: str | None) -> None:
    """Put a pair in place and have nginx take it; where it does not, put back what was there."""
    put(app, app.certificate_file, text, 0o600)
    why = reload(app, settings, certificates(text, runner(app.host))[0].digest())
    if why and before:
        put(app, app.certificate_file, before, 0o600)
        reload(app, settings, "")
    refuse(why)


def refuse(why: str) -> None:
    if why:
        raise Refused("nginx does not take the new certificate; the one from before stays", why, "nginx -t")


def nginx_runs(app: App) -> bool:
    return not stopped(app.host.show("nginx.service").get("nginx.service", {}))


def reload(app: App, settings: Json, digest: str) -> str:
    """Have nginx read its files anew; return why it does not, or still shows another certificate."""
    if not nginx_runs(app):
        return ""
    tested = app.host.run(["nginx", "-t"])
    if tested.rc:
        return tested.err.strip()
    done = app.host.systemctl("reload", "nginx.service")
    if done.rc:
        return done.err.strip()
    end = app.host.ticks() + SHOWN_SECONDS
    while digest and app.host.ticks() < end:
        if app.host.peer_certificates(settings["verify"]) <= {digest}:
            return ""
        app.host.sleep(0.2)
    if digest:  # another site may have the name at one of the addresses
        app.warnings.append(f"{settings['verify']['host']} still shows another certificate at an address of this host")
    return ""


# leaving


def forget_certificate(app: App, settings: Json) -> list[str]:
    """Take that away, certbot's own files too; say what."""
    made = unused(app, settings)
    site = present_pair(app, read_json(app.settings_file) or {})
    if app.certificate_file in made and recorded_name(app, app.certificate_file) in site:
        app.warnings.append(f"{recorded_name(app, app.certificate_file)} stays: the site of {app.name} names it")
        return []
    gone = [recorded_name(app, path) for path in made]
    if app.request_file in made and app.lineage_conf.exists():
        gone.append(f"certbot's {app.lineage_dir.name}")
        words = ["certbot", "delete", "--non-interactive", "--cert-name", app.lineage_dir.name]
        done = app.host.run(words) if not app.dry else None
        if done and done.rc:
            app.warnings.append(f"certbot keeps {app.lineage_dir.name}: {complaint(done.err)}")
    if app.dry or not made:
        return gone
    if any(path in units(app) for path in made):
        end_renewing(app)
    others = (read_json(app.at(f"{SETTINGS}/{name}.json")) or {} for name in apps(app.host) if name != app.name)
    trusted = any((each.get("acme") or {}).get("ca_bundle") for each in [settings, *others])
    made += [] if trusted else [app.authorities_file]
    for path in made:
        erase(path)
    directory = app.certificate_file.parent
    with contextlib.suppress(OSError):  # another app has one
        directory.rmdir()
    with recorded(app) as record:
        for path in [*made, directory]:
            if not os.path.lexists(path):
                record.pop(recorded_name(app, path), None)
    erase(app.certificate_lock_file)
    return gone


# the record


def note_directory(app: App, path: Path) -> None:
    """Make a directory, and note it where it was not there."""
    if path.is_dir() or app.dry:
        return
    with recorded(app) as record:
        record[recorded_name(app, path)] = "directory"
    path.mkdir(parents=True)


def put(app: App, path: Path, content: str | Json, mode: int = 0o644) -> None:
    write(path, content, mode) if isinstance(content, str) else write_json(path, content, mode)
    note_file(app, path)


def note_file(app: App, path: Path) -> None:
    with recorded(app) as record:
        record[recorded_name(app, path)] = fingerprint(path)
