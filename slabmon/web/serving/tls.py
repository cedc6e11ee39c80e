# SPDX-License-Identifier: Apache-2.0
"""Makes the SSL context of a web configuration, as far as Python's ssl module can."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import warnings
from collections.abc import Iterator

from slabmon.base.errors import UsageError
from slabmon.runtime.files import open_regular
from slabmon.web.serving.config import REQUIRED, TlsConfig

log = logging.getLogger(__name__)

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
# The format uses Go's names. Cipher suites of TLS 1.3 cannot be chosen, neither in Go nor here.
_TLS13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{go_name}": f"ECDHE-{key}-{openssl_name}"
    for key in ("ECDSA", "RSA")
    for go_name, openssl_name in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}


def make_context(tls: TlsConfig) -> ssl.SSLContext:
    """Return the context, with certificates and keys loaded. Raises UsageError with the key of the
    configuration that is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 and 1.1, if configured
        context.minimum_version = _VERSIONS[tls.min_version]
        context.maximum_version = _VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE if tls.prefer_server_cipher_suites else 0
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _set_ciphers(context, tls)
    _load_certificate(context, tls)
    # With RequestClientCert a certificate is neither required nor checked: not requesting one lets
    # the same clients in. Python verifies every certificate that it requests, so that the types
    # that require any certificate require a valid one.
    if tls.client_auth_type in REQUIRED:
        context.verify_mode = ssl.CERT_REQUIRED
    elif tls.client_auth_type == "VerifyClientCertIfGiven":
        context.verify_mode = ssl.CERT_OPTIONAL
    if tls.client_auth_type in ("RequireAnyClientCert", "RequireClientCert"):
        log.warning(
            "client_auth_type %s: client certificates are verified nevertheless",
            tls.client_auth_type,
        )
    return context


def _set_ciphers(context: ssl.SSLContext, tls: TlsConfig) -> None:
    unknown = [name for name in tls.cipher_suites if name not in (*_CIPHERS, *_TLS13)]
    if unknown:
        raise UsageError(
            f"tls_server_config.cipher_suites: unknown name {unknown[0]!r}: expected some of "
            f"{', '.join((*_CIPHERS, *_TLS13))}"
        )
    chosen = [_CIPHERS[name] for name in tls.cipher_suites if name in _CIPHERS]
    if chosen:
        context.set_ciphers(":".join(chosen))
    if len(tls.curve_preferences) > 1:
        raise UsageError("tls_server_config.curve_preferences: expected one curve, got more")
    for name in tls.curve_preferences:
        if name not in _CURVES:
            raise UsageError(
                f"tls_server_config.curve_preferences: unknown name {name!r}: expected one of "
                f"{', '.join(_CURVES)}"
            )
        context.set_ecdh_curve(_CURVES[name])


def _load_certificate(context: ssl.SSLContext, tls: TlsConfig) -> None:
    def no_password() -> str:
        raise UsageError(
            "tls_server_config: the key is encrypted, and slabmon cannot ask for its password; "
            "store it decrypted"
        )

    with _path(tls.cert_file, tls.cert) as cert, _path(tls.key_file, tls.key) as key:
        _readable(tls.cert_file, "cert_file")
        _readable(tls.key_file, "key_file")
        try:
            context.load_cert_chain(cert, key, no_password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise UsageError(
                f"tls_server_config: {tls.cert_file or 'cert'} and {tls.key_file or 'key'} are "
                f"not a certificate and its key in PEM: {_reason(error)}"
            ) from error
    try:
        if tls.client_ca_file:
            _readable(tls.client_ca_file, "client_ca_file")
            context.load_verify_locations(cafile=tls.client_ca_file)
        elif tls.client_ca:
            context.load_verify_locations(cadata=tls.client_ca)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"tls_server_config: client_ca: {tls.client_ca_file} is not a "
            f"certificate in PEM: {_reason(error)}"
        ) from error


def _readable(path: str, key: str) -> None:
    if path:
        try:
            os.close(open_regular(path))
        except (OSError, ValueError) as error:
            raise UsageError(f"tls_server_config.{key}: {path}: {_reason(error)}") from error


@contextlib.contextmanager
def _path(file: str, inline: str) -> Iterator[str]:
    """Yield a path that OpenSSL can read, for it reads keys from files only."""
    if file:
        yield file
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, inline.encode("utf-8", "replace"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason
    return getattr(error, "strerror", "") or str(error)
