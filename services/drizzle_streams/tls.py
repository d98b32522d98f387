"""TLS from files: who a service is (certificate and key), and whom it believes (the CA).

One set of files serves both directions. With a certificate, a service listens by https and shows
the same certificate where it dials. With a CA, it believes only peers whose certificate that CA
signed: servers that it dials, and, mutually, whoever dials it. Without a CA, servers are checked
against the system's, and clients are not asked for a certificate.

Files are read once, at start: to change a certificate, restart. TLS 1.2 is the least.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drizzle_streams.errors import ConfigError, explain

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. A certificate and its key come together."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def server(self) -> ssl.SSLContext | None:
        """For listening; None without a certificate. Raises `ConfigError`."""
        self._check()
        if self.cert is None:
            return None
        import ssl  # noqa: PLC0415 - job files import this module, and few need it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._loaded(context)

    def client(self) -> ssl.SSLContext | None:
        """For dialling https; None where the library's own default does. Raises `ConfigError`."""
        self._check()
        if self.cert is None and self.ca is None:
            return None
        import ssl  # noqa: PLC0415 - as above

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificates and host names
        if self.ca is None:
            context.load_default_certs()
        return self._loaded(context)

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        import ssl  # noqa: PLC0415 - as above

        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(str(path) for path in (self.cert, self.key, self.ca) if path is not None)
            raise ConfigError(
                explain(
                    "TLS",
                    wanted="readable PEM files, and a key that fits its certificate",
                    found=f"{error} ({names})",
                    remedy="Check --tls-cert, --tls-key and --tls-ca.",
                )
            ) from error
        return context

    def _check(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigError(
                explain(
                    "TLS",
                    wanted="a certificate and its key",
                    found="one of the two",
                    remedy="Set both --tls-cert and --tls-key.",
                )
            )


NO_TLS = TlsFiles()
