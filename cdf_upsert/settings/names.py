"""What can be set, and under which names: one table for the lookup, the messages and the documentation."""

from typing import Final

from msgspec import Struct


class Setting(Struct, frozen=True):
    """One thing that can be configured.

    Attributes:
        key: Its name in TOML and among the flags, in kebab case.
        own: Variables that stand above the families, the first one first.
        families: The names that other CDF tools use; two that differ in one place contradict each other.
        secret: Whether its value must never be shown, and has no place in a TOML file.
    """

    key: str
    own: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    secret: bool = False

    @property
    def variable(self) -> str:
        """The variable to name when the setting is missing."""
        return (self.families or self.own)[0]


SETTINGS: Final = {
    setting.key: setting
    for setting in (
        Setting("profile", ("CDF_UPSERT_PROFILE",)),
        Setting("project", ("CDF_UPSERT_PROJECT",), ("CDF_PROJECT", "COGNITE_PROJECT")),
        Setting("cluster", ("CDF_UPSERT_CLUSTER",), ("CDF_CLUSTER",)),
        Setting("base-url", ("CDF_UPSERT_BASE_URL",), ("CDF_URL", "COGNITE_BASE_URL")),
        Setting("login-flow", (), ("LOGIN_FLOW",)),
        Setting("provider", (), ("PROVIDER",)),
        Setting("token", (), ("CDF_TOKEN", "COGNITE_TOKEN"), secret=True),
        Setting("token-file", ("CDF_TOKEN_FILE",)),
        Setting("client-id", (), ("IDP_CLIENT_ID", "COGNITE_CLIENT_ID")),
        Setting("client-secret", (), ("IDP_CLIENT_SECRET", "COGNITE_CLIENT_SECRET"), secret=True),
        Setting("client-secret-file", ("IDP_CLIENT_SECRET_FILE",)),
        Setting("secret-command", ("CDF_UPSERT_SECRET_COMMAND",)),
        Setting("client-auth", ("CDF_UPSERT_CLIENT_AUTH",)),
        Setting("tenant-id", (), ("IDP_TENANT_ID", "COGNITE_TENANT_ID")),
        Setting("token-url", (), ("IDP_TOKEN_URL", "COGNITE_TOKEN_URL")),
        Setting("scopes", (), ("IDP_SCOPES", "COGNITE_SCOPES")),
        Setting("audience", (), ("IDP_AUDIENCE", "COGNITE_AUDIENCE")),
        Setting("resource", ("IDP_RESOURCE",)),
        Setting("authority-url", ("IDP_AUTHORITY_URL",)),
        Setting("discovery-url", ("IDP_DISCOVERY_URL",)),
        Setting("redirect-port", ("CDF_UPSERT_REDIRECT_PORT",)),
        Setting("https-proxy", ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), secret=True),
        Setting("http-proxy", ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), secret=True),
        Setting("no-proxy", ("no_proxy", "NO_PROXY")),
        Setting("ca-file", ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")),
        Setting("ca-directory", ("SSL_CERT_DIR",)),
        Setting("client-certificate", ("CDF_UPSERT_CLIENT_CERTIFICATE",)),
        Setting("client-key", ("CDF_UPSERT_CLIENT_KEY",)),
        Setting("client-key-password", ("CDF_UPSERT_CLIENT_KEY_PASSWORD",), secret=True),
        Setting("insecure-http", ("CDF_UPSERT_INSECURE_HTTP",)),
    )
}

VARIABLES: Final = frozenset(
    name for setting in SETTINGS.values() for name in (*setting.own, *setting.families)
)
