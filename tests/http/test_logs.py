# SPDX-License-Identifier: Apache-2.0
"""No log of httpd or PostgreSQL holds personal data at level info or above.

At the end of each run log_leaks.py searches all logs for everything that the tests sent. Here
are settings that make servers log more, and controls which show that leaks are found.
"""

import re
import secrets

import pytest

import log_leaks
import servers
from event_registrations import MOUNT
from scratch import OnScratch
from wire import wire   # noqa: F401, a fixture

# An administrator's constraint, which PostgreSQL checks and the module does not.
RULE = ("ALTER TABLE live_registrations ADD CONSTRAINT no_hosts CHECK (role <> 'host')"
        " NOT VALID;")
# Settings of an administrator who looks for slow statements or errors.
TALKATIVE = """
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET log_min_duration_statement = 0',
                   current_database());
    EXECUTE format('ALTER DATABASE %I SET log_parameter_max_length_on_error = -1',
                   current_database());
    EXECUTE format('ALTER DATABASE %I SET log_error_verbosity = verbose',
                   current_database());
END $$;
"""


class Verbose(OnScratch):
    """A PostgreSQL that logs each statement and the details of errors."""

    broken = RULE + TALKATIVE

    @pytest.fixture
    def logged(self, client, issuer, live_session, postgres, expect_log):
        """logged(): PostgreSQL's log of a successful and a failed registration, and the
        strings sent."""
        expect_log('violates check constraint "no_hosts"')

        def register():
            begin = postgres.log.size()
            key, caller = secrets.token_hex(8), secrets.token_hex(8)
            strings = {key, caller}
            api = client(issuer.token(caller))
            for role, status in (("participant", 201), ("host", 400)):
                body = {"patient_id": secrets.token_hex(8), "role": role,
                        "guest_email": f"{secrets.token_hex(8)}@example.org"}
                answer = api.post(f"/v1/sessions/{live_session()}/register", json=body,
                                  headers={"Idempotency-Key": key})
                assert answer.status_code == status
                strings |= {body["patient_id"], body["guest_email"]}
            return postgres.log.text()[begin:], strings
        return register


class TestVerboseDatabase(Verbose):
    def test_verbose_database_logs_no_values(self, logged):
        text, strings = logged()
        assert "duration: " in text and "live_register" in text
        assert 'violates check constraint "no_hosts"' in text
        assert log_leaks.found_in(text, strings) == set()


class TestControlRoleSettings(Verbose):
    """Without the settings of the service's role, all values are logged."""

    # In this database only.
    broken = Verbose.broken + "".join(f"""
        DO $$ BEGIN EXECUTE format('ALTER ROLE registration IN DATABASE %I SET {setting}',
                                   current_database()); END $$;
        """ for setting in ("log_error_verbosity = verbose", "log_parameter_max_length = -1"))

    def test_control_without_role_settings_values_are_logged(self, logged):
        text, strings = logged()
        log_leaks.forget(*strings)
        assert "Failing row contains" in text and "arameters: $1 = " in text
        assert log_leaks.found_in(text, strings) == strings


# --- The check at the end of a run ---------------------------------------------------------

LEAKS = {
    "error.log": "[Thu Nov 26 14:00:00 2026] [core:info] [pid 1:tid 2] AH00000: for {0}",
    "postgresql.log": "2026-11-26 14:00:00 UTC [1] registration@registration ERROR:  x {0}",
}
NO_LEAKS = {
    "error.log": "[Thu Nov 26 14:00:00 2026] [core:debug] [pid 1:tid 2] AH00000: for {0}",
    "postgresql.log": "2026-11-26 14:00:00 UTC [1] postgres@registration ERROR:  x {0}",
}


@pytest.fixture
def found_leaks(tmp_path):
    """found_leaks(name, line): the leaks found in a log with that line. Its directory is
    outside those of the run, whose own check would find the leak too."""
    def leaks(name, line):
        directory = tmp_path / "elsewhere"
        directory.mkdir(exist_ok=True)
        path = directory / name
        path.write_text(line + "\n")
        try:
            return list(log_leaks.leaks(directory))
        finally:
            path.unlink()
    return leaks


def send_strings(api, wire, issuer):
    """Sends strings of each kind that a client can send; the strings by kind."""
    one = {kind: secrets.token_hex(8) for kind in ("patient", "address", "key", "text", "wire")}
    token = issuer.token("somebody", jti=secrets.token_hex(8))
    api.post("/v1/sessions/x/register", json={"patient_id": one["patient"] + ' "é',
                                             "guest_email": one["address"] + "@example.org"},
             headers={"Idempotency-Key": f'"{one["key"]}"', "Authorization": "Bearer " + token})
    api.get(MOUNT, params={"search": one["text"]})
    wire().send(b'POST /v1/families HTTP/1.1\r\nHost: x\r\n\r\n{"password": "%s"}'
                % one["wire"].encode())
    one.update(patient=one["patient"] + ' "é', address=one["address"] + "@example.org",
               token=token)
    return one


@pytest.mark.parametrize("name", LEAKS)
def test_control_sent_string_is_found_in_log(api, wire, issuer, found_leaks, name):
    for kind, text in send_strings(api, wire, issuer).items():
        assert len(found_leaks(name, LEAKS[name].format(text))) >= 1, kind
        assert found_leaks(name, NO_LEAKS[name].format(text)) == []
    assert found_leaks(name, LEAKS[name].format(secrets.token_hex(8))) == []


class TestControlSiteLogs(OnScratch):
    """Without the site's directives on logs, a caller's name and a search text are logged."""

    @staticmethod
    def change(site):
        site = site.replace("LogLevel authz_core:crit\n", "")
        return site.replace('\\"%m %U %H\\" %>s', '\\"%r\\" %u %>s')

    def test_control_name_and_search_text_are_logged(self, httpd, client, issuer):
        name, text = secrets.token_hex(8), secrets.token_hex(8)
        log_leaks.forget(name, text)
        one = client(issuer.token(name))
        assert one.get(f"{MOUNT}?search={text}").status_code == 200
        assert one.post("/v1/families", json={}).status_code == 403
        access = httpd.directory / "access.log"
        servers.wait_until(lambda: text in access.read_text(), 10, "nothing was logged")
        assert name in access.read_text() and name in httpd.log.text()


def test_site_logs_have_no_name_and_no_search_text(httpd, client, issuer):
    name, text = secrets.token_hex(8), secrets.token_hex(8)
    one = client(issuer.token(name))
    path = f"{MOUNT}/{text}"
    assert one.get(f"{MOUNT}?search={text}{text}").status_code == 200
    assert one.post("/v1/families", json={}).status_code == 403
    assert one.get(path).status_code == 400
    access = httpd.directory / "access.log"
    servers.wait_until(lambda: path in access.read_text(), 10, "nothing was logged")
    assert text + text not in access.read_text()
    for log in (access.read_text(), httpd.log.text()):
        assert name not in log


# --- The Referer and the request id --------------------------------------------------------

class TestControlWithoutErrorLogFormat(OnScratch):
    """httpd's own format ends with the Referer and has no request id."""

    @staticmethod
    def change(site):
        site, found = re.subn(r"(?m)^ *ErrorLogFormat .*\n", "", site)
        assert found == 1
        return site

    def test_control_referer_is_logged_and_request_id_is_not(self, httpd, client):
        answer, line = refused(httpd, client)
        log_leaks.forget(answer.referer)
        assert answer.referer in line and answer.headers["X-Request-Id"] not in line


def refused(httpd, client):
    """Sends an invalid token with a Referer that names a person; the answer and its lines in
    the error log. Errors of the module: test_operating_logs.py."""
    begin = httpd.log.size()
    one = client("nonsense", httpd)
    referer = one.headers["Referer"] = f"https://app.example.org/?who={secrets.token_hex(8)}"
    answer = one.get(MOUNT)
    answer.referer = referer
    assert answer.status_code == 401
    servers.wait_until(lambda: "[oauth2:" in httpd.log.text()[begin:], 10, "nothing was logged")
    return answer, httpd.log.text()[begin:]


def test_error_is_logged_with_request_id_and_without_referer(httpd, client):
    answer, lines = refused(httpd, client)
    number = answer.headers["X-Request-Id"]
    assert "referer" not in lines and answer.referer not in lines
    assert number in lines
    access = httpd.directory / "access.log"
    servers.wait_until(lambda: number in access.read_text(), 10, "nothing was logged")
