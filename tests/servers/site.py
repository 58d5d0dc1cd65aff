# SPDX-License-Identifier: Apache-2.0
"""Parts of a site: certificates, tokens, configuration, the demo's explorer."""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

from .common import IS_ROOT, ROOT, ServerError, private


# Claims that the example site requires.
OF_THE_EXAMPLE = {"iss": "https://id.example.org", "aud": "registration"}
# All scopes of the example site.
ALL_SCOPES = ("sessions:write groups:read groups:write families:create"
              " registrations:read registrations:write")


class Certificates:
    """A certificate authority and a certificate of localhost and other names, stored in files."""

    def __init__(self, directory, names=()):
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
                         "-addext", "subjectAltName=" + ",".join(
                             ["DNS:localhost,IP:127.0.0.1,IP:::1",
                              *(f"DNS:{name}" for name in names)]),
                         "-addext", "basicConstraints=critical,CA:FALSE",
                         "-addext", "extendedKeyUsage=serverAuth")
            authority_key.unlink()

    @staticmethod
    def openssl(*arguments):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-noenc", "-days", "825",
                        *map(str, arguments)],
                       check=True, stderr=subprocess.DEVNULL)


def token_claims(sub, seconds=3600, **claims):
    """Claims valid for that long, with the issuer and audience of the example site; a claim
    given as None is omitted. mod_oauth2 4.2 logs a warning for each token without nbf."""
    now = int(time.time())
    claims = {"sub": sub, "iat": now, "nbf": now, "exp": now + seconds, **OF_THE_EXAMPLE,
              **claims}
    return {name: value for name, value in claims.items() if value is not None}


class TokenIssuer:
    """Signs bearer tokens with an RSA key, stored in a file if one is named."""

    def __init__(self, path=None, kid="registration"):
        self.kid = kid
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
        if path and pathlib.Path(path).exists():
            self.key = serialization.load_pem_private_key(
                pathlib.Path(path).read_bytes(), None)
            return
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if path:
            with open(path, "wb", opener=private) as file:
                file.write(self.pem())

    def pem(self):
        from cryptography.hazmat.primitives import serialization
        return self.key.private_bytes(serialization.Encoding.PEM,
                                      serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption())

    def public_pem(self):
        from cryptography.hazmat.primitives import serialization
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def write_certificate(self, path):
        """Writes a certificate of the public key."""
        subprocess.run(["openssl", "req", "-x509", "-key", "/dev/stdin", "-subj", "/CN=tokens",
                        "-days", "2", "-out", str(path)], input=self.pem(), check=True)

    def jwk(self):
        """The public key, as JSON on one line."""
        numbers = self.key.public_key().public_numbers()

        def encoded(number):
            octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
            return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
        return json.dumps({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.kid,
                           "n": encoded(numbers.n), "e": encoded(numbers.e)},
                          separators=(",", ":"))

    def token(self, sub, seconds=3600, **claims):
        """A signed token with these claims, see token_claims()."""
        import jwt
        return jwt.encode(token_claims(sub, seconds, **claims), self.key, algorithm="RS256",
                          headers={"kid": self.kid})


# A second mount of the events API, beside those of example-site.conf, limited to the token's
# organization.
TENANT_MOUNT = """
    <Location "/tenant/api/v1/event-registrations">
        RegistrationAPI events
        RegistrationOrganization %{reqenv:OAUTH2_CLAIM_org}
    </Location>
"""


# Directives of example-site.conf that the demo omits, and how often they occur: its tokens
# have only the scope for families, and its first mount of the events API has no organization.
STRICTER = [
    (r"(?ms)^ +AuthMerging And\n +<RequireAny>.*?</RequireAny>\n", 2),
    (r"(?m)^ +AuthMerging And\n +Require registration-scope .*_WRITE\}\n", 2),
    (r"(?m)^ +RegistrationOrganization .*\n", 1)]


def changed(site, pattern, replacement, times=1):
    site, found = re.subn(pattern, replacement, site)
    if found != times:
        raise ServerError(f"example-site.conf has {found} times: {pattern}")
    return site


def relaxed(site):
    """The example site without the directives that the demo omits."""
    for pattern, times in STRICTER:
        site = changed(site, pattern, "", times)
    return site


def strict_site(port, certificates, issuer, postgres, keys=None):
    """conf/example-site.conf with its Define lines filled in.

    `keys` is a file of registration-keys; otherwise the site contains the issuer's key.
    """
    values = {"HOST": "localhost", "PORT": port, "CERTIFICATE": certificates.certificate,
              "KEY": certificates.key, "ACCESS_LOG": "access.log",
              "DATABASE": postgres.dsn(), "TOKEN_KEYS": keys or "",
              "RATE_LIMIT": ROOT / "conf" / "rate-limit.conf"}
    site = (ROOT / "conf" / "example-site.conf").read_text()
    for name, value in values.items():
        quoted = str(value).replace("\\", "\\\\").replace('"', '\\"')
        site = changed(site, rf"(?m)^(Define REGISTRATION_{name} +).*$",
                       lambda match, quoted=quoted: f'{match[1]}"{quoted}"')
    if keys:
        return site
    key = issuer.jwk().replace('"', '\\"')
    return changed(site, r"(?m)^( +)Include \$\{REGISTRATION_TOKEN_KEYS\}$", lambda match:
                   f'{match[1]}OAuth2TokenVerify jwk "{key}" ${{REGISTRATION_TOKEN_OPTIONS}}')


def example_site(port, certificates, issuer, postgres):
    """The demo's site: less strict than the example, with the tenant mount."""
    site = relaxed(strict_site(port, certificates, issuer, postgres))
    batch_size = os.environ.get("REGISTRATION_BATCH_SIZE")   # 1: no batching
    batching = f"    RegistrationBatchSize {batch_size}\n" if batch_size else ""
    return site.replace("</VirtualHost>", batching + TENANT_MOUNT + "</VirtualHost>")


def with_openidc(site, certificate):
    """A site with mod_auth_openidc instead of mod_oauth2. The tokens' key is a certificate:
    OIDCOAuthVerifySharedKeys loses its keys in mod_auth_openidc 2.4.16 to 2.4.19."""
    site = re.sub(r"(?m)^ *(OAuth2\w+|LogLevel oauth2:).*\n", "", site)
    site = site.replace("AuthType oauth2\n",
                        "AuthType oauth20\n        OIDCPassClaimsAs environment\n")
    site = site.replace("OAUTH2_CLAIM_", "OIDC_CLAIM_").replace("oauth2_claim ", "claim ")
    return (f'OIDCOAuthVerifyCertFiles "registration#{certificate}"\n'
            f"OIDCOAuthRemoteUserClaim sub\n{site}")


# Swagger UI as unpacked by `make explorer`, and the files that the explorer's page uses.
SWAGGER_UI = ROOT / "build" / "explorer" / "package"
SWAGGER_UI_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png", "LICENSE")

# The page may send requests to no other origin.
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
    """A page to try the APIs: Swagger UI, in a directory to be served.

    Each visitor of the page gets the token, so it is for a server on the loopback only, and
    for a token valid for a day.

    httpd's own user may not be allowed to enter the directories above it (a checkout below
    /root), so httpd inherits the directory as a descriptor.
    """

    def __init__(self, directory, token):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for file in (*(SWAGGER_UI / name for name in SWAGGER_UI_FILES),
                     *(ROOT / "tests" / "explorer").iterdir()):
            shutil.copyfile(file, directory / file.name)
        (directory / "token.json").unlink(missing_ok=True)
        with open(directory / "token.json", "w", opener=private) as file:
            file.write(json.dumps({"token": token}))
        if IS_ROOT:   # readable by httpd's own user
            shutil.chown(directory / "token.json", "root", "www-data")
            (directory / "token.json").chmod(0o640)
        self.descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    @staticmethod
    def is_there():
        """Has Swagger UI been fetched?"""
        return all((SWAGGER_UI / name).exists() for name in SWAGGER_UI_FILES)

    def added_to(self, site):
        """The site with the page at /explorer/."""
        page = EXPLORER_SITE.format(directory=f"/proc/self/fd/{self.descriptor}")
        return site.replace("</VirtualHost>", page + "</VirtualHost>")
