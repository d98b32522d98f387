"""Certificates made for a test by openssl: two authorities, and names they signed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from drizzle_streams.tls import TlsFiles


@dataclass(frozen=True)
class Authority:
    """A CA with its key, in a directory of the test's."""

    directory: Path
    name: str

    @classmethod
    def make(cls, directory: Path, name: str) -> Authority:
        made = cls(directory, name)
        _openssl("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}", *made._out(name))
        return made

    @property
    def certificate(self) -> Path:
        return self.directory / f"{self.name}.crt"

    def sign(self, name: str, address: str = "IP:127.0.0.1") -> TlsFiles:
        """A certificate for `address`, with the CA as the one to be believed."""
        request = self.directory / f"{self.name}-{name}.csr"
        extensions = self.directory / f"{self.name}-{name}.ext"
        extensions.write_text(f"subjectAltName={address}\nextendedKeyUsage=serverAuth,clientAuth\n")
        key, certificate = (self.directory / f"{self.name}-{name}.{end}" for end in ("key", "crt"))
        _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        signer = ("-CA", str(self.certificate), "-CAkey", str(self.directory / f"{self.name}.key"))
        how = ("-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", str(certificate))
        _openssl("x509", "-req", "-in", str(request), *signer, *how)
        return TlsFiles(certificate, key, self.certificate)

    def _out(self, name: str) -> tuple[str, ...]:
        return ("-keyout", str(self.directory / f"{name}.key"), "-out", str(self.certificate))


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
