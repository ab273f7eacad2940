"""make test-apps releases what docs/apps says, and is content with nothing less."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskfleet.web.plugins.filter.problems import problems

from tests.load.client import Release, Report
from tools import apps
from tools.apps import App, Result, change, discontent, known, unserved, write_inventory
from tools.run import ROOT, Problem

ROLE_OPTIONS = yaml.safe_load((ROOT / "roles/flask_gunicorn_nginx/meta/argument_specs.yml").read_text())
OPTIONS = ROLE_OPTIONS["argument_specs"]["main"]["options"]
NAMES = [app.name for app in known()]
SHOP = App("shop", "Shop", "1.2", "examples/shop", {"file": "shop.py", "line": "# again"}, [])


def written(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((apps.VARIABLES / f"{name}.yml").read_text())
    return values


def test_each_app_has_its_variables_and_no_variables_are_without_an_app() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in apps.VARIABLES.glob("*.yml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_variables_of_an_app_are_the_roles_and_are_taken(name: str) -> None:
    assert set(written(name)) <= set(OPTIONS)
    defaults = yaml.safe_load((ROOT / "roles/flask_gunicorn_nginx/defaults/main.yml").read_text())
    source = written(name)["flask_gunicorn_nginx_source"].replace("{{ inventory_dir }}", "/home/me/inventory")
    assert problems({**defaults, **written(name), "flask_gunicorn_nginx_source": source}) == []


@pytest.mark.parametrize("option", ["name", "port", "server_names"])
def test_the_apps_live_side_by_side(option: str) -> None:
    values = [str(apps.variables(name)[option]) for name in NAMES]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("app", [app for app in known() if app.source == "own"], ids=lambda app: app.name)
def test_an_own_app_has_what_is_changed_and_the_version_of_the_table(app: App) -> None:
    assert (apps.OWN / app.name / app.change["file"]).is_file()
    if app.package:
        lines = (apps.OWN / app.name / "requirements.txt").read_text().lower().splitlines()
        assert f"{app.package}=={app.version}".lower() in lines


@pytest.mark.parametrize("app", [app for app in known() if app.source == "index"], ids=lambda app: app.name)
def test_an_app_from_the_index_has_the_version_of_the_table(app: App) -> None:
    assert apps.variables(app.name)["source"] == f"{app.package}=={app.version}"


def test_every_app_is_in_the_table_of_the_docs() -> None:
    rows = re.findall(
        r"(?m)^\| \[(\w+)\]\(apps/(\w+)\.yml\) \| (.*?) \| (.*?) \|", (ROOT / "docs/platforms.md").read_text()
    )
    needed = {name: ", ".join(f"`{each}`" for each in apps.needed(name)) or "none" for name in NAMES}
    assert rows == [(app.name, app.name, app.from_where, needed[app.name]) for app in known()]


def test_an_inventory_is_laid_out_as_a_user_has_it(tmp_path: Path) -> None:
    inventory = write_inventory(known()[0], tmp_path, ["a", "b"], "/etc/ssl/ca.crt")
    assert list(yaml.safe_load((inventory / "hosts.yml").read_text())["flask_app"]["hosts"]) == ["a", "b"]
    group = inventory / "group_vars/flask_app"
    assert (group / "flask_gunicorn_nginx.yml").read_text() == (apps.VARIABLES / f"{NAMES[0]}.yml").read_text()
    assert len(yaml.safe_load((group / "vault.yml").read_text())["vault_secret_key"]) == 64
    assert yaml.safe_load((group / "machine.yml").read_text()) == {
        "flask_gunicorn_nginx_pip": {"ca_bundle": "/etc/ssl/ca.crt"}
    }


def test_the_second_release_is_a_line_of_the_source_or_a_variable_changed(tmp_path: Path) -> None:
    write_inventory(known()[0], tmp_path, ["a"], None)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/shop.py").write_text("app = 1\n")
    change(SHOP, tmp_path)
    assert (tmp_path / "app/shop.py").read_text() == "app = 1\n# again\n"
    change(App("shop", "Shop", "1.2", "index", {"env": {"SECOND": "1"}}, []), tmp_path)
    second = yaml.safe_load((tmp_path / "inventory/group_vars/flask_app/second.yml").read_text())
    assert second == {"flask_gunicorn_nginx_env": {"SECOND": "1"}}


def sdist(argv: list[str], *_: object) -> None:
    """What pip would have fetched."""
    place = Path(argv[argv.index("--dest") + 1])
    place.mkdir()
    with tarfile.open(place / "shop-1.2.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("shop-1.2/examples/shop/shop.py"), io.BytesIO(b""))


def test_the_directory_of_an_sdist_is_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "need", sdist)
    apps.fetch(SHOP, tmp_path)
    assert (tmp_path / "app/shop.py").is_file()


def test_an_sdist_without_the_directory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "need", sdist)
    with pytest.raises(Problem, match=r"The sdist of Shop 1\.2 holds no examples/bar\."):
        apps.fetch(App("shop", "Shop", "1.2", "examples/bar", {}, []), tmp_path)


def test_all_is_well_when_neither_status_nor_doctor_nor_a_visitor_says_a_word() -> None:
    assert discontent("a", {"problems": [], "drift": []}, {"walls": []}) == []
    assert unserved("a", Report("a", releases={"1": Release(5), "2": Release(5)})) == []


@pytest.mark.parametrize(
    ("status", "doctor", "said"),
    [
        ({"problems": ["nginx is down"], "drift": []}, {"walls": []}, "a: status: nginx is down"),
        ({"problems": [], "drift": ["/srv/x"]}, {"walls": []}, "a: drift: /srv/x"),
        ({"problems": []}, {"walls": [{"name": "memory", "opens": "this"}]}, "a: doctor: memory: this"),
        ({"msg": "no such app"}, {"walls": []}, "a: status: no such app"),
        ({"problems": []}, {"msg": "no release"}, "a: doctor: no release: "),
    ],
)
def test_what_flaskctl_finds_wrong_is_wrong(status: dict[str, Any], doctor: dict[str, Any], said: str) -> None:
    assert discontent("a", status, doctor) == [said]


def test_a_second_release_that_nobody_met_proves_nothing() -> None:
    (said,) = unserved("a", Report("a", releases={"1": Release(5)}))
    assert said == "a: visitors met 1 releases, not the first and the second"


def test_a_failed_request_is_told_in_its_own_words() -> None:
    report = Report("a", failed=1, failures=["get: status 502"], releases={"1": Release(5), "2": Release(5)})
    assert unserved("a", report) == ["a: get: status 502"]


def test_the_row_of_an_app_says_what_it_needed_and_what_was_measured() -> None:
    row = Result(SHOP, ["wsgi_app", "env"], [61.4, 38.6], 900, 0).row()
    assert row == (
        "| [shop](apps/shop.yml) | examples/shop in the sdist of Shop 1.2 | `wsgi_app`, `env` | 61 | 39 | 900 | 0 |"
    )
    assert Result(SHOP, []).row().endswith("| none | - | - | 0 | 0 |")


def test_an_app_that_cannot_be_released_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(app: App, names: list[str]) -> Result:
        raise Problem("shop could not be released.", "a wall")

    monkeypatch.setattr(apps, "try_out", refuse)
    monkeypatch.setattr(apps, "needed", lambda name: [])
    assert apps.judged(SHOP, ["a"]).wrong == ["shop could not be released.", "a wall"]
    assert "a wall" in capsys.readouterr().out
