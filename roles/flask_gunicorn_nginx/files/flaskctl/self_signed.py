"""A certificate that nobody else has signed: made on this host, and made anew by a timer before it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import erase, fingerprint, read_text, write
from flaskctl.layout import LAUNCHER
from flaskctl.record import recorded, recorded_name
from flaskctl.tls_pair import Certificate, Run, is_for, openssl

DAYS = 90
RENEWED_DAYS = 30  # so many before its end there is another one
DAY = 86400

SERVICE = """[Unit]
Description=Renew the certificate of {app} that nobody else has signed, where that is due

[Service]
Type=oneshot
ExecStart={launcher} {app} certificate
"""
TIMER = """[Unit]
Description=Look every day whether the certificate of {app} is to be renewed

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=true

[Install]
WantedBy=timers.target
"""


def make(names: Sequence[str], days: int, run: Run) -> str:
    """Return a certificate and its key for these names, for any where there are none."""
    names = sorted(set(names)) or ["localhost"]
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"]
    words += ["-days", str(days), "-subj", "/CN=self-signed"]
    words += ["-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in names)}"]
    made = openssl(run, *words, "-keyout", "/dev/stdout")
    if not made:
        raise Refused("openssl makes no certificate", remedy="apt-get install openssl")
    return made


def is_self_signed(own: Certificate) -> bool:
    return own.subject == own.issuer


def is_due(own: Certificate | None, names: Sequence[str], now: float, run: Run) -> bool:
    """Tell whether another one is to be made: none is there, it is of somebody else, ends soon, or lacks a name."""
    if own is None or not is_self_signed(own) or own.ends - now < RENEWED_DAYS * DAY:
        return True
    return not all(is_for(own, name, run) for name in names)


# the timer


def units(app: App) -> dict[Path, str]:
    """Return the units that renew it, with what they say; the timer last."""
    values = {"app": app.name, "launcher": LAUNCHER}
    return {
        app.units_dir / app.renewal_service: SERVICE.format(**values),
        app.units_dir / app.renewal_timer: TIMER.format(**values),
    }


def keep_renewing(app: App) -> bool:
    """Have the timer run, now and after each boot; return whether that was to be done."""
    shown = app.host.show(app.renewal_timer).get(app.renewal_timer, {})
    wanted = units(app)
    stands = all(read_text(path) == text for path, text in wanted.items())
    if stands and shown.get("ActiveState") == "active" and shown.get("UnitFileState") == "enabled":
        return False
    if not app.dry:
        for path, text in wanted.items():
            write(path, text)
            with recorded(app) as record:
                record[recorded_name(app, path)] = fingerprint(path)
        app.reload()
        said = [words for verb in ("enable", "start") for words in app.host.each(verb, app.renewal_timer).values()]
        if said:
            look = f"systemctl status {app.renewal_timer}"
            raise Refused(f"{app.renewal_timer} does not start", "\n".join(said), look)
    return True


def end_renewing(app: App) -> None:
    """Take the timer away."""
    app.host.each("stop", app.renewal_timer)
    app.host.each("disable", app.renewal_timer)
    for path in [*units(app), app.timer_stamp(app.renewal_timer)]:
        erase(path)
    app.reload()
    with recorded(app) as record:
        for path in units(app):
            record.pop(recorded_name(app, path), None)
