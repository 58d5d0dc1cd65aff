# SPDX-License-Identifier: Apache-2.0
"""A mount is no place in the file system, whatever the site has there."""

import servers

SESSION = "/v1/sessions/11111111-1111-4111-8111-111111111111"


def test_directory_sections_are_not_for_a_mount(client, token, start_httpd):
    """Debian's own configuration closes the whole file system."""
    httpd = start_httpd(inside="<Directory />\nRequire all denied\n</Directory>")
    assert client(token, httpd).post(f"{SESSION}/register", json={"role": "no such"}) \
        .status_code == 400


def test_a_mount_with_the_path_of_a_directory_is_no_directory(client, token, start_httpd):
    """mod_dir would redirect, and a long name would be refused by the file system."""
    httpd = start_httpd(modules=[*servers.MODULES, "dir"], inside="""
        <Location "/tmp">
            RegistrationAPI events
        </Location>""")
    visitor = client(token, httpd)
    assert visitor.get("/tmp", allow_redirects=False).json() is not None
    answer = visitor.get("/tmp/" + "x" * 300)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "id")


def test_trace_is_no_method_of_an_api(client, token, start_httpd):
    httpd = start_httpd(inside="TraceEnable on")
    answer = client(token, httpd).request("TRACE", f"{SESSION}/register")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")
    assert answer.json()["error"] == "method_not_allowed"


def test_a_front_end_beside_it_gets_nothing_of_a_mount(client, token, start_httpd, tmp_path):
    (tmp_path / "index.html").write_text("<p>the front end</p>")
    tmp_path.chmod(0o755)
    httpd = start_httpd(modules=[*servers.MODULES, "dir"], inside=f"""
        DocumentRoot {tmp_path}
        FallbackResource /index.html""")
    visitor = client(token, httpd)
    assert visitor.get(f"{SESSION}/register").status_code == 405
    assert visitor.post(f"{SESSION}/register", data="{").json()["error"] == "validation_error"


def test_a_path_that_no_request_can_follow_is_refused(start_httpd):
    for path in ["/", "/v1/families/", "/v1/*"]:
        httpd = start_httpd(start=False, inside=f"""
            <Location "{path}">
                RegistrationAPI families
            </Location>""")
        assert "does not end in a slash" in httpd.refusal()


def test_a_rule_that_leads_out_of_a_mount_does_not_lead_into_the_file_system(
        client, token, start_httpd):
    httpd = start_httpd(modules=[*servers.MODULES, "rewrite"], inside="""
        DocumentRoot /usr/share
        RewriteEngine on
        RewriteRule "^/v1/sessions/docs/(.*)" "/$1" [PT]""")
    answer = client(token, httpd).get("/v1/sessions/docs/etc/hostname")
    assert answer.status_code == 404


def test_a_pattern_is_no_mount(start_httpd):
    for section in ['<Location ~ "/v1/(a|b)">', '<LocationMatch "/v1/(a|b)">']:
        httpd = start_httpd(start=False, inside=f"""
            {section}
                RegistrationAPI families
            </{section[1:].split()[0]}>""")
        assert "one plain path" in httpd.refusal()
