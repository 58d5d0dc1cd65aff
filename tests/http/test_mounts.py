# SPDX-License-Identifier: Apache-2.0
"""A mount is independent of the file system, whatever the site serves there."""

import re
import urllib.parse

import pytest

import samples
import servers
from changed import changed_module
from conftest import new_uuid
from event_registrations import created, ids

SESSION = "/v1/sessions/11111111-1111-4111-8111-111111111111"


def test_directory_section_does_not_apply_to_mount(client, token, start_httpd):
    """Debian's configuration denies access to the whole file system."""
    httpd = start_httpd(inside="<Directory />\nRequire all denied\n</Directory>")
    assert client(token, httpd).post(f"{SESSION}/register", json={"role": "no such"}) \
        .status_code == 400


def test_mount_at_path_of_directory_is_not_a_directory(client, token, start_httpd):
    """mod_dir would redirect, and the file system would refuse a long name."""
    httpd = start_httpd(modules=[*servers.MODULES, "dir"], inside="""
        <Location "/tmp">
            RegistrationAPI events
        </Location>""")
    visitor = client(token, httpd)
    assert visitor.get("/tmp", allow_redirects=False).json() is not None
    answer = visitor.get("/tmp/" + "x" * 300)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "id")


def test_trace_is_405(client, token, start_httpd):
    httpd = start_httpd(inside="TraceEnable on")
    answer = client(token, httpd).request("TRACE", f"{SESSION}/register")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")
    assert answer.json()["error"] == "method_not_allowed"


def test_fallback_resource_does_not_serve_mount(client, token, start_httpd, tmp_path):
    (tmp_path / "index.html").write_text("<p>the front end</p>")
    tmp_path.chmod(0o755)
    httpd = start_httpd(modules=[*servers.MODULES, "dir"], inside=f"""
        DocumentRoot {tmp_path}
        FallbackResource /index.html""")
    visitor = client(token, httpd)
    assert visitor.get(f"{SESSION}/register").status_code == 405
    assert visitor.post(f"{SESSION}/register", data="{").json()["error"] == "validation_error"


def test_mount_path_with_slash_at_end_or_wildcard_is_refused(start_httpd):
    for path in ["/", "/v1/families/", "/v1/*"]:
        httpd = start_httpd(start=False, inside=f"""
            <Location "{path}">
                RegistrationAPI families
            </Location>""")
        assert "does not end in a slash" in httpd.refusal()


def test_rewrite_out_of_mount_serves_no_file(client, token, start_httpd):
    httpd = start_httpd(modules=[*servers.MODULES, "rewrite"], inside="""
        DocumentRoot /usr/share
        RewriteEngine on
        RewriteRule "^/v1/sessions/docs/(.*)" "/$1" [PT]""")
    answer = client(token, httpd).get("/v1/sessions/docs/etc/hostname")
    assert answer.status_code == 404


def test_location_match_cannot_be_a_mount(start_httpd):
    for section in ['<Location ~ "/v1/(a|b)">', '<LocationMatch "/v1/(a|b)">']:
        httpd = start_httpd(start=False, inside=f"""
            {section}
                RegistrationAPI families
            </{section[1:].split()[0]}>""")
        assert "one plain path" in httpd.refusal()


# --- Mount paths in URIs -------------------------------------------------------------------

# A URI cannot contain these octets unescaped.
ODD = {"a blank": "/a b", "not ASCII": "/d\u00e9p\u00f4t/\u65e5", "an escape": "/a%20b",
       "delimiters": "/{a},b;c#d^e"}


def check_uris(api, path, one_occurrence, one_group):
    """Each URI in the answers is valid and can be requested."""
    registrations = urllib.parse.quote(path) + "/registrations"
    made = [created(api, one_occurrence, f"user {n}", registrations) for n in range(2)]
    answer = api.get(registrations, params={"occurrenceId": one_occurrence, "limit": 1})
    location = api.post(registrations, json={
        "occurrenceId": one_occurrence, "externalUserId": "third"}).headers["Location"]
    member = api.post(urllib.parse.quote(path) + "/users",
                      json=samples.member(one_group.code)).json()
    uris = [location, answer.links["next"]["url"], answer.links["first"]["url"],
            member["user"]["href"], member["group"]["href"]]
    for uri in uris:
        assert re.fullmatch(r"[!$&-+\-./:=?@\w~%]+", uri, re.ASCII), uri
        assert api.get(uri).status_code == 200, uri
    assert api.get(answer.links["next"]["url"]).json()[0]["id"] in ids(made)


@pytest.fixture
def odd_site(start_httpd, client, token, occurrence, group):
    """odd_site(path, **options): the arguments of check_uris(), with the APIs below a path."""
    def make(path, **options):
        httpd = start_httpd(inside=f"""
            RegistrationGroupsPath "{path}/groups"
            <Location "{path}/registrations">
                RegistrationAPI events
            </Location>
            <Location "{path}/groups">
                RegistrationAPI groups
            </Location>
            <Location "{path}/users">
                RegistrationAPI users
            </Location>""", **options)
        return client(token, httpd), path, occurrence(), group()
    return make


@pytest.mark.parametrize("path", ODD)
def test_mount_path_is_escaped_in_uris(odd_site, path):
    check_uris(*odd_site(ODD[path]))


def test_control_unescaped_mount_path_is_detected(odd_site, tmp_path):
    module = changed_module(tmp_path / "changed", "conf->mount_uri = escape_path(cmd->pool, "
                            "cmd->path);", "conf->mount_uri = cmd->path;")
    site = odd_site("/d\u00e9p\u00f4t", registration=module)
    with pytest.raises(AssertionError):
        check_uris(*site)
