"""The TLS files of a running service are replaced as a whole or not at all."""

from pathlib import Path

import pytest
import trustme

from chassis.settings import Settings, load
from chassis.tls import Tls, TlsError


def write(folder: Path) -> dict[str, str]:
    """Write a new certificate with its key, and return the variables that name them."""
    certificate = trustme.CA().issue_cert("localhost")
    files = {"QUOTES_TLS_CERTIFICATE": folder / "certificate.pem", "QUOTES_TLS_KEY": folder / "key.pem"}
    certificate.cert_chain_pems[0].write_to_path(files["QUOTES_TLS_CERTIFICATE"])
    certificate.private_key_pem.write_to_path(files["QUOTES_TLS_KEY"])
    return {name: str(path) for name, path in files.items()}


async def test_new_files_are_used_and_a_certificate_without_its_key_is_not(users_file, tmp_path):
    tls = Tls(load(Settings, {"QUOTES_USERS_FILE": str(users_file), **write(tmp_path)}))
    first = tls.server
    write(tmp_path)
    await tls.reload()
    second = tls.server
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")

    with pytest.raises(TlsError, match=r"certificate\.pem, .*key\.pem: "):
        await tls.reload()
    assert first is not second
    assert second is tls.server
