"""Whether a release answers through nginx: the proof, and the command verify."""

from __future__ import annotations

import os

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import read_text
from flaskctl.host import Answer

VERIFY_SECONDS = 10.0  # how long nginx may take to answer with the release that was activated


def verify(app: App, wanted: str | None) -> Json:
    address = app.settings().get("verify")
    release = app.find(wanted) if wanted else app.linked("current")
    if not release or not address:
        missing = "current release" if not release else f"address to ask (verify in {app.settings_file})"
        raise Refused(f"{app.name} has no {missing}", remedy="run the playbook")
    answer, wrong = ask(app, address, release, 0)
    if wrong:
        raise Refused(wrong, answer.body, "nginx -t; systemctl status nginx; flaskctl status")
    msg = f"{release} answers {answer.status} through nginx"
    msg = "in maintenance: nginx answers in place of the app" if is_page(app, answer) else msg
    return {"id": release, "status": answer.status, "msg": msg}


def ask(app: App, address: Json, release: str | None, seconds: float) -> tuple[Answer, str]:
    """Ask through nginx until this release (None: any) answers 2xx: the last answer, and what is wrong with it."""
    where = "{scheme}://{host}:{port}{path}".format(**address)
    start = app.host.now()
    while True:
        answer = app.host.http_get(address["scheme"], int(address["port"]), address["host"], address["path"])
        by = f"release {answer.release}" if answer.release else "something that names no release"
        if not answer.status:
            wrong = f"{where} does not answer ({answer.body})"
        elif is_page(app, answer):
            return answer, ""  # the app's health path is /, which belongs to the users: nobody can ask for it now
        elif not 200 <= answer.status < 300:
            wrong = f"{where} answers {answer.status}, from {by}"
        elif release and answer.release != release:
            wrong = f"{where} is answered by {by}, not by {release}"
        else:
            return answer, ""
        # a bad answer of the release itself does not get better by waiting long
        if app.host.now() - start >= (min(seconds, 2) if answer.release == release else seconds):
            return answer, wrong
        app.host.sleep(0.1)


def is_page(app: App, answer: Answer) -> bool:
    """Whether it is the page of the maintenance, as far as it was read."""
    page = read_text(app.page_file)
    return page is not None and answer.status == 503 and page.startswith(answer.body) and bool(answer.body)


def serves(app: App, release: str) -> bool:
    """Return whether this is the current release and answers through nginx, asked once."""
    address = app.settings().get("verify")
    if not address or app.linked("current") != release:
        return False
    return not ask(app, address, release, 0)[1]


def has_site(app: App, settings: Json) -> bool:
    return bool(settings.get("verify")) and os.path.lexists(app.site_link)
