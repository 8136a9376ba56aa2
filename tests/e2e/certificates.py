"""Makes certificates with OpenSSL, independently of the program under test."""

from processes import check_run

RSA_2048 = ("-newkey", "rsa:2048")
P_256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def make_certificate(directory, *key_options, name="certificate.pem", key="key.pem"):
    """Makes a key and a self-signed certificate for localhost and 127.0.0.1. key_options: options of `openssl req`,
    such as P_256; name and key: the names of the files."""
    check_run("openssl", "req", "-x509", *key_options, "-nodes", "-subj", "/CN=localhost", "-addext",
              "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", directory / name, "-keyout", directory / key)


def make_signed(directory, name, issuer=None, *extensions):
    """Makes the key NAME.key and its certificate NAME.pem, signed with ISSUER.key or, without an issuer, with NAME.key.
    extensions: arguments of -addext."""
    signer = ("-CA", directory / f"{issuer}.pem", "-CAkey", directory / f"{issuer}.key") if issuer else ()
    check_run("openssl", "req", "-x509", *P_256, "-nodes", "-subj", f"/CN={name}", *signer,
              "-addext", "keyUsage=digitalSignature,keyCertSign",
              *(word for extension in extensions for word in ("-addext", extension)),
              "-out", directory / f"{name}.pem", "-keyout", directory / f"{name}.key")


def make_dated_certificate(directory, start, end):
    """Makes a certificate with these dates. The function uses `openssl ca`, because `openssl req` and `openssl x509`
    have an option for the start date only since OpenSSL 3.4."""
    (directory / "index").touch()
    (directory / "ca.conf").write_text(
        f"[ca]\ndefault_ca=a\n[a]\ndatabase={directory}/index\nnew_certs_dir={directory}\nrand_serial=yes\n"
        "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
    for command in (
            ["req", "-new", "-key", directory / "key.pem", "-subj", "/CN=localhost", "-out", directory / "request"],
            ["ca", "-batch", "-selfsign", "-notext", "-config", directory / "ca.conf", "-in", directory / "request",
             "-keyfile", directory / "key.pem", "-startdate", start, "-enddate", end,
             "-out", directory / "certificate.pem"]):
        check_run("openssl", *command)
