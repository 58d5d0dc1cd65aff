# SPDX-License-Identifier: Apache-2.0
"""What a site takes: certificates, tokens, its configuration, the explorer."""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

from .common import ROOT, ServerError, private


class Certificates:
    """A certificate authority and the certificate of localhost it signed, kept in files."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        self.authority = directory / "ca.pem"
        self.certificate = directory / "localhost.pem"
        self.key = directory / "localhost.key"
        if not self.certificate.exists():
            directory.mkdir(parents=True, exist_ok=True)
            authority_key = directory / "ca.key"
            self.openssl("-subj", "/CN=mod_registration test authority",
                         "-keyout", authority_key, "-out", self.authority,
                         "-addext", "keyUsage=critical,keyCertSign")
            self.openssl("-subj", "/CN=localhost", "-CA", self.authority,
                         "-CAkey", authority_key, "-keyout", self.key,
                         "-out", self.certificate,
                         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1",
                         "-addext", "basicConstraints=critical,CA:FALSE",
                         "-addext", "extendedKeyUsage=serverAuth")
            authority_key.unlink()

    @staticmethod
    def openssl(*arguments):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-noenc", "-days", "825",
                        *map(str, arguments)],
                       check=True, stderr=subprocess.DEVNULL)


class TokenIssuer:
    """Signs bearer tokens with an RSA key of its own, kept in a file when one is named."""

    def __init__(self, path=None):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
        if path and pathlib.Path(path).exists():
            self.key = serialization.load_pem_private_key(
                pathlib.Path(path).read_bytes(), None)
            return
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if path:
            pem = self.key.private_bytes(serialization.Encoding.PEM,
                                         serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption())
            with open(path, "wb", opener=private) as file:
                file.write(pem)

    def jwk(self):
        """The public key, as JSON on one line."""
        numbers = self.key.public_key().public_numbers()

        def encoded(number):
            octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
            return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
        return json.dumps({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "registration",
                           "n": encoded(numbers.n), "e": encoded(numbers.e)},
                          separators=(",", ":"))

    def token(self, sub, seconds=3600, **claims):
        """A token valid for that long; a claim given as None is left out."""
        import jwt
        now = int(time.time())
        claims = {"sub": sub, "iat": now, "exp": now + seconds, **claims}
        return jwt.encode({name: value for name, value in claims.items()
                           if value is not None},
                          self.key, algorithm="RS256", headers={"kid": "registration"})


# A second mount of the events API, beside those of example-site.conf: it shows only the
# organization that the token names.
TENANT_MOUNT = """
    <Location "/tenant/api/v1/event-registrations">
        RegistrationAPI events
        RegistrationOrganization %{reqenv:OAUTH2_CLAIM_org}
    </Location>
"""


def example_site(port, certificates, issuer, postgres):
    """conf/example-site.conf with its Define lines filled in, and the tenant mount."""
    values = {"HOST": "localhost", "PORT": port, "CERTIFICATE": certificates.certificate,
              "KEY": certificates.key, "ACCESS_LOG": "access.log",
              "DATABASE": postgres.dsn(),
              "TOKEN_KEYS": f"jwk '{issuer.jwk()}'"}
    site = (ROOT / "conf" / "example-site.conf").read_text()
    for name, value in values.items():
        quoted = str(value).replace("\\", "\\\\").replace('"', '\\"')
        site, found = re.subn(rf"(?m)^(Define REGISTRATION_{name} +).*$",
                              lambda match: f'{match[1]}"{quoted}"', site)
        if found != 1:
            raise ServerError(f"example-site.conf: no Define REGISTRATION_{name}")
    batch_size = os.environ.get("REGISTRATION_BATCH_SIZE")   # 1: nothing is combined
    combining = f"    RegistrationBatchSize {batch_size}\n" if batch_size else ""
    return site.replace("</VirtualHost>", combining + TENANT_MOUNT + "</VirtualHost>")


# Swagger UI as `make explorer` has unpacked it, and what of it the explorer's page takes.
SWAGGER_UI = ROOT / "build" / "explorer" / "package"
SWAGGER_UI_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png", "LICENSE")

# What is served there may ask nobody else for anything.
EXPLORER_SITE = """
    Alias "/explorer" "{directory}"
    <Directory "{directory}">
        Options FollowSymLinks
    </Directory>
    <Location "/explorer">
        Require all granted
        DirectoryIndex index.html
        Header always set Content-Security-Policy "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        Header always set Cross-Origin-Resource-Policy same-origin
        Header always set Cache-Control no-cache
    </Location>
    AddType text/html;charset=utf-8 .html
    AddType text/javascript;charset=utf-8 .js
    AddType text/css;charset=utf-8 .css
    AddType image/png .png
    AddType application/json .json
"""
EXPLORER_MODULES = ("alias", "dir", "mime")


class Explorer:
    """A page to try the APIs on: Swagger UI, in a directory to be served.

    Whoever reaches the page has the token, so this is for a server that only this machine
    reaches, where the database is open to everybody too.

    httpd's own user may not be allowed to enter the directories above it (a checkout below
    /root). So httpd inherits it open, and finds it by its descriptor.
    """

    def __init__(self, directory, token):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for file in (*(SWAGGER_UI / name for name in SWAGGER_UI_FILES),
                     *(ROOT / "tests" / "explorer").iterdir()):
            shutil.copyfile(file, directory / file.name)
        (directory / "token.json").write_text(json.dumps({"token": token}))
        self.descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    @staticmethod
    def is_there():
        """Has Swagger UI been fetched?"""
        return all((SWAGGER_UI / name).exists() for name in SWAGGER_UI_FILES)

    def added_to(self, site):
        """A virtual host with the page at /explorer/."""
        page = EXPLORER_SITE.format(directory=f"/proc/self/fd/{self.descriptor}")
        return site.replace("</VirtualHost>", page + "</VirtualHost>")
