"""Certificates that OpenSSL makes, independent of the program under test."""

from processes import check_run

RSA_2048 = ("-newkey", "rsa:2048")
P_256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def make_certificate(directory, *key_options, name="certificate.pem", key="key.pem"):
    """Makes a self-signed certificate for localhost with a key such as P_256."""
    check_run("openssl", "req", "-x509", *key_options, "-nodes", "-subj", "/CN=localhost", "-addext",
              "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", directory / name, "-keyout", directory / key)


def make_signed(directory, name, issuer=None, *extensions):
    """Makes the key NAME.key and its certificate NAME.pem, signed with ISSUER.key or, without an issuer, with
    NAME.key."""
    signer = ("-CA", directory / f"{issuer}.pem", "-CAkey", directory / f"{issuer}.key") if issuer else ()
    check_run("openssl", "req", "-x509", *P_256, "-nodes", "-subj", f"/CN={name}", *signer,
              "-addext", "keyUsage=digitalSignature,keyCertSign",
              *(word for extension in extensions for word in ("-addext", extension)),
              "-out", directory / f"{name}.pem", "-keyout", directory / f"{name}.key")
