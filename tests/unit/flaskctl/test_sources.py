"""What the sources of real apps look like: what is built of them, what is read of them, and what pip's words mean."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl
from tests.unit.flaskctl.given import archive, config

PROJECT = '[project]\nname = "shop"\n'
BUILT = '[build-system]\nrequires = ["setuptools"]\n'


def source(tree: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


@pytest.mark.parametrize(
    ("files", "alone", "locked"),
    [
        # what pip would make of it; beside a requirements file an app that starts from its own directory is not built
        ({"pyproject.toml": PROJECT}, True, False),
        ({"pyproject.toml": f"[project] # of uv\r\n{PROJECT[10:]}"}, True, False),
        ({"pyproject.toml": PROJECT + BUILT}, True, True),
        ({"pyproject.toml": BUILT}, True, True),
        ({"pyproject.toml": PROJECT, "src/shop/__init__.py": ""}, True, True),
        ({"pyproject.toml": f'{PROJECT}[tool.setuptools]\npackages = ["shop"]\n'}, True, True),
        ({"pyproject.toml": f"{PROJECT}[tool.setuptools.packages.find]\n"}, True, True),
        ({"pyproject.toml": "[tool.black]\n"}, False, False),
        ({"pyproject.toml": "[project-x]\n"}, False, False),
        ({"pyproject.toml": "# [project]\n# [build-system]\n"}, False, False),
        # the words of poetry, uv and pdm for an app
        ({"pyproject.toml": f"[tool.poetry]\npackage-mode = false # an app\n{BUILT}"}, False, False),
        ({"pyproject.toml": f"{PROJECT}[tool.uv]\npackage=false\n{BUILT}"}, False, False),
        ({"pyproject.toml": f"{PROJECT}{BUILT}[tool.pdm]\ndistribution = false\n"}, False, False),
        ({"pyproject.toml": f"[tool.poetry]\npackage-mode = true\n[tool.x]\npackage = false\n{BUILT}"}, True, True),
        # setuptools' own
        ({"setup.py": ""}, True, True),
        ({"setup.py": "", "pyproject.toml": "[tool.black]\n"}, True, True),
        ({"setup.cfg": "[metadata]\nname = shop\n"}, False, False),
        ({"setup.cfg": "[metadata]\nname = shop\n[options]\n", "pyproject.toml": "[tool.black]\n"}, True, True),
        ({"setup.cfg": "[flake8]\nname = x\n", "pyproject.toml": "[tool.black]\n"}, False, False),
        ({}, False, False),
    ],
)
def test_a_source_is_built_where_pip_would_and_it_is_needed(
    tmp_path: Path, files: dict[str, str], alone: bool, locked: bool
) -> None:
    tree = source(tmp_path, files)
    assert (flaskctl.is_project(tree, False), flaskctl.is_project(tree, True)) == (alone, locked)


def key(tree: Path) -> str:
    return str(
        flaskctl.venv_key("3.11", "x86_64", flaskctl.dependencies_of(tree, "requirements.txt"), flaskctl.Config())
    )


@pytest.mark.parametrize("name", ["requirements/base.txt", "deps.in", "setup.py"])
def test_what_a_project_may_read_its_dependencies_from_changes_the_key_of_its_virtualenv(
    tmp_path: Path, name: str
) -> None:
    before = key(source(tmp_path, {"pyproject.toml": PROJECT + BUILT, name: "flask==3\n", "app.py": "1"}))
    assert key(source(tmp_path, {"app.py": "2"})) == before
    assert key(source(tmp_path, {name: "flask==4\n"})) != before


@pytest.mark.parametrize("mark", ["BOM_UTF8", "BOM_UTF16_LE", "BOM_UTF16_BE", "BOM_UTF32_LE"])
def test_a_requirements_file_is_read_as_pip_reads_it(tmp_path: Path, mark: str) -> None:
    encoding = mark.removeprefix("BOM_").lower().replace("_", "-").replace("utf16", "utf-16").replace("utf32", "utf-32")
    text = "gunicorn==23.0.0\r\nflask==3.1 \\\r\n    --hash=sha256:00\r\n"
    (tmp_path / "requirements.txt").write_bytes(getattr(codecs, mark) + text.encode(encoding))
    found = flaskctl.dependencies_of(tmp_path, "requirements.txt")
    assert (found.server, found.hashed) == (False, True)
    assert flaskctl.requirement_lines(found.texts[0])[1].split() == ["flask==3.1", "--hash=sha256:00"]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("-e .", "."),
        ("--editable=.[dev]", "."),
        (".[dev] ; python_version > '3'", "."),
        ("./libs/shop", "./libs/shop"),
        ("-e libs/shop", "libs/shop"),
        ("-e libs", "libs"),
        ("libs/shop", "libs/shop"),
        ("./wheels/a-1-py3-none-any.whl", "./wheels/a-1-py3-none-any.whl"),
        ("../x", "../x"),
        ("/abs", "/abs"),
        ("file:./x", "file:./x"),
        ("flask==3", ""),
        ("-e git+https://git.example.com/a@1#egg=a", ""),
        ("a @ https://example.com/a/b.whl", ""),
        ("https://example.com/a.whl", ""),
        ("-r base/x.txt", ""),
        ("--find-links ./wheels", ""),
        ("-c ../c.txt", ""),
    ],
)
def test_a_line_that_installs_from_a_path_is_told_from_one_that_names_a_package(line: str, path: str) -> None:
    assert flaskctl.path_in(line) == path


def test_what_a_path_holds_changes_the_key_and_of_the_project_itself_what_says_its_dependencies(tmp_path: Path) -> None:
    files = {"requirements.txt": "-e .\n-e ./libs/tax\n", "pyproject.toml": PROJECT + BUILT, "shop.py": "1"}
    tree = source(tmp_path, {**files, "libs/tax/setup.py": "", "libs/tax/tax.py": "1"})
    before, found = key(tree), flaskctl.dependencies_of(tree, "requirements.txt")
    assert found.project and found.paths
    assert key(source(tree, {"shop.py": "2"})) == before
    other = key(source(tree, {"libs/tax/tax.py": "2"}))
    assert other != before
    assert key(source(tree, {"pyproject.toml": PROJECT + BUILT + "# more\n"})) not in (before, other)


def test_what_is_installed_from_a_path_is_copied_and_the_project_itself_goes_to_the_release(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = host.run

    def run(argv: list[str], **more: object) -> object:
        if argv[3:4] == ["pip"] and "-r" in argv and str(argv[-1]).endswith("base.txt"):
            read.append(Path(str(more["cwd"]), "base.txt").read_text())
        return real(argv, **more)

    monkeypatch.setattr(host, "run", run)
    files = {"base.txt": "-e .[web]\r\n--editable libs\nflask\n", "pyproject.toml": PROJECT, "libs/setup.py": ""}
    path = archive(tmp_path / "x.tar.gz", files)
    given = config(requirements="base.txt")
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=given)
    assert read == ["./.[web]\n./libs\nflask\n"]
    assert (base(host) / "releases" / result.json["id"] / "site/hellopkg").is_dir()
    assert any(argv[4:] == ["uninstall", "-y", "hellopkg"] for argv in host.calls)
    assert not [*(base(host) / "venvs").glob(".*")]


def test_an_include_by_url_is_left_to_pip(tmp_path: Path) -> None:
    tree = source(tmp_path, {"requirements.txt": "-c https://example.com/c.txt\nflask\n"})
    assert len(flaskctl.requirement_texts(tree, "requirements.txt")) == 1


def test_a_source_without_the_file_is_told_which_ones_there_are(tmp_path: Path) -> None:
    names = ("requirements/base.txt", "requirements/prod.txt", "web/requirements.in", "robots.txt")
    with pytest.raises(flaskctl.Refused) as refused:
        flaskctl.dependencies_of(source(tmp_path, dict.fromkeys(names, "")), "requirements.txt")
    assert "there is requirements/base.txt, requirements/prod.txt, web/requirements.in" in refused.value.msg
    assert "robots" not in refused.value.msg and "flask_gunicorn_nginx_requirements" in refused.value.remedy


def test_a_source_that_is_a_requirement_is_not_told_of_a_file_that_it_has_not(host: FakeHost, tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {"requirements.txt": "shop==1.4.0\n"})
    given = config(static_dir="static", writable=["instance"])
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=given)
    assert (result.rc, result.json["warnings"]) == (0, [])


@pytest.mark.parametrize(("asked", "rc"), [(True, 1), (False, 0)])
def test_a_static_directory_that_is_not_there_is_refused_where_somebody_set_it(
    host: FakeHost, tmp_path: Path, asked: bool, rc: int
) -> None:
    path = archive(tmp_path / "x.tar.gz", {"app.py": "x", "requirements.txt": "flask --hash=sha256:0\n"})
    given = config(static_dir="statics", static_asked=asked)
    result = call(host, "hello", "stage", str(path), "--config", "-", stdin=given)
    assert (result.rc, "there is no directory statics" in result.err) == (rc, asked)
    assert bool([*(base(host) / "releases").iterdir()]) is not asked
    assert "warning" not in result.err


@pytest.mark.parametrize("asked", [True, False])
def test_where_the_static_files_are_is_told(host: FakeHost, tmp_path: Path, asked: bool) -> None:
    """nginx would answer 404 for all of them, and the app serves them itself."""
    files = {"app.py": "x", "requirements.txt": "flask --hash=sha256:0\n", "src/shop/static/a.css": ""}
    path = archive(tmp_path / "x.tar.gz", {**files, "src/shop/admin/views/static/b.css": ""})
    result = call(host, "hello", "stage", str(path), "--config", "-", stdin=config(static_dir="s", static_asked=asked))
    words = "(there are shop/static, shop/admin/views/static)" if asked else "_static: {dir: shop/static}"
    assert words in result.err and result.rc == asked


def test_a_directory_of_an_installed_project_that_is_written_to_is_a_link_too(host: FakeHost, tmp_path: Path) -> None:
    """Flask's instance folder is beside the package, which is in `site`."""
    host.accounts["hello"] = flaskctl.Account(999, 999, "/nonexistent", "/usr/sbin/nologin")
    source = {"src/hellopkg/__init__.py": "", "src/hellopkg/data/seed.txt": "seed"}
    path = archive(tmp_path / "x.tar.gz", {"pyproject.toml": PROJECT, **source})
    given = config(writable=["instance", "src/hellopkg/uploads", "hellopkg/data", "elsewhere/deep"])
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=given)
    assert result.rc == 0, result
    site = base(host) / "releases" / result.json["id"] / "site"
    assert os.readlink(site / "instance") == "/var/lib/hello/instance"
    assert os.readlink(site / "hellopkg/uploads") == "/var/lib/hello/src/hellopkg/uploads"
    assert not os.path.lexists(site / "elsewhere")
    assert host.path("/var/lib/hello/hellopkg/data/seed.txt").read_text() == "seed"


# what was said on Debian 13 and 11, shortened
GEVENT = """\
Collecting gevent==21.12.0
  Downloading gevent-21.12.0.tar.gz (6.2 MB)
  Installing build dependencies: finished with status 'error'
  error: subprocess-exited-with-error
  × pip subprocess to install build dependencies did not run successfully.
      Collecting greenlet<2.0,>=1.1.0
        Downloading greenlet-1.1.3.tar.gz (91 kB)
            error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'
        ERROR: Failed building wheel for greenlet
      ERROR: Failed to build installable wheels for some pyproject.toml based projects (greenlet)
error: subprocess-exited-with-error
"""
PSYCOPG2 = """\
Collecting psycopg2==2.9.9
  Downloading psycopg2-2.9.9.tar.gz (384 kB)
    ERROR: Command errored out with exit status 1:
    Error: pg_config executable not found.
ERROR: Could not find a version that satisfies the requirement psycopg2==2.9.9
"""
CYTHON = """\
  Downloading shop-lib-1.0.tar.gz (3 kB)
  Downloading cryptography-3.2.tar.gz
  error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory
  ERROR: Failed building wheel for shop_lib
"""
LIBRARY = """\
  Downloading a-1.tar.gz
    a.c:1:10: fatal error: foo/bar.h: No such file
  ERROR: Failed building wheel for a
"""
OFFLINE = """\
  Downloading a-1.tar.gz
  error: subprocess-exited-with-error
  × pip subprocess to install build dependencies did not run successfully.
  WARNING: Retrying after connection broken by NewConnectionError
"""
FLAT = "  error: subprocess-exited-with-error\n      error: Multiple top-level packages discovered in a flat-layout\n"
OWN = "Processing ./.build\n  ERROR: Failed building wheel for shop\nfatal error: Python.h: No such file\n"


@pytest.mark.parametrize(
    ("output", "cause", "remedy"),
    [
        (
            GEVENT,
            "no wheel of gevent 21.12.0 for Python 3.13",
            "packages: [build-essential, python3-dev]; or ask for a version of gevent",
        ),
        (PSYCOPG2, "no wheel of psycopg2 2.9.9 for", "flask_gunicorn_nginx_packages: [build-essential, libpq-dev, py"),
        (CYTHON, "no wheel of shop_lib 1.0 for", "flask_gunicorn_nginx_packages: [build-essential, python3-dev]; or"),
        (LIBRARY, "no wheel of a 1 for", "the package that has foo/bar.h into flask_gunicorn_nginx_packages"),
        (OFFLINE, "no wheel of a 1 for", "is the index reachable?"),
        (FLAT, "the project cannot be built", "flask_gunicorn_nginx_exclude: [/pyproject.toml, /setup.py]"),
        (OWN, "shop cannot be built", "flask_gunicorn_nginx_packages: [build-essential, python3-dev]"),
        (
            "ERROR: Cannot find command 'git' - do you have",
            "this host has no git",
            "flask_gunicorn_nginx_packages: [git]",
        ),
        ("No matching distribution found for flask==99", "", "the index has no such version"),
        ("fatal: could not read Username for 'https://x'", "", "may not read that repository"),
        ("The editable requirement x cannot be installed when requiring hashes", "", "take the hashes out"),
        ("all requirements must have their versions pinned with ==", "", "lock for that Python too"),
        ("something else", "", ""),
    ],
)
def test_what_pip_says_becomes_a_cause_and_what_to_do(output: str, cause: str, remedy: str) -> None:
    found = flaskctl.pip_story(output, "3.13")
    assert cause in found[0] and remedy in found[1]
    assert (bool(found[0]), bool(found[1])) == (bool(cause), bool(remedy))


def test_the_cause_comes_before_what_pip_says(host: FakeHost, tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {"app.py": "x", "requirements.txt": "gevent==21.12.0\n"})
    host.pip_fails = GEVENT
    result = call(host, "hello", "stage", str(path), "--config", "-", stdin=config())
    said = "flaskctl: requirements.txt could not be installed: no wheel of gevent 21.12.0 for Python 3.11"
    assert result.err.index(said) < result.err.index("Collecting gevent")


def test_who_names_the_release_that_serves_is_told_that_it_is_the_one_before(host: FakeHost, tmp_path: Path) -> None:
    link = f"{base(host)}/current"
    files = {
        "requirements.txt": "flask\n",
        "wsgi.py": f"config = '{link}/app/pi.cfg'\n",
        "conf/a.cfg": f"home={link}\n",
        "other.py": f"'{link}ly/app', '{link}-2/app'\n",
        "page.html": link,
    }
    environment = {"SETTINGS": f"{link}/app/pi.cfg", "OTHER": "/srv/other/current/x", "TOKEN": "secret"}
    path = archive(tmp_path / "x.tar.gz", files)
    words = ("hello", "stage", str(path), "--config", "-", "--json")
    told = call(host, *words, stdin=config(environment=environment)).json["warnings"]
    assert [text.partition(": ")[0] for text in told if link in text] == [
        "the environment variable SETTINGS, conf/a.cfg, wsgi.py"
    ]
    assert "os.path.dirname(__file__)" in str(told) and "secret" not in str(told)
    plain = archive(tmp_path / "y.tar.gz", {"requirements.txt": "flask\n", "app.py": "open('pi.cfg')\n"})
    assert link not in str(call(host, "hello", "stage", str(plain), "--config", "-", "--json", stdin=config()).json)
