"""All layers together: one `Settings`, or one error with every fault."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from cdf_upsert.core.access import DOMAIN, Provider, Session, Settings, Target
from cdf_upsert.errors import UsageError
from cdf_upsert.settings.addresses import target
from cdf_upsert.settings.dotenv import FILE as DOTENV
from cdf_upsert.settings.dotenv import read_dotenv
from cdf_upsert.settings.lookup import COMMAND_LINE, Layer, Lookup
from cdf_upsert.settings.signin import PERSONAL, Flow, SignIn, flow_of, personal_flow, provider_of
from cdf_upsert.settings.tables import Tables, read_tables
from cdf_upsert.settings.wires import insecure_http, network

DEFAULT_PROFILE: Final = "default"
STATE_VARIABLE: Final = "CDF_UPSERT_STATE_DIR"

_FLAGS: Final = ("project", "cluster", "base-url", "profile", "insecure-http")
_CREDENTIALS: Final = (
    "token", "token-file", "client-secret", "client-secret-file", "secret-command",
)  # fmt: skip
_REMEMBERED: Final = (
    "project", "cluster", "base-url", "login-flow", "provider", "client-id", "tenant-id", "scopes",
    "audience", "authority-url", "discovery-url",
)  # fmt: skip
_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_NOTHING: Final = (
    "Nothing is configured: CDF_PROJECT is missing, CDF_CLUSTER (or CDF_URL) is missing, and so is a way to "
    "sign in: CDF_TOKEN, or IDP_TENANT_ID with IDP_CLIENT_ID and IDP_CLIENT_SECRET. Set them in the "
    f"environment or in a {DOTENV} file, or sign in with `cdf-upsert login`. "
    "To try without an account: cdf-upsert load --sandbox."
)

_NOTHING_FOR_A_PERSON: Final = (
    "Nothing is configured: set CDF_PROJECT, CDF_CLUSTER (or CDF_URL), IDP_TENANT_ID and IDP_CLIENT_ID in the "
    f"environment or in a {DOTENV} file, and sign in again. At a provider other than Microsoft Entra ID, "
    "IDP_DISCOVERY_URL takes the place of the tenant."
)


def resolve(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    directory: Path,
    *,
    person: bool = False,
    device: bool = False,
) -> Settings:
    """The settings that flags, environment and the files of the directory make together.

    Args:
        flags: `project`, `cluster`, `base_url`, `profile`, `insecure_http`; None: not given.
        environment: The variables of the process; `.env` is read here, whether it was merged before or not.
        directory: The working directory, with `.env`, `cdf-upsert.toml` or `pyproject.toml`.
        person: Make the credentials a `Session`, whatever else is configured, as `login` needs it.
        device: Let the session be had by a device code.

    Raises:
        UsageError: Something is missing, wrong or contradictory; the message tells all of it.
    """
    faults: list[str] = []
    tables = read_tables(directory, faults)
    layers = _layers(flags, environment, directory)
    profile, chosen = _profile(Lookup(layers, faults), tables)
    layers += [
        Layer(f"{tables.file}, profile {profile}", tables.profiles.get(profile, {}), by_key=True),
        Layer(tables.file, tables.common, by_key=True),
    ]
    look = Lookup(layers, faults)
    store = None
    if person or not _has_other_credentials(look):
        store = state_directory(environment) / "sessions"
        look = _with_session(look, layers, profile, store)
    if not faults and not chosen and _is_empty(look):
        raise UsageError(_NOTHING_FOR_A_PERSON if person else _NOTHING)

    look.find("profile")
    plain = insecure_http(look)
    provider = provider_of(look)
    flow = personal_flow(look, device=device) if person else flow_of(look, provider)
    aim, cluster = target(look, provider, insecure_http=plain)
    wires = network(look, directory)
    resource = f"https://{cluster}{DOMAIN}" if cluster else aim.base_url if aim else ""
    sign_in = SignIn(look, provider or Provider.ENTRA_ID, resource, directory, insecure_http=plain)
    credentials = None if flow is None else sign_in.credentials(flow, profile, store)
    if faults or aim is None or credentials is None:
        raise UsageError(_sentence(faults))
    if isinstance(credentials, Session):
        credentials = replace(credentials, remembered=_remembered(look, aim, cluster, credentials))
    return Settings(aim, credentials, wires, profile, cluster, look.origins())


def profile_of(flags: Mapping[str, str | None], environment: Mapping[str, str], directory: Path) -> str:
    """The name of the profile alone, for who needs nothing else.

    Raises:
        UsageError: The name is not usable, or the TOML file has no such profile.
    """
    faults: list[str] = []
    tables = read_tables(directory, faults)
    name, _ = _profile(Lookup(_layers(flags, environment, directory), faults), tables)
    if faults:
        raise UsageError(_sentence(faults))
    return name


def state_directory(environment: Mapping[str, str]) -> Path:
    """Where sessions are kept: `CDF_UPSERT_STATE_DIR`, else the user's state directory."""
    if own := environment.get(STATE_VARIABLE):
        return Path(own).expanduser()
    from platformdirs import user_state_path  # noqa: PLC0415  # Not for who sets the variable.

    return user_state_path("cdf-upsert", appauthor=False)


def _layers(flags: Mapping[str, str | None], environment: Mapping[str, str], directory: Path) -> list[Layer]:
    dotenv = read_dotenv(environment, directory)
    # The command line may have merged .env into the environment: what is the same in both came from there.
    own = {name: value for name, value in environment.items() if dotenv.get(name) != value}
    given = {key: flags.get(key.replace("-", "_")) for key in _FLAGS}
    return [
        Layer(COMMAND_LINE, given, by_key=True, prefix="--"),
        Layer("the environment", own),
        Layer(DOTENV, dotenv),
    ]


def _profile(look: Lookup, tables: Tables) -> tuple[str, bool]:
    """The profile's name, and whether somebody chose it."""
    found = look.find("profile")
    if found is None:
        return DEFAULT_PROFILE, False
    if not _PROFILE.fullmatch(found.text):
        look.faults.append(f"{found} is '{found.text}': a profile's name has letters, digits, - and _ alone.")
    elif tables.profiles and found.text not in tables.profiles:
        known = ", ".join(sorted(tables.profiles))
        look.faults.append(
            f"{found} is '{found.text}', and {tables.file} has no such profile: it has {known}."
        )
    return found.text, True


def _has_other_credentials(look: Lookup) -> bool:
    flow = (look.text("login-flow") or "").lower().replace("-", "_")
    return flow not in PERSONAL if flow else any(look.find(key) is not None for key in _CREDENTIALS)


def _with_session(look: Lookup, layers: list[Layer], profile: str, store: Path) -> Lookup:
    """The lookup with what `login` has kept below all else."""
    try:
        kept = json.loads((store / f"{profile}.json").read_bytes())["settings"]
        values = {key: str(kept[key]) for key in _REMEMBERED if key in kept}
    except (OSError, ValueError, KeyError, TypeError):
        return look
    layer = Layer(f"kept by cdf-upsert login, profile {profile}", values, by_key=True)
    return Lookup([*layers, layer], look.faults)


def _is_empty(look: Lookup) -> bool:
    keys = (
        "project",
        "cluster",
        "base-url",
        "login-flow",
        "client-id",
        "tenant-id",
        "token-url",
        *_CREDENTIALS,
    )
    return all(look.find(key) is None for key in keys)


def _remembered(
    look: Lookup, aim: Target, cluster: str | None, session: Session
) -> tuple[tuple[str, str], ...]:
    """What counted, not what was beaten: two values of one meaning in one layer contradict each other."""
    found = {key: value for key in _REMEMBERED if (value := look.find(key)) is not None}
    authority, discovery = found.get("authority-url"), found.get("discovery-url")
    if authority is not None and discovery is not None:
        del found["authority-url" if discovery.rank < authority.rank else "discovery-url"]
    texts = {key: value.text for key, value in found.items() if key != "cluster"}
    texts |= {"project": aim.project, "base-url": aim.base_url}
    texts |= {"login-flow": Flow.DEVICE_CODE if session.device else Flow.INTERACTIVE}
    return tuple(sorted((texts | ({"cluster": cluster} if cluster else {})).items()))


def _sentence(faults: list[str]) -> str:
    if len(faults) == 1:
        return faults[0]
    return "\n".join(["The settings have these faults:", *(f"  - {fault}" for fault in faults)])
