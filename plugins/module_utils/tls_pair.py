# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Whether a certificate and its key are fit for a site, as openssl and their files tell; one sentence for each fault.

Part of the program of flaskfleet.web.host and, by a link, a room of flaskctl: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

# a command and its standard input: exit code, output and errors
Run = Callable[[Sequence[str], str], "tuple[int, str, str]"]

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
NOT_INSTALLED = 127


class Certificate(NamedTuple):
    """One certificate of a file."""

    text: str
    subject: str
    issuer: str
    begins: float
    ends: float
    authority: bool  # it may sign others

    def digest(self) -> str:
        """Return what tells it from any other: the SHA-256 of what goes over the wire."""
        import ssl

        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.text)).hexdigest()


def openssl(run: Run, *words: str, text: str = "") -> str:
    """Return what openssl says, nothing where it fails."""
    code, out, _said = run(["openssl", *words], text)
    return out if code == 0 else ""


def when(text: str) -> float:
    """Return a time as openssl prints it, in seconds since the epoch; -1 where there is none."""
    import ssl

    try:
        return float(ssl.cert_time_to_seconds(text))
    except ValueError:
        return -1


def certificates(text: str, run: Run) -> list[Certificate]:
    """Return the certificates of a file, the site's own first; what openssl cannot read is left out."""
    found = []
    for pem in PEM.findall(text):
        said = openssl(run, "x509", "-noout", "-subject", "-issuer", "-dates", "-text", text=pem)
        told = dict(line.split("=", 1) for line in said.splitlines() if re.match(r"(subject|issuer|not\w+)\s*=", line))
        told = {name.strip(): value.strip() for name, value in told.items()}
        if {"subject", "issuer", "notBefore", "notAfter"} <= set(told):
            dates = when(told["notBefore"]), when(told["notAfter"])
            found.append(Certificate(pem, told["subject"], told["issuer"], *dates, "CA:TRUE" in said))
    return found


def read(path: str) -> tuple[str, str]:
    """Return the text of a file, and why it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(), ""
    except OSError as error:
        return "", f"{path} cannot be read: {error.strerror}"


def faults(certificate: str, key: str, names: Sequence[str], now: float, run: Run) -> list[str]:
    """Return why nginx or its visitors would not take a certificate and its key, from the paths of both."""
    text, unread = read(certificate)
    key_text, key_unread = read(key)
    if unread or key_unread:
        return list(dict.fromkeys(filter(None, [unread, key_unread])))
    if run(["openssl", "version"], "")[0] == NOT_INSTALLED:
        return []  # nginx -t has the last word, and sees most of it
    chain = certificates(text, run)
    if not chain:
        return [f"{certificate} cannot be read: it holds no certificate"]
    return [
        *wrong_key(certificate, key, chain[0], key_text, run),
        *out_of_date(certificate, chain, now),
        *(f"{certificate} is not for {name}" for name in names if not is_for(chain[0], name, run)),
        *broken_chain(certificate, chain, run),
    ]


def wrong_key(certificate: str, key: str, own: Certificate, key_text: str, run: Run) -> Iterator[str]:
    """Yield what is wrong with the key."""
    public = openssl(run, "pkey", "-pubout", "-passin", "pass:", text=key_text)
    if not public:
        yield f"{key} cannot be read: it holds no key, or one with a password, which nginx could not ask for"
    elif public != openssl(run, "x509", "-noout", "-pubkey", text=own.text):
        yield f"{key} is not the key of {certificate}"


def day(seconds: float) -> str:
    """Return a time as people read it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def out_of_date(certificate: str, chain: Sequence[Certificate], now: float) -> Iterator[str]:
    """Yield what has ended or not begun, of the site's own certificate and of those after it."""
    for number, each in enumerate(chain):
        what = f"{certificate}" if not number else f"in {certificate} the certificate of {each.subject}"
        if each.ends < now:
            yield f"{what} has expired: it ended on {day(each.ends)}"
        elif each.begins > now:
            yield f"{what} is not valid yet: it begins on {day(each.begins)}"


def is_for(own: Certificate, name: str, run: Run) -> bool:
    """Tell whether a certificate is for a host name; of a wildcard, for a name that it stands for."""
    # by its words: OpenSSL 3.0 ends with 0 for a name that is not in it, 3.5 with 1
    argv = ["openssl", "x509", "-noout", "-checkhost", name.replace("*.", "www.")]
    return "does match certificate" in run(argv, own.text)[1]


def broken_chain(certificate: str, chain: Sequence[Certificate], run: Run) -> Iterator[str]:
    """Yield the authority whose certificate is missing: browsers look for it, other clients give up.

    The last one of a whole chain is an authority; whether it is trusted, only the visitors know.
    """
    last, seen = chain[0], set()
    while not last.authority and last.subject != last.issuer:
        above = next((each for each in chain if each.subject == last.issuer and each.subject not in seen), None)
        if above is None:
            break
        seen.add(above.subject)
        last = above
    if last.authority or last.subject == last.issuer or trusted(last, run):
        return
    yield (
        f"{certificate} is not complete: the certificate of {last.issuer}, which signed it, is not in it; append that"
    )


def trusted(own: Certificate, run: Run) -> bool:
    """Tell whether this host knows who signed a certificate, as an authority that needs no other."""
    return run(["openssl", "verify"], own.text)[0] == 0


def of_site(asked: Any, settings: str, now: float, run: Run) -> tuple[list[str], list[str]]:
    """Return what is wrong with the pair that a site is to have, and with one that it has by its settings already.

    An old one that has ended is nobody's news, and stops no release: that does not touch it.
    """
    if not asked or not asked["path"]:
        return [], []
    found = faults(asked["path"], asked["key"], asked["names"], now, run)
    try:
        stands = json.loads(settings)["certificate"] == asked["path"]
    except (ValueError, KeyError, TypeError):
        stands = False
    remedy = "Put a certificate and its key there that are, or set acme in flask_gunicorn_nginx_tls, and it is fetched."
    return ([], found) if stands else ([f"{fault}. {remedy}" for fault in found[:1]], [])
