"""The command certificate: one that is due is fetched, checked, and taken by nginx, or the old one stays."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from flaskctl import Json
from flaskctl.acme import DUE, NEW, UNUSED, bundle, certbot_argv, complaint, request, standing
from flaskctl.app import App, apps
from flaskctl.errors import Refused
from flaskctl.files import erase, fingerprint, read_json, read_text, write, write_json
from flaskctl.host import Host, stopped
from flaskctl.layout import PATH, SETTINGS, WEBROOT
from flaskctl.lock import LOCK_SECONDS, open_lock, wait_for_lock
from flaskctl.nginx_config import directives
from flaskctl.record import recorded, recorded_name
from flaskctl.tls_pair import Run, certificates, faults, openssl

SHOWN_SECONDS = 10.0  # how long nginx may take to show what it has read
TEMPORARY_DAYS = 7
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
PARTS = ("fullchain.pem", "privkey.pem")


def certificate(app: App, temporary: bool) -> Json:
    """Fetch a certificate where one is due, check it, and have nginx take it.

    `temporary`: before the site stands. Where it has no certificate, it gets the one that it had another way, or
    one of its own making, so that nginx can start; nobody is asked for anything.
    """
    settings = app.settings()
    if not settings.get("certificate"):
        raise Refused(f"{app.name} has no certificate", remedy="set flask_gunicorn_nginx_tls, and run the playbook")
    if not app.host.is_root():
        raise Refused("this reads keys, and needs root", remedy=app.as_root(app.said))
    if temporary:
        return begin(app, settings)
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


def runner(host: Host) -> Run:
    """Return how this host runs a program that reads standard input."""

    def run(argv: Sequence[str], text: str) -> tuple[int, str, str]:
        done = host.run(argv, input=text)
        return done.rc, done.out, done.err

    return run


@contextlib.contextmanager
def certificate_locked(app: App) -> Iterator[None]:
    """Hold off another one that does this. Not by the app's lock: a renewal may come during a release."""
    if app.dry:
        yield
        return
    with open_lock(app.certificate_lock_file) as file:
        wait_for_lock(app, file, LOCK_SECONDS, f"another one puts a certificate of {app.name} in place")
        yield


# what stands


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
    """Return what is to be done about the certificate of the directory: due, new, unused or nothing."""
    wanted, asked = request(settings), read_json(app.request_file)
    if wanted is None and asked is None:
        return ""
    pair = pair_of(lineage_files(app))
    own = certificates(pair, runner(app.host))[:1] if pair else []
    ended = not own or own[0].ends < app.host.now()
    return standing(wanted, asked, pair, read_text(app.certificate_file) or "", ended)


def names_of(app: App, settings: Json) -> list[str]:
    """Return the names that a certificate has to have: those that it was asked for with."""
    asked = (read_json(app.request_file) or {}).get("request") or {}
    return list(asked.get("names") or settings.get("certificate_names") or [])


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
    done = app.host.run(certbot_argv(app.name, app.lineage_dir.name, settings), env=environment)
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
    if before and not unfit(app, before, []):
        text, what = pair_of(before), f"{before[0]}, until there is another one"
    else:
        name = settings["certificate_names"][0]
        text, what = self_signed(app, name), f"one of its own making, for {TEMPORARY_DAYS} days at most"
    if not app.dry:
        note_directory(app, app.certificate_file.parent)
        put(app, app.certificate_file, text, 0o600)
    return {"changed": True, "msg": f"{app.name} has {what}"}


def present_pair(app: App, settings: Json) -> list[str]:
    """Return the files that the site has now, where that is one with TLS."""
    found = {each.name: each.args for each in directives(read_text(app.at(app.site_path(settings))) or "")}
    paths = [found.get(name, ("",))[0] for name in ("ssl_certificate", "ssl_certificate_key")]
    return paths if all(paths) else []


def self_signed(app: App, name: str) -> str:
    """Return a certificate that nobody else has signed, and its key."""
    name = name.replace("*.", "www.")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"]
    words += ["-days", str(TEMPORARY_DAYS), "-subj", "/CN=temporary", "-addext", f"subjectAltName=DNS:{name}"]
    made = openssl(runner(app.host), *words, "-keyout", "/dev/stdout")
    if not made:
        raise Refused("openssl makes no certificate", remedy="apt-get install openssl")
    return made


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
    if not app.dry:
        if ours:
            put(app, app.certificate_file, text, 0o600)
        why = reload(app, settings, own.digest())
        if why and ours and before:
            put(app, app.certificate_file, before, 0o600)
            reload(app, settings, "")
        if why:
            raise Refused("nginx does not take the new certificate; the one from before stays", why, "nginx -t")
    return {"changed": True, "msg": f"nginx {'would take' if app.dry else 'has taken'} the certificate of {pair[0]}"}


def nginx_runs(app: App) -> bool:
    return not stopped(app.host.show("nginx.service").get("nginx.service", {}))


def reload(app: App, settings: Json, digest: str) -> str:
    """Have nginx read its files anew; return why it does not, or still shows another certificate."""
    if not nginx_runs(app):
        return ""
    tested = app.host.run(["nginx", "-t"], env={**app.host.environment(), "PATH": PATH})
    if tested.rc:
        return tested.err.strip()
    done = app.host.systemctl("reload", "nginx.service")
    if done.rc:
        return done.err.strip()
    end = app.host.now() + SHOWN_SECONDS
    while digest and app.host.now() < end:
        if app.host.peer_certificates(settings["verify"]) <= {digest}:
            return ""
        app.host.sleep(0.2)
    if digest:  # another site may have the name at one of the addresses
        app.warnings.append(f"{settings['verify']['host']} still shows another certificate at an address of this host")
    return ""


# leaving


def forget_certificate(app: App) -> list[str]:
    """Take away what was made for a certificate of the directory, certbot's own files of it too; say what."""
    made = [path for path in (app.certificate_file, app.request_file) if path.exists()]
    if not made:
        return []
    if recorded_name(app, app.certificate_file) in present_pair(app, read_json(app.settings_file) or {}):
        app.warnings.append(f"{recorded_name(app, app.certificate_file)} stays: the site of {app.name} names it")
        return []
    gone = [recorded_name(app, path) for path in made]
    if app.request_file.exists() and app.lineage_conf.exists():
        gone.append(f"certbot's {app.lineage_dir.name}")
        words = ["certbot", "delete", "--non-interactive", "--cert-name", app.lineage_dir.name]
        done = app.host.run(words) if not app.dry else None
        if done and done.rc:
            app.warnings.append(f"certbot keeps {app.lineage_dir.name}: {complaint(done.err)}")
    if app.dry:
        return gone
    others = (read_json(app.at(f"{SETTINGS}/{name}.json")) or {} for name in apps(app.host) if name != app.name)
    made += [] if any((each.get("acme") or {}).get("ca_bundle") for each in others) else [app.authorities_file]
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


# what status says


def certificate_problems(app: App, settings: Json, days: int | None) -> list[str]:
    """Return what is wrong with the certificate, its renewal too; nothing for who may not read the key."""
    if not settings.get("certificate") or not settings.get("key") or not app.host.is_root():
        return []
    again = app.as_root(f"flaskctl {app.name} certificate")
    names, pair = names_of(app, settings), [app.at(settings[key]) for key in ("certificate", "key")]
    found = [f"{fault}: {again}" for fault in unfit(app, pair, names)]
    state = certificate_standing(app, settings)
    if state == DUE:
        found.append(f"there is no certificate of the directory yet for what is set: {again} asks for one")
    elif state == NEW:
        new = unfit(app, lineage_files(app), names)
        why = f" because {new[0]}" if new else ""
        found.append(f"the renewed certificate in {app.lineage_dir} is not used{why}: {again}")
    elif state == UNUSED:
        gone = app.as_root(f"flaskctl {app.name} prune")
        found.append(f"certbot renews {app.lineage_dir.name}, which nothing uses: {gone} ends that")
    return found + (renewal_problems(app, days) if request(settings) else [])


def renewal_problems(app: App, days: int | None) -> list[str]:
    units = app.host.show("certbot.service", "certbot.timer")
    found = []
    if stopped(units.get("certbot.timer", {})):
        found.append(f"certbot.timer is not active: {app.as_root('systemctl enable --now certbot.timer')}")
    if units.get("certbot.service", {}).get("ActiveState") == "failed":
        left = f"{days} days are left; " if days is not None else ""
        found.append(f"the last renewal failed: {left}{app.as_root('journalctl -u certbot.service')} tells why")
    return found
