"""The container way of docs/compose.md: `make compose-demo`, `make compose-down`; `python -m tools.compose render|pin`.

DEMO_PORT is another port than 8080. PYTHON_IMAGE and NGINX_IMAGE are base images of your own; without them the official
ones that files/compose/.env pins are pulled, and where that fails both are built from Debian's archive.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import bases, browser, demo, engine
from tools.run import LOGS, ROOT, Problem, apt_install, logged, main, output, seconds, short, step, tail

HERE = Path("files/compose")
ENV_FILE = HERE / ".env"
VALUES = HERE / "flask_gunicorn_nginx.yml"
APP, PROXY = "flask-hello-world", "nginx-proxy"
# what is rendered, and from which of the role's templates
RENDERED = {"gunicorn.conf.py": "gunicorn.conf.py", "hello.nginx.conf": "app.nginx.conf"}
# Debian 12 has Compose 1 under the first name, Debian 13 has Compose 2 under it, Ubuntu under the second
PACKAGES = ("docker-compose", "docker-compose-v2")
LOG = LOGS / "compose.log"


def render() -> dict[str, str]:
    """The files made from the role's templates, by their name in files/compose."""
    import yaml  # noqa: PLC0415

    from tests import rendering  # noqa: PLC0415

    values = yaml.safe_load((ROOT / VALUES).read_text())
    host = {"nginx": None, "openssl": None, "ipv6": False}
    texts = {}
    for name, template in RENDERED.items():
        internal = {
            "__flask_gunicorn_nginx_container": APP,
            "ansible_managed": f"From {VALUES.name} and the role's {template}.j2 by: python -m tools.compose render",
        }
        own = {key.removeprefix(rendering.PREFIX): value for key, value in values.items()}
        texts[name] = rendering.render(template, own, host, internal)
    return texts


def defaults(text: str) -> dict[str, str]:
    """What an .env file says."""
    return dict(re.findall(r"(?m)^(\w+)=(.*)$", text))


def pinned(text: str, digests: Mapping[str, str]) -> str:
    """The .env file with other digests behind the names of its images."""
    for name, digest in digests.items():
        text = re.sub(rf"(?m)^({name}=[^@\n]*)(@.*)?$", rf"\1@{digest}", text)
    return text


def pin() -> int:
    """Pull each official image by its tag and write down the digest that the registry gave."""
    engine.up()
    path = ROOT / ENV_FILE
    text = path.read_text()
    digests = {}
    for name in bases.BASES:
        image = defaults(text)[name].partition("@")[0]
        failure = pull(image)
        if failure:
            raise Problem(f"{image} cannot be pulled: {failure}.")
        said = output(["docker", "image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', image]) or ""
        digests[name] = said.splitlines()[0].partition("@")[2]
        print(f"{image}@{digests[name]}")
    path.write_text(pinned(text, digests))
    return 0


def pull(image: str) -> str:
    """Pull an image; return why that failed, in the engine's words."""
    done = subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip() or "no reason given").splitlines()[-1].rpartition(": ")[2]


def there(image: str) -> bool:
    """Whether the engine has an image."""
    return output(["docker", "image", "inspect", "--format", "{{.Id}}", image]) is not None


def own_or_built(variables: Mapping[str, str]) -> dict[str, str]:
    """The base images that the variables name, and those built from the archive for the rest."""
    own = {name: variables[name] for name in bases.BASES if variables.get(name)}
    return own if len(own) == len(bases.BASES) else {**bases.ensure(), **own}


def choose(pins: Mapping[str, str], variables: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The base images to use, and in words which those are."""
    own = {name: variables[name] for name in bases.BASES if variables.get(name)}
    official = {name: pins[name] for name in bases.BASES if name not in own}
    if not official:
        return own, f"given: {' and '.join(own.values())}"
    tags = [image.partition("@")[0] for image in official.values()]
    with step(f"looking for {' and '.join(tags)}"):
        failure = next((why for image in official.values() if not there(image) and (why := pull(image))), "")
    if not failure:
        return {**official, **own}, f"the official ones, by digest: {' and '.join(tags)}"
    chosen = own_or_built(variables)
    why = f"as the official ones cannot be pulled here: {failure}"
    return chosen, f"{' and '.join(chosen.values())}, from Debian's archive ({why})"


def command() -> list[str]:
    """Docker Compose as this machine has it, installed from the distribution where it is missing."""
    for argv in (["docker", "compose"], ["docker-compose"]):
        if output([*argv, "version"]) is not None:
            return argv
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Problem(f"No Docker Compose: install it (Debian: apt install {PACKAGES[0]}, Ubuntu: {PACKAGES[1]}).")
    # of two candidates the newer one: Ubuntu's docker-compose is Compose 1 as well
    offered = [name for name in reversed(PACKAGES) if output(["apt-cache", "show", "--no-all-versions", name])]
    apt_install(offered[:1] or [PACKAGES[0]])
    return command()


@dataclass(frozen=True)
class Project:
    """The services of a compose.yaml under one project name."""

    name: str
    port: int
    images: Mapping[str, str]
    root: Path = ROOT  # of the tree in which compose.yaml is

    def run(self, *words: str) -> int:
        """Run Docker Compose into the log; return its exit code."""
        file = self.root / HERE / "compose.yaml"
        variables = {**self.images, "COMPOSE_PROJECT_NAME": self.name, "DEMO_PORT": str(self.port)}
        return logged([*command(), "--file", str(file), *words], LOG, variables)

    def need(self, *words: str) -> None:
        """Run Docker Compose and stop with what it and the containers said when it fails."""
        if self.run(*words) != 0:
            raise Problem(
                f"docker compose {' '.join(words)} failed.", f"{tail(LOG)}\n{self.said()}\n(whole log: {short(LOG)})"
            )

    def containers(self, service: str = "") -> list[str]:
        """The containers of the project or of one of its services, stopped ones too."""
        filters = [f"label=com.docker.compose.project={self.name}"]
        filters += [f"label=com.docker.compose.service={service}"] if service else []
        found = output(["docker", "ps", "--all", "--quiet", *(f"--filter={each}" for each in filters)])
        return (found or "").split()

    def said(self) -> str:
        """The last lines of each container."""
        texts = []
        for container in self.containers():
            done = subprocess.run(
                ["docker", "logs", "--tail=60", container], capture_output=True, text=True, check=False
            )
            texts.append(done.stdout + done.stderr)
        return "\n".join(texts)


def settings() -> tuple[str, int]:
    """The project's name and port, from the environment or as a person without it gets them."""
    asked = demo.settings()
    name = os.environ.get("COMPOSE_PROJECT_NAME") or defaults((ROOT / ENV_FILE).read_text())["COMPOSE_PROJECT_NAME"]
    return name, asked.port


def up() -> int:
    """Bring the two containers up, or up to date, and say what there is to see."""
    began = time.monotonic()
    engine.up()
    command()
    name, port = settings()
    running = bool(Project(name, port, {}).containers())
    if not running and not demo.is_free(port):
        raise Problem(f"Port {port} of this machine is taken: choose another, DEMO_PORT=8081 make compose-demo.")
    images, words = choose(defaults((ROOT / ENV_FILE).read_text()), os.environ)
    project = Project(name, port, images)
    with step("building the app's image"):
        project.need("build", "--force-rm")
    with step("starting the containers"):
        project.need("up", "--detach")
        if running:
            project.need("restart", APP)  # what is mounted is read at a start
        seen = prove(project)
    print(f"\nTook {seconds(time.monotonic() - began)}. Base images: {words}.")
    width = max(len(address) for address, _ in seen)
    for address, what in seen:
        print(f"  {address:{width}}  {what}")
    print("Change a line of files/app/app.py and `make compose-demo` again; `make compose-down` removes them.")
    return 0


def prove(project: Project) -> list[tuple[str, str]]:
    """Ask the addresses, for a while: nginx answers 503 until the app listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return demo.prove(project.port, "")
        except Problem as problem:
            if time.monotonic() > deadline:
                raise Problem(str(problem), project.said()) from problem
            time.sleep(0.2)


def down() -> int:
    """Remove containers and network; the images stay, for the next time."""
    if not engine.answers():
        print("no container engine answers, so there is nothing to remove")
        return 0
    name, port = settings()
    project = Project(name, port, {})
    count = len(project.containers())
    if count:
        project.need("down", "--remove-orphans")
    print(f"removed: {f'{count} containers and their network' if count else 'nothing, there were no containers'}")
    print(f"engine: {engine.down()}")
    return 0


def prepare() -> None:
    """Install and build what the tests of the containers need, where somebody sees it take its time."""
    engine.up()
    command()
    own_or_built(os.environ)
    browser.ensure()


def write() -> int:
    """Write the rendered files."""
    for name, text in render().items():
        (ROOT / HERE / name).write_text(text)
        print(HERE / name)
    return 0


def work() -> int:
    """The command line."""
    actions = {"up": up, "down": down, "render": write, "pin": pin}
    parser = argparse.ArgumentParser(description="The sample app and nginx in two containers.")
    parser.add_argument("action", choices=actions)
    return actions[parser.parse_args().action]()


if __name__ == "__main__":
    main(work)
