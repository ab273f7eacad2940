"""What certbot is asked for in the name of an app, and when: as seldom as can be. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flaskctl import Json
from flaskctl.layout import LAUNCHER, WEBROOT

DUE, NEW = "due", "new"
# what certbot says of itself, and not of what went wrong
ASIDE = re.compile(
    r"Saving debug log|Ask for help|Plugins selected|Account registered|Requesting a|Renewing an|- - -|$"
)


def request(settings: Mapping[str, Any]) -> Json | None:
    """Return what a certificate of the directory is asked for with; None where the app has it from elsewhere."""
    acme = settings.get("acme")
    if not acme:
        return None
    names = sorted(set(settings.get("certificate_names") or []))
    return {"names": names, **{key: acme.get(key) or "" for key in ("directory", "key_type", "dns_hook")}}


def standing(wanted: Json, asked: Json | None, pair: str, installed: str, ended: bool) -> str:
    """Return what is to be done about a certificate, nothing where all is well.

    `asked`: with what the last one was asked for, None where the role never asked. `pair`: what certbot has,
    `installed`: what nginx reads.
    """
    if wanted != (asked or {}).get("request") or not pair or ended:
        return DUE
    return NEW if pair != installed else ""


def certbot_lines(account: str) -> str:
    """Return what a directory wants to know of an account that is bound to one of its own, as a file of certbot."""
    given = json.loads(account)
    return "".join(f"eab-{name} = {given[key]}\n" for name, key in (("kid", "key_id"), ("hmac-key", "hmac_key")))


def certbot_argv(app: str, lineage: str, settings: Mapping[str, Any], config: str) -> list[str]:
    """Return the command that asks the directory; certbot keeps all of it for the renewals.

    `config`: a file of options that are secret, which must not stand in an argument.
    """
    acme, names = settings["acme"], sorted(set(settings["certificate_names"]))
    hook = acme.get("dns_hook")
    how = ["--webroot", "--webroot-path", WEBROOT]
    if hook:
        how = ["--manual", "--preferred-challenges", "dns", "--manual-auth-hook", hook, "--manual-cleanup-hook", hook]
    return [
        *("certbot", "certonly", "--non-interactive", "--agree-tos", "--no-eff-email", "--email", acme["email"]),
        *("--cert-name", lineage, "--key-type", acme.get("key_type") or "ecdsa"),
        *(["--config", config] if config else []),
        *(["--server", acme["directory"]] if acme.get("directory") else []),
        # that it is due was decided here
        *("--force-renewal", "--renew-with-new-domains", "--deploy-hook", f"{LAUNCHER} {app} certificate"),
        *how,
        *(word for name in names for word in ("--domain", name)),
    ]


def complaint(said: str) -> str:
    """Return what certbot says of a failure, less what it always says."""
    return "\n".join(line.rstrip() for line in said.splitlines() if not ASIDE.match(line.strip()))


def bundle(texts: Sequence[str]) -> str:
    """Return the certificates of several files in one, each file once."""
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in dict.fromkeys(filter(None, texts)))
