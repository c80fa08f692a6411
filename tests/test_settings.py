"""What makes a `Settings`: layers, families of variables, flows, and where each value came from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cdf_upsert.core.access import cluster_of
from cdf_upsert.core.redact import MASK
from cdf_upsert.core.routes import is_loopback
from cdf_upsert.settings import (
    ClientAuth,
    ClientCredentials,
    Endpoints,
    GivenToken,
    Proxy,
    Secret,
    Session,
    Target,
    environment_with_dotenv,
    resolve,
)
from tests.configuring import CLIENT, ENTRA, PERSON, TARGET, TOKEN, faults, settings


@pytest.mark.parametrize(
    ("environment", "target"),
    [
        (TARGET, Target("https://westeurope-1.cognitedata.com", "acme")),
        ({"COGNITE_PROJECT": "b", "COGNITE_BASE_URL": "https://x.test/"}, Target("https://x.test", "b")),
        ({"CDF_PROJECT": "b", "CDF_URL": "http://127.0.0.1:8080"}, Target("http://127.0.0.1:8080", "b")),
        ({**TARGET, "CDF_UPSERT_PROJECT": "mine"}, Target("https://westeurope-1.cognitedata.com", "mine")),
        ({**TARGET, "COGNITE_PROJECT": "acme"}, Target("https://westeurope-1.cognitedata.com", "acme")),
        ({"CDF_PROJECT": "b", "CDF_URL": "https://gate.test/cdf/"}, Target("https://gate.test/cdf", "b")),
        (
            {**TARGET, "CDF_URL": "https://acme.plink.westeurope-1.cognitedata.com"},
            Target("https://acme.plink.westeurope-1.cognitedata.com", "acme"),
        ),
    ],
)
def test_both_families_name_the_target(tmp_path: Path, environment, target):
    """Either family of variables names the project and the address, and our own names beat both."""
    assert settings(tmp_path, {"CDF_TOKEN": "t0ken", **environment}).target == target


def test_a_flag_beats_the_environment_beats_dotenv_beats_toml(tmp_path: Path):
    """Each layer decides as soon as the ones above it say nothing."""
    (tmp_path / "cdf-upsert.toml").write_text('project = "common"\n[profiles.test]\nproject = "profile"\n')
    environment = {**TOKEN, "CDF_UPSERT_PROFILE": "test"}
    (tmp_path / ".env").write_text("CDF_PROJECT=dotenv\n")
    assert settings(tmp_path, environment, {"project": "flag"}).target.project == "flag"
    assert settings(tmp_path, environment).target.project == "acme"
    del environment["CDF_PROJECT"]
    assert settings(tmp_path, environment).target.project == "dotenv"
    (tmp_path / ".env").unlink()
    assert settings(tmp_path, environment).target.project == "profile"
    del environment["CDF_UPSERT_PROFILE"]
    assert settings(tmp_path, environment).target.project == "common"


@pytest.mark.parametrize(
    ("flags", "dotenv", "base_url", "cluster"),
    [
        ({"cluster": "asia-1"}, "CDF_URL=https://x.test", "https://asia-1.cognitedata.com", "asia-1"),
        ({"base_url": "https://x.test"}, "CDF_CLUSTER=asia-1", "https://x.test", None),
        (
            {"base_url": "https://a.plink.eu-1.cognitedata.com"},
            "CDF_CLUSTER=asia-1",
            "https://a.plink.eu-1.cognitedata.com",
            "eu-1",
        ),
        ({}, "CDF_URL=https://x.test\nCDF_CLUSTER=asia-1", "https://x.test", "asia-1"),
    ],
)
def test_cluster_and_address_go_by_the_layer(tmp_path: Path, flags, dotenv, base_url, cluster):
    """The higher of cluster and address decides; in one place the cluster still says whom tokens are for."""
    (tmp_path / ".env").write_text(f"{dotenv}\n")
    found = settings(tmp_path, {"CDF_PROJECT": "p", "CDF_TOKEN": "t0ken"}, flags)
    assert (found.target.base_url, found.cluster) == (base_url, cluster)


@pytest.mark.parametrize(
    ("environment", "credentials"),
    [
        (TOKEN, GivenToken(Secret("t0ken-t0ken"))),
        ({**TARGET, "CDF_TOKEN": "Bearer t0ken"}, GivenToken(Secret("t0ken"))),
        ({**CLIENT, "CDF_TOKEN": "t0ken", "LOGIN_FLOW": "token"}, GivenToken(Secret("t0ken"))),
        (
            CLIENT,
            ClientCredentials(
                f"{ENTRA}/tenant/oauth2/v2.0/token",
                "me",
                Secret("s3cret-s3cret"),
                ("https://westeurope-1.cognitedata.com/.default",),
            ),
        ),
        (
            {
                "COGNITE_PROJECT": "p",
                "COGNITE_BASE_URL": "https://x.test",
                "COGNITE_CLIENT_ID": "me",
                "COGNITE_CLIENT_SECRET": "s3cret",
                "COGNITE_TENANT_ID": "tenant",
            },
            ClientCredentials(
                f"{ENTRA}/tenant/oauth2/v2.0/token", "me", Secret("s3cret"), ("https://x.test/.default",)
            ),
        ),
        (
            {**CLIENT, "IDP_SCOPES": "a,b c", "IDP_TOKEN_URL": "https://idp.test/t", "IDP_TENANT_ID": ""},
            ClientCredentials("https://idp.test/t", "me", Secret("s3cret-s3cret"), ("a", "b", "c")),
        ),
        (
            {**CLIENT, "PROVIDER": "cdf", "CDF_UPSERT_CLIENT_AUTH": "Basic"},
            ClientCredentials(
                "https://auth.cognite.com/oauth2/token",
                "me",
                Secret("s3cret-s3cret"),
                client_auth=ClientAuth.BASIC,
            ),
        ),
        (
            {**CLIENT, "PROVIDER": "auth0", "IDP_TOKEN_URL": "https://acme.auth0.com/oauth/token"},
            ClientCredentials(
                "https://acme.auth0.com/oauth/token",
                "me",
                Secret("s3cret-s3cret"),
                audience="https://westeurope-1.cognitedata.com",
            ),
        ),
        (
            {**CLIENT, "PROVIDER": "other", "IDP_TOKEN_URL": "https://i.test/t", "IDP_RESOURCE": "r"},
            ClientCredentials(
                "https://i.test/t",
                "me",
                Secret("s3cret-s3cret"),
                ("https://westeurope-1.cognitedata.com/.default",),
                "https://westeurope-1.cognitedata.com",
                "r",
            ),
        ),
        (
            {"PROVIDER": "open_industrial_data", "IDP_CLIENT_ID": "me", "IDP_CLIENT_SECRET": "s3cret"},
            ClientCredentials(
                f"{ENTRA}/48d5043c-cf70-4c49-881c-c638f5796997/oauth2/v2.0/token",
                "me",
                Secret("s3cret"),
                ("https://api.cognitedata.com/.default",),
            ),
        ),
    ],
)
def test_every_way_of_signing_in_is_configured_by_its_variables(tmp_path: Path, environment, credentials):
    """The defaults of the fact sheet fill in what the variables leave open."""
    assert settings(tmp_path, environment).credentials == credentials


def test_open_industrial_data_needs_only_id_and_secret(tmp_path: Path):
    """The project and the address of open industrial data are known."""
    environment = {"PROVIDER": "open_industrial_data", "IDP_CLIENT_ID": "a", "IDP_CLIENT_SECRET": "s3cret"}
    assert settings(tmp_path, environment).target == Target("https://api.cognitedata.com", "publicdata")


@pytest.mark.parametrize(
    ("environment", "provider"),
    [
        (
            {},
            Endpoints(*(f"{ENTRA}/tenant/oauth2/v2.0/{end}" for end in ("authorize", "token", "devicecode"))),
        ),
        (
            {"IDP_AUTHORITY_URL": "https://sso.test/t"},
            Endpoints(
                *(f"https://sso.test/t/oauth2/v2.0/{end}" for end in ("authorize", "token", "devicecode"))
            ),
        ),
        ({"PROVIDER": "auth0", "IDP_DISCOVERY_URL": "https://a.test/oauth/"}, "https://a.test/oauth"),
        ({"PROVIDER": "other", "IDP_AUTHORITY_URL": "https://a.test"}, "https://a.test"),
    ],
)
def test_a_person_signs_in_where_the_provider_is(tmp_path: Path, environment, provider):
    """Entra's endpoints are known, others are found by their discovery document."""
    found = settings(tmp_path, PERSON | environment)
    assert isinstance(found.credentials, Session)
    assert found.credentials.provider == provider
    assert "offline_access" in found.credentials.scopes


def test_a_kept_session_needs_no_variables_and_yields_to_other_credentials(tmp_path: Path):
    """What login remembers is the last resort: it fills in all, and a token or secret beats it."""
    first = settings(tmp_path, {**PERSON, "IDP_DISCOVERY_URL": "https://d.test", "IDP_SCOPES": "a,b"})
    assert isinstance(first.credentials, Session)
    kept = {"settings": dict(first.credentials.remembered)}
    path = first.credentials.store / "default.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(kept))
    again = settings(tmp_path)
    assert again.target == first.target
    assert again.credentials == first.credentials
    assert isinstance(settings(tmp_path, {"CDF_TOKEN": "t0ken"} | TARGET).credentials, GivenToken)
    assert settings(tmp_path, {}, {"cluster": "asia-1"}).target.base_url == "https://asia-1.cognitedata.com"
    secret = {**TARGET, "LOGIN_FLOW": "client_credentials", "IDP_CLIENT_SECRET": "s3cret"}
    assert "IDP_CLIENT_ID is missing" in faults(tmp_path, secret)
    assert "IDP_CLIENT_ID is missing" in faults(tmp_path, {"LOGIN_FLOW": "client_credentials"})
    path.write_text("{broken")
    assert "Nothing is configured" in faults(tmp_path)


def test_a_flow_that_is_said_leaves_other_credentials_aside(tmp_path: Path):
    """With LOGIN_FLOW nothing is contradictory: a leftover secret or token is not used."""
    environment = {**PERSON, "IDP_CLIENT_SECRET": "s3cret", "CDF_TOKEN": "t0ken"}
    assert isinstance(settings(tmp_path, environment).credentials, Session)
    environment["LOGIN_FLOW"] = "client-credentials"
    assert isinstance(settings(tmp_path, environment).credentials, ClientCredentials)


def test_login_asks_for_a_person_whatever_else_is_set(tmp_path: Path):
    """`login` makes a session even where a secret is configured, in a browser or by device code."""
    for how, device in (({}, False), ({"device": True}, True)):
        found = settings(tmp_path, CLIENT, person=True, **how).credentials
        assert isinstance(found, Session)
        assert found.device is device
    found = settings(tmp_path, {**PERSON, "LOGIN_FLOW": "device-code"}, person=True).credentials
    assert isinstance(found, Session)
    assert found.device


def test_secrets_come_from_files_and_commands(tmp_path: Path):
    """A secret's file or command gives it without the white space around it, and a token's is asked again."""
    (tmp_path / "secret.txt").write_text("\ufefffr0m-file\n", encoding="utf-8")
    (tmp_path / "say.py").write_text("print(open('secret.txt', encoding='utf-8-sig').read())")
    bare = {name: value for name, value in CLIENT.items() if name != "IDP_CLIENT_SECRET"}
    by_file = settings(tmp_path, {**bare, "IDP_CLIENT_SECRET_FILE": "secret.txt"}).credentials
    command = f'"{sys.executable}" say.py'
    by_command = settings(tmp_path, {**bare, "CDF_UPSERT_SECRET_COMMAND": command}).credentials
    assert isinstance(by_file, ClientCredentials)
    assert isinstance(by_command, ClientCredentials)
    assert by_file.client_secret == by_command.client_secret == Secret("fr0m-file")
    given_token = settings(
        tmp_path, {**TARGET, "LOGIN_FLOW": "token", "CDF_UPSERT_SECRET_COMMAND": command}
    ).credentials
    assert isinstance(given_token, GivenToken)
    assert given_token.token == Secret("fr0m-file")
    (tmp_path / "secret.txt").write_text("Bearer newer")
    assert given_token.again is not None
    assert given_token.again() == Secret("newer")


def test_dotenv_fills_the_environment_up(tmp_path: Path):
    """Options read it too: what the environment lacks is added, what it has stays, names are expanded."""
    (tmp_path / ".env").write_text(
        "\ufeffexport CDF_CLUSTER='eu-1'\nCDF_URL=https://${CDF_CLUSTER}.${DOMAIN}  # why\n"
        "this is not for us\nCDF_UPSERT_LINGER=3\nA=from-file\n"
    )
    filled = environment_with_dotenv({"DOMAIN": "x.test", "A": "own"}, tmp_path)
    assert filled == {
        "CDF_CLUSTER": "eu-1",
        "CDF_URL": "https://eu-1.x.test",
        "CDF_UPSERT_LINGER": "3",
        "A": "own",
        "DOMAIN": "x.test",
    }
    assert environment_with_dotenv({"B": "1"}, tmp_path / "elsewhere") == {"B": "1"}


def test_a_merged_environment_gives_the_same_settings(tmp_path: Path):
    """Whether .env was merged into the environment before makes no difference, nor a contradiction."""
    (tmp_path / ".env").write_text("COGNITE_PROJECT=other\nCDF_TOKEN=t0ken\n")
    environment = {**TARGET, "CDF_UPSERT_STATE_DIR": str(tmp_path)}
    merged = environment_with_dotenv(environment, tmp_path)
    assert resolve({}, merged, tmp_path) == resolve({}, environment, tmp_path)
    assert resolve({}, merged, tmp_path).target.project == "acme"


def test_the_origin_of_each_value_is_known_and_secrets_are_masked(tmp_path: Path):
    """`doctor` can tell where every value came from without telling a secret."""
    (tmp_path / ".env").write_text("CDF_TOKEN=t0ken-t0ken\n")
    (tmp_path / "cdf-upsert.toml").write_text('[profiles.test]\ncluster = "eu-1"')
    found = settings(tmp_path, {"CDF_PROJECT": "acme"}, {"profile": "test"})
    origins = {origin.key: (origin.value, origin.name, origin.place) for origin in found.origins}
    assert origins["token"] == (MASK, "CDF_TOKEN", ".env")
    assert origins["project"] == ("acme", "CDF_PROJECT", "the environment")
    assert origins["cluster"] == ("eu-1", "cluster", "cdf-upsert.toml, profile test")
    assert origins["profile"] == ("test", "--profile", "the command line")
    assert "t0ken" not in repr(found)


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("proxy.test:3128", Proxy("http://proxy.test:3128")),
        ("http://u:p%40w@proxy.test:80", Proxy("http://proxy.test:80", "u", Secret("p@w"))),
        ("https://[::1]:8", Proxy("https://[::1]:8")),
    ],
)
def test_proxies_come_from_the_usual_variables(tmp_path: Path, text, proxy):
    """Small letters beat capitals, ALL_PROXY is the last resort, and the password is kept apart."""
    assert settings(tmp_path, {**TOKEN, "HTTPS_PROXY": text}).network.https_proxy == proxy
    assert settings(tmp_path, {**TOKEN, "ALL_PROXY": text}).network.http_proxy == proxy
    found = settings(tmp_path, {**TOKEN, "https_proxy": text, "HTTPS_PROXY": "other", "NO_PROXY": "a, b"})
    assert found.network.https_proxy == proxy
    assert found.network.no_proxy == ("a", "b")
    if proxy.password is not None:
        assert proxy.password in found.secrets()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("a.localhost", True), ("10.0.0.1", False),
     ("localhost.evil.test", False), ("127.0.0.1.evil.test", False)],
)  # fmt: skip
def test_plain_http_goes_to_this_machine_alone(tmp_path: Path, host, loopback):
    """Plain http is for loopback, unless it is allowed by name."""
    assert is_loopback(host) is loopback
    url = f"http://[{host}]:1" if ":" in host else f"http://{host}:1"
    environment = {"CDF_PROJECT": "p", "CDF_TOKEN": "t0ken", "CDF_URL": url}
    assert settings(tmp_path, environment, {"insecure_http": "true"}).target.base_url == url
    if loopback:
        assert settings(tmp_path, environment).target.base_url == url
    else:
        assert "plain http" in faults(tmp_path, environment)


@pytest.mark.parametrize(
    ("url", "cluster"),
    [("https://api.cognitedata.com", "api"), ("https://a.plink.eu-1.cognitedata.com", "eu-1"),
     ("https://cognitedata.com.evil.test", None), ("https://x.test", None)],
)  # fmt: skip
def test_an_address_tells_its_cluster(url, cluster):
    """Also behind a private link; other domains tell none."""
    assert cluster_of(url) == cluster


def test_settings_are_cheap():
    """Resolving settings imports no HTTP client, no OAuth library, no parser of absent files."""
    code = (
        "import sys; from pathlib import Path; from cdf_upsert.settings import resolve;"
        "resolve({}, {'CDF_PROJECT': 'p', 'CDF_CLUSTER': 'c', 'CDF_TOKEN': 't'}, Path('/nowhere'));"
        "print([m for m in ('httpx', 'authlib', 'dotenv', 'tomllib', 'ssl', 'subprocess', 'platformdirs')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
