# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What goes into nginx's site: host names, certificates, proxies, directives."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import (
    CONTROL,
    a_dict,
    a_list,
    a_number,
    a_record,
    a_text,
    number,
    relative_path,
    truth,
)
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems, shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import options

LONGEST_PATTERN, MOST_HEADERS = 1000, 20  # nginx reads at most 4096 bytes as one word
NGINX_OWNED = {
    "alias": "set flask_gunicorn_nginx_static",
    "http2": "it comes with flask_gunicorn_nginx_tls",
    "if": "a condition needs a block",
    "include": "the role writes the whole site",
    "listen": "set flask_gunicorn_nginx_listen",
    "location": "the role writes the locations",
    "proxy_pass": "requests go to the app",
    "return": "requests go to the app",
    "rewrite": "requests go to the app",
    "root": "set flask_gunicorn_nginx_static",
    "server_name": "set flask_gunicorn_nginx_server_names",
    "server_names_hash_bucket_size": "it is of all sites, and the role sets it where a name needs it",
    "server_names_hash_max_size": "it is of all sites, and belongs into nginx.conf",
    "set_real_ip_from": "set flask_gunicorn_nginx_trusted_proxies",
    "real_ip_header": "set flask_gunicorn_nginx_trusted_proxies",
    "real_ip_recursive": "set flask_gunicorn_nginx_trusted_proxies",
}


def server_name(value: Any) -> Problems:
    """Accept a host name of RFC 1123, or such a one after `*.`; everything else has a meaning of its own to nginx."""
    if not isinstance(value, str) or not value:
        yield f"is {shown(value)}. It must be a host name, such as www.example.com."
        return
    bare = value.removeprefix("*.")
    label = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
    if len(value) > 253:
        yield f"is {shown(value)}, {len(value)} characters long. A host name has at most 253."
    elif not bare.isascii():
        advice = ""
        try:
            encoded = bare.encode("idna").decode()
            if all(label.fullmatch(part) for part in encoded.split(".")):
                advice = f": {value[: -len(bare)]}{encoded}"
        except UnicodeError:
            pass
        yield f"is {shown(value)}. Write it in punycode{advice}."
    elif not all(label.fullmatch(part) for part in bare.split(".")):
        yield (
            f"is {shown(value)}, which is no host name. Use letters, digits, dashes and dots, such as www.example.com,"
            " with *. before it for all names below. For any name at all set flask_gunicorn_nginx_default_server: true."
        )


def server_names(value: Any) -> Problems:
    """Accept host names."""
    yield from a_list(value, server_name, "[www.example.com]")
    if isinstance(value, (list, tuple)):
        names = [item.lower() for item in value if isinstance(item, str)]
        for twice in sorted({item for item in names if names.count(item) > 1}):
            yield f"has {shown(twice)} twice. Remove one."


def public_url(value: Any) -> Problems:
    """Accept scheme, host and port, or nothing."""
    found = re.fullmatch(r"https?://([^/:@?#\s]+)(?::([0-9]{1,5}))?", value) if isinstance(value, str) else None
    if value == "":
        return
    if (
        not found
        or any(server_name(found[1]))
        or found[1].startswith("*.")
        or int(found[2] or 1) not in range(1, 65536)
    ):
        yield (
            f"is {shown(value)}. It must be the scheme and the host that users see, with a port where there is one in"
            " their addresses and without a path, such as https://www.example.com."
        )


def host_file(value: Any) -> Problems:
    """Accept a path on the host, of characters that nginx takes for nothing else."""
    if not isinstance(value, str) or not re.fullmatch(r"/[A-Za-z0-9._~@:+,=/-]*", value):
        yield f"is {shown(value)}. It must be an absolute path on the host, of letters, digits and ._~@:+,=/- only."


def key_type(value: Any) -> Problems:
    """Accept a kind of key that certbot makes."""
    if value not in ("ecdsa", "rsa"):
        yield f"is {shown(value)}. It must be ecdsa or rsa."


def host_file_or_none(value: Any) -> Problems:
    """Accept a path on the host, or an empty text."""
    if value != "":
        yield from host_file(value)


EAB = {
    "key_id": (r"[^\s\[\x00-\x1f\x7f\"'#]+", "one word without quotes"),
    "hmac_key": (r"[A-Za-z0-9_-]{16,}={0,2}", "base64url, of letters, digits, dashes and underscores"),
}


def eab(value: Any) -> Problems:
    """Accept a key of an account that a directory has given out; nothing of it is shown."""
    if value == {}:
        return
    if not isinstance(value, Mapping) or set(value) != set(EAB):
        yield f"must have {' and '.join(EAB)}, and nothing else. Set both as the directory gave them."
        return
    for name, (pattern, words) in EAB.items():
        if not isinstance(value[name], str) or not re.fullmatch(pattern, value[name]):
            yield f"has {name}, which must be {words}. Copy it once more from what the directory gave out."


ACME = a_record(
    options("tls", "acme"),
    "{email: ops@example.com}",
    email=a_text(r"(?!-)[^@\s,]+@[^@\s,]+", "one mail address, such as ops@example.com"),
    directory=a_text(r"|https?://[^\s\"'\\%]+", "the URL of a directory, such as https://acme.example.com/directory"),
    ca_bundle=host_file_or_none,
    key_type=key_type,
    names=server_names,
    dns_hook=host_file_or_none,
    eab=eab,
)


def acme(value: Any) -> Problems:
    """Accept what certbot needs to know; the directory wants a mail address."""
    if isinstance(value, Mapping) and not value.get("email"):
        yield "has no email. Set it to the mail address of the account, such as ops@example.com."
        value = {key: held for key, held in value.items() if key != "email"}
    yield from ACME(value)


TLS = a_record(
    options("tls"),
    "{certificate: /etc/ssl/hello.pem, key: /etc/ssl/private/hello.key}",
    certificate=host_file,
    key=host_file,
    port=a_number(1, 65535, "Set the port that nginx listens on for HTTPS, such as 443."),
    acme=acme,
    hsts_max_age=a_number(0, None, "It is a number of seconds, such as 63072000."),
)


MADE = {"acme": "fetched", "selfsigned": "made"}
PRELOAD_AGE = 31536000


def preloaded(given: Mapping[str, Any]) -> Problems:
    """Accept the word for the lists of browsers where these would take it."""
    age = number(given.get("hsts_max_age", PRELOAD_AGE))
    if truth(given.get("hsts_preload")) and (
        not truth(given.get("hsts_include_subdomains")) or (age is not None and age < PRELOAD_AGE)
    ):
        yield (
            "has hsts_preload, and the lists of browsers take a name only with hsts_include_subdomains: true and a"
            f" hsts_max_age of {PRELOAD_AGE} or more. Set both, or remove hsts_preload."
        )


def tls(value: Any) -> Problems:
    """Accept certificate and key, both or neither, or what a directory is asked with, or one of the host's own."""
    given = value if isinstance(value, Mapping) else {}
    ways = [name for name in MADE if name in given and truth(given[name]) is not False]
    needed = () if ways or not given else ("certificate", "key")
    unset = [key for key in needed if value.get(key) in (None, "")]
    yield from (f"has no {key}. Set certificate and key, or neither for plain HTTP." for key in unset)
    if ways and (given.get("certificate") or given.get("key")):
        yield (
            f"has {ways[0]}, and certificate or key too. Set {ways[0]} to have one {MADE[ways[0]]}, or the two files,"
            " not both."
        )
    if len(ways) > 1:
        yield "has acme and selfsigned. Set acme to have a certificate fetched, or selfsigned for development."
    yield from preloaded(given)
    yield from TLS({key: held for key, held in value.items() if key not in unset} if unset else value)


def server_settings(value: Any) -> Problems:
    """Accept nginx directives; no value may end its directive and begin another."""
    yield from a_dict(value, "{client_max_body_size: 20m}")
    if not isinstance(value, Mapping):
        return
    for key, held in value.items():
        label = f"has {shown(key)},"
        if not isinstance(key, str) or not re.fullmatch(r"[a-z][a-z0-9_]+", key):
            yield f"{label} which is no directive of nginx. Use its names, such as client_max_body_size."
        elif key in NGINX_OWNED:
            yield f"{label} which is the role's own: {NGINX_OWNED[key]}. Remove it."
        elif key.startswith("ssl_"):
            yield f"{label} which is the role's own: set flask_gunicorn_nginx_tls. Remove it."
        elif isinstance(held, bool):
            word = "on" if held else "off"
            yield f'{label} whose value is {shown(held)}, which YAML makes of {word}. Quote it: {key}: "{word}".'
        elif not isinstance(held, (str, int)):
            yield f"{label} whose value is {shown(held)}. It must be a text or a number."
        elif isinstance(held, str) and (not held.strip() or CONTROL.search(held) or re.search(r"[;{}$'\"`\\#]", held)):
            yield (
                f"{label} whose value is {shown(held)}. It must not be empty, and no quote, control character or one"
                " of ; { } $ # ` \\ can be in it."
            )


def proxy_network(value: Any) -> Problems:
    """Accept an address or a network that is not everybody."""
    example = "an address or a network of a load balancer, such as 10.0.0.0/24"
    if not isinstance(value, str) or "%" in value:
        yield f"is {shown(value)}. It must be {example}."
        return
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        yield f"is {shown(value)}. It must be {example}."
        return
    if network.prefixlen == 0:
        yield f"is {shown(value)}: then any client could claim any address. Name {example}."
    elif "/" in value and str(network.network_address) != str(ipaddress.ip_address(value.partition("/")[0])):
        yield f"is {shown(value)}, which has bits beyond its mask. Write {network}."


def trusted_proxies(value: Any) -> Problems:
    """Accept addresses and networks."""
    yield from a_list(value, proxy_network, "[10.0.0.0/24]")


def peer(value: Any) -> Problems:
    """Accept an address. nginx does not start where it cannot find out that of a name."""
    try:
        ipaddress.ip_address(value if isinstance(value, str) and "%" not in value else "")
    except ValueError:
        yield f"is {shown(value)}. It must be the IP address of a host of the fleet, such as 10.0.0.11."


def challenge_peers(value: Any) -> Problems:
    """Accept addresses of hosts, each once: nginx would ask one twice."""
    yield from a_list(value, peer, "[10.0.0.11, 10.0.0.12]")
    if isinstance(value, (list, tuple)):
        for twice in sorted({str(item) for item in value if value.count(item) > 1}):
            yield f"has {shown(twice)} twice. Remove one."


def static_dir(value: Any) -> Problems:
    """Accept a path inside the source, or none."""
    if value != "":
        yield from relative_path(value, "static (empty when nginx has no files to serve)")


def immutable(value: Any) -> Problems:
    """Accept the word for names with a hash, a regular expression that nginx takes as one word, or nothing."""
    wrong = ""
    if not isinstance(value, str) or CONTROL.search(value) or not value.isascii() or len(value) > LONGEST_PATTERN:
        wrong = f"is {shown(value)}"
    else:
        try:
            re.compile(value)
        except re.error as error:
            wrong = f"is {shown(value)}, and that is no regular expression: {error}"
    if wrong:
        yield f"{wrong}. It must be auto, empty for none, or a regular expression for whole paths, such as assets/.*"


static = a_record(
    options("static"),
    "{url: /static/, dir: static}",
    url=a_text(r"/([A-Za-z0-9._~-]+/)+", "a path with a slash at both ends, such as /static/"),
    dir=static_dir,
    immutable=immutable,
)


def user_headers(value: Any) -> Problems:
    """Accept names of headers."""
    header = a_text(r"[A-Za-z][A-Za-z0-9-]{0,63}", "the name of a header, such as X-Account")
    yield from a_list(value, header, "[X-Account]")
    if isinstance(value, (list, tuple)) and len(value) > MOST_HEADERS:
        yield f"are {len(value)}. nginx reads them as one word, which has room for {MOST_HEADERS}."


MICRO_CACHE = a_record(
    options("micro_cache"),
    "{seconds: 1}",
    seconds=a_number(0, 3600, "Set it to 1 or a few more, or to 0 for none."),
    megabytes=a_number(1, 65536, "Set it to the room that it may have on the disk, such as 64."),
    user_headers=user_headers,
)


def micro_cache(value: Any) -> Problems:
    """Accept what is said of a cache; without a time there is none, and the rest would be said in vain."""
    if isinstance(value, Mapping) and value and "seconds" not in value:
        yield "has no seconds, and so no answer would be kept. Set seconds: 1, or remove the rest."
    yield from MICRO_CACHE(value)
