from datetime import timedelta
from pathlib import Path

import pytest
from identity_site import Site

from onecut.db.identity import AccessKey, Domain, Project, Token, User
from onecut.errors import BadRequest, Forbidden, Misconfigured, NotFound, Unauthenticated
from onecut.service import identity, roles
from onecut.service.identity import TOKEN_LIFE, Caller, ProjectFilter, Scope
from onecut.service.roles import Role
from onecut.service.secrets import ServiceKey


def _admin_id(site: Site) -> str:
    with site.database.reading() as session:
        return session.query(User).filter_by(name=site.admin.user_name).one().id


def _issue(site: Site, scope: Scope | None = None, *, user_id: str | None = None) -> tuple[str, identity.TokenFacts]:
    with site.database.writing() as session:
        return identity.issue_token(session, user_id or _admin_id(site), scope, now=site.clock.now())


def _exchange(site: Site, token: str, scope: Scope | None = None) -> tuple[str, identity.TokenFacts]:
    with site.database.writing() as session:
        return identity.exchange_token(session, token, scope, now=site.clock.now())


def _caller(site: Site, token: str) -> Caller:
    with site.database.reading() as session:
        return identity.caller_by_token(session, token, site.clock.now())


class TestFirstStart:
    def test_it_is_done_once(self, site: Site) -> None:
        """A later start makes nothing and tells nothing."""
        with site.database.writing() as session:
            again = identity.bootstrap(
                session,
                site.service_key,
                site.passwords,
                region="region-2",
                now=site.clock.now(),
            )

        assert again is None
        with site.database.reading() as session:
            assert [session.query(table).count() for table in (Domain, Project, User, AccessKey)] == [1, 1, 1, 1]

    def test_what_it_tells_signs_in_and_signs(self, site: Site) -> None:
        """Password and key are those of one user, whose only project has the region's name."""
        user_id = identity.sign_in(
            site.database,
            site.passwords,
            domain_name=site.admin.domain_name,
            user_name=site.admin.user_name,
            password=site.admin.password,
        )
        with site.database.reading() as session:
            signer = identity.find_signer(session, site.service_key, site.admin.access_key)

        assert (signer.user_id, signer.secret_key) == (user_id, site.admin.secret_key)
        assert signer.roles == {site.admin.project_id: "admin"}
        assert site.admin.project_name == "region-1"

    def test_neither_password_nor_secret_is_stored_in_plain_text(self, site: Site, tmp_path: Path) -> None:
        """No byte of database or log file spells one of them, nor a token; and no repr shows one."""
        token, _ = _issue(site)

        stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        for secret in (site.admin.password, site.admin.secret_key, token):
            assert secret.encode() not in stored
            assert secret not in repr(site.admin)

    def test_a_service_key_of_another_database_stops_the_start(self, site: Site, tmp_path: Path) -> None:
        """An operator who lost the key file learns it at the start, not from failing signatures."""
        other = ServiceKey.open(tmp_path / "other.key")

        with pytest.raises(Misconfigured), site.database.writing() as session:
            identity.bootstrap(session, other, site.passwords, region="region-1", now=site.clock.now())


class TestTokens:
    def test_without_a_scope_a_token_is_for_the_only_project(self, site: Site) -> None:
        """A client that knows no project gets one that works; the domain has just one."""
        token, facts = _issue(site)

        assert facts.project is not None
        assert _caller(site, token).project_ids == {site.admin.project_id}

    def test_without_a_scope_a_token_is_for_the_domain_where_projects_are_several(self, site: Site) -> None:
        """Nobody guesses which project was meant. A disabled project does not count."""
        site.add_project("off", enabled=False)
        assert _issue(site)[1].project is not None
        site.add_project("region-2")

        token, facts = _issue(site)

        assert facts.domain is not None
        assert _caller(site, token).project_ids == frozenset()

    def test_scopes_are_found_by_id_and_by_name(self, site: Site) -> None:
        """Each way to name the own project or domain leads to it."""
        site.add_project("region-2")
        project_id = site.admin.project_id
        domain_id = _issue(site)[1].user_domain.id

        for scope in (
            Scope("project", project_id),
            Scope("project", name="region-1"),
            Scope("project", name="region-1", domain_name=site.admin.domain_name),
            Scope("project", name="region-1", domain_id=domain_id),
        ):
            assert _caller(site, _issue(site, scope)[0]).project_id == project_id
        for scope in (Scope("domain", domain_id), Scope("domain", name=site.admin.domain_name)):
            assert _issue(site, scope)[1].domain is not None

    def test_a_foreign_scope_is_refused_like_one_that_is_not_there(self, site: Site) -> None:
        """By id or by name, the answer does not tell whether somebody else has it. Disabled ones are refused too."""
        site.add_tenant("other")
        foreign = site.project_of("other")
        disabled = site.add_project("off", enabled=False)

        said = set()
        for scope in (
            Scope("project", foreign),
            Scope("project", name="other", domain_name="other"),
            Scope("project", name="region-1", domain_name="other"),
            Scope("project", "f" * 32),
            Scope("project", name="none"),
            Scope("project", disabled),
        ):
            with pytest.raises(Unauthenticated) as refused:
                _issue(site, scope)
            said.add(str(refused.value))
        assert len(said) == 1
        for scope in (Scope("domain", name="other"), Scope("domain", name="none")):
            with pytest.raises(Unauthenticated):
                _issue(site, scope)

    def test_a_token_ends_after_twenty_four_hours_and_is_swept(self, site: Site) -> None:
        """At its last moment it is refused; the next sign-in of anybody removes its row."""
        token, facts = _issue(site)
        assert facts.expires_at - facts.issued_at == timedelta(hours=24)
        site.clock.jump(TOKEN_LIFE - timedelta(seconds=1))
        _caller(site, token)

        site.clock.jump(timedelta(seconds=1))

        with pytest.raises(Unauthenticated):
            _caller(site, token)
        _issue(site)
        with site.database.reading() as session:
            assert session.query(Token).count() == 1

    def test_an_exchanged_token_never_outlives_the_first(self, site: Site) -> None:
        """However often a token is exchanged, the last one ends with the first; its scope may differ."""
        token, first = _issue(site)
        for _ in range(3):
            site.clock.jump(timedelta(hours=7))
            token, facts = _exchange(site, token, Scope("domain", name=site.admin.domain_name))

        assert facts.expires_at == first.expires_at
        assert facts.method == "token"
        assert facts.project is None
        site.clock.jump(timedelta(hours=3))
        with pytest.raises(Unauthenticated):
            _exchange(site, token)

    def test_an_exchange_without_a_scope_keeps_it(self, site: Site) -> None:
        """A domain's token stays one, even where the default would be a project; and the other way round."""
        domain_token, _ = _issue(site, Scope("domain", name=site.admin.domain_name))
        project_token, _ = _issue(site)
        site.add_project("region-2")

        assert _exchange(site, domain_token)[1].project is None
        assert _exchange(site, project_token)[1].project is not None

    @pytest.mark.parametrize("table", [User, Domain, Project])
    def test_disabling_user_domain_or_project_ends_its_tokens_and_signatures(
        self,
        site: Site,
        table: type[User] | type[Domain] | type[Project],
    ) -> None:
        """At once, not when they expire. A disabled project goes from the reach of the user's keys."""
        token, _ = _issue(site)
        with site.database.writing() as session:
            session.query(table).update({"enabled": False})

        with pytest.raises(Unauthenticated):
            _caller(site, token)
        with site.database.reading() as session:
            if table is Project:
                assert not identity.find_signer(session, site.service_key, site.admin.access_key).roles
            else:
                with pytest.raises(Unauthenticated):
                    identity.find_signer(session, site.service_key, site.admin.access_key)

    def test_a_revoked_token_is_refused_and_others_go_on(self, site: Site) -> None:
        """Revoking ends one token; the one exchanged for it stays."""
        token, _ = _issue(site)
        other, _ = _exchange(site, token)
        caller = _caller(site, token)

        with site.database.writing() as session:
            identity.revoke_token(session, caller, token, site.clock.now())

        with pytest.raises(Unauthenticated):
            _caller(site, token)
        _caller(site, other)

    def test_a_token_of_another_domain_is_not_seen(self, site: Site) -> None:
        """Neither validated nor revoked: it answers like one that does not exist."""
        user_id, _, _ = site.add_tenant("other")
        foreign, _ = _issue(site, user_id=user_id)
        caller = _caller(site, _issue(site)[0])

        said = set()
        for token in (foreign, "no-such-token"):
            with pytest.raises(NotFound) as refused, site.database.writing() as session:
                identity.revoke_token(session, caller, token, site.clock.now())
            said.add(str(refused.value))
        assert len(said) == 1
        _caller(site, foreign)


class TestProjects:
    def test_filters_are_exact_and_stay_in_the_own_domain(self, site: Site) -> None:
        """The SDK fails on two hits, so a name that begins alike is none; a foreign project never shows."""
        caller = _caller(site, _issue(site)[0])
        site.add_project("region-1_team")
        site.add_project("region-2", enabled=False)
        site.add_tenant("other")

        def names(**wanted: str | bool) -> list[str]:
            with site.database.reading() as session:
                found, _ = identity.list_projects(
                    session,
                    caller,
                    ProjectFilter(**wanted),  # type: ignore[arg-type] # one helper for texts and flags
                    page=1,
                    per_page=10,
                )
                return [project.name for project in found]

        assert names() == ["region-1", "region-1_team", "region-2"]
        assert names(name="region-1") == ["region-1"]
        assert names(name="other") == []
        assert names(domain_id=caller.domain_id, parent_id=caller.domain_id, enabled=False) == ["region-2"]
        assert names(domain_id="f" * 32) == []
        assert names(parent_id="f" * 32) == []
        assert names(is_domain=True) == []
        assert len(names(is_domain=False)) == 3

    def test_pages_neither_repeat_nor_lose_a_project(self, site: Site) -> None:
        """Seven projects in pages of three; only the last page says that nothing follows."""
        caller = _caller(site, _issue(site)[0])
        for number in range(6):
            site.add_project(f"p{number}")

        with site.database.reading() as session:
            pages = [
                identity.list_projects(session, caller, ProjectFilter(), page=page, per_page=3) for page in (1, 2, 3)
            ]

        assert [project.name for found, _ in pages for project in found] == [*(f"p{n}" for n in range(6)), "region-1"]
        assert [more for _, more in pages] == [True, True, False]


class TestAccessKeys:
    def test_a_user_has_at_most_two_keys(self, site: Site) -> None:
        """As in IAM. An inactive key counts; a deleted one does not."""
        caller = _caller(site, _issue(site)[0])

        def create() -> str:
            with site.database.writing() as session:
                key, _ = identity.create_access_key(
                    session,
                    site.service_key,
                    caller,
                    user_id=caller.user_id,
                    description="",
                    now=site.clock.now(),
                )
                return key.access

        second = create()
        with site.database.writing() as session:
            identity.update_access_key(session, caller, second, active=False, description=None)
        with pytest.raises(BadRequest, match="at most 2"):
            create()
        with site.database.writing() as session:
            identity.delete_access_key(session, caller, second)
        create()

    def test_an_inactive_or_deleted_key_signs_nothing(self, site: Site) -> None:
        """It is refused in the words for a key that never was; made active again it signs as before."""
        caller = _caller(site, _issue(site)[0])
        access = site.admin.access_key

        def refusal(key: str) -> str:
            with pytest.raises(Unauthenticated) as refused, site.database.reading() as session:
                identity.find_signer(session, site.service_key, key)
            return str(refused.value)

        with site.database.writing() as session:
            identity.update_access_key(session, caller, access, active=False, description="resting")
        assert refusal(access) == refusal("NEVERWAS")
        with site.database.writing() as session:
            key = identity.update_access_key(session, caller, access, active=True, description=None)
            assert key.description == "resting"
        with site.database.reading() as session:
            identity.find_signer(session, site.service_key, access)
        with site.database.writing() as session:
            identity.delete_access_key(session, caller, access)
        assert refusal(access) == refusal("NEVERWAS")

    def test_somebody_elses_key_is_not_seen(self, site: Site) -> None:
        """Not shown, changed, deleted or listed, and none is made for somebody else."""
        user_id, foreign, _ = site.add_tenant("other")
        caller = _caller(site, _issue(site)[0])

        with site.database.writing() as session:
            with pytest.raises(NotFound):
                identity.get_access_key(session, caller, foreign)
            with pytest.raises(NotFound):
                identity.update_access_key(session, caller, foreign, active=False, description=None)
            with pytest.raises(NotFound):
                identity.delete_access_key(session, caller, foreign)
            with pytest.raises(Forbidden):
                identity.list_access_keys(session, caller, user_id=user_id)
            with pytest.raises(Forbidden):
                identity.create_access_key(
                    session,
                    site.service_key,
                    caller,
                    user_id=user_id,
                    description="",
                    now=site.clock.now(),
                )
            assert [key.access for key in identity.list_access_keys(session, caller, user_id=None)] == [
                site.admin.access_key,
            ]


def test_x_project_id_narrows_a_signer(site: Site) -> None:
    """The project it names, if it is the signer's; nothing, if it is not; all, if none is named."""
    second = site.add_project("region-2")
    with site.database.reading() as session:
        signer = identity.find_signer(session, site.service_key, site.admin.access_key)

    assert signer.caller(None).project_ids == {site.admin.project_id, second}
    assert signer.caller(second).project_ids == {second}
    assert signer.caller("f" * 32).project_ids == frozenset()
    assert site.admin.secret_key not in repr(signer)


def test_a_signer_has_the_roles_of_the_moment(site: Site) -> None:
    """A role for one project and one for all: the stronger counts; what is revoked is gone for the next request."""
    second = site.add_project("region-2")

    def signer_roles() -> dict[str, Role]:
        with site.database.reading() as session:
            return dict(identity.find_signer(session, site.service_key, site.admin.access_key).roles)

    def regrant(role: Role | None, project_id: str | None) -> None:
        with site.database.writing() as session:
            user = session.query(User).filter_by(name=site.admin.user_name).one()
            project = None if project_id is None else session.get_one(Project, project_id)
            if role is None:
                roles.revoke(session, user, project)
            else:
                roles.grant(session, user, role, project)

    assert signer_roles() == {site.admin.project_id: "admin", second: "admin"}
    regrant("reader", None)
    regrant("operator", second)
    assert signer_roles() == {site.admin.project_id: "reader", second: "operator"}
    regrant("admin", None)
    assert signer_roles() == {site.admin.project_id: "admin", second: "admin"}
    regrant(None, None)
    assert signer_roles() == {second: "operator"}
    with site.database.reading() as session:
        signer = identity.find_signer(session, site.service_key, site.admin.access_key)
    assert signer.caller(site.admin.project_id).project_ids == frozenset()


def test_without_a_role_there_is_no_token_for_the_project(site: Site) -> None:
    """The project is told like one that is not there; without a scope the token is for the domain, with no role."""
    with site.database.writing() as session:
        roles.revoke(session, session.query(User).filter_by(name=site.admin.user_name).one(), None)

    token, facts = _issue(site)

    assert (facts.project, facts.role) == (None, None)
    assert _caller(site, token).project_ids == frozenset()
    said = set()
    for scope in (Scope("project", site.admin.project_id), Scope("project", "f" * 32)):
        with pytest.raises(Unauthenticated) as refused:
            _issue(site, scope)
        said.add(str(refused.value))
    assert len(said) == 1
