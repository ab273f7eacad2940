"""A certificate of a directory: asked for when it is due and not once more, checked, taken whole or not at all."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.pki import ISSUER, NOW, Signed, sign
from tests.unit.flaskctl import strict
from tests.unit.flaskctl.fake_host import SETTINGS, FakeHost, Result, call, flaskctl, note, with_app
from tests.unit.flaskctl.given import archive, config

PEM, ASKED = "var/lib/flaskfleet/tls/hello.pem", "var/lib/flaskfleet/tls/hello.json"
LIVE, CONF = "etc/letsencrypt/live/flaskfleet-hello", "etc/letsencrypt/renewal/flaskfleet-hello.conf"
ACME = {"email": "ops@a.test", "directory": "", "ca_bundle": "", "key_type": "ecdsa", "dns_hook": ""}


class Directory(FakeHost):
    """A host with openssl, nginx and a certbot that gives what `gives` is, or refuses where it is a text."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.clock = NOW.timestamp()
        self.gives: Signed | str = sign("a.test", ISSUER, ("a.test",))
        self.nginx_refuses = ""
        self.shown: set[str] = set()
        self.asked: list[list[str]] = []

    def run(self, argv: Sequence[str], **kwargs: Any) -> Any:
        done = flaskctl.Done
        if argv[0] in ("openssl", "certbot") or list(argv) == ["nginx", "-t"]:
            strict.check(argv, self.systemd)
        if argv[0] == "openssl":
            made = subprocess.run(argv, capture_output=True, text=True, check=False, input=kwargs.get("input", ""))
            return done(made.returncode, made.stdout, made.stderr)
        if argv[0] == "certbot":
            self.environments.append(kwargs.get("env") or {})
            return self.run_certbot(argv)
        if list(argv) == ["nginx", "-t"]:
            return done(1 if self.nginx_refuses else 0, "", self.nginx_refuses)
        if list(argv[:2]) == ["systemctl", "reload"]:
            self.read_pem()
        return super().run(argv, **kwargs)

    def run_certbot(self, argv: Sequence[str]) -> Any:
        self.asked.append(list(argv))
        if argv[1] == "delete":
            for path in (*(self.root / LIVE).glob("*"), self.root / CONF):
                path.unlink()
            (self.root / LIVE).rmdir()
            return flaskctl.Done(0)
        if isinstance(self.gives, str):
            return flaskctl.Done(1, "", f"Saving debug log to /x\n{self.gives}\nAsk for help or search at /y")
        self.renew(self.gives)
        return flaskctl.Done(0)

    def renew(self, pair: Signed, *chain: Signed) -> None:
        """Put a certificate where certbot has it."""
        for name, text in (
            (f"{LIVE}/fullchain.pem", "".join(each.pem for each in (pair, *(chain or (ISSUER,))))),
            (f"{LIVE}/privkey.pem", pair.key_pem()),
            (CONF, "x"),
        ):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)

    def read_pem(self) -> None:
        text = (self.root / PEM).read_text()
        run = flaskctl.runner(self)
        self.shown = {flaskctl.certificates(text, run)[0].digest()}

    def peer_certificates(self, address: Any) -> set[str]:
        return self.shown

    def requests(self) -> list[list[str]]:
        return [argv for argv in self.asked if argv[1] == "certonly"]


def settings(host: Directory, **changes: Any) -> None:
    """Set the app as the role does, with a directory unless `acme` is something else."""
    verify = {"scheme": "https", "port": 443, "host": "a.test", "path": "/"}
    pem = f"/{PEM}"
    given = {
        **SETTINGS,
        "verify": verify,
        "certificate": pem,
        "key": pem,
        "certificate_names": ["a.test"],
        "acme": ACME,
    }
    (host.root / "etc/flaskctl/hello.json").write_text(json.dumps({**given, **changes}))
    note(host)


@pytest.fixture
def host(tmp_path: Path) -> Directory:
    made = with_app(Directory(tmp_path / "host"))
    settings(made)
    made.set_unit("certbot.timer", ActiveState="active", UnitFileState="enabled")
    return made


def certificate(host: FakeHost, *words: str, rc: int = 0) -> Result:
    done = call(host, "hello", "certificate", *words, "--json")
    assert done.rc == rc, done
    return done


def recorded(host: FakeHost) -> dict[str, str]:
    found: dict[str, str] = json.loads((host.root / "var/lib/flaskfleet/files.json").read_text())
    return found


def staged(host: FakeHost, tmp_path: Path) -> str:
    path = archive(tmp_path / "v1.tar.gz", {"app.py": "x", "requirements.txt": "flask\n"})
    said = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config()).json
    return "unused" if said["certificate_unused"] and not said["certificate"] else str(said["certificate"])


def holds(host: Directory, pair: Signed) -> bool:
    text = (host.root / PEM).read_text()
    return pair.pem in text and pair.key_pem() in text and (host.root / PEM).stat().st_mode & 0o777 == 0o600


# the first


def test_a_site_begins_with_a_certificate_of_its_own_making(host: Directory) -> None:
    host.clock = time.time() + 60  # openssl has the clock of this machine
    assert certificate(host, "--temporary").json["changed"] is True
    (own,) = flaskctl.certificates((host.root / PEM).read_text(), flaskctl.runner(host))
    assert 6 < (own.ends - host.clock) / 86400 < 7.1
    assert flaskctl.faults(*[str(host.root / PEM)] * 2, ["a.test"], host.clock, flaskctl.runner(host)) == []
    assert certificate(host, "--temporary").json["changed"] is False, "the one that is there stays"
    assert host.asked == []


def test_a_site_that_had_files_keeps_them_until_the_directory_has_answered(host: Directory) -> None:
    pair = sign("a.test", ISSUER, ("a.test",))
    for name, text in (("a.pem", pair.pem + ISSUER.pem), ("a.key", pair.key_pem())):
        (host.root / name).write_text(text)
    site = "server {{ ssl_certificate {0}; ssl_certificate_key {1}; }}"
    available = host.root / "etc/nginx/sites-available/hello.conf"
    available.parent.mkdir(parents=True)
    available.write_text(site.format("/a.pem", "/a.key"))
    certificate(host, "--temporary")
    assert holds(host, pair)
    (host.root / PEM).unlink()
    (host.root / "a.key").write_text(sign("a.test", ISSUER, ("a.test",)).key_pem())
    certificate(host, "--temporary")
    assert pair.pem not in (host.root / PEM).read_text(), "one that nginx could not use is no beginning"


def test_the_real_one_is_asked_for_once(host: Directory, tmp_path: Path) -> None:
    certificate(host, "--temporary")
    host.read_pem()
    assert staged(host, tmp_path) == "due"
    assert certificate(host).json["changed"] is True
    assert isinstance(host.gives, Signed) and holds(host, host.gives)
    assert host.calls[-1] == ["systemctl", "reload", "nginx.service"]
    for _ in range(2):
        assert staged(host, tmp_path) == "" and certificate(host).json["changed"] is False
    assert len(host.requests()) == 1
    (argv,) = host.requests()
    assert argv[argv.index("--domain") + 1] == "a.test" and "--server" not in argv
    assert {f"/{PEM}", f"/{ASKED}"} <= set(recorded(host)) and call(host, "hello", "--json").json["drift"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"certificate_names": ["a.test", "b.test"]},
        {"acme": {**ACME, "directory": "https://other.test/dir"}},
        {"acme": {**ACME, "key_type": "rsa"}},
        {"acme": {**ACME, "dns_hook": "/usr/local/bin/dns"}},
    ],
)
def test_a_change_of_what_is_asked_for_asks_once_more(host: Directory, tmp_path: Path, change: dict[str, Any]) -> None:
    certificate(host)
    settings(host, **change)
    host.gives = sign("a.test", ISSUER, ("a.test", "b.test"))
    assert staged(host, tmp_path) == "due"
    certificate(host)
    assert staged(host, tmp_path) == "" and holds(host, host.gives)
    assert len(host.requests()) == 2


def test_another_mail_address_or_order_of_names_asks_for_nothing(host: Directory, tmp_path: Path) -> None:
    host.gives = sign("a.test", ISSUER, ("a.test", "b.test"))
    settings(host, certificate_names=["a.test", "b.test"])
    certificate(host)
    settings(host, certificate_names=["b.test", "a.test"], acme={**ACME, "email": "new@a.test"})
    assert staged(host, tmp_path) == "" and not certificate(host).json["changed"]
    assert len(host.requests()) == 1


def test_one_that_has_ended_is_asked_for_again(host: Directory, tmp_path: Path) -> None:
    certificate(host)
    host.sleep(100 * 86400)
    assert staged(host, tmp_path) == "due"


# refused


def test_a_directory_that_refuses_leaves_the_site_as_it_is(host: Directory, tmp_path: Path) -> None:
    certificate(host, "--temporary")
    before = (host.root / PEM).read_text()
    host.gives = "Detail: no such domain"
    said = certificate(host, rc=1).json
    assert said["msg"].startswith("there is no certificate for a.test") and said["detail"].strip() == host.gives
    assert (host.root / PEM).read_text() == before
    assert staged(host, tmp_path) == "due"
    problems = call(host, "hello", "--json").json["problems"]
    assert any("there is no certificate of the directory yet" in problem for problem in problems)
    host.gives = sign("a.test", ISSUER, ("a.test",))
    certificate(host)
    assert holds(host, host.gives)


def test_what_certbot_has_and_the_role_did_not_ask_for_is_not_touched(host: Directory) -> None:
    host.renew(sign("a.test", ISSUER, ("a.test",)))
    said = certificate(host, rc=1).json
    assert "which the role did not ask for" in said["msg"] and "certbot delete" in said["remedy"]
    assert host.asked == []


# renewed


@pytest.mark.parametrize(
    ("pair", "chain", "why"),
    [
        (sign("a.test", ISSUER, ("a.test",), -9, -1), (ISSUER,), "has expired"),
        (sign("a.test", ISSUER, ("a.test",), 1, 9), (ISSUER,), "is not valid yet"),
        (sign("b.test", ISSUER, ("b.test",)), (ISSUER,), "is not for a.test"),
        (sign("a.test", sign("Unknown"), ("a.test",)), (ISSUER,), "is not complete"),
    ],
)
def test_a_renewed_one_that_is_not_fit_is_not_used_and_status_says_why(
    host: Directory, pair: Signed, chain: tuple[Signed, ...], why: str
) -> None:
    certificate(host)
    good, requests = host.gives, len(host.requests())
    host.environ["RENEWED_LINEAGE"] = str(host.root / LIVE)
    host.renew(pair, *chain)
    said = certificate(host, rc=1).json
    assert why in said["msg"] and f"{LIVE}/fullchain.pem" in said["msg"] and "the one from before stays" in said["msg"]
    assert isinstance(good, Signed) and holds(host, good) and len(host.requests()) == requests
    if why != "has expired":  # then it is due
        problems = "\n".join(call(host, "hello", "--json").json["problems"])
        assert f"{LIVE} is not used because" in problems and why in problems


def test_a_renewed_one_whose_key_is_another_is_not_used(host: Directory) -> None:
    certificate(host)
    (host.root / f"{LIVE}/privkey.pem").write_text(sign("a.test").key_pem())
    assert "privkey.pem is not the key of" in certificate(host, rc=1).json["msg"]


def test_a_renewed_one_is_taken_and_a_name_that_waits_for_its_own_does_not_hold_it_back(host: Directory) -> None:
    certificate(host)
    settings(host, certificate_names=["a.test", "new.test"])
    host.environ["RENEWED_LINEAGE"] = str(host.root / LIVE)
    new = sign("a.test", ISSUER, ("a.test",))
    host.renew(new)
    assert certificate(host).json["changed"] is True
    assert holds(host, new) and len(host.requests()) == 1


def test_one_that_nginx_refuses_goes_back(host: Directory) -> None:
    certificate(host)
    good = host.gives
    host.renew(sign("a.test", ISSUER, ("a.test",)))
    host.nginx_refuses = "nginx: [emerg] no"
    said = certificate(host, rc=1).json
    assert said["detail"] == "nginx: [emerg] no" and isinstance(good, Signed) and holds(host, good)


def test_a_renewal_that_failed_and_a_timer_that_does_not_run_are_problems(host: Directory) -> None:
    certificate(host)
    host.set_unit("certbot.service", ActiveState="failed")
    host.set_unit("certbot.timer", ActiveState="inactive")
    said = call(host, "hello", "--json").json
    problems = "\n".join(said["problems"])
    assert "the last renewal failed: 90 days are left; journalctl -u certbot.service tells why" in problems
    assert "certbot.timer is not active: systemctl enable --now certbot.timer" in problems
    assert "90 days left" in said["msg"]


# the authority of a directory


def test_certbot_trusts_the_authority_of_the_directory_beside_all_others(host: Directory) -> None:
    settings(host, acme={**ACME, "ca_bundle": "/etc/ssl/lab.pem"})
    said = certificate(host, rc=1).json
    assert said["msg"] == "/etc/ssl/lab.pem, with the authority of the directory, is not there"
    for name, text in (("etc/ssl/lab.pem", "lab\n"), ("etc/ssl/certs/ca-certificates.crt", "all\n")):
        (host.root / name).parent.mkdir(parents=True, exist_ok=True)
        (host.root / name).write_text(text)
    certificate(host)
    (found,) = {env["REQUESTS_CA_BUNDLE"] for env in host.environments if "REQUESTS_CA_BUNDLE" in env}
    assert Path(found).read_text() == "all\nlab\n"


# files of the user's own


def test_files_are_checked_and_taken(host: Directory) -> None:
    pair = sign("a.test", ISSUER, ("a.test",))
    settings(host, certificate="/a.pem", key="/a.key", acme={})
    assert "a.pem cannot be read" in certificate(host, rc=1).json["msg"]
    (host.root / "a.pem").write_text(pair.pem)
    (host.root / "a.key").write_text(pair.key_pem())
    assert "is not complete" in certificate(host, rc=1).json["msg"]
    assert any("is not complete" in problem for problem in call(host, "hello", "--json").json["problems"])
    (host.root / "a.pem").write_text(pair.pem + ISSUER.pem)
    assert host.asked == [] and not (host.root / PEM).exists()
    assert certificate(host).json["changed"] is False, "nothing else is shown"


def test_an_app_without_tls_has_none(host: Directory) -> None:
    settings(host, certificate="", key="", acme={}, certificate_names=[])
    assert certificate(host, rc=1).json["msg"] == "hello has no certificate"


# of its own making

SELF = {"acme": {}, "selfsigned": True}
TIMER, SERVICE = "hello.certificate.timer", "hello.certificate.service"


def own(host: Directory) -> Any:
    return flaskctl.certificates((host.root / PEM).read_text(), flaskctl.runner(host))[0]


def test_one_that_nobody_else_has_signed_is_made_once_and_a_timer_renews_it(host: Directory, tmp_path: Path) -> None:
    host.clock = time.time() + 60
    settings(host, **SELF)
    assert staged(host, tmp_path) == "due"
    certificate(host, "--temporary")
    host.read_pem()
    assert certificate(host).json["changed"] is True, "the timer"
    made = own(host)
    assert 89 < (made.ends - host.clock) / 86400 < 90.1 and made.subject == made.issuer
    shown = host.show(TIMER)[TIMER]
    assert (shown["ActiveState"], shown["UnitFileState"]) == ("active", "enabled")
    assert "flaskctl hello certificate\n" in (host.root / f"etc/systemd/system/{SERVICE}").read_text()
    assert staged(host, tmp_path) == "" and certificate(host).json["changed"] is False and host.asked == []
    said = call(host, "hello", "--json").json
    assert "certificate" not in str(said["problems"]) and said["drift"] == []
    assert said["certificate_self_signed"] is True
    assert "89 days left; nobody else has signed it" in said["msg"]
    host.sleep(59 * 86400)
    assert staged(host, tmp_path) == "" and certificate(host).json["changed"] is False
    host.sleep(2 * 86400)
    assert staged(host, tmp_path) == "due"
    assert certificate(host).json["changed"] is True and own(host).text != made.text


@pytest.mark.parametrize("names", [["b.test"], ["a.test", "c.test"], ["*.a.test"]])
def test_another_name_is_another_one(host: Directory, tmp_path: Path, names: list[str]) -> None:
    host.clock = time.time() + 60
    settings(host, **SELF)
    certificate(host)
    settings(host, **SELF, certificate_names=names)
    assert staged(host, tmp_path) == "due"
    certificate(host)
    assert staged(host, tmp_path) == ""
    assert flaskctl.faults(*[str(host.root / PEM)] * 2, names, host.clock, flaskctl.runner(host)) == []


def test_a_site_for_any_name_has_one_too(host: Directory, tmp_path: Path) -> None:
    settings(host, **SELF, certificate_names=[])
    certificate(host)
    assert staged(host, tmp_path) == ""


def test_one_of_its_own_that_nginx_refuses_goes_back_and_a_timer_that_stands_still_is_told(host: Directory) -> None:
    host.clock = time.time() + 60
    settings(host, **SELF)
    certificate(host)
    before = own(host)
    host.sleep(80 * 86400)
    host.nginx_refuses = "nginx: [emerg] no"
    assert certificate(host, rc=1).json["detail"] == "nginx: [emerg] no" and own(host).text == before.text
    host.set_unit(TIMER, ActiveState="inactive")
    host.set_unit(SERVICE, ActiveState="failed")
    problems = "\n".join(call(host, "hello", "--json").json["problems"])
    assert f"{TIMER} is not active: systemctl enable --now {TIMER}" in problems
    assert f"the last renewal failed: 9 days are left; journalctl -u {SERVICE} tells why" in problems


def test_an_app_moves_from_a_directory_to_its_own_and_back(host: Directory, tmp_path: Path) -> None:
    host.clock = time.time() + 60
    certificate(host)
    good = host.gives
    settings(host, **SELF)
    assert staged(host, tmp_path) == "due"
    certificate(host, "--temporary")
    assert isinstance(good, Signed) and holds(host, good), "until its turn"
    certificate(host)
    assert own(host).subject == own(host).issuer and staged(host, tmp_path) == "unused"
    call(host, "hello", "prune", "--json")
    assert staged(host, tmp_path) == "" and not (host.root / CONF).exists() and (host.root / PEM).exists()
    settings(host)
    assert staged(host, tmp_path) == "due"
    certificate(host)
    assert holds(host, good) and staged(host, tmp_path) == "unused", "the timer"
    call(host, "hello", "prune", "--json")
    assert staged(host, tmp_path) == "" and holds(host, good) and host.up(TIMER) == []
    assert not [path for path in recorded(host) if TIMER in path]


@pytest.mark.parametrize("command", [("remove",), ("prune",)])
def test_its_timer_goes_with_it(host: Directory, command: tuple[str, ...]) -> None:
    settings(host, **SELF)
    certificate(host)
    settings(host, acme={}, certificate="", key="", certificate_names=[])
    call(host, "hello", *command, "--json")
    assert not (host.root / PEM).exists()
    left = [path.name for path in (host.root / "etc/systemd/system").rglob("hello.certificate*")]
    assert left == [] and not [path for path in recorded(host) if "certificate" in path or "tls" in path]


# an account that the directory knows

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ"


def test_a_key_of_the_account_reaches_certbot_in_a_file_and_nothing_else(host: Directory) -> None:
    settings(host, acme={**ACME, "eab": True})
    said = certificate(host, rc=1).json
    assert "has no key for its account" in said["msg"] and host.asked == []
    account = json.dumps({"key_id": "kid-1", "hmac_key": SECRET})
    done = call(host, "hello", "certificate", "--account", "-", "--json", stdin=account)
    assert done.rc == 0 and SECRET not in done.out
    (argv,) = host.requests()
    file = Path(argv[argv.index("--config") + 1])
    assert file.read_text() == f"eab-kid = kid-1\neab-hmac-key = {SECRET}\n" and file.stat().st_mode & 0o777 == 0o600
    assert SECRET not in str(host.asked) and SECRET not in str(host.environments)
    assert SECRET not in json.dumps(recorded(host)) and SECRET not in call(host, "hello", "--json").out
    settings(host, acme={**ACME, "eab": True, "key_type": "rsa"})
    assert certificate(host).json["changed"] is True and "--config" in host.requests()[1], "by hand, it is known"
    call(host, "hello", "remove", "--json")
    assert not file.exists()


# leaving


def test_what_nothing_uses_any_more_goes_with_the_next_prune(host: Directory, tmp_path: Path) -> None:
    certificate(host)
    settings(host, certificate="/a.pem", key="/a.key", acme={})
    assert staged(host, tmp_path) == "unused"
    assert any("which nothing uses" in problem for problem in call(host, "hello", "--json").json["problems"])
    done = call(host, "hello", "prune", "--json").json
    assert done["changed"] and "certbot's flaskfleet-hello" in done["msg"]
    assert staged(host, tmp_path) == "" and not (host.root / CONF).exists() and not (host.root / PEM).exists()
    assert not [name for name in recorded(host) if "tls" in name]


def test_a_file_that_the_site_still_names_stays(host: Directory) -> None:
    certificate(host)
    available = host.root / "etc/nginx/sites-available/hello.conf"
    available.parent.mkdir(parents=True)
    available.write_text(f"server {{ ssl_certificate /{PEM}; ssl_certificate_key /{PEM}; }}")
    settings(host, certificate="", key="", acme={})
    assert "stays: the site of hello names it" in str(call(host, "hello", "prune", "--json").json["warnings"])
    assert (host.root / PEM).exists()


@pytest.mark.parametrize("options", [[], ["--purge"]])
def test_with_the_app_goes_what_was_made_for_it_and_no_other(host: Directory, options: list[str]) -> None:
    certificate(host)
    theirs = host.root / "etc/letsencrypt/renewal/other.conf"
    theirs.write_text("x")
    done = call(host, "hello", "remove", "--json", *options).json
    assert f"/{PEM}" in done["removed"] and "certbot's flaskfleet-hello" in done["removed"]
    assert theirs.exists() and not (host.root / CONF).exists() and not (host.root / PEM).parent.exists()
    assert not [name for name in recorded(host) if "tls" in name]
