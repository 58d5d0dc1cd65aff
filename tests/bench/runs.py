# SPDX-License-Identifier: Apache-2.0
"""The runs: what each measures, and the rows that verify it.

A run starts with empty tables, after a checkpoint, and with a new httpd. It returns a number, or
the outcome of wrk. The rows in the database have to be exactly the successful answers, and the
counts have to be correct.
"""

import concurrent.futures
import dataclasses
import http.client
import json

from bench.load import Request, Wrong, run_pgbench, run_wrk
from bench.site import ORGANIZATION, children, processor_time
from servers import ROOT, resident

SESSION = "00000000-0000-4000-8000-{pick}"      # one of `pick` sessions
SESSIONS = 1000     # and occurrences
TOKENS = 10_000     # different tokens in use
PLACES = 1000
ATTEMPTS = 5000

GROUP = "00000000-0000-4000-8000-000000000001"
PLAN = "00000000-0000-4000-8000-000000000002"
CODE = "BENCHMARK"

EVENT = "00000000-0000-4000-8000-000000000004"
OCCURRENCE = "00000000-0000-4000-8000-000000000005"     # one of the occurrences
FIELDS = {"email": "john@example.com", "firstName": "John", "lastName": "Doe",
          "company": "Tech Corp", "role": "Developer"}
USERS_A_SECOND = 25_000     # more than can be reached
READABLE = 10_000           # registrations to read


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def check_rows(what, expected, found):
    """Compares counts from the database, on one line, with the expected number."""
    wanted = "|".join([str(expected)] * len(found.split("|")))
    if found != wanted:
        raise Wrong(f"{what}: {wanted} expected, {found} in the database")


# --- Live sessions -------------------------------------------------------------------------

SEARCH = Request("GET", "/api/v1/event-registrations?search=aba&sort=email", expected=200)

REGISTER = Request("POST", f"/v1/sessions/{SESSION}/register",
                   '{"patient_id":"{unique}"}')

INSERT_LIVE = """\
\\set session random(0, {last})
INSERT INTO registration.live_registrations (id, session_id, patient_id, role)
VALUES (gen_random_uuid(),
        ('00000000-0000-4000-8000-' || lpad(:session::text, 12, '0'))::uuid,
        gen_random_uuid()::text, 'participant');
"""

# The last number is the same only if the count of each session is.
COUNT_LIVE = """
SELECT (SELECT count(*) FROM live_registrations),
       (SELECT sum(registered_count) FROM live_sessions),
       (SELECT sum(least(s.registered_count, r.number))
          FROM (SELECT session_id, count(*) AS number FROM live_registrations
                 GROUP BY session_id) AS r
          JOIN live_sessions AS s ON s.id = r.session_id)"""


def clear_live(stage, sessions, places="NULL", database=None):
    stage.postgres.sql(
        "TRUNCATE live_registrations, live_sessions",
        f"""INSERT INTO live_sessions (id, title, max_participants)
            SELECT ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid,
                   'Session ' || i, {places}
              FROM generate_series(0, {sessions - 1}) AS i""",
        "VACUUM ANALYZE live_sessions", "CHECKPOINT", database=database)


def request_live(sessions):
    return dataclasses.replace(REGISTER, pick=sessions)


def live(stage, sessions=1, connections=64, token_module=None, tokens=1, closes=False,
         **httpd):
    """Registrations. With a token module each has one of so many tokens; with `closes`, httpd
    may close connections to which a request has been sent."""
    clear_live(stage, sessions)
    request, access = request_live(sessions), {}
    if token_module:
        request = dataclasses.replace(request, words=stage.tokens(tokens))
        access = {"tls": True, "token": "{word}"}
    with stage.httpd(token_module=token_module, **httpd) as server:
        request.probe(server.port, **access)
        outcome = run_wrk(server.port, request, stage.directory, stage.seconds,
                          stage.warmup, connections=connections, closes=closes, **access)
    check_rows("live sessions", outcome.answered + 1, stage.postgres.sql(COUNT_LIVE))
    return outcome


def live_beside_searches(stage, searching, rows=300_000):
    """Registrations while that many clients search for a common text."""
    stage.once(rows, make_searched, rows)
    database, directory = f"registrations_{rows}", stage.directory / "searching"
    directory.mkdir(exist_ok=True)
    clear_live(stage, 1, database=database)
    request = request_live(1)
    with (stage.httpd(database=database) as server,
          concurrent.futures.ThreadPoolExecutor(1) as pool):
        request.probe(server.port)
        if searching:
            SEARCH.probe(server.port)
            searches = pool.submit(run_wrk, server.port, SEARCH, directory,
                                   stage.seconds + 1, stage.warmup, statuses=True,
                                   connections=searching)
        outcome = run_wrk(server.port, request, stage.directory, stage.seconds,
                          stage.warmup, connections=32)
        if searching and not searches.result().answered:
            raise Wrong("no search was answered")
    check_rows("live sessions", outcome.answered + 1,
               stage.postgres.sql(COUNT_LIVE, database=database))
    return outcome


def live_insert(stage, sessions=1):
    clear_live(stage, sessions)
    rate, done = run_pgbench(stage.postgres, INSERT_LIVE.format(last=sessions - 1),
                             stage.directory, stage.seconds, stage.warmup)
    check_rows("pgbench", done,
               stage.postgres.sql("SELECT count(*) FROM live_registrations"))
    return rate


def live_limited(stage):
    """The number of attempts that succeed in a session with few places."""
    clear_live(stage, 1, PLACES)
    with stage.httpd(children=4) as server:
        outcome = run_wrk(server.port, request_live(1), stage.directory,
                          requests=ATTEMPTS, statuses=True)
    if outcome.created + outcome.refused != outcome.answered:
        raise Wrong(f"{ATTEMPTS} attempts: {outcome}")
    check_rows("a limited session", outcome.created, stage.postgres.sql(COUNT_LIVE))
    return outcome.created


def live_memory(stage):
    """The growth in MiB of a child process over the second half of many requests."""
    clear_live(stage, 1)
    sizes, answered = [], 0
    with stage.httpd() as server:
        for _ in range(2):
            answered += run_wrk(server.port, request_live(1), stage.directory,
                                requests=stage.requests // 2).answered
            sizes.append(resident(children(server)[0]))
    check_rows("many registrations", answered, stage.postgres.sql(COUNT_LIVE))
    return sizes[1] - sizes[0]


# --- Groups --------------------------------------------------------------------------------

JOIN = Request("POST", f"/api/v1/groups/{GROUP}/members", compact(
    {"inviteCode": CODE,
     "groupMember": {
         "user": {"birthDate": "2000-01-01", "email": "{unique}@example.org",
                  "firstName": "John", "gender": "male", "lastName": "Doe",
                  "locale": "en-US", "mobileNumber": "+19195551212",
                  "timeZone": "America/New_York"},
         "tags": ["ExampleTag"],
         "attributes": {"ExampleAttribute": "example value"},
         "planSettings": {"startDate": "2022-06-14", "endDate": "2023-06-14"}}}))

INSERT_MEMBER = f"""\
INSERT INTO registration.group_members
       (id, group_id, plan_id, invite_code, email, birth_date, first_name, gender,
        last_name, locale, mobile_number, time_zone, tags, attributes, start_date,
        end_date, created_at, updated_at)
VALUES (gen_random_uuid(), '{GROUP}', '{PLAN}', '{CODE}',
        gen_random_uuid() || '@example.org', '2000-01-01', 'John', 'male',
        'Doe', 'en-US', '+19195551212', 'America/New_York', '["ExampleTag"]',
        '{{"ExampleAttribute":"example value"}}', '2022-06-14',
        '2023-06-14', clock_timestamp(), clock_timestamp());
"""


def make_group(stage):
    stage.postgres.sql(
        f"INSERT INTO groups (id, name) VALUES ('{GROUP}', 'Group')",
        f"INSERT INTO plans (id, group_id, name) VALUES ('{PLAN}', '{GROUP}', 'Plan')",
        f"INSERT INTO invite_codes (code, plan_id) VALUES ('{CODE}', '{PLAN}')",
        "VACUUM ANALYZE groups, plans, invite_codes")


def clear_members(stage):
    stage.once("group", make_group)
    stage.postgres.sql("TRUNCATE group_members, member_emails", "CHECKPOINT")


def members(stage):
    clear_members(stage)
    with stage.httpd() as server:
        JOIN.probe(server.port)
        outcome = run_wrk(server.port, JOIN, stage.directory, stage.seconds, stage.warmup)
    check_rows("groups", outcome.answered + 1, stage.postgres.sql(
        "SELECT (SELECT count(*) FROM group_members), (SELECT count(*) FROM member_emails)"))
    return outcome


def members_insert(stage):
    clear_members(stage)
    rate, done = run_pgbench(stage.postgres, INSERT_MEMBER, stage.directory, stage.seconds,
                             stage.warmup)
    check_rows("pgbench", done, stage.postgres.sql("SELECT count(*) FROM group_members"))
    return rate


# --- Events --------------------------------------------------------------------------------

ATTEND = Request("POST", "/api/v1/event-registrations", compact(
    {"occurrenceId": OCCURRENCE, "externalUserId": "user-{next}", "fields": FIELDS}))

ATTEND_ANY = dataclasses.replace(ATTEND, body=ATTEND.body.replace(OCCURRENCE, SESSION),
                                 pick=SESSIONS)

GET = Request("GET", "/api/v1/event-registrations/00000000-0000-7000-8000-{pick}",
              expected=200, pick=READABLE)

UPDATE = dataclasses.replace(GET, method="PUT", body=compact({"fields": {"notes": "{unique}"}}))

NOTHING = Request("GET", "/empty", expected=200)

# The last number is the same only if the count of each occurrence is.
COUNT_EVENTS = """
SELECT (SELECT count(*) FROM event_registrations WHERE status = 'CONFIRMED'),
       (SELECT sum(registrations) FROM occurrences),
       (SELECT sum(least(o.registrations, r.number))
          FROM (SELECT occurrence_id, count(*) AS number FROM event_registrations
                 GROUP BY occurrence_id) AS r
          JOIN occurrences AS o ON o.id = r.occurrence_id)"""

# Each change increments the version; the last number is the same only if each changed the fields.
COUNT_CHANGES = """
SELECT (SELECT sum(version - 1) FROM event_registrations),
       (SELECT sum(version - 1) FROM event_registrations
         WHERE fields ->> 'notes' ~ '^[0-9a-f-]{36}$')"""

EVENT_COLUMNS = """(id, occurrence_id, event_id, organization_id, user_id, status, fields,
        email, first_name, last_name)"""


def event_values(number):
    """The values after the id. The user's id is derived from the number, for a bare INSERT."""
    return f"""'{OCCURRENCE}', '{EVENT}', '{ORGANIZATION}',
        md5({number}::text)::uuid, 'CONFIRMED', '{compact(FIELDS)}',
        'user-' || {number}::text || '@example.org', 'John', 'Doe'"""


INSERT_EVENT = f"""\
\\set n :n + 1
\\set user :n * 32 + :client_id
INSERT INTO registration.event_registrations {EVENT_COLUMNS}
VALUES (gen_random_uuid(), {event_values(":user")});
"""


def make_event(stage):
    users = USERS_A_SECOND * (stage.seconds + stage.warmup)
    stage.postgres.sql(
        f"INSERT INTO organizations (id, name) VALUES ('{ORGANIZATION}', 'Tech Corp')",
        f"""INSERT INTO events (id, organization_id, name, slug, description)
            VALUES ('{EVENT}', '{ORGANIZATION}', 'Annual Tech Conference 2025',
                    'annual-tech-conference-2025', 'The biggest tech conference.')""",
        f"""INSERT INTO occurrences (id, event_id, start_date, end_date, capacity)
            SELECT ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, '{EVENT}',
                   '2025-12-25 10:00+00', '2025-12-25 18:00+00', 1000000000
              FROM generate_series(0, {SESSIONS - 1}) AS i""",
        f"""INSERT INTO event_users
                   (id, organization_id, external_id, email, first_name, last_name)
            SELECT md5(i::text)::uuid, '{ORGANIZATION}', 'user-' || lpad(i::text, 8, '0'),
                   'user-' || i || '@example.org', 'John', 'Doe'
              FROM generate_series(0, {users}) AS i""",
        "VACUUM ANALYZE organizations, events, event_users")


def clear_events(stage):
    stage.once("event", make_event)
    stage.done.discard("readable")
    stage.postgres.sql("TRUNCATE event_registrations",
                       "UPDATE occurrences SET registrations = 0",
                       "VACUUM ANALYZE occurrences", "CHECKPOINT")


def events(stage, request=ATTEND):
    clear_events(stage)
    known = stage.postgres.sql("SELECT count(*) FROM event_users")
    with stage.httpd() as server:
        request.probe(server.port)
        outcome = run_wrk(server.port, request, stage.directory, stage.seconds,
                          stage.warmup)
    check_rows("events", outcome.answered + 1, stage.postgres.sql(COUNT_EVENTS))
    check_rows("users, all known before", known,
               stage.postgres.sql("SELECT count(*) FROM event_users"))
    return outcome


def events_insert(stage):
    clear_events(stage)
    rate, done = run_pgbench(stage.postgres, INSERT_EVENT, stage.directory, stage.seconds,
                             stage.warmup)
    check_rows("pgbench", done,
               stage.postgres.sql("SELECT count(*) FROM event_registrations"))
    return rate


def make_readable(stage):
    clear_events(stage)
    stage.postgres.sql(
        f"""INSERT INTO event_registrations {EVENT_COLUMNS}
            SELECT ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid,
                   {event_values("i")}
              FROM generate_series(0, {READABLE - 1}) AS i""",
        f"UPDATE occurrences SET registrations = {READABLE} WHERE id = '{OCCURRENCE}'",
        "VACUUM ANALYZE event_registrations, occurrences", "CHECKPOINT")


def read(stage, request, cost=False, **httpd):
    """Answers to a GET without changes; or, with `cost`, the processor seconds of
    httpd for one."""
    stage.once("readable", make_readable)
    with stage.httpd(**httpd) as server:
        request.probe(server.port)
        before = processor_time(server)
        outcome = run_wrk(server.port, request, stage.directory, stage.seconds,
                          stage.warmup)
        used = processor_time(server) - before
    return used / outcome.answered if cost else outcome


def update(stage):
    """Changes of one registration each."""
    make_readable(stage)
    with stage.httpd() as server:
        UPDATE.probe(server.port)
        outcome = run_wrk(server.port, UPDATE, stage.directory, stage.seconds, stage.warmup)
    check_rows("changes", outcome.answered + 1, stage.postgres.sql(COUNT_CHANGES))
    return outcome


# --- Searches ------------------------------------------------------------------------------

def make_searched(stage, rows):
    """A database with that many event registrations."""
    postgres, database = stage.postgres, f"registrations_{rows}"
    postgres.psql("-c", f"CREATE DATABASE {database}", database="postgres")
    for script in ("sql/install.sql", "tests/bench/search.sql"):
        postgres.psql("-v", f"rows={rows}", "-f", str(ROOT / script), database=database)


def search(stage, rows=0, by_text=False):
    """A search: by occurrence and status, or by name."""
    rows = rows or stage.rows
    stage.once(rows, make_searched, rows)
    database = f"registrations_{rows}"
    path, words = "/api/v1/event-registrations", ()
    if by_text:
        path += "?search={word}"
        words = stage.postgres.sql("""SELECT last_name FROM event_users GROUP BY last_name
                                       ORDER BY random() LIMIT 1000""",
                                   database=database).split()
    else:
        path += "?occurrenceId=00000000-0000-4000-8000-{pick}&status=CONFIRMED"
    request = Request("GET", path, expected=200, pick=rows // 1000, words=tuple(words))
    with stage.httpd(database=database) as server:
        page = json.loads(request.probe(server.port))
        if len(page) != 10:
            raise Wrong(f"{path}: {len(page)} registrations on a page of 10")
        outcome = run_wrk(server.port, request, stage.directory, stage.seconds,
                          stage.warmup)
    return outcome


def export(stage):
    """The peak growth in MiB of a child process while it sends the whole table."""
    stage.once(stage.rows, make_searched, stage.rows)
    lines = 0
    with stage.httpd(database=f"registrations_{stage.rows}") as server:
        NOTHING.probe(server.port)
        [child] = children(server)
        before = resident(child, "VmHWM")
        connection = http.client.HTTPConnection("localhost", server.port, timeout=60)
        connection.request("GET", ATTEND.path, headers={"Accept": "text/csv"})
        for _ in connection.getresponse():
            lines += 1
        grown = resident(child, "VmHWM") - before
        connection.close()
    check_rows("a table", lines - 1, str(stage.rows))    # without the heading
    return grown
