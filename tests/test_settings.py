"""What makes a `Settings`, and the sentence that each fault gets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.access import cluster_of
from cdf_upsert.core.redact import MASK
from cdf_upsert.core.routes import is_loopback
from cdf_upsert.errors import UsageError
from cdf_upsert.settings import (
    ClientAuth,
    ClientCredentials,
    Endpoints,
    GivenToken,
    Proxy,
    Secret,
    Session,
    Settings,
    Target,
    environment_with_dotenv,
    resolve,
)
from cdf_upsert.settings.names import SETTINGS

ENTRA = "https://login.microsoftonline.com"
TARGET = {"CDF_PROJECT": "acme", "CDF_CLUSTER": "westeurope-1"}
TOKEN = {**TARGET, "CDF_TOKEN": "t0ken-t0ken"}
CLIENT = {**TARGET, "IDP_CLIENT_ID": "me", "IDP_CLIENT_SECRET": "s3cret-s3cret", "IDP_TENANT_ID": "tenant"}
PERSON = {**TARGET, "LOGIN_FLOW": "interactive", "IDP_CLIENT_ID": "me", "IDP_TENANT_ID": "tenant"}


def settings(directory: Path, environment=None, flags=None, **how) -> Settings:
    state = {"CDF_UPSERT_STATE_DIR": str(directory / "state")}
    return resolve(flags or {}, state | (environment or {}), directory, **how)


def faults(directory: Path, environment=None, flags=None, **how) -> str:
    with pytest.raises(UsageError) as caught:
        settings(directory, environment, flags, **how)
    return str(caught.value)


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


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, ["Nothing is configured", "CDF_PROJECT", "CDF_CLUSTER", "CDF_TOKEN", "login", "--sandbox"]),
        ({**TOKEN, "CDF_PROJECT": ""}, ["CDF_PROJECT is missing", "--project"]),
        ({**TOKEN, "CDF_CLUSTER": ""}, ["CDF_CLUSTER and CDF_URL are missing", "--base-url"]),
        (TARGET, ["IDP_CLIENT_ID is missing", "IDP_CLIENT_SECRET", "IDP_TENANT_ID", "cdf-upsert login"]),
        ({**CLIENT, "IDP_CLIENT_SECRET": ""}, ["IDP_CLIENT_SECRET (or", "IDP_CLIENT_ID (the environment)"]),
        (
            {**CLIENT, "IDP_CLIENT_ID": ""},
            ["IDP_CLIENT_ID is missing", "IDP_CLIENT_SECRET (the environment)"],
        ),
        ({**CLIENT, "IDP_TENANT_ID": ""}, ["IDP_TENANT_ID (or IDP_TOKEN_URL) is missing"]),
        ({**CLIENT, "IDP_TENANT_ID": "a/b"}, ["IDP_TENANT_ID (the environment) is 'a/b'"]),
        ({**CLIENT, "PROVIDER": "other"}, ["IDP_TOKEN_URL is missing", "PROVIDER=other"]),
        ({**CLIENT, "PROVIDER": "aws"}, ["PROVIDER (the environment) is 'aws'", "entra_id, auth0, cdf"]),
        ({**CLIENT, "LOGIN_FLOW": "magic"}, ["LOGIN_FLOW (the environment) is 'magic'", "device_code"]),
        (
            {**CLIENT, "CDF_TOKEN": "t0ken"},
            ["CDF_TOKEN", "IDP_CLIENT_SECRET", "both set", "LOGIN_FLOW=token"],
        ),
        ({**CLIENT, "COGNITE_CLIENT_ID": "x"}, ["IDP_CLIENT_ID and COGNITE_CLIENT_ID", "differ"]),
        ({**CLIENT, "IDP_CLIENT_SECRET_FILE": "f"}, ["IDP_CLIENT_SECRET_FILE", "unset all but one"]),
        ({**CLIENT, "IDP_TOKEN_URL": f"{ENTRA}/else/oauth2/v2.0/token"}, ["tenant else", "says tenant"]),
        ({**CLIENT, "IDP_TOKEN_URL": "ftp://x"}, ["IDP_TOKEN_URL", "no address"]),
        ({**CLIENT, "IDP_TOKEN_URL": "https://[x"}, ["IDP_TOKEN_URL", "no address"]),
        (
            {**CLIENT, "IDP_TOKEN_URL": "http://idp.test/t"},
            ["IDP_TOKEN_URL", "plain http", "--insecure-http"],
        ),
        ({**TARGET, "LOGIN_FLOW": "token"}, ["CDF_TOKEN (or", "is missing", "LOGIN_FLOW=token"]),
        ({**TARGET, "CDF_TOKEN": "two words"}, ["CDF_TOKEN", "white space"]),
        ({**TARGET, "CDF_TOKEN": "<token>"}, ["CDF_TOKEN", "placeholder ***"]),
        ({**TARGET, "CDF_TOKEN": '"t0ken"'}, ["CDF_TOKEN", "quotes", "--env-file"]),
        ({**TARGET, "CDF_TOKEN": "t0\nken"}, ["CDF_TOKEN", "line break"]),
        ({**TOKEN, "CDF_PROJECT": "<project>"}, ["CDF_PROJECT", "placeholder <project>"]),
        ({**TOKEN, "CDF_PROJECT": "a/b"}, ["CDF_PROJECT", "'a/b'", "no project name"]),
        (
            {**TOKEN, "CDF_CLUSTER": "https://a.cognitedata.com"},
            ["CDF_CLUSTER", "no cluster name", "CDF_URL"],
        ),
        ({**TOKEN, "CDF_URL": "https://asia-1.cognitedata.com"}, ["in cluster asia-1", "says westeurope-1"]),
        ({**TOKEN, "CDF_URL": "https://u:pw@x.test"}, ["CDF_URL", "user name or password"]),
        ({**TOKEN, "CDF_URL": "https://x.test?sig=abc"}, ["CDF_URL", "query"]),
        ({**TOKEN, "CDF_URL": "https://x.test/api/v1"}, ["CDF_URL", "without /api"]),
        ({**TOKEN, "CDF_URL": "http://x.test"}, ["CDF_URL", "plain http"]),
        ({**TOKEN, "HTTPS_PROXY": "ftp://x"}, ["HTTPS_PROXY", "http://HOST:PORT"]),
        ({**TOKEN, "SSL_CERT_FILE": "no.pem"}, ["SSL_CERT_FILE", "no.pem", "no such file"]),
        ({**TOKEN, "SSL_CERT_DIR": "nowhere"}, ["SSL_CERT_DIR", "no such directory"]),
        (
            {**TOKEN, "CDF_UPSERT_CLIENT_KEY": "k"},
            ["CDF_UPSERT_CLIENT_CERTIFICATE is missing", "no such file"],
        ),
        ({**TOKEN, "CDF_UPSERT_INSECURE_HTTP": "maybe"}, ["CDF_UPSERT_INSECURE_HTTP", "true or false"]),
        ({**TOKEN, "CDF_UPSERT_PROFILE": "../x"}, ["CDF_UPSERT_PROFILE", "letters, digits"]),
        ({**PERSON, "CDF_UPSERT_REDIRECT_PORT": "0"}, ["CDF_UPSERT_REDIRECT_PORT", "1 to 65535"]),
        ({**PERSON, "IDP_CLIENT_ID": ""}, ["IDP_CLIENT_ID is missing", "as a person"]),
        ({**PERSON, "PROVIDER": "cdf"}, ["IDP_DISCOVERY_URL (or IDP_AUTHORITY_URL) is missing"]),
        (
            {**PERSON, "IDP_AUTHORITY_URL": "https://a.test", "IDP_DISCOVERY_URL": "https://a.test"},
            ["IDP_AUTHORITY_URL", "IDP_DISCOVERY_URL", "both set"],
        ),
        (
            {"PROVIDER": "open_industrial_data", "LOGIN_FLOW": "token", "CDF_TOKEN": "t"},
            ["only knows client_credentials"],
        ),
    ],
)
def test_each_wrong_setting_gets_a_sentence_with_its_name(tmp_path: Path, environment, told):
    """The sentence names the variable and the place, tells the mend, and shows no secret."""
    sentence = faults(tmp_path, environment)
    assert [part for part in told if part not in sentence] == []
    assert not any(secret in sentence for secret in ("s3cret", "t0ken", "t0\nken", "u:pw"))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("cdf-upsert.toml", "x = ]", ["cdf-upsert.toml is not TOML", "line 1"]),
        ("cdf-upsert.toml", 'porject = "x"', ["porject", "did you mean project?"]),
        ("cdf-upsert.toml", 'zzz = "x"', ["zzz", "known are"]),
        ("cdf-upsert.toml", "project = 1.5", ["project in cdf-upsert.toml", "neither text"]),
        ("cdf-upsert.toml", "profiles = 1", ["[profiles.NAME]"]),
        (
            "cdf-upsert.toml",
            'client-secret = "s3cret"',
            ["client-secret", "is a secret", "IDP_CLIENT_SECRET"],
        ),
        ("cdf-upsert.toml", '[profiles.a]\ntoken = "s3cret"', ["profiles.a.token", "CDF_TOKEN"]),
        ("cdf-upsert.toml", '[profiles.a]\nprovider = "aws"', ["profile a", "'aws'"]),
        ("pyproject.toml", '[tool.cdf-upsert]\nproject = "a b"', ["project (pyproject.toml)", "'a b'"]),
        (".env", 'CDF_TOKEN="s3cret', ["Line 1", ".env", "close every quote"]),
        (".env", b"\xff\xfeC\x00", ["not UTF-8"]),
        ("cdf-upsert.toml", b"\xff\xfeC\x00", ["not UTF-8"]),
    ],
)
def test_faults_in_files_name_the_file(tmp_path: Path, name, content, told):
    """A broken file, an unknown key, and a secret in a file that people share are told with their place."""
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    flags = {"profile": "a"} if "profiles.a" in str(content) else {}
    sentence = faults(tmp_path, {"IDP_CLIENT_ID": "x"}, flags)
    assert [part for part in told if part not in sentence] == []
    assert "s3cret" not in sentence


def test_settings_in_two_toml_files_are_told(tmp_path: Path):
    """Nobody has to know which of two files would win."""
    (tmp_path / "cdf-upsert.toml").write_text('project = "a"')
    (tmp_path / "pyproject.toml").write_text('[tool.cdf-upsert]\nproject = "a"')
    assert "keep one of them" in faults(tmp_path, TOKEN)


def test_an_unknown_profile_is_told_with_those_that_there_are(tmp_path: Path):
    """A profile that the file does not have is no empty profile."""
    (tmp_path / "cdf-upsert.toml").write_text("[profiles.test]\n[profiles.prod]\n")
    assert "it has prod, test" in faults(tmp_path, TOKEN, {"profile": "tset"})


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read"), ("", "is empty"), ("a\nb", "more than one line"), (b"\xff", "not UTF-8")],
)
def test_a_secret_file_that_is_no_use_is_told(tmp_path: Path, content, told):
    """The sentence names the variable, the path and what is wrong with it."""
    if content is not None:
        (tmp_path / "s").write_bytes(content if isinstance(content, bytes) else content.encode())
    environment = {**CLIENT, "IDP_CLIENT_SECRET": "", "IDP_CLIENT_SECRET_FILE": "s"}
    sentence = faults(tmp_path, environment)
    assert told in sentence
    assert "IDP_CLIENT_SECRET_FILE" in sentence


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("/nowhere/vault get", "the command /nowhere/vault cannot be run"),
        ("'open", "close every quote"),
        ("{python} -c pass", "printed nothing"),
        ("""{python} -c 'print("a\\nb")'""", "printed more than one line"),
        (
            """{python} -c 'import sys; print("s3cret-s3cret"); sys.exit("locked: s3cret-s3cret")'""",
            "ended with 1 and said: locked: ***",
        ),
    ],
)
def test_a_secret_command_that_fails_is_told(tmp_path: Path, command, told):
    """The sentence names the variable and what the command said, without the secret."""
    environment = {**CLIENT, "IDP_CLIENT_SECRET": ""}
    environment["CDF_UPSERT_SECRET_COMMAND"] = command.replace("{python}", sys.executable)
    sentence = faults(tmp_path, environment)
    assert told in sentence
    assert "CDF_UPSERT_SECRET_COMMAND" in sentence
    assert "s3cret" not in sentence


def test_a_command_is_not_run_while_something_else_is_wrong(tmp_path: Path):
    """A vault does not ask its owner for a load that cannot begin."""
    command = f"{sys.executable} -c \"open('ran', 'w')\""
    broken = {"CDF_UPSERT_SECRET_COMMAND": command, "CDF_URL": "x"}
    faults(tmp_path, {**CLIENT, "IDP_CLIENT_SECRET": ""} | broken)
    faults(tmp_path, {**TARGET, "LOGIN_FLOW": "token"} | broken)
    assert not (tmp_path / "ran").exists()


def test_all_faults_are_told_at_once(tmp_path: Path):
    """One run shows every fault there is, each on a line of its own."""
    environment = {"CDF_PROJECT": "a b", "CDF_URL": "ftp://x", "PROVIDER": "aws", "SSL_CERT_FILE": "no.pem"}
    lines = faults(tmp_path, environment).splitlines()
    for name in ("CDF_PROJECT", "CDF_URL", "PROVIDER", "SSL_CERT_FILE", "IDP_CLIENT_ID", "IDP_CLIENT_SECRET"):
        assert sum(line.startswith(f"  - {name}") for line in lines) == 1, name


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


FAMILIES = sorted(name for setting in SETTINGS.values() for name in setting.families)


@given(st.dictionaries(st.sampled_from(FAMILIES), st.text()))
def test_no_text_in_any_variable_breaks_the_settings(environment):
    """Whatever stands there, the answer is a Settings or a UsageError, and never shows a secret."""
    nowhere = "/nowhere-at-all"
    try:
        said = repr(resolve({}, {"CDF_UPSERT_STATE_DIR": nowhere, **environment}, Path(nowhere)))
    except UsageError as error:
        said = str(error)
    secret = ("CDF_TOKEN", "COGNITE_TOKEN", "IDP_CLIENT_SECRET", "COGNITE_CLIENT_SECRET")
    shown = "".join(text for name, text in environment.items() if name not in secret)
    texts = [environment[name].strip() for name in secret if len(environment.get(name, "")) > 8]
    assert not any(text and text in said and text not in shown for text in texts)


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
