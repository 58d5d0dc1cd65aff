# SPDX-License-Identifier: Apache-2.0
"""make install, make uninstall and make rpm, for the layouts of Debian's, Red Hat's and httpd's own
httpd: the installed files and their places, and that a real httpd serves with them.

Only Debian is there. A fake apxs answers with the directories of each layout, below a temporary
directory; the httpd that is started is Debian's.
"""

import base64
import hmac
import json
import os
import re
import shlex
import shutil
import types

import pytest

import servers
from changed import changed_copy, make
from conftest import ORGANIZATION
from servers.site import changed
from test_example_site import (httpd_command, key_of, publisher,   # noqa: F401, a fixture
                               renew)

ROOT = servers.ROOT
OPENIDC = [*(name for name in servers.MODULES if name != "oauth2"), "auth_openidc"]

# The directories that apxs names, those that are there, the file with LoadModule, and the
# directory of registration.conf.
LAYOUTS = {
    "debian": ("/usr/lib/apache2/modules", "/etc/apache2", ["/etc/apache2/mods-available"],
               "/etc/apache2/mods-available/registration.load", "/etc/apache2/mods-available"),
    "redhat": ("/usr/lib64/httpd/modules", "/etc/httpd/conf",
               ["/etc/httpd/conf.modules.d", "/etc/httpd/conf.d"],
               "/etc/httpd/conf.modules.d/10-registration.conf", "/etc/httpd/conf.d"),
    "vanilla": ("/usr/local/apache2/modules", "/usr/local/apache2/conf", [],
                "/usr/local/apache2/conf/extra/registration.load",
                "/usr/local/apache2/conf/extra"),
}


def fake_apxs(path, **answers):
    """A program that answers -q NAME as given, else as Debian's apxs does."""
    known = {name: servers.apxs(name) for name in
             ("INCLUDEDIR", "APR_INCLUDEDIR", "APU_INCLUDEDIR", "EXTRA_CPPFLAGS")}
    cases = "".join(f"{name}) echo {shlex.quote(str(value))} ;;\n"
                    for name, value in {**known, **answers}.items())
    path.write_text(f'#!/bin/sh\n[ "$1" = -q ] || exit 1\ncase $2 in\n{cases}esac\n')
    path.chmod(0o755)
    return path


class Layout:
    """A machine of one layout, below a directory. With `destdir` apxs names the real paths, and
    the directory is make's DESTDIR."""

    def __init__(self, name, root, destdir=False):
        self.root = root
        libexec, sysconf, there, load, conf = LAYOUTS[name]
        self.name, self.destdir = name, destdir
        self.prefix = "" if destdir else str(root)
        for directory in there:
            (root / directory[1:]).mkdir(parents=True)
        self.apxs = fake_apxs(root.with_name(f"{root.name}-apxs".replace(" ", "-")),
                              LIBEXECDIR=self.prefix + libexec, SYSCONFDIR=self.prefix + sysconf)
        self.site = f"example-site{'-redhat' if name == 'redhat' else ''}.conf"
        self.module = f"{libexec}/mod_registration.so"
        self.load, self.conf = load, f"{conf}/registration.conf"
        self.share = "/usr/share/mod_registration"

    def path(self, name):
        return self.root / name[1:]

    def make(self, *arguments, directory=ROOT, expect=0):
        more = ([f"DESTDIR={self.root}", f"CONFDIR={os.path.dirname(self.conf)}"]
                if self.destdir else [f"prefix={self.root}/usr"])
        status, said = make(directory, f"APXS={self.apxs}", *more, *arguments,
                            f"BUILD={servers.MODULE.parent}")
        assert (status == 0) == (expect == 0), said
        return said

    def files(self):
        return {"/" + str(path.relative_to(self.root)) for path in self.root.rglob("*")
                if not path.is_dir()}

    def expected(self):
        conf = [self.site, "rate-limit.conf", "registration-mpm.conf", "registration-alerts.yml",
                *(f"registration-{name}.{kind}" for name in ("keys", "maintain")
                  for kind in ("service", "timer"))]
        sql = [str(path.relative_to(ROOT)) for path in (ROOT / "sql").rglob("*.sql")]
        assert len(sql) > 20
        return {self.module, self.load, self.conf,
                *(f"{self.share}/{name}" for name in [*conf, *sql]),
                *(f"/usr/{name}" for program in ("registration-keys", "registration-schema")
                  for name in (f"bin/{program}", f"share/man/man1/{program}.1"))}


def copy_of_source(directory):
    """A directory with what make install reads."""
    for name in ("conf", "sql"):
        shutil.copytree(ROOT / name, directory / name)
    for name in ("Makefile", "src", "mod_registration.c", "VERSION"):
        (directory / name).symlink_to(ROOT / name)
    return directory


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path):
    return Layout(request.param, tmp_path / "root")


@pytest.fixture(params=LAYOUTS)
def package_layout(request, tmp_path):
    return Layout(request.param, tmp_path / "root", destdir=True)


# --- Installed files -----------------------------------------------------------------------

def foreign_paths(layout):
    """The paths in installed texts that another layout or another prefix has."""
    pattern = (r"(?<![\w./-])/[\w./-]*/(?:share/mod_registration|bin/registration-|"
               r"mod_registration\.so|registration-keys\.conf)")
    named = {match for name in layout.files() if not name.endswith((".so", ".sql"))
             for match in re.findall(pattern, layout.path(name).read_text())}
    return {name for name in named if not name.startswith(
        (f"{layout.prefix}/usr/share/mod_reg", f"{layout.prefix}/usr/bin/",
         f"{layout.prefix}{LAYOUTS[layout.name][0]}", f"{layout.prefix}{LAYOUTS[layout.name][1]}"))}


def test_install_writes_files_where_httpd_of_each_layout_reads_them(layout):
    said = layout.make("install")
    assert layout.files() == layout.expected()
    assert foreign_paths(layout) == set()
    assert (f"LoadModule registration_module {layout.root}{layout.module}\n"
            in layout.path(layout.load).read_text())
    assert layout.path("/usr/bin/registration-schema").stat().st_mode & 0o777 == 0o755
    assert layout.path(layout.conf).stat().st_mode & 0o777 == 0o644
    assert {"debian": "a2enmod dbd registration", "redhat": "when it is restarted",
            "vanilla": f"Include {layout.root}{layout.load}"}[layout.name] in said


def test_destdir_is_in_no_installed_path(package_layout):
    package_layout.make("install")
    assert package_layout.files() == package_layout.expected()
    assert foreign_paths(package_layout) == set()
    texts = [package_layout.path(name).read_bytes() for name in package_layout.files()
             if not name.endswith(".so")]
    assert not any(str(package_layout.root).encode() in text for text in texts)


def test_control_text_with_path_of_debian_is_reported(layout):
    layout.make("install")
    shutil.copy(ROOT / "conf" / "registration.load", layout.path(layout.load))
    shutil.copy(ROOT / "conf" / "registration-keys", layout.path("/usr/bin/registration-keys"))
    assert foreign_paths(layout) == {"/usr/lib/apache2/modules/mod_registration.so",
                                     "/etc/apache2/registration-keys.conf"}


def test_prefix_moves_programs_and_data(tmp_path):
    layout = Layout("vanilla", tmp_path / "root", destdir=True)
    layout.make("install", "prefix=/opt/registration")
    assert layout.files() == {re.sub("^/usr/(?!local)", "/opt/registration/", name)
                              for name in layout.expected()}
    units = [layout.path(f"/opt/registration/share/mod_registration/registration-{name}.service")
             for name in ("keys", "maintain")]
    for unit in units:
        assert "ExecStart=/opt/registration/bin/registration-" in unit.read_text()


def test_changed_registration_conf_is_not_overwritten(layout):
    layout.make("install")
    layout.path(layout.conf).write_text("RegistrationTimeout 7\n")
    layout.make("install")
    assert layout.path(layout.conf).read_text() == "RegistrationTimeout 7\n"


def test_uninstall_removes_every_installed_file(layout):
    layout.make("install")
    layout.path(f"{layout.share}/own.conf").touch()
    layout.make("uninstall")
    assert layout.files() == {f"{layout.share}/own.conf"}
    layout.make("uninstall")   # Again: nothing is left, and that is no error.


def test_uninstall_keeps_changed_registration_conf_where_httpd_does_not_read_it(layout):
    layout.make("install")
    layout.path(layout.conf).write_text("RegistrationTimeout 7\n")
    assert f"{layout.conf}.saved" in layout.make("uninstall")
    assert layout.files() == {f"{layout.conf}.saved"}


def test_uninstall_of_enabled_module_is_refused_on_debian(tmp_path):
    layout = Layout("debian", tmp_path / "root")
    layout.make("install")
    layout.path("/etc/apache2/mods-enabled").mkdir()
    link = layout.path("/etc/apache2/mods-enabled/registration.load")
    link.symlink_to("../mods-available/registration.load")
    before = layout.files()
    assert "a2dismod registration" in layout.make("uninstall", expect=2)
    assert layout.files() == before
    link.unlink()
    layout.make("uninstall")
    assert layout.files() == set()


# --- Without an answer of apxs -------------------------------------------------------------

SILENT = {"no program": {}, "LIBEXECDIR": {"LIBEXECDIR": ""}, "SYSCONFDIR": {"SYSCONFDIR": ""}}


def silence(layout, what):
    if what == "no program":
        layout.apxs.unlink()
    else:
        text = layout.apxs.read_text()
        layout.apxs.write_text(re.sub(rf"(?m)^{what}\).*$", f"{what}) ;;", text))


@pytest.mark.parametrize("what", SILENT)
@pytest.mark.parametrize("target", ["install", "uninstall"])
def test_silent_apxs_is_an_error_and_changes_nothing(tmp_path, target, what):
    layout = Layout("redhat", tmp_path / "root")
    if target == "uninstall":
        layout.make("install")
    before = layout.files()
    silence(layout, what)
    said = layout.make(target, f"DESTDIR={tmp_path}/dest", expect=2)
    assert re.search(r'"\S+ -q \w+" has no answer\. .* set APXS', said), said
    assert layout.files() == before and not (tmp_path / "dest").exists()


def test_control_makefile_that_ignores_silence_installs_into_the_root(tmp_path):
    copy = copy_of_source(tmp_path / "copy")
    (copy / "Makefile").unlink()
    text = (ROOT / "Makefile").read_text()
    assert text.count("$$(or $$(shell $(2)),$$(error ") == 1
    (copy / "Makefile").write_text(text.replace("$$(or $$(shell $(2)),$$(error ",
                                                "$$(or $$(shell $(2)),$$(info "))
    layout = Layout("redhat", tmp_path / "root")
    silence(layout, "LIBEXECDIR")
    layout.make("-o", "Makefile", "install", f"DESTDIR={tmp_path}/dest", directory=copy)
    assert (tmp_path / "dest" / "mod_registration.so").exists()


# --- Spaces --------------------------------------------------------------------------------

def test_destdir_and_source_may_have_spaces(tmp_path):
    """As in a home directory."""
    layout = Layout("debian", tmp_path / "the root", destdir=True)
    source = copy_of_source(tmp_path / "the source")
    layout.make("-o", "Makefile", "install", directory=source)
    assert layout.files() == layout.expected()
    layout.make("uninstall", directory=source)
    assert layout.files() == set()


WITH_SPACES = {"LIBEXECDIR": "/usr/lib/httpd modules", "SYSCONFDIR": "-q SYSCONFDIR",
               "CONFDIR": "/etc/httpd conf.d", "prefix": "/opt/my registration"}


@pytest.mark.parametrize("name", WITH_SPACES)
def test_directory_with_space_is_an_error_and_changes_nothing(tmp_path, name):
    layout = Layout("redhat", tmp_path / "root", destdir=True)
    for target in ("install", "uninstall"):
        before = layout.files()
        said = layout.make(target, f"{name}={WITH_SPACES[name]}", expect=2)
        assert f"{name} must be an absolute path without spaces" in said, said
        assert layout.files() == before
        layout.make("install")


def test_missing_source_ends_install_with_an_error(tmp_path):
    source = copy_of_source(tmp_path / "source")
    (source / "conf" / "rate-limit.conf").unlink()
    layout = Layout("debian", tmp_path / "root")
    assert "rate-limit.conf" in layout.make("-o", "Makefile", "install", directory=source, expect=2)


# --- Flags ---------------------------------------------------------------------------------

@pytest.fixture
def pkg_config(tmp_path, monkeypatch):
    """pkg_config(script): a pkg-config before the real one in PATH."""
    def put(script):
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "pkg-config"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return put


@pytest.mark.parametrize("with_apr", [True, False])
def test_headers_of_apr_are_those_that_apxs_names(tmp_path, pkg_config, with_apr):
    """As in /usr/local/apache2: APR is httpd's own, and pkg-config knows none."""
    pkg_config(f'case "$*" in *apr*) exit 1 ;; esac; exec {shutil.which("pkg-config")} "$@"')
    include = tmp_path / "include"
    include.mkdir()
    for name in ("INCLUDEDIR", "APR_INCLUDEDIR") if with_apr else ("INCLUDEDIR",):
        for header in type(ROOT)(servers.apxs(name)).glob("*.h"):
            (include / header.name).symlink_to(header)
    apxs = fake_apxs(tmp_path / "apxs", INCLUDEDIR=include, APR_INCLUDEDIR=include,
                     APU_INCLUDEDIR=include)
    changed_copy(tmp_path / "copy")
    status, said = make(tmp_path / "copy", "build/obj/src/httpd/pool.o", f"APXS={apxs}")
    assert (status == 0) == with_apr, said
    assert with_apr or "apr" in said and "No such file or directory" in said


def test_libraries_are_linked_as_pkg_config_says(tmp_path, pkg_config):
    pkg_config("echo -L/usr/pgsql-17/lib -lpq -ljansson")
    changed_copy(tmp_path / "copy")
    status, said = make(tmp_path / "copy", "-n", "all")
    assert status == 0 and " -L/usr/pgsql-17/lib -lpq -ljansson\n" in said, said


def test_silent_pkg_config_is_an_error(tmp_path, pkg_config):
    """A module that is not linked with libpq is built without an error, and does not load."""
    pkg_config("exit 1")
    changed_copy(tmp_path / "copy")
    status, said = make(tmp_path / "copy", "-n", "all")
    assert status != 0 and '"pkg-config --libs libpq jansson" has no answer.' in said, said


# --- An httpd on what was installed --------------------------------------------------------

def with_values(site, **values):
    """A site with some of its Define lines changed."""
    for name, value in values.items():
        quoted = str(value).replace("\\", "\\\\").replace('"', '\\"')
        site = changed(site, rf"(?m)^(Define REGISTRATION_{name} +).*$",
                       lambda match, quoted=quoted: f'{match[1]}"{quoted}"')
    return site


@pytest.fixture
def signer():
    return servers.TokenIssuer()


def write_keys(layout, file, keys):
    """By the installed registration-keys."""
    option = ["--openidc"] if layout.name == "redhat" else []
    renew(file, *option, text=json.dumps({"keys": keys}),
          command=layout.path("/usr/bin/registration-keys"))


@pytest.fixture
def installed(layout, start_httpd, certificates, signer, postgres, tmp_path, expect_log):
    """An httpd whose LoadModule and site are those that were installed."""
    layout.make("install")
    port = servers.free_port()
    values = {"HOST": "localhost", "PORT": port, "CERTIFICATE": certificates.certificate,
              "KEY": certificates.key, "ACCESS_LOG": "access.log", "DATABASE": postgres.dsn(),
              "TOKEN_KEYS": tmp_path / "keys.conf"}
    if layout.name == "redhat":
        expect_log(r"\[auth_openidc:(warn|error)\] ")
    write_keys(layout, values["TOKEN_KEYS"], [key_of(signer)])
    site = with_values(layout.path(f"{layout.share}/{layout.site}").read_text(), **values)
    assert f"RATE_LIMIT  {layout.root}{layout.share}/rate-limit.conf" in site
    httpd = start_httpd(site, start=False, registration=layout.path(layout.module),
                        modules=OPENIDC if layout.name == "redhat" else servers.MODULES)
    httpd.port = port
    include_installed(httpd, layout)
    httpd.start()
    return types.SimpleNamespace(httpd=httpd, layout=layout, keys=values["TOKEN_KEYS"])


def include_installed(httpd, layout):
    """Lets httpd read the installed files, as the httpd.conf of each layout does."""
    pattern = {"debian": layout.load, "redhat": "/etc/httpd/conf.modules.d/*.conf",
               "vanilla": layout.load}[layout.name]
    lines = [f'Include "{layout.root}{pattern}"', f'Include "{layout.root}{layout.conf}"']
    before = httpd.configuration
    httpd.configuration = lambda: ("\n".join(lines) if "LoadModule registration" in line else line
                                   for line in before())


def test_httpd_serves_with_what_was_installed(installed, client, signer, occurrence):
    place = occurrence()
    token = signer.token("me", org=ORGANIZATION, scope=servers.ALL_SCOPES)
    answer = client(token, installed.httpd).post(
        "/api/v1/event-registrations", json={"occurrenceId": place, "externalUserId": "installed"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "CONFIRMED"
    assert client(None, installed.httpd).get("/health/ready").status_code == 200


# --- Red Hat's site ------------------------------------------------------------------------

on_red_hat = pytest.mark.parametrize("layout", ["redhat"], indirect=True)


@on_red_hat
def test_site_of_red_hat_admits_what_the_example_site_admits(installed, client, signer):
    path, good = "/api/v1/event-registrations", {"org": ORGANIZATION, "scope": servers.ALL_SCOPES}

    def status(token, path=path, method="GET"):
        return client(token, installed.httpd).request(method, path).status_code
    assert status(signer.token("me", **good)) == 200
    assert status(None) == status(None, method="OPTIONS") == 401
    assert status(servers.TokenIssuer().token("me", **good)) == 401
    assert status(signer.token("me", -60, **good)) == 401
    for token in unsigned(signer.token("me", **good), signer):
        assert status(token) == 401
    for other in ({"exp": None}, {"iss": "https://other.example.org"}, {"aud": "other"},
                  {"org": None}, {"scope": "groups:read"}):
        assert status(signer.token("me", **{**good, **other})) == 403, other
    reader = signer.token("me", org=ORGANIZATION, scope="registrations:read")
    assert (status(reader), status(reader, method="POST")) == (200, 403)
    assert status(reader, "/nothing") == 404 and status(None, "/nothing") == 401
    assert status(None, "/openapi.json") == status(None, "/health/ready") == 200


def unsigned(token, signer):
    """The claims of a token without a signature, and with one for which the public key suffices."""
    claims = token.split(".")[1]

    def encoded(octets):
        return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
    for algorithm in ("none", "HS256"):
        text = f"{encoded(json.dumps({'alg': algorithm, 'kid': signer.kid}).encode())}.{claims}"
        mac = hmac.digest(signer.public_pem(), text.encode(), "sha256")
        yield f"{text}.{encoded(mac) if algorithm == 'HS256' else ''}"


@on_red_hat
def test_keys_of_the_site_of_red_hat_are_renewed(installed, publisher, client, signer):
    httpd, other = installed.httpd, servers.TokenIssuer(kid="next")
    command = installed.layout.path("/usr/bin/registration-keys")

    def status(issuer):
        token = issuer.token("me", org=ORGANIZATION, scope=servers.ALL_SCOPES)
        return client(token, httpd).get("/api/v1/event-registrations").status_code

    def renewed(*keys):
        publisher.keys, begins = [key_of(one) for one in keys], httpd.starts()
        said = renew(installed.keys, "--renew", "--httpd", httpd_command(httpd), command=command)
        servers.wait_until(lambda: httpd.starts() > begins, 30, "httpd did not read the keys")
        assert f"{len(keys)} keys" in said
        assert len(list(installed.keys.parent.glob("keys-*.pem"))) == len(keys)

    publisher.keys = [key_of(signer)]
    assert "1 keys" in renew(installed.keys, publisher.url, command=command)
    assert "no change" in renew(installed.keys, "--renew", command=command)
    assert (status(signer), status(other)) == (200, 401)
    renewed(signer, other)
    servers.wait_until(lambda: status(other) == 200, 30, "the new key is not accepted")
    assert status(signer) == 200
    renewed(other)
    servers.wait_until(lambda: status(signer) == 401, 30, "the old key is still accepted")
    assert status(other) == 200


@on_red_hat
def test_httpd_without_module_ignores_the_site(installed, client):
    """After `make uninstall`, or the removal of the package, other sites are served."""
    httpd = installed.httpd
    installed.layout.make("uninstall")
    httpd.registration = None
    httpd.configuration = types.MethodType(servers.Httpd.configuration, httpd)
    httpd.graceful()
    with pytest.raises(OSError):
        client(None, httpd).get("/openapi.json")


# Directives of one of the two sites only. A line added to one and forgotten in the other would
# be a right, or a limit, that only one of them has.
OF_DEBIAN = {
    "Define REGISTRATION_CERTIFICATE", "Define REGISTRATION_KEY",
    "Define REGISTRATION_ACCESS_LOG", "Define REGISTRATION_TOKEN_KEYS",
    "Define REGISTRATION_TOKEN_OPTIONS", "OAuth2Cache shm", "AuthType oauth2",
    "LogLevel oauth2:error",
    "OAuth2TargetPass prefix=OAUTH2_CLAIM_&headers=off",
    "Require oauth2_claim", "RegistrationOrganization %{reqenv:OAUTH2_CLAIM_"}
OF_RED_HAT = {
    "Define REGISTRATION_CERTIFICATE", "Define REGISTRATION_KEY",
    "Define REGISTRATION_ACCESS_LOG", "Define REGISTRATION_TOKEN_KEYS",
    "OIDCOAuthRemoteUserClaim sub",
    "AuthType oauth20", "LogLevel auth_openidc:warn", "OIDCPassClaimsAs environment",
    "Require claim",
    "Require expr \"-z reqenv('OIDC_CLAIM_sub')", "RegistrationOrganization %{reqenv:OIDC_CLAIM_"}


def directives(site):
    lines = [" ".join(line.split()) for line in site.splitlines()]
    return [line for line in lines if line and not line.startswith("#")
            and line not in ("<IfModule registration_module>", "</IfModule>")]


def only_in_one(debian, red_hat):
    """The directives that one site alone has, except those that it has to have."""
    for one, other, known in ((debian, red_hat, OF_DEBIAN), (red_hat, debian, OF_RED_HAT)):
        yield from (line for line in directives(one) if line not in directives(other)
                    and not line.startswith(tuple(known)))


def example(name):
    return (ROOT / "conf" / name).read_text()


def test_sites_of_debian_and_red_hat_have_the_same_directives():
    assert list(only_in_one(example("example-site.conf"),
                            example("example-site-redhat.conf"))) == []


@pytest.mark.parametrize("text, other", [
    ("DBDMax     8", "DBDMax     9"), ("SSLProtocol -all +TLSv1.2 +TLSv1.3", ""),
    ("Require local", "Require all denied"), ("LimitRequestBody 1048576", "")])
def test_control_directive_of_one_site_only_is_reported(text, other):
    debian, red_hat = example("example-site.conf"), example("example-site-redhat.conf")
    assert text in red_hat
    assert list(only_in_one(debian, red_hat.replace(text, other)))
