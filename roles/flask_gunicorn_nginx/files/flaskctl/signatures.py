"""Whether an archive was signed by somebody whom this host allows, before anything of it is unpacked."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import read_text, stream_sha256

NAMESPACE = "flaskfleet"  # of ssh-keygen: what was signed for something else counts for nothing here
ARMOR = "-----BEGIN SSH SIGNATURE-----"


@contextlib.contextmanager
def vouched(app: App, file: IO[bytes], name: str, given: str | None, sha256: str | None) -> Iterator[IO[bytes]]:
    """Yield what may be unpacked: the file itself where this host has no list of signers, else what was verified.

    That is a copy of our own, for whoever may write the file could change it between the two. `given` is a signature,
    or the file that holds it.
    """
    signers = app.signers_file
    if not signers.exists():
        yield file
        return
    check_list(signers)
    if not given:
        raise Refused(
            f"{name} is not signed, and {app.name} takes only what somebody named in {signers} has signed",
            remedy="set `key` of flask_gunicorn_nginx_signing on the control node; by hand: ssh-keygen -Y sign"
            f" -n {NAMESPACE} -f KEY FILE, then --signature FILE.sig",
        )
    with tempfile.TemporaryFile(dir=app.base) as opened:
        copy = cast("IO[bytes]", opened)
        shutil.copyfileobj(file, copy, 1 << 20)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix=".signature-", dir=app.base) as signature:
            signature.write(given if given.startswith(ARMOR) else read_text(Path(given)) or "")
            signature.flush()
            copy.seek(0)
            app.signed_by = verify(app, copy, name, signature.name)
        copy.seek(0)
        if sha256 and stream_sha256(copy) != sha256:
            raise Refused(f"{name} was changed while it was read", remedy="send it again")
        copy.seek(0)
        yield copy


def check_list(signers: Path) -> None:
    """Refuse a list that somebody else than root can change: it would allow whom that one wants."""
    stat = signers.lstat()
    if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
        raise Refused(
            f"{signers} can be changed by others than root, so it tells nothing",
            remedy=f"look at what it holds, then chown root:root {signers}; chmod 644 {signers}",
        )


def verify(app: App, file: IO[bytes], name: str, signature: str) -> str:
    """Return who has signed a file, by the list; Refused where nobody did whom the list allows."""
    tool, where = ["ssh-keygen", "-Y"], ["-s", signature, "-f", str(app.signers_file)]
    found = app.host.run([*tool, "find-principals", *where])
    who = found.out.strip().split("\n")[0].split(",")[0]
    done = found
    if found.rc == 0 and who:
        file.seek(0)
        done = app.host.run([*tool, "verify", "-I", who, "-n", NAMESPACE, *where], stdin=file)
    if done.rc == 127:
        raise Refused(done.err, remedy="apt-get install openssh-client")
    if done.rc or not who:
        raise Refused(
            f"{name} was not signed, as it is, by anybody named in {app.signers_file}",
            "\n".join(f"{done.out}{done.err}".strip().splitlines()[-1:]),  # the same of each version of ssh-keygen
            "sign it with a key of that list, or add the signer to `allowed_signers` of flask_gunicorn_nginx_signing",
        )
    return who
