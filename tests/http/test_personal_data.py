# SPDX-License-Identifier: Apache-2.0
"""Personal data: everything about a person can be exported and erased."""

import json
import re
import secrets
import subprocess
import threading
import time
import types

import psycopg2
import pytest

import samples
import servers
from apis import MOUNTS
from conftest import ORGANIZATION, new_uuid
from event_registrations import MOUNT, create, created, delete, updated
from scratch import OnScratch

# The rows that Person.register() makes, by table.
ROWS = {"live_registrations": 2, "group_members": 1, "families": 1,
        "event_registrations": 3, "event_users": 1, "idempotency_keys": 4}


class Person:
    """A person whose id is the same e-mail address everywhere."""

    def __init__(self, tools):
        self.tools = tools
        self.text = f"Jane.{secrets.token_hex(6)}@Example.org"
        # The person as caller, who may register other persons too.
        self.client = tools.client(tools.issuer.token(self.text, org=ORGANIZATION,
                                                      scope="families:create"))
        self.sessions = [tools.live_session(2), tools.live_session(2)]
        self.group = tools.group(max_uses=2)
        self.school = tools.institution()
        self.child = tools.child(self.school)
        self.occurrences = [tools.occurrence(capacity=1) for _ in range(3)]

    def requests(self, text=None):
        """Path and body of a registration, by API."""
        text = text or self.text
        return {
            "live": (f"/v1/sessions/{self.sessions[0]}/register", {"patient_id": text}),
            "groups": (f"{MOUNTS['groups']}/{self.group.id}/members", samples.member(
                self.group.code, {"email": text.upper(), "firstName": text}, tags=[text])),
            "families": (MOUNTS["families"], samples.family(self.school, [self.child],
                                                            username=text)),
            "events": (MOUNT, {"occurrenceId": self.occurrences[0], "externalUserId": text,
                               "fields": {"email": text, "lastName": text}}),
        }

    def register(self):
        """Registers the person in each API, as caller and with keys; the answers."""
        answers = {}
        for api, (path, body) in self.requests().items():
            answers[api] = self.client.post(path, json=body,
                                            headers={"Idempotency-Key": new_uuid()})
        answers["guest"] = self.client.post(f"/v1/sessions/{self.sessions[1]}/register",
                                            json={"guest_email": self.text.lower()})
        for answer in answers.values():
            assert answer.status_code == 201, answer.text
        # A deleted registration, and a waiting one.
        delete(self.client, created(self.client, self.occurrences[1], self.text))
        created(self.client, self.occurrences[2], new_uuid())   # takes the only place
        assert created(self.client, self.occurrences[2], self.text)["status"] == "WAITING_LIST"
        return answers


@pytest.fixture
def tools(client, issuer, live_session, group, institution, child, occurrence, sql):
    return types.SimpleNamespace(**locals())


@pytest.fixture
def person(tools):
    return Person(tools)


@pytest.fixture
def export(sql):
    return lambda text: sql("SELECT export_person(%s)", text)[0][0]


@pytest.fixture
def erase(sql):
    return lambda text: sql("CALL erase_person(%s)", text)[0][0]


def traces(sql, text):
    """The number of rows that contain the text, by table."""
    found = {}
    for table, in sql("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'm')"
                      " AND NOT relispartition"
                      " AND relnamespace = 'registration'::regnamespace"):
        [[count]] = sql(f"SELECT count(*) FROM {table} AS t"
                        " WHERE strpos(lower(t::text), lower(%s)) > 0", text)
        if count:
            found[table] = count
    return found


def sizes(exported):
    return {table: len(rows) for table, rows in exported.items()}


# --- Export --------------------------------------------------------------------------------

def test_export_has_all_data_of_person(person, sql, export):
    answers = person.register()
    exported = export(person.text)
    # Each table with the person's text, with at least that many rows.
    found = traces(sql, person.text)
    assert set(found) == {*ROWS, "member_emails", "family_children", "audit"}
    assert {table: sizes(exported)[table] for table in found} == {
        **found, "idempotency_keys": 4, "event_registrations": 3}
    assert {table: sizes(exported)[table] for table in ROWS} == ROWS

    stored = {json.dumps(row["body"], sort_keys=True) for row in exported["idempotency_keys"]}
    assert stored == {json.dumps(answers[api].json(), sort_keys=True)
                      for api in ("live", "groups", "families", "events")}
    [member] = exported["group_members"]
    assert member["email"] == person.text.upper() and member["tags"] == [person.text]
    assert [row["child_id"] for row in exported["family_children"]] == [person.child]
    assert sorted(row["status"] for row in exported["event_registrations"]) == [
        "CONFIRMED", "CONFIRMED", "WAITING_LIST"]
    assert any(row["deleted_at"] for row in exported["event_registrations"])
    assert {row["fields"].get("lastName") for row in exported["event_registrations"]} == {
        person.text, None}


def test_export_has_audit_entries_of_person(person, admin, export):
    """As caller, and as subject of other callers' requests."""
    person.register()
    other = created(person.client, person.tools.occurrence(), "somebody else")
    mine = created(admin, person.tools.occurrence(), person.text)
    entries = [(entry["action"], entry["kind"], entry["id"], entry["caller"])
               for entry in export(person.text)["audit"]]
    assert ("registered", "event_registration", other["id"], person.text) in entries
    assert ("registered", "event_registration", mine["id"], "admin") in entries
    assert sum(entry[3] == person.text for entry in entries) == 5 + 3 + 1 + 1


def test_export_has_no_password_hash(person, sql, export):
    person.register()
    [[stored]] = sql("SELECT password_hash FROM families WHERE username = %s", person.text)
    assert stored.startswith("$2")
    assert stored not in json.dumps(export(person.text))
    assert "$2" not in json.dumps(export(person.text))


def test_export_has_no_data_of_other_persons(person, tools, export):
    person.register()
    other = Person(tools)
    other.register()
    assert other.text.lower() not in json.dumps(export(person.text)).lower()


def test_unknown_person_has_no_data(person, sql, export, erase):
    """An empty text, as of an unset variable, identifies no person."""
    person.register()
    created(person.client, person.tools.occurrence(), fields={"email": ""})
    before = export(person.text)
    for text in ("nobody at all", person.text[1:], "", "%", "_", "'; --", None):
        assert export(text) == {}
        assert set(erase(text).values()) == {0}
    assert export(person.text) == before


def test_email_is_found_case_insensitively(person, export):
    person.register()
    exported, other = export(person.text), export(person.text.swapcase())
    assert {**sizes(other)} == {**sizes(exported)} and set(sizes(other)) > set(ROWS)


def test_id_not_an_email_is_case_sensitive(admin, live_session, occurrence, export):
    name = f"Jane {secrets.token_hex(6)}"
    assert admin.post(f"/v1/sessions/{live_session()}/register",
                      json={"patient_id": name}).status_code == 201
    created(admin, occurrence(), name)
    assert set(export(name)) == {"live_registrations", "event_users", "event_registrations",
                                 "audit"}
    assert export(name.swapcase()) == {}


def test_email_in_fields_is_found(admin, occurrence, export, erase, sql):
    """The user has no e-mail, or another."""
    email, name = samples.new_email(), new_uuid()
    created(admin, occurrence(), name)
    mine = created(admin, occurrence(), name,
                   fields={"email": email.upper(), "note": "diabetic"})
    other = created(admin, occurrence(), new_uuid(),
                    fields={"email": samples.new_email()})
    updated(admin, other, fields={"email": email})
    last = created(admin, occurrence(), name, fields={"email": email})
    updated(admin, last, fields={"email": None})
    assert {row["id"] for row in export(email)["event_registrations"]} == {
        mine["id"], other["id"]}
    assert erase(email)["event_registrations"] == 2
    assert traces(sql, email) == {}


def test_mentions_by_other_persons_are_listed_separately(person, admin, occurrence, group,
                                                         sql, export):
    text = f'Jane "{secrets.token_hex(6)}" \u00e4'
    mentioned = created(admin, occurrence(), new_uuid(),
                        fields={"friend": {"name": text.upper()}})
    place = group()
    member = admin.post(f"{MOUNTS['groups']}/{place.id}/members",
                        json=samples.member(place.code, attributes={"friend": text})).json()
    mine = created(admin, occurrence(), text, fields={"note": text})
    found = sql("SELECT kind, id FROM person_mentions(%s)", text)
    assert sorted(found) == sorted([("event_registration", mentioned["id"]),
                                    ("group_member", member["user"]["uuid"])])
    assert mine["id"] in str(export(text)) and mentioned["id"] not in str(export(text))
    assert sql("SELECT 1 FROM person_mentions(%s)", "") == []


def test_export_is_audited_with_row_count(person, sql, export):
    person.register()
    exported = export(person.text)
    assert sql("SELECT action, kind, caller, row_count FROM audit WHERE action = 'exported'"
               " ORDER BY at DESC LIMIT 1") == [
                   ("exported", "person", "postgres", sum(sizes(exported).values()))]


def test_stored_answer_is_found_after_registration_is_deleted(person, sql, export, erase):
    answers = person.register()
    sql("SELECT cancel_live_registration(%s)", answers["live"].json()["id"])
    sql("SELECT remove_group_member(%s)", answers["groups"].json()["user"]["uuid"])
    sql("SELECT remove_family(%s)", person.text)
    assert sizes(export(person.text))["idempotency_keys"] == 4
    assert erase(person.text)["idempotency_keys"] == 4
    assert traces(sql, person.text) == {}


def test_stored_answer_is_found_after_change_of_email(person, sql, export, erase):
    answers = person.register()
    new = samples.new_email()
    sql("UPDATE group_members SET email = %s WHERE id = %s", new,
        answers["groups"].json()["user"]["uuid"])
    sql("UPDATE member_emails SET email = %s WHERE email = lower(%s)", new, person.text)
    assert sizes(export(new))["idempotency_keys"] == 1
    assert erase(new)["idempotency_keys"] == 1
    assert traces(sql, new) == {}


# --- Erase ---------------------------------------------------------------------------------

def test_erasing_leaves_no_trace(person, sql, export, erase):
    sql("SELECT recount()")   # Other tests delete rows by hand.
    person.register()
    assert set(traces(sql, person.text)) > set(ROWS)   # Negative control: traces are found.
    as_caller = sum(entry["caller"] == person.text for entry in export(person.text)["audit"])
    assert erase(person.text) == {**ROWS, "audit": as_caller}
    assert traces(sql, person.text) == {}
    assert export(person.text) == {}
    assert set(erase(person.text).values()) == {0}
    assert sql("SELECT * FROM recount()") == []


def test_erasing_frees_places_and_code_uses(person, admin, sql, erase):
    person.register()
    waiting = [created(admin, person.occurrences[0], f"user {n}") for n in range(3)]
    assert {one["status"] for one in waiting} == {"WAITING_LIST"}
    erase(person.text)
    assert [sql("SELECT status FROM event_registrations WHERE id = %s", one["id"])[0][0]
            for one in waiting] == ["CONFIRMED", "WAITING_LIST", "WAITING_LIST"]
    assert sql("SELECT registrations FROM occurrences WHERE id = ANY (%s::uuid[])"
               " ORDER BY array_position(%s::uuid[], id)",
               person.occurrences, person.occurrences) == [(1,), (0,), (1,)]
    assert sql("SELECT sum(registered_count) FROM live_sessions WHERE id = ANY (%s::uuid[])",
               person.sessions) == [(0,)]
    assert sql("SELECT uses FROM invite_codes WHERE code = %s", person.group.code) == [(0,)]
    assert sql("SELECT * FROM recount()") == []
    # The person can register again, with the same keys.
    again = person.register()
    assert again["events"].json()["status"] == "WAITING_LIST"


def test_erasing_keeps_audit_entries_without_caller(person, sql, erase):
    answers = person.register()
    ids = [answers["live"].json()["id"], answers["groups"].json()["user"]["uuid"],
           answers["families"].json()["id"], answers["events"].json()["id"],
           answers["events"].json()["user"]["id"]]
    erase(person.text)

    def entries(one):
        return sql("SELECT action, caller FROM audit WHERE id = %s ORDER BY at", one)
    for one in ids[:3]:
        assert entries(one) == [("registered", "erased"), ("removed", "postgres"),
                                ("erased", "postgres")]
    assert entries(ids[3]) == [("registered", "erased"), ("deleted", "postgres"),
                               ("erased", "postgres")]
    assert entries(ids[4]) == [("erased", "postgres")]


def test_erasing_a_caller_keeps_registrations_of_other_persons(person, sql, erase):
    other = created(person.client, person.tools.occurrence(), "somebody else")
    assert erase(person.text) == {**dict.fromkeys(ROWS, 0), "audit": 1}
    assert sql("SELECT caller FROM audit WHERE id = %s", other["id"]) == [("erased",)]
    assert sql("SELECT status FROM event_registrations WHERE id = %s", other["id"]) == [
        ("CONFIRMED",)]


def test_interrupted_erasing_is_completed_by_next_call(person, sql, erase):
    person.register()
    rows = sql("SELECT kind, id, belongs_to FROM person_rows(%s)", person.text)
    for row in rows[::2]:
        sql("SELECT erase_person_row(%s, %s, %s)", *row)
    assert traces(sql, person.text)
    erase(person.text)
    assert traces(sql, person.text) == {}
    assert sql("SELECT * FROM recount()") == []


def test_erasing_in_transaction_is_refused_without_effect(postgres, person, export,
                                                          expect_log):
    expect_log("ERROR:  invalid transaction termination")
    person.register()
    before = export(person.text)
    connection = postgres.connect()
    try:
        connection.autocommit = False
        with pytest.raises(psycopg2.errors.InvalidTransactionTermination):
            connection.cursor().execute("CALL registration.erase_person(%s)", (person.text,))
        connection.rollback()
    finally:
        connection.close()
    assert export(person.text) == before


def test_erasing_covers_all_organizations(person, admin, sql, organization,
                                          event, occurrence, erase):
    elsewhere = occurrence(event_id=event(organization()))
    person.register()
    assert create(admin, elsewhere, person.text).status_code == 201
    erased = erase(person.text)
    assert (erased["event_users"], erased["event_registrations"]) == (2, 4)
    assert traces(sql, person.text) == {}


# --- While clients register ----------------------------------------------------------------

# Requests wait for row locks and are retried; hashing takes time on a busy machine.
CROWDED = ("canceling statement due to lock timeout", "REG0315")


def erase_under_load(tools, admin, at_once, sql):
    """Erases persons, two at a time, while others register for the same places and some of the
    persons register again. Returns the answers' statuses and the counts of erased rows."""
    first = Person(tools)
    persons = [f"{secrets.token_hex(6)}@example.org" for _ in range(12)]
    for table, column in (("live_sessions", "max_participants"), ("occurrences", "capacity")):
        sql(f"UPDATE {table} SET {column} = 8 WHERE id = ANY (%s::uuid[])",
            first.sessions + first.occurrences)
    sql("UPDATE invite_codes SET max_uses = 8 WHERE code = %s", first.group.code)

    def register(text):
        return [admin.post(path, json=body, headers={"Idempotency-Key": new_uuid()})
                for path, body in first.requests(text).values()]
    for text in persons:
        register(text)
    statuses, erased = [], []
    turn = threading.Lock()

    def act(n):
        if n < 2:
            connection = tools.connect()
            for text in persons[n::2]:
                with connection.cursor() as cursor:
                    cursor.execute("CALL registration.erase_person(%s)", (text,))
                    erased.append(cursor.fetchone()[0])
            connection.close()
            return
        for m in range(4):
            text = persons[(n + m) % 12] if n % 4 == 0 else f"{n}.{m}@{first.group.id}.org"
            answers = register(text)
            with turn:
                statuses.extend(answer.status_code for answer in answers)
    admin.close()
    at_once(14, act)
    for text in persons:   # Persons who registered again.
        sql("CALL erase_person(%s)", text)
    return first, persons, set(statuses), erased


def check_counts(sql, first, persons):
    assert sql("SELECT * FROM recount()") == []
    for text in persons:
        assert traces(sql, text) == {}
    # No registration waits while a place is free.
    assert sql("SELECT 1 FROM occurrences AS o JOIN event_registrations AS r"
               " ON r.occurrence_id = o.id WHERE o.id = ANY (%s::uuid[])"
               " AND r.waiting_number IS NOT NULL AND o.registrations < o.capacity",
               first.occurrences) == []


def test_erasing_under_load_keeps_counts(postgres, tools, admin, at_once, sql, expect_log):
    expect_log(*CROWDED)
    sql("SELECT recount()")   # Other tests delete rows by hand.
    tools.connect = postgres.connect
    first, persons, statuses, erased = erase_under_load(tools, admin, at_once, sql)
    assert statuses <= {201, 409, 412, 422, 503}
    assert len(erased) == 12
    assert all(one["event_registrations"] for one in erased)
    check_counts(sql, first, persons)


class TestControlWithoutCare(OnScratch):
    """Places are not freed, and stored answers are not erased."""

    broken = """
        DO $$ BEGIN
            EXECUTE replace(pg_get_functiondef('cancel_live_registration'::regproc),
                            's.registered_count - 1', 's.registered_count');
            EXECUTE replace(pg_get_functiondef('events_delete'::regproc),
                            'event_status_holds_place(registration.status)', 'false');
            EXECUTE replace(pg_get_functiondef('erase_person_answers'::regproc),
                            'a.key FROM person_answers(person, row_ids) AS a', 'NULL::bytea');
        END $$;"""

    def test_control_remaining_data_is_detected(self, person, sql, erase):
        person.register()
        assert erase(person.text)["idempotency_keys"] == 0
        assert traces(sql, person.text) == {"idempotency_keys": 4}
        assert {row[0] for row in sql("SELECT * FROM recount()")} == {"live_sessions",
                                                                     "occurrences"}

    def test_control_lost_places_are_detected(self, database, tools, admin, at_once, sql,
                                              expect_log):
        expect_log(*CROWDED)
        tools.connect = database.connect
        first, persons, _, _ = erase_under_load(tools, admin, at_once, sql)
        with pytest.raises(AssertionError):
            check_counts(sql, first, persons)


# --- The session documented in docs/operating.md -------------------------------------------

def recipe():
    """The psql session in docs/operating.md, with its prompt for the person."""
    text = (servers.ROOT / "docs" / "operating.md").read_text()
    return re.search(r"psql -X -d registration\n((?s:.*?))```", text)[1]


def run_recipe(postgres, person, commands):
    """Runs it in a server that logs all statements; psql's output, and the log."""
    before = len(postgres.log.text())
    # psql reads the answer to \\prompt from the next line of its input.
    commands = commands.replace("' person\n", f"' person\n{person}\n")
    result = subprocess.run(
        ["psql", "-X", "-A", "-t"], input=commands, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=servers.environment(
            **postgres.variables(), PGOPTIONS="-c log_statement=all"
            " -c log_min_duration_statement=0 -c log_min_error_statement=error"))
    assert result.returncode == 0
    return result.stdout, postgres.log.text()[before:]


def test_documented_session_exports_and_erases_without_logging_name(person, postgres, sql):
    person.register()
    output, logged = run_recipe(postgres, person.text, recipe())
    assert "ERROR" not in output, output
    assert '"live_registrations": 2' in output and person.text in output
    assert traces(sql, person.text) == {}
    assert person.text.lower() not in logged.lower()
    # Negative control: without the settings the name is logged.
    other = new_uuid()
    _, logged = run_recipe(postgres, other, re.sub("SET [^;]*;", "", recipe()))
    assert other in logged


# --- Large tables --------------------------------------------------------------------------

class LargeTables(OnScratch):
    """A million audit entries, and enough other rows that sequential scans are detected."""

    broken = """
        SET synchronous_commit = off;
        SET session_replication_role = replica;
        INSERT INTO audit (at, action, kind, id, belongs_to, caller)
        SELECT now() - n * interval '1 second', 'registered', 'live_registration', n, 'x',
               'caller ' || n % 1000
          FROM generate_series(1, 1000000) AS n;
        INSERT INTO live_sessions (id, title)
        VALUES ('00000000-0000-4000-8000-000000000000', 'Many');
        INSERT INTO live_registrations (id, session_id, patient_id, role)
        SELECT gen_random_uuid(), '00000000-0000-4000-8000-000000000000', 'patient ' || n,
               'participant'
          FROM generate_series(1, 20000) AS n;
        INSERT INTO event_users (id, organization_id, external_id, email)
        SELECT md5(n::text)::uuid, id, n, n || '@example.com'
          FROM generate_series(1, 5000) AS n, (SELECT id FROM organizations LIMIT 1) AS o;
        INSERT INTO event_registrations (id, occurrence_id, event_id, organization_id, user_id,
                                         status)
        SELECT gen_random_uuid(), o.id, o.event_id, u.organization_id, u.id, 'CANCELLED'
          FROM event_users AS u, (SELECT * FROM occurrences LIMIT 1) AS o;
        INSERT INTO idempotency_keys (key, fingerprint, body, expires_at)
        SELECT sha256(n::text::bytea), sha256(n::text::bytea),
               format('{"id": "%s", "patient_id": "patient %s"}', md5(n::text)::uuid, n),
               now() + interval '1 day'
          FROM generate_series(1, 20000) AS n;
        RESET session_replication_role;
        RESET synchronous_commit;
        ANALYZE;"""

    def register_while_erasing(self, person, erase):
        """Registers for the same session while the person is erased; the longest time, and
        the statuses."""
        waits, statuses, stop = [], set(), threading.Event()

        def register():
            one = person.tools.client(person.tools.token)
            while not stop.is_set():
                begin = time.monotonic()
                answer = one.post(f"/v1/sessions/{person.sessions[0]}/register",
                                  json={"patient_id": new_uuid()})
                waits.append(time.monotonic() - begin)
                statuses.add(answer.status_code)
        threads = [threading.Thread(target=register) for _ in range(4)]
        for thread in threads:
            thread.start()
        servers.wait_until(lambda: len(waits) > 20, 30, "nothing is registered")
        erase(person.text)
        stop.set()
        for thread in threads:
            thread.join()
        return max(waits), statuses

    @pytest.fixture
    def crowded(self, tools, token, sql):
        tools.token = token
        person = Person(tools)
        sql("UPDATE live_sessions SET max_participants = NULL WHERE id = ANY (%s::uuid[])",
            person.sessions)
        person.register()
        return person

    def check_no_delay(self, crowded, erase, sql):
        longest, statuses = self.register_while_erasing(crowded, erase)
        assert statuses == {201} and longest < 2   # seconds, on a busy machine
        assert traces_but_audit(sql, crowded.text) == {}


def traces_but_audit(sql, text):
    return {kind: count for kind, count in sql(
        "SELECT kind, count(*) FROM person_rows(%s) GROUP BY kind", text)}


class TestLargeTables(LargeTables):
    def test_erasing_delays_no_request(self, crowded, erase, sql):
        self.check_no_delay(crowded, erase, sql)

    def test_export_and_erasing_use_indexes(self, crowded, export, erase, sql):
        tables = ("live_registrations", "group_members", "member_emails", "event_users",
                  "event_registrations", "idempotency_keys", "audit_oldest")

        def read():
            return dict(sql("SELECT relname, seq_tup_read FROM pg_stat_user_tables"
                            " WHERE relname = ANY (%s)", list(tables)))
        sql("SELECT pg_sleep(1)")
        before = read()
        assert set(before) == set(tables)
        assert export(crowded.text) and set(export("Nobody@example.org")) == set()
        erase(crowded.text)
        sql("SELECT pg_sleep(1.5)")
        sql("SELECT 1")
        assert {name: count - before[name] for name, count in read().items()
                if count - before[name] > 1000} == {}
        # Negative control: sequential scans are detected.
        sql("SELECT * FROM person_mentions(%s)", crowded.text)
        servers.wait_until(lambda: read()["event_registrations"]
                           >= before["event_registrations"] + 5000, 10, "it is not detected")


class TestControlOneTransaction(LargeTables):
    """Erasing in one transaction, as it was once, which reads the audit at its end."""

    def test_control_erasing_in_one_transaction_delays_requests(self, crowded, sql,
                                                                expect_log):
        expect_log("canceling statement due to (lock timeout|user request)", "REG03")
        sql("""CREATE FUNCTION erase_at_once(person text) RETURNS void LANGUAGE plpgsql AS $$
               BEGIN
                   PERFORM erase_person_row(k.kind, k.id, k.belongs_to)
                      FROM (SELECT * FROM person_rows(person) ORDER BY kind DESC) AS k;
                   FOR turn IN 1 .. 10 LOOP
                       PERFORM FROM audit AS a WHERE person_is(person, a.caller || turn, a.id);
                   END LOOP;
               END $$""")
        with pytest.raises(AssertionError):
            self.check_no_delay(
                crowded, lambda text: sql("SELECT erase_at_once(%s)", text), sql)
