# SPDX-License-Identifier: Apache-2.0
"""No log tells who registers, at level info or above: not httpd's, not PostgreSQL's.

That holds for all that the whole suite sends; the end of each run checks it (see log_leaks.py).
Here are what would make a server talkative, and the controls that show that the check sees.
"""

import re
import secrets

import pytest

import log_leaks
import servers
from event_registrations import MOUNT
from scratch import OnScratch
from wire import wire   # noqa: F401, a fixture

# A row that PostgreSQL refuses and C does not: somebody has made a rule of his own.
RULE = ("ALTER TABLE live_registrations ADD CONSTRAINT no_hosts CHECK (role <> 'host')"
        " NOT VALID;")
# What an administrator may have switched on to find slow statements or errors.
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


class Talkative(OnScratch):
    """A PostgreSQL that logs each statement, and why a row is refused."""

    broken = RULE + TALKATIVE

    @pytest.fixture
    def logged(self, client, issuer, live_session, postgres, expect_log):
        """logged(): what PostgreSQL logs of a registration that succeeds and of one that
        fails; and what it could tell of them."""
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


class TestATalkativeDatabase(Talkative):
    def test_it_logs_statements_and_errors_without_their_values(self, logged):
        text, strings = logged()
        assert "duration: " in text and "live_register" in text
        assert 'violates check constraint "no_hosts"' in text
        assert log_leaks.found_in(text, strings) == set()


class TestControlOfTheRolesSettings(Talkative):
    """Without what the installation sets for the role, it is all there."""

    # In this database only.
    broken = Talkative.broken + "".join(f"""
        DO $$ BEGIN EXECUTE format('ALTER ROLE registration IN DATABASE %I SET {setting}',
                                   current_database()); END $$;
        """ for setting in ("log_error_verbosity = verbose", "log_parameter_max_length = -1"))

    def test_control_without_them_the_values_are_logged(self, logged):
        text, strings = logged()
        log_leaks.forget(*strings)
        assert "Failing row contains" in text and "parameters: $1 = " in text
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
def told(tmp_path):
    """told(name, line): what the check finds when that line stands in such a log. Its
    directory is not below that of the run, whose own check would find it too."""
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


def spoken(api, wire, issuer):
    """Strings of each kind that a client sends, every one of them sent."""
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
def test_control_what_was_sent_is_found_in_a_log(api, wire, issuer, told, name):
    for kind, text in spoken(api, wire, issuer).items():
        assert len(told(name, LEAKS[name].format(text))) >= 1, kind
        assert told(name, NO_LEAKS[name].format(text)) == []
    assert told(name, LEAKS[name].format(secrets.token_hex(8))) == []


class TestControlOfTheSitesLogs(OnScratch):
    """With the site's own lines on logs gone, a caller's name and a search are logged."""

    @staticmethod
    def change(site):
        site = site.replace("LogLevel authz_core:crit\n", "")
        return site.replace('\\"%m %U %H\\" %>s', '\\"%r\\" %u %>s')

    def test_control_they_are_logged(self, httpd, client, issuer):
        name, text = secrets.token_hex(8), secrets.token_hex(8)
        log_leaks.forget(name, text)
        one = client(issuer.token(name))
        assert one.get(f"{MOUNT}?search={text}").status_code == 200
        assert one.post("/v1/families", json={}).status_code == 403
        access = httpd.directory / "access.log"
        servers.wait_until(lambda: text in access.read_text(), 10, "nothing was logged")
        assert name in access.read_text() and name in httpd.log.text()


def test_the_sites_logs_have_neither(httpd, client, issuer):
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


# --- The Referer, and the request's id -----------------------------------------------------

class TestControlWithoutTheErrorLogFormat(OnScratch):
    """httpd's own format ends with the Referer, and has no id."""

    @staticmethod
    def change(site):
        site, found = re.subn(r"(?m)^ *ErrorLogFormat .*\n", "", site)
        assert found == 1
        return site

    def test_control_the_referer_is_logged_and_the_id_is_not(self, httpd, client):
        answer, line = refused(httpd, client)
        log_leaks.forget(answer.referer)
        assert answer.referer in line and answer.headers["X-Request-Id"] not in line


def refused(httpd, client):
    """An answer to a bad token, sent by a page whose address names a person, and what the
    error log has of it. Errors of the module itself: test_operating_logs.py."""
    begin = httpd.log.size()
    one = client("nonsense", httpd)
    referer = one.headers["Referer"] = f"https://app.example.org/?who={secrets.token_hex(8)}"
    answer = one.get(MOUNT)
    answer.referer = referer
    assert answer.status_code == 401
    servers.wait_until(lambda: "[oauth2:" in httpd.log.text()[begin:], 10, "nothing was logged")
    return answer, httpd.log.text()[begin:]


def test_an_error_is_logged_with_its_id_and_without_the_referer(httpd, client):
    answer, lines = refused(httpd, client)
    number = answer.headers["X-Request-Id"]
    assert "referer" not in lines and answer.referer not in lines
    assert number in lines
    access = httpd.directory / "access.log"
    servers.wait_until(lambda: number in access.read_text(), 10, "nothing was logged")
