"""The sentence that each fault of the settings gets."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.errors import UsageError
from cdf_upsert.settings import resolve
from cdf_upsert.settings.names import SETTINGS
from tests.configuring import CLIENT, ENTRA, PERSON, TARGET, TOKEN, faults


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
        ({**PERSON, "CDF_UPSERT_REDIRECT_PORT": "9" * 5000}, ["CDF_UPSERT_REDIRECT_PORT", "1 to 65535"]),
        ({**CLIENT, "IDP_TOKEN_URL": "https://a\u2100b.test"}, ["IDP_TOKEN_URL", "no address"]),
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


def test_who_signs_in_is_told_what_that_needs(tmp_path: Path):
    """No token or secret, which a person does not have, and not to sign in, which is what was asked for."""
    sentence = faults(tmp_path, {}, person=True)
    told = ("CDF_PROJECT", "CDF_CLUSTER", "IDP_TENANT_ID", "IDP_CLIENT_ID", "IDP_DISCOVERY_URL")
    assert [part for part in told if part not in sentence] == []
    assert not any(part in sentence for part in ("CDF_TOKEN", "SECRET", "cdf-upsert login"))


def test_all_faults_are_told_at_once(tmp_path: Path):
    """One run shows every fault there is, each on a line of its own."""
    environment = {"CDF_PROJECT": "a b", "CDF_URL": "ftp://x", "PROVIDER": "aws", "SSL_CERT_FILE": "no.pem"}
    lines = faults(tmp_path, environment).splitlines()
    for name in ("CDF_PROJECT", "CDF_URL", "PROVIDER", "SSL_CERT_FILE", "IDP_CLIENT_ID", "IDP_CLIENT_SECRET"):
        assert sum(line.startswith(f"  - {name}") for line in lines) == 1, name


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
