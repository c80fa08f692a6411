"""What `doctor` makes of what it sees."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core import checkup
from cdf_upsert.core.access import (
    ClientCredentials,
    Endpoints,
    GivenToken,
    Network,
    Origin,
    Session,
    Settings,
    Target,
)
from cdf_upsert.core.checkup import Check, Connected, Inspected, Mark
from cdf_upsert.core.claims import Claims
from cdf_upsert.core.diagnosis import NoTls, ProxyFailed, Situation, Unreachable, Unresolved, Untrusted
from cdf_upsert.core.redact import Secret
from cdf_upsert.core.stream import Limit, StreamFacts

NOW = 1_800_000_000.0
TARGET = Target("https://eu-1.cognitedata.com", "acme")
HERE = Situation(TARGET, NOW, "flights", None, 0.0)


def acl(name: str, *actions: str, scope: Any = None, projects: Any = None) -> dict[str, Any]:
    return {
        name: {"actions": list(actions), "scope": {"all": {}} if scope is None else scope},
        "projectScope": {"projects": ["acme"]} if projects is None else projects,
    }


def spaces(*names: str) -> dict[str, Any]:
    return {"spaceIdScope": {"spaceIds": list(names)}}


WRITE, READ, MODELS = (
    acl("streamRecordsAcl", "WRITE"),
    acl("streamRecordsAcl", "READ"),
    acl("dataModelsAcl", "READ"),
)


@pytest.mark.parametrize(
    ("credentials", "told"),
    [
        (GivenToken(Secret("t")), "a given token"),
        (ClientCredentials("https://idp/t", "me", Secret("s")), "client me at https://idp/t"),
        (Session("test", Endpoints("a", "t"), "me", Path("x")), "the session of profile test"),
    ],
)
def test_the_configuration_is_told_with_its_places(credentials, told):
    """Where each value came from, gathered by place, and no value of a secret."""
    origins = (
        Origin("project", "acme", "CDF_PROJECT", "the environment"),
        Origin("token", "***", "CDF_TOKEN", ".env"),
        Origin("cluster", "eu-1", "CDF_CLUSTER", "the environment"),
    )
    check = checkup.configuration(Settings(TARGET, credentials, Network(), origins=origins))
    assert told in check.sentence
    assert "(from the environment: CDF_PROJECT, CDF_CLUSTER; from .env: CDF_TOKEN)" in check.sentence


@pytest.mark.parametrize(
    ("seen", "marks"),
    [
        (Connected("h", "1.2.3.4", None, "TLSv1.3", 0.4), {"address": "ok", "tls": "ok", "clock": "ok"}),
        (Connected("h", None, "p:1", None, None), {"address": "ok", "tls": "ok", "clock": "warning"}),
        (Connected("h", None, None, None, 3600), {"address": "ok", "tls": "ok", "clock": "failed"}),
        (Untrusted("h", "r", False, NOW), {"address": "ok", "tls": "failed"}),
        (NoTls("h", "r"), {"address": "ok", "tls": "failed"}),
        (Unresolved("h", "r"), {"address": "failed"}),
        (Unreachable("h", "r"), {"address": "failed"}),
        (ProxyFailed("p", "h", "r"), {"address": "failed"}),
    ],
)
def test_a_connection_is_checked_up_to_what_fails(seen, marks):
    """What cannot be known is not said; what fails here is this side's: exit code 2."""
    checks = checkup.connection(seen)
    assert {check.name: check.mark for check in checks} == marks
    assert checkup.exit_code(checks) == (2 if "failed" in marks.values() else 0)


def test_a_proxy_on_the_way_is_named():
    """Whoever reads the answer sees which way it went."""
    assert "proxy p:1" in checkup.connection(Connected("h", "1.2.3.4", "p:1", "TLSv1.3", 0))[0].sentence


@pytest.mark.parametrize(
    ("claims", "mark", "told"),
    [
        (None, Mark.OK, "need not"),
        (Claims(), Mark.OK, "The sign-in gives a token."),
        (
            Claims("https://idp", (TARGET.base_url,), ("a", "b"), NOW + 60),
            Mark.OK,
            "by https://idp, for https://eu-1.cognitedata.com, with the scopes a, b, good until 2027-01-15 08:01",
        ),
        (Claims(expires=NOW - 60), Mark.FAILED, "The token ended at"),
        (Claims(audience=("https://asia-1.cognitedata.com",)), Mark.WARNING, "asia-1"),
    ],
)
def test_a_token_is_described_and_never_shown(claims, mark, told):
    """Issuer, audience, scopes, end: what the token says, when it says anything."""
    check = checkup.token_had(claims, Situation(TARGET, NOW, None, claims, 0.0))
    assert check.mark is mark
    assert told in check.sentence


def test_a_token_that_was_not_had():
    """A refusal is the service's, exit code 4; all else is this side's, 2."""
    assert checkup.token_missing("No.", 4) == Check("token", Mark.FAILED, "No.", exit_code=4)
    assert checkup.token_missing("Down.", 5).exit_code == 2


@pytest.mark.parametrize(
    ("seen", "mark", "told"),
    [
        (Inspected(200, projects=("acme",)), Mark.OK, "open to this sign-in"),
        (Inspected(200, projects=("acme-test", "other")), Mark.FAILED, "good for acme-test, other, and not"),
        (Inspected(200, projects=("acmee",)), Mark.FAILED, "did you mean acmee?"),
        (Inspected(200), Mark.FAILED, "opens no project"),
        (Inspected(401, "No"), Mark.FAILED, "refuses the token"),
        (Inspected(404), Mark.WARNING, "does not tell"),
        (Inspected(403), Mark.WARNING, "does not tell"),
        (Inspected(502), Mark.FAILED, "answers 502"),
        (Inspected(302), Mark.FAILED, "redirects elsewhere"),
    ],
)
def test_whether_the_project_is_open(seen, mark, told):
    """A token for other projects is told with their names."""
    check = checkup.project(seen, HERE)
    assert check.mark is mark
    assert told in f"{check.sentence} {check.mend}"
    assert (check.exit_code == 4) == (mark is Mark.FAILED)


@pytest.mark.parametrize(
    ("capabilities", "mark", "told"),
    [
        ((WRITE, READ, MODELS), Mark.OK, "Records may be written."),
        ((WRITE, MODELS), Mark.WARNING, "streamRecordsAcl:READ"),
        ((READ, MODELS), Mark.FAILED, "lacks streamRecordsAcl:WRITE."),
        ((WRITE, READ), Mark.FAILED, "lacks dataModelsAcl:READ."),
        ((READ,), Mark.FAILED, "lacks streamRecordsAcl:WRITE and dataModelsAcl:READ."),
        ((acl("streamRecordsAcl", "WRITE", "READ"), MODELS), Mark.OK, "may be written."),
        (
            (acl("streamRecordsAcl", "WRITE", "READ", scope=spaces("b", "a")), MODELS),
            Mark.OK,
            "spaces a, b, and",
        ),
        ((acl("streamRecordsAcl", "WRITE", scope=spaces()), READ, MODELS), Mark.FAILED, "lacks"),
        (
            (acl("streamRecordsAcl", "WRITE", projects={"projects": ["x"]}), READ, MODELS),
            Mark.FAILED,
            "lacks",
        ),
        ((acl("streamRecordsAcl", "WRITE", projects={"allProjects": {}}), READ, MODELS), Mark.OK, "written"),
        (({"streamRecordsAcl": {"actions": ["WRITE", "READ"], "scope": {}}}, MODELS), Mark.OK, "written"),
        (({"streamRecordsAcl": "WRITE", "projectScope": 5}, READ, MODELS), Mark.FAILED, "lacks"),
    ],
)
def test_whether_records_may_be_written(capabilities, mark, told):
    """By what the token inspection lists for this project: for all spaces, or for some, or not at all."""
    check = checkup.permission(Inspected(200, projects=("acme",), capabilities=capabilities), "acme")
    assert check is not None
    assert check.mark is mark
    assert told in f"{check.sentence} {check.mend}"


def test_permissions_that_nobody_tells_are_not_guessed():
    """Without the list nothing is said."""
    assert checkup.permission(Inspected(404), "acme") is None
    assert checkup.permission(Inspected(200, projects=("acme",)), "acme") is None


def facts(
    *,
    mutable: bool = True,
    template: str = "BasicLiveData",
    records: Any = (10, 100),
    gigabytes: Any = (1, 15),
) -> StreamFacts:
    return StreamFacts(
        "flights",
        template,
        mutable,
        None if records is None else Limit(records[1], records[0]),
        None if gigabytes is None else Limit(gigabytes[1], gigabytes[0]),
    )


def test_whether_the_stream_takes_upserts():
    """Only mutable streams do."""
    assert checkup.stream(facts()).mark is Mark.OK
    check = checkup.stream(facts(mutable=False))
    assert check.mark is Mark.FAILED
    assert "immutable" in check.sentence


@pytest.mark.parametrize(
    ("status", "known", "mark", "told"),
    [
        (404, (), Mark.FAILED, "no stream flights"),
        (404, ("flight", "weather"), Mark.FAILED, "did you mean flight?"),
        (404, ("weather",), Mark.FAILED, "there are weather."),
        (403, (), Mark.WARNING, "streamsAcl:READ"),
        (401, (), Mark.FAILED, "refuses the token"),
    ],
)
def test_a_stream_that_cannot_be_seen(status, known, mark, told):
    """A name that is nearly right is offered; a missing permission to look is no obstacle to writing."""
    check = checkup.stream_refused(status, "No", HERE, known)
    assert check.mark is mark
    assert told in f"{check.sentence} {check.mend}"


@pytest.mark.parametrize(
    ("seen", "mark", "told"),
    [
        (facts(), Mark.OK, "10 of 100 records and 1 of 15 GB"),
        (facts(records=(90, 100)), Mark.WARNING, "almost full"),
        (facts(gigabytes=(15, 15)), Mark.FAILED, "is full"),
        (facts(records=None, gigabytes=(0.5, 15)), Mark.OK, "0.5 of 15 GB are taken"),
        (facts(records=None, gigabytes=None), Mark.WARNING, "does not tell"),
        (facts(records=(None, 5), gigabytes=(1, 0)), Mark.WARNING, "does not tell"),
    ],
)
def test_the_room_that_is_left(seen, mark, told):
    """By records and by gigabytes, whichever is scarcer."""
    check = checkup.room(seen)
    assert check.mark is mark
    assert told in check.sentence


def test_budgets_by_template():
    """What is published is told; what is not is not made up."""
    assert "170,000 new records, 85,000 updates and 170 MB" in checkup.budgets("BasicLiveData").sentence
    assert "not published" in checkup.budgets("Enterprise").sentence
    assert "30 requests a second" in checkup.budgets("").sentence


def test_streams_are_listed_when_none_is_named():
    """With their kinds, and not all when there are many."""
    assert checkup.streams([facts(), facts(mutable=False)]).sentence.count("flights (") == 2
    assert "and 5 more" in checkup.streams([facts()] * 25).sentence
    assert checkup.streams([]).mark is Mark.WARNING


def test_the_exit_code_is_that_of_the_first_failure():
    """What fails later often fails because of it."""
    failed = [
        Check("a", Mark.OK, "A."),
        Check("b", Mark.FAILED, "B.", "", 4),
        Check("c", Mark.FAILED, "C.", "", 2),
    ]
    assert checkup.exit_code(failed) == 4
    assert checkup.exit_code(failed[:1]) == 0


def test_faults_of_the_settings_become_checks():
    """One for each fault."""
    found = checkup.not_usable("The settings have these faults:\n  - A.\n  - B.", configured=False)
    assert [check.sentence for check in found] == ["A.", "B."]
    assert checkup.not_usable("C.", configured=True)[0].name == "connection"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    st.integers(100, 599),
    JSON
    | st.fixed_dictionaries(
        {
            "projects": st.lists(st.fixed_dictionaries({"projectUrlName": JSON})) | JSON,
            "capabilities": st.lists(
                st.fixed_dictionaries({"streamRecordsAcl": JSON, "projectScope": JSON}) | JSON
            ),
        }
    ),
)
def test_no_reply_of_the_inspection_breaks_anything(status, content):
    """Whatever the service tells, the checks can be made."""
    seen = checkup.inspected(status, content, "")
    checkup.project(seen, HERE)
    checkup.permission(seen, "acme")
