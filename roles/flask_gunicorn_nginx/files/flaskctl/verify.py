"""Whether a release answers through nginx: the proof, and the command verify."""

from __future__ import annotations

import ast
import contextlib
import json
import os

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import read_text
from flaskctl.firewall import (
    COMMENT,
    UFW_DEFAULTS,
    UFW_ENABLED,
    UFW_RULES,
    nft_closes,
    told,
    ufw_closes,
    ufw_is_on,
)
from flaskctl.host import Answer
from flaskctl.nginx_config import Server, chosen, directives, servers

VERIFY_SECONDS = 10.0  # how long nginx may take to answer with the release that was activated
TLS_ELSEWHERE = "If TLS ends before this host, set flask_gunicorn_nginx_public_url: https://{host}"


def verify(app: App, wanted: str | None) -> Json:
    address = app.settings().get("verify")
    release = app.find(wanted) if wanted else app.linked("current")
    if not release or not address:
        missing = "current release" if not release else f"address to ask (verify in {app.settings_file})"
        raise Refused(f"{app.name} has no {missing}", remedy="run the playbook")
    answer, wrong = ask(app, address, release, 0)
    if wrong:
        raise Refused(wrong, answer.body, f"{app.look_at_nginx()}; flaskctl {app.name} status")
    tell_closed_ports(app, app.settings())
    msg = f"{release} answers {answer.status} through nginx"
    msg = "in maintenance: nginx answers in place of the app" if is_page(app, answer) else msg
    return {"id": release, "status": answer.status, "msg": msg}


class Proof:
    """What came of asking at each of the host's own addresses."""

    def __init__(self, app: App, address: Json, release: str, others: bool) -> None:
        self.app, self.release, self.others = app, release, others
        self.address = {**address, "path": health_path(app, release) or address["path"]}
        self.good: dict[str, Answer] = {}
        self.bad: dict[str, tuple[Answer, str]] = {}
        self.taken: dict[str, str] = {}  # where another site has the address or the name
        self.places = app.host.own_addresses()
        self.looked = False

    def ask(self) -> None:
        """Ask where no good answer came yet. What nginx's configuration says of the others is looked up once."""
        self.bad = {}
        for place in self.places:
            if place not in self.good and place not in self.taken:
                self.ask_at(place)
        if self.bad and not self.looked:
            self.looked = True
            self.look()

    def look(self) -> None:
        """Tell where another site has the address or the name, and forget where nginx does not listen at all."""
        every, ours = sites(self.app), self.app.site_path(self.app.settings())
        port, name = int(self.address["port"]), self.address["host"].partition(":")[0]
        found = {place: chosen(every, place, port, name) for place in self.bad}
        self.taken = {place: str(site) for place, site in found.items() if site and site.file != ours}
        open_places = [place for place in self.places if place in self.good or found.get(place)]
        self.places = open_places or self.places
        self.bad = {place: self.bad[place] for place in self.bad if place in self.places and place not in self.taken}

    def ask_at(self, place: str) -> None:
        address = self.address
        answer = self.app.host.http_get(
            address["scheme"], int(address["port"]), address["host"], address["path"], place, address.get("public", "")
        )
        another = self.others and answer.release and answer.release != self.release
        wrong = "" if another else judged(self.app, address, place, answer, self.release)
        if wrong:
            self.bad[place] = answer, wrong
        else:
            self.good[place] = answer

    def result(self) -> tuple[Answer, str]:
        """Return an answer, and what is wrong with it. Where users come to another site too, they are to be told."""
        told = [f"{where(self.address, place)} is answered by {other}" for place, other in self.taken.items()]
        if self.bad:
            return next(iter(self.bad.values()))
        if not self.good:
            return Answer(0, "", ""), f"{'; '.join(told)}, not by {self.app.name}"
        self.app.warnings += [text for text in told if text not in self.app.warnings]
        return next(iter(self.good.values())), ""


def health_path(app: App, release: str) -> str:
    """Return the path that a release asks of itself in its gate, which another release may not know."""
    found = {"SCRIPT_NAME": "", "HEALTH_PATH": ""}
    for line in (read_text(app.releases_dir / release / "gunicorn.conf.py") or "").splitlines():
        name, equals, value = line.partition(" = ")
        if equals and name in found:
            with contextlib.suppress(ValueError, SyntaxError):
                found[name] = str(ast.literal_eval(value))
    return found["HEALTH_PATH"] and found["SCRIPT_NAME"] + found["HEALTH_PATH"]


def ask(app: App, address: Json, release: str, seconds: float, others: bool = False) -> tuple[Answer, str]:
    """Ask through nginx until this release answers 2xx, at each address that users can come to.

    With `others` any answer of another release is good too: it shows that nginx answers, and may not know the path.
    Returns the last answer, and what is wrong with it. Not 127.0.0.1, where nobody comes from: another site may have
    that, and another one the host's own address.
    """
    start, proof = app.host.ticks(), Proof(app, address, release, others)
    while True:
        proof.ask()
        answer, wrong = proof.result()
        # a bad answer of the release itself does not get better by waiting long
        limit = min(seconds, 2) if answer.release == release else seconds
        if not proof.bad or app.host.ticks() - start >= limit:
            return answer, wrong
        app.host.sleep(0.1)


def where(address: Json, place: str) -> str:
    name = str(address["host"]).partition(":")[0]
    return f"{address['scheme']}://{name}:{address['port']}{address['path']} at {place}"


def judged(app: App, address: Json, place: str, answer: Answer, release: str) -> str:
    """Return what is wrong with an answer, nothing when it is good."""
    asked = where(address, place)
    by = f"release {answer.release}" if answer.release else "something that names no release"
    if not answer.status:
        return f"{asked} does not answer ({answer.body})"
    if is_page(app, answer):
        return ""  # the app's health path is /, which belongs to the users: nobody can ask for it now
    if not 200 <= answer.status < 300:
        to = f" to {answer.location}" if answer.location else ""
        https = answer.location.startswith("https:") and "https" not in (address["scheme"], address.get("public"))
        hint = f". {TLS_ELSEWHERE.format(host=address['host'])}" if https and answer.release else ""
        return f"{asked} answers {answer.status}{to}, from {by}{hint}"
    return f"{asked} is answered by {by}, not by {release}" if answer.release != release else ""


def sites(app: App) -> list[Server]:
    """Return the sites of this host's nginx; none for one who may not read all of them."""
    return servers(directives(app.host.run(["nginx", "-T"]).out))


def is_page(app: App, answer: Answer) -> bool:
    """Whether it is the page of the maintenance, as far as it was read."""
    page = read_text(app.page_file)
    return page is not None and answer.status == 503 and page.startswith(answer.body) and bool(answer.body)


def serves(app: App, release: str) -> bool:
    """Return whether this is the current release and answers through nginx, asked once."""
    address = app.settings().get("verify")
    if not address or app.linked("current") != release or to_be_opened(app, app.settings()):
        return False
    return not ask(app, address, release, 0)[1]


def has_site(app: App, settings: Json) -> bool:
    return bool(settings.get("verify")) and os.path.lexists(app.at(app.site_path(settings)))


def ports(settings: Json) -> list[int]:
    """Return the ports that users come to."""
    return [int(port) for port in settings.get("ports") or [settings["verify"]["port"]]]


def closed_by_ufw(app: App, settings: Json) -> list[int] | None:
    """Return the ports at which ufw lets nobody in; None where it is not active, or this person may not see."""
    with contextlib.suppress(OSError):
        if ufw_is_on(read_text(app.at(UFW_ENABLED)) or ""):
            version6 = all(":" in place for place in app.host.own_addresses())
            rules = read_text(app.at(UFW_RULES[version6])) or ""
            defaults = read_text(app.at(UFW_DEFAULTS)) or ""
            return [port for port in ports(settings) if ufw_closes(defaults, rules, port)]
    return None


def closed_ports(app: App, settings: Json) -> list[str]:
    """Tell at which ports a firewall of this host lets nobody in: it lets this host in, so no answer shows it."""
    by_ufw, root = closed_by_ufw(app, settings), app.as_root("")
    if by_ufw is not None:
        return [text for port in by_ufw for text in told(port, "", True, root)]
    rules: Json = {}
    with contextlib.suppress(ValueError):
        rules = json.loads(app.host.run(["nft", "-j", "list", "ruleset"]).out)
    closes = {port: nft_closes(rules.get("nftables", []), port) for port in ports(settings)}
    return [text for port, chain in closes.items() for text in told(port, chain, False, root)]


def tell_closed_ports(app: App, settings: Json) -> None:
    app.warnings += [text for text in closed_ports(app, settings) if text not in app.warnings]


def to_be_opened(app: App, settings: Json) -> list[int]:
    """Return the ports that ufw is to open, where somebody has said that it may."""
    return (closed_by_ufw(app, settings) or []) if settings.get("open_firewall") else []


def open_firewall(app: App, settings: Json) -> None:
    """Have ufw let everybody in where users come to, where somebody has said that it may."""
    for port in to_be_opened(app, settings):
        done = app.host.run(["ufw", "allow", f"{port}/tcp", "comment", COMMENT])
        if not done.rc:
            app.repairs.append(f"ufw lets in at port {port}")
