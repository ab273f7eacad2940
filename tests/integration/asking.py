"""A host, asked as a client asks it and looked at as its administrator does; keeps the answers for the failure text."""

from __future__ import annotations

import base64
import io
import json
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

# on the host itself: there is a Python there, and no curl
ASK = """
import base64, http.client, json, socket, ssl, sys
o = json.loads(sys.argv[1])
c = http.client.HTTPConnection("127.0.0.1", o["port"], timeout=20)
c.sock = socket.create_connection(("127.0.0.1", o["port"]), 20, (o["source"], 0) if o["source"] else None)
if o["tls"]:
    t = ssl.create_default_context(); t.check_hostname = False; t.verify_mode = ssl.CERT_NONE
    t.set_alpn_protocols(o["tls"])
    c.sock = t.wrap_socket(c.sock, server_hostname=o["headers"]["Host"])
    if o["tls"] != ["http/1.1"]:
        print(json.dumps([0, [["ALPN", c.sock.selected_alpn_protocol() or ""]], ""])); sys.exit()
c.putrequest(o["method"], o["path"], skip_host=True, skip_accept_encoding=True)
for name, value in o["headers"].items():
    c.putheader(name, value)
c.endheaders()
r = c.getresponse()
print(json.dumps([r.status, r.getheaders(), base64.b64encode(r.read()).decode()]))
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: str

    @property
    def json(self) -> Json:
        data: Json = json.loads(self.body)
        return data

    @property
    def release(self) -> str | None:
        """Which release says that it answered; None for what nginx answers itself."""
        return self.headers.get("x-release")


class Site:
    """One app on one host. `host` is testinfra's; `name` is what clients call the site."""

    def __init__(self, host: Any, app: str = "hello", name: str = "localhost") -> None:
        self.host, self.app, self.name = host, app, name
        self.answers: list[str] = []

    @property
    def hostname(self) -> str:
        return str(self.host.backend.get_hostname())

    def get(
        self,
        path: str,
        host: str = "",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        port: int = 80,
        tls: list[str] | None = None,
        source: str = "",
    ) -> Answer:
        """Ask nginx. `tls` is a list of protocols to offer (ALPN); `source` is the address that the client has."""
        sent = {"Host": host or self.name, **(headers or {})}
        question = json.dumps(
            {"method": method, "path": path, "port": port, "tls": tls, "headers": sent, "source": source}
        )
        done = self.host.run("python3 -c %s %s", ASK, question)
        if done.rc:
            self.answers.append(f"{method} {path}: {done.stderr.strip().splitlines()[-1]}")
            return Answer(0, {}, done.stderr)
        status, got, body = json.loads(done.stdout)
        answer = Answer(status, {name.lower(): value for name, value in got}, base64.b64decode(body).decode())
        self.answers.append(f"{method} {path} {sent}: {status} {dict(got)}\n{answer.body[:1000]}")
        return answer

    def root(self, command: str, check: bool = True) -> str:
        """Run a shell command as root and return what it wrote."""
        done = self.host.run(command)
        assert not check or done.rc == 0, f"`{command[:200]}` ended with {done.rc}:\n{done.stdout}{done.stderr}"
        return str(done.stdout + ("" if check else done.stderr)).strip()

    def flaskctl(self, *words: str, rc: int = 0) -> Json:
        done = self.host.run(shlex.join(["flaskctl", "--json", self.app, *words]))
        assert done.rc == rc, f"flaskctl {self.app} {' '.join(words)} ended with {done.rc}:\n{done.stdout}{done.stderr}"
        answer: Json = json.loads(done.stdout)
        return answer

    @property
    def current(self) -> str:
        """Return the release that the link names; the first test holds it against flaskctl and the answer."""
        return self.root(f"basename $(readlink /srv/{self.app}/current)")

    def put_archive(self, path: str, files: Mapping[str, str | bytes]) -> None:
        """Put a .tar.gz of small files on the host, as a person on call would copy one there."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, text in files.items():
                member, content = tarfile.TarInfo(name), text if isinstance(text, bytes) else text.encode()
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        self.root(f"echo {base64.b64encode(packed.getvalue()).decode()} | base64 -d > {shlex.quote(path)}")

    def python(self, script: str, *arguments: str) -> str:
        """Run a Python script on the host as root."""
        return self.root(shlex.join(["python3", "-c", script, *arguments]))

    def eventually(self, what: Callable[[], bool], seconds: float = 30) -> bool:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)
        return True

    def power_cut(self) -> None:
        """Switch the host off without a word and on again: nothing is stopped in order, /run is empty afterwards."""
        subprocess.run(["docker", "restart", "--time=0", self.hostname], check=True, capture_output=True, timeout=60)
        booted = self.eventually(lambda: self.host.run("systemctl is-system-running --wait").stdout.strip() != "")
        assert booted, f"{self.hostname} does not come up again"

    def evidence(self) -> list[tuple[str, str]]:
        """What a person would look at first, for the text of a failure."""
        commands = {
            "status": f"flaskctl {self.app} status; systemctl --failed --no-legend",
            "journal": f"journalctl --no-pager -n 60 -u '{self.app}*' -u nginx",
            "nginx": f"tail -n 20 /var/log/nginx/{self.app}.error.log /var/log/nginx/error.log; nginx -t",
        }
        found = [("answers", "\n".join(self.answers[-5:]))]
        found += [(name, self.root(f"({command}) 2>&1", check=False)) for name, command in commands.items()]
        return [(f"{self.hostname}: {name}", text) for name, text in found]
