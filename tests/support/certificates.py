# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by openssl(1)."""

from __future__ import annotations

import subprocess
from pathlib import Path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """A certificate authority in a directory of its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.pem"
        _openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            self.key,
            # Python verifies strictly from 3.13 on.
            "-addext",
            "keyUsage=critical,keyCertSign",
            "-out",
            self.certificate,
        )

    def issue(self, name: str, subject_names: str = "DNS:localhost") -> tuple[Path, Path]:
        """Certificate and key files."""
        key, request, certificate = (
            self.folder / f"{name}.{kind}" for kind in ("key", "csr", "pem")
        )
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={subject_names}\nauthorityKeyIdentifier=keyid\n")
        _openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            key,
            "-out",
            request,
        )
        _openssl(
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            self.certificate,
            "-CAkey",
            self.key,
            "-days",
            "2",
            "-extfile",
            extensions,
            "-out",
            certificate,
        )
        return certificate, key
