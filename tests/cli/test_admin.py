"""``onecut admin`` beside a running service: what it changes holds for the next call."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import Site, Tenant, running_site, sign_in

from onecut.cli.main import main
from onecut.db.session import Database
from onecut.service import quotas, recycle_policy

PASSWORD = "correct horse"


class Admin:
    """Runs ``onecut admin`` on the folder of a service."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def run(self, *arguments: str, stdin: str = "") -> Result:
        """Run a command, whatever it exits with."""
        return CliRunner().invoke(main, ["admin", *arguments, "--data", str(self.data)], input=stdin)

    def text(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that succeeds, and return what it prints."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """Run a command with ``--json``, and return what it prints."""
        return json.loads(self.text(*arguments, "--json", stdin=stdin))

    def refusal(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that is refused, and return its complaint."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 1, result.output
        return result.stderr.removeprefix("Error: ").strip()

    def everything(self) -> list[Any]:
        """Return all that the lists show, to compare."""
        lists = [self.json(noun, "list") for noun in ("domain", "project", "user", "role", "key")]
        return [*lists, self.json("quota", "show", "region-1")]


@pytest.fixture
def admin(site: Site) -> Admin:
    """The commands, on the folder of the running service."""
    return Admin(site.onecut.settings.data)


@pytest.fixture
def ci(site: Site, admin: Admin) -> Iterator[Tenant]:
    """The user ``ci``, an operator of the first project, signed in."""
    admin.text("user", "create", "ci", "--password-stdin", stdin=f"{PASSWORD}\n")
    admin.text("role", "grant", "ci", "operator", "--project", "region-1")
    client = sign_in(site.onecut.endpoint, "onecut", "ci", PASSWORD, "region-1")
    yield Tenant(client, site.project_id)
    client.close()


def volumes_status(tenant: Tenant) -> int:
    """Ask for the list of volumes."""
    return tenant.client.get(f"/v2/{tenant.project_id}/cloudvolumes/detail").status_code


class TestUsers:
    def test_a_user_signs_in_as_soon_as_it_is_made(self, ci: Tenant, admin: Admin) -> None:
        """And is shown by the list, without a secret."""
        assert volumes_status(ci) == 200
        (made,) = [user for user in admin.json("user", "list")["users"] if user["name"] == "ci"]
        assert made == {"id": made["id"], "name": "ci", "domain": "onecut", "status": "enabled"}

    def test_the_password_is_asked_for_twice_and_not_shown(self, site: Site, admin: Admin) -> None:
        """On a terminal; what was typed signs in."""
        printed = admin.text("user", "create", "ann", stdin=f"{PASSWORD}\n{PASSWORD}\n")

        admin.text("role", "grant", "ann", "reader")
        sign_in(site.onecut.endpoint, "onecut", "ann", PASSWORD, "region-1").close()
        assert PASSWORD not in printed

    def test_disabling_takes_effect_at_once(self, ci: Tenant, admin: Admin) -> None:
        """The token that was issued before is refused while the user is disabled, and works after."""
        admin.text("user", "set", "ci", "--disable")
        assert volumes_status(ci) == 401

        admin.text("user", "set", "ci", "--enable")
        assert volumes_status(ci) == 200

    def test_a_new_password_ends_the_tokens(self, site: Site, ci: Tenant, admin: Admin) -> None:
        """Who knew the old one may hold some. The old one signs in no more, the new one does."""
        admin.text("user", "set", "ci", "--password-stdin", stdin="another horse\n")

        assert volumes_status(ci) == 401
        user = {"name": "ci", "password": PASSWORD, "domain": {"name": "onecut"}}
        old = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        assert ci.client.post("/v3/auth/tokens", json=old).status_code == 401
        sign_in(site.onecut.endpoint, "onecut", "ci", "another horse", "region-1").close()

    def test_a_user_with_keys_is_not_deleted(self, ci: Tenant, admin: Admin) -> None:
        """The message says what it owns; without them it goes, with its roles and tokens."""
        access = admin.json("key", "create", "ci")["key"]["access"]
        before = admin.everything()

        assert admin.refusal("user", "delete", "ci") == "user ci can't be deleted: it owns 1 access key"
        assert admin.everything() == before
        admin.text("key", "delete", access)
        admin.text("user", "delete", "ci")

        assert volumes_status(ci) == 401
        assert [user["name"] for user in admin.json("user", "list")["users"]] == ["admin"]
        assert [role["user"] for role in admin.json("role", "list")["roles"]] == ["admin"]


class TestRoles:
    def test_a_role_that_is_taken_away_is_gone_at_once(self, ci: Tenant, admin: Admin) -> None:
        """A token issued before names a project in which its user has no role any more: 403 EVS.0003."""
        admin.text("role", "revoke", "ci", "--project", "region-1")

        answer = ci.client.get(f"/v2/{ci.project_id}/cloudvolumes/detail")

        assert answer.status_code == 403
        assert answer.json()["error"] == {
            "code": "EVS.0003",
            "message": f"the user has no role in project {ci.project_id} any more",
        }

    def test_a_grant_replaces_the_one_there(self, ci: Tenant, admin: Admin) -> None:
        """An operator who becomes a reader can't create any more, by the token that was issued before."""
        admin.text("role", "grant", "ci", "reader", "--project", "region-1")

        roles = admin.json("role", "list", "--user", "ci")["roles"]

        assert roles == [{"user": "ci", "role": "reader", "project": "region-1", "domain": "onecut"}]
        assert ci.client.post(f"/v1/{ci.project_id}/cloudservers", json={}).status_code == 403

    def test_of_two_roles_the_stronger_counts(self, ci: Tenant, admin: Admin) -> None:
        """One for all projects, and one for this: taking the stronger away leaves the other."""
        admin.text("role", "grant", "ci", "reader")
        ci.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db1"}})

        admin.text("role", "revoke", "ci", "--project", "region-1")

        assert volumes_status(ci) == 200
        assert ci.client.post(f"/v1/{ci.project_id}/cloudservers", json={}).status_code == 403

    def test_a_project_of_another_domain_is_not_found(self, ci: Tenant, admin: Admin) -> None:
        """A user's roles lie in the own domain, also where a project elsewhere has the name or the id."""
        admin.text("domain", "create", "other")
        elsewhere = admin.json("project", "create", "elsewhere", "--domain", "other")["project"]["id"]
        before = admin.everything()

        for name in ("elsewhere", elsewhere):
            complaint = admin.refusal("role", "grant", "ci", "admin", "--project", name)
            assert complaint == f"project {name} does not exist"
        assert admin.everything() == before
        assert volumes_status(ci) == 200


class TestProjects:
    def test_a_project_is_made_used_disabled_and_deleted(self, site: Site, ci: Tenant, admin: Admin) -> None:
        """What it owns is named while it owns any; then it goes with its roles, tokens, settings and ended jobs."""
        project_id = admin.json("project", "create", "region-1_lab", "--description", "trials")["project"]["id"]
        admin.text("role", "grant", "ci", "operator", "--project", "region-1_lab")
        lab = Tenant(sign_in(site.onecut.endpoint, "onecut", "ci", PASSWORD, "region-1_lab"), project_id)
        server = lab.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db1"}})["serverIds"][0]

        with site.database.writing() as session:
            quotas.set_limit(session, project_id, "volumes", 5)
            recycle_policy.update(session, project_id, switch=True, threshold_days=None, keep_days=None)

        complaint = admin.refusal("project", "delete", "region-1_lab")
        assert complaint == "project region-1_lab can't be deleted: it owns 1 server"

        body = {"servers": [{"id": server}]}
        lab.done(lab.call("POST", "/v1/{p}/cloudservers/delete", 200, json=body))
        admin.text("project", "set", "region-1_lab", "--disable")
        assert volumes_status(lab) == 401
        assert volumes_status(ci) == 200
        admin.text("project", "delete", "region-1_lab")
        assert [found["name"] for found in admin.json("project", "list")["projects"]] == ["region-1"]
        lab.client.close()

    def test_a_domain_that_is_disabled_lets_nobody_in(self, ci: Tenant, site: Site, admin: Admin) -> None:
        """All of its users, at once; the others go on."""
        other = site.second_tenant()

        admin.text("domain", "set", "onecut", "--disable")

        assert (volumes_status(ci), volumes_status(site), volumes_status(other)) == (401, 401, 200)
        assert {found["name"]: found["status"] for found in admin.json("domain", "list")["domains"]}["onecut"] == (
            "disabled"
        )


class TestQuotas:
    def test_a_limit_holds_at_once_and_goes_back_to_the_default(self, site: Site, admin: Admin) -> None:
        """The very next creation is refused; `default` makes the settings' limit hold again."""
        volume = {"volume": {"size": 10, "volume_type": "SSD", "availability_zone": "az1"}}
        row = admin.json("quota", "set", "region-1", "volumes", "0")["quota"]
        assert row == {"resource": "volumes", "limit": 0, "in_use": 0, "reserved": 0}
        refused = site.client.post(f"/v2.1/{site.project_id}/cloudvolumes", json=volume)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "EVS.1034")

        assert admin.json("quota", "set", site.project_id, "volumes", "default")["quota"]["limit"] == 10_000

        site.done(site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=volume))
        shown = {row["resource"]: row for row in admin.json("quota", "show", "region-1")["quotas"]}
        assert shown["volumes"] == {"resource": "volumes", "limit": 10_000, "in_use": 1, "reserved": 0}
        assert shown["gigabytes_SSD"] == {"resource": "gigabytes_SSD", "limit": -1, "in_use": 10, "reserved": 0}

    def test_no_limit_is_a_word(self, admin: Admin) -> None:
        """Set and shown as such; programs read -1."""
        assert "none" in admin.text("quota", "set", "region-1", "snapshots", "none")
        table = [line.split() for line in admin.text("quota", "show", "region-1").splitlines()]
        assert ["snapshots", "none", "0", "0"] in table
        assert admin.json("quota", "set", "region-1", "snapshots", "none")["quota"]["limit"] == -1

    @pytest.mark.parametrize("limit", ["many", "1.5", "\u00b2"])
    def test_a_limit_that_is_no_number_is_a_wrong_command_line(self, admin: Admin, limit: str) -> None:
        """Status 2, with the value and the words there are; nothing has changed."""
        before = admin.json("quota", "show", "region-1")

        result = admin.run("quota", "set", "region-1", "volumes", limit)

        assert result.exit_code == 2
        assert f"{limit!r} is neither a number nor one of none, default" in result.stderr
        assert admin.json("quota", "show", "region-1") == before


@pytest.mark.usefixtures("ci")
class TestKeys:
    def test_a_key_is_saved_for_the_commands(self, admin: Admin, tmp_path: Path) -> None:
        """The file has mode 0600 and works as credentials; nothing printed tells the secret."""
        file = tmp_path / "ci.json"

        printed = admin.text("key", "create", "ci", "--save", str(file), "--json")

        told = json.loads(file.read_text())
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert told["secret_key"] not in printed
        assert "secret" not in json.loads(printed)["key"]
        listed = CliRunner().invoke(main, ["--credentials", str(file), "server", "list", "--json"])
        assert json.loads(listed.stdout)["servers"] == []

        admin.text("key", "set", told["access_key"], "--disable")
        refused = CliRunner().invoke(main, ["--credentials", str(file), "server", "list"])
        assert refused.exit_code == 1
        assert "APIGW.0301" in refused.stderr

    def test_a_file_that_is_there_is_left_alone(self, admin: Admin, tmp_path: Path) -> None:
        """No key is made either; and a refusal leaves no file."""
        file, none = tmp_path / "there.json", tmp_path / "none.json"
        file.write_text("kept")
        before = admin.everything()

        assert "File exists" in admin.refusal("key", "create", "ci", "--save", str(file))
        assert "user nobody does not exist" in admin.refusal("key", "create", "nobody", "--save", str(none))

        assert file.read_text() == "kept"
        assert not none.exists()
        assert admin.everything() == before

    def test_the_secret_is_printed_once(self, admin: Admin) -> None:
        """By the command that makes the key; lists never show it."""
        secret = admin.json("key", "create", "ci", "--description", "nightly")["key"]["secret"]

        assert len(secret) == 40
        assert secret not in admin.text("key", "list", "--json")

    def test_a_third_key_is_refused(self, admin: Admin) -> None:
        """Two for each user, as in IAM."""
        for _ in range(2):
            admin.text("key", "create", "ci")

        assert "at most 2 access keys" in admin.refusal("key", "create", "ci")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["user", "create", "admin", "--password-stdin"], "name: there is a user called 'admin' already"),
        (["user", "create", "x" * 65, "--password-stdin"], "name: a user's has 1 to 64 printable characters"),
        (["user", "create", "a\tb", "--password-stdin"], "name: a user's has 1 to 64 printable characters"),
        (["user", "set", "nobody", "--disable"], "user nobody does not exist"),
        (["project", "create", "region-1"], "name: there is a project called 'region-1' already"),
        (["project", "create", "p", "--domain", "none"], "domain none does not exist"),
        (["project", "set", "region-1", "--description", "x" * 256], "description: has at most 255"),
        (["quota", "show", "nowhere"], "project nowhere does not exist"),
        (["quota", "set", "nowhere", "volumes", "1"], "project nowhere does not exist"),
        (["quota", "set", "region-1", "disks", "1"], "resource: 'disks' is not one of volumes, gigabytes, snapshots"),
        (["quota", "set", "region-1", "volumes", str(2**31)], "limit: must be -1 (no limit) to 2147483647, not"),
        (["domain", "create", "onecut"], "name: there is a domain called 'onecut' already"),
        (
            ["role", "revoke", "admin", "--project", "region-1"],
            "role of user admin in project region-1 does not exist",
        ),
        (["key", "delete", "NONE"], "access key NONE does not exist"),
    ],
)
def test_what_is_refused_changes_nothing(admin: Admin, arguments: list[str], complaint: str) -> None:
    """Each refusal names the field or the thing; the lists are what they were."""
    before = admin.everything()

    assert admin.refusal(*arguments, stdin=f"{PASSWORD}\n").startswith(complaint)

    assert admin.everything() == before


@pytest.mark.parametrize("password", ["", "short", "x" * 129, "bell\a bell"])
def test_a_password_that_is_none_is_refused(admin: Admin, password: str) -> None:
    """8 to 128 printable characters; the message does not repeat it."""
    complaint = admin.refusal("user", "create", "ann", "--password-stdin", stdin=f"{password}\n")

    assert complaint == f"password: has 8 to 128 printable characters, not {len(password)}"


def test_a_folder_without_a_database_is_left_as_it_is(tmp_path: Path) -> None:
    """A mistyped folder is named, and no database is made in it."""
    assert f"there is no database {tmp_path}/none/onecut.db" in Admin(tmp_path / "none").refusal("user", "list")

    assert not (tmp_path / "none").exists()


def test_the_service_need_not_run(tmp_path: Path) -> None:
    """The database of a service that has stopped is worked on alike; one of another release is refused."""
    with running_site(tmp_path):
        pass
    admin = Admin(tmp_path)
    assert [user["name"] for user in admin.json("user", "list")["users"]] == ["admin"]

    database = Database(f"sqlite:///{tmp_path}/onecut.db")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    database.close()

    assert "the database has the schema 0001" in admin.refusal("user", "list")
