# SPDX-License-Identifier: Apache-2.0
"""The cost of a call does not grow with the tables.

Two databases hold the same kind of data, 1,000 and 1,000,000 rows of each kind of
registration. Cost is the number of pages that EXPLAIN (ANALYZE, BUFFERS) counts for a call,
including the statements inside the function. It does not depend on the load of the machine.
A B-tree may be two levels higher in the large database, but reading or sorting a whole table
would cost a hundred times as much there.
"""

import concurrent.futures
import hashlib
import json
import shutil

import psycopg2
import pytest

import servers
from conftest import fail_on

SMALL, LARGE = 1_000, 1_000_000

# One in ten of :n registrations is in a popular session, occurrence or event, "hot", half of
# whose registrations are on the waiting list. The others are distributed over many.
FILL_EVENTS = """
INSERT INTO organizations (id, name)
SELECT md5(name)::uuid, name FROM unnest('{large,small}'::text[]) AS name;
INSERT INTO events (id, organization_id, name)
SELECT md5('event ' || n)::uuid, md5(CASE n % 10 WHEN 0 THEN 'small' ELSE 'large' END)::uuid,
       'Event ' || n
  FROM generate_series(0, :n * 9 / 5000) AS n;
INSERT INTO events (id, organization_id, name)
VALUES (md5('hot')::uuid, md5('large')::uuid, 'Slartibartfast');
INSERT INTO categories (id, organization_id, name)
SELECT md5(name)::uuid, md5('large')::uuid, name
  FROM unnest('{all,hot,one}'::text[]) AS name;
INSERT INTO event_categories (event_id, category_id)
SELECT id, md5('all')::uuid FROM events
 UNION SELECT md5('hot')::uuid, md5('hot')::uuid
 UNION SELECT md5('event 0')::uuid, md5('one')::uuid;
INSERT INTO occurrences (id, event_id, start_date)
SELECT md5('occurrence ' || n)::uuid, md5('event ' || n / 5)::uuid,
       '2030-01-01'::timestamptz + n * interval '1 hour'
  FROM generate_series(0, :n * 9 / 1000 - 1) AS n;
INSERT INTO occurrences (id, event_id, start_date)
VALUES (md5('hot')::uuid, md5('hot')::uuid, '2029-01-01');
INSERT INTO event_users (id, organization_id, external_id, email, first_name, last_name)
SELECT md5('user ' || n)::uuid, md5('large')::uuid, 'user ' || n,
       'user' || n || '@example.org', 'Ärla ' || n % 1000,
       CASE n WHEN 77 THEN 'Beeblebrox' ELSE 'Nygård ' || n END
  FROM generate_series(0, :n / 10 - 1) AS n;
INSERT INTO event_registrations
       (id, occurrence_id, event_id, organization_id, user_id, status, waiting_number,
        email, first_name, last_name, created_at, updated_at, deleted_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, md5(occurrence)::uuid, md5(event)::uuid,
       md5(CASE WHEN event LIKE '%0' THEN 'small' ELSE 'large' END)::uuid,
       md5('user ' || n % (:n / 10))::uuid, status,
       CASE status WHEN 'WAITING_LIST' THEN n END,
       'user' || n % (:n / 10) || '@example.org', 'Ärla ' || n % 1000,
       'Nygård ' || n % (:n / 10),
       '2025-01-01'::timestamptz + n * interval '1 second',
       '2025-01-01'::timestamptz + n::bigint * 7919 % :n * interval '1 second',
       CASE WHEN status <> 'WAITING_LIST' AND n % 50 = 7 THEN '2026-01-01'::timestamptz END
  FROM (SELECT n,
               CASE WHEN n < :n / 10 THEN 'hot'
                    ELSE 'occurrence ' || (:n - 1 - n) / 100 END AS occurrence,
               CASE WHEN n < :n / 10 THEN 'hot'
                    ELSE 'event ' || (:n - 1 - n) / 500 END AS event,
               CASE WHEN n < :n / 20 THEN 'CONFIRMED' WHEN n < :n / 10 THEN 'WAITING_LIST'
                    WHEN n % 10 = 3 THEN 'CANCELLED' WHEN n % 100 = 1 THEN 'PENDING'
                    ELSE 'CONFIRMED' END AS status
          FROM generate_series(0, :n - 1) AS n) AS given;
UPDATE occurrences AS o SET (capacity, registrations) =
       (SELECT count(*), count(*) FROM event_registrations AS r
         WHERE r.occurrence_id = o.id AND r.deleted_at IS NULL AND r.status = 'CONFIRMED')
 WHERE o.id = md5('hot')::uuid;
"""

FILL_OTHERS = """
INSERT INTO live_sessions (id, title, registered_count)
SELECT md5('session ' || n)::uuid, 'A session', 100 FROM generate_series(0, :n / 100) AS n
 UNION SELECT md5('hot')::uuid, 'Popular', :n / 10;
INSERT INTO live_registrations (id, session_id, patient_id, guest_email, role)
SELECT md5('live ' || n)::uuid,
       md5(CASE WHEN n < :n / 10 THEN 'hot' ELSE 'session ' || n / 100 END)::uuid,
       'patient ' || n, 'guest' || n || '@example.org', 'guest'
  FROM generate_series(0, :n - 1) AS n;
INSERT INTO groups (id, name) VALUES (md5('hot')::uuid, 'Popular');
INSERT INTO plans (id, group_id, name) VALUES (md5('hot')::uuid, md5('hot')::uuid, 'Its plan');
INSERT INTO invite_codes (code, plan_id, max_uses, uses)
VALUES ('LIMITED', md5('hot')::uuid, :n + 10, :n), ('OPEN', md5('hot')::uuid, NULL, 0);
INSERT INTO group_members (id, group_id, plan_id, invite_code, email, locale, time_zone,
                           start_date, created_at, updated_at)
SELECT md5('member ' || n)::uuid, md5('hot')::uuid, md5('hot')::uuid, 'LIMITED',
       'member' || n || '@example.org', 'en-US', 'UTC', '2025-01-01', now(), now()
  FROM generate_series(0, :n - 1) AS n;
INSERT INTO member_emails (email, member_id, group_id)
SELECT email, id, group_id FROM group_members;
INSERT INTO institutions (id, name) VALUES (left(md5('hot'), 24), 'A school');
INSERT INTO children (id, username, institution_id)
SELECT left(md5('child ' || n), 24), 'Child ' || n, left(md5('hot'), 24)
  FROM generate_series(0, :n / 10) AS n;
INSERT INTO families (id, username, password_hash, institution_id)
SELECT left(md5('family ' || n), 24), 'family ' || n, 'no hash', left(md5('hot'), 24)
  FROM generate_series(0, :n - 1) AS n;
INSERT INTO family_children (family_id, username, position, child_id)
SELECT left(md5('family ' || n), 24), 'family ' || n, 1, left(md5('child ' || n / 10), 24)
  FROM generate_series(0, :n - 1) AS n;
"""


# Half of the keys have expired.
FILL_KEYS = """
INSERT INTO idempotency_keys (key, fingerprint, body, expires_at)
SELECT sha256(convert_to('key ' || n, 'UTF8')), sha256(convert_to('print', 'UTF8')), '{}',
       CASE n % 2 WHEN 1 THEN '2025-01-01' ELSE '2100-01-01' END::timestamptz
       + n * interval '1 second'
  FROM generate_series(0, :n - 1) AS n;
"""

# With the tables whose indexes are built after the rows are inserted, which is much faster.
FILL_SCRIPTS = [(FILL_EVENTS, ["event_registrations", "event_users"]),
                (FILL_OTHERS, ["live_registrations", "group_members", "member_emails",
                               "families", "family_children"]),
                (FILL_KEYS, ["idempotency_keys"])]


def fill(postgres, database, count, script, tables):
    with psycopg2.connect(postgres.dsn(postgres.administrator, dbname=database)) as connection:
        cursor = connection.cursor()
        cursor.execute("SET search_path = registration, public")
        cursor.execute("SET session_replication_role = replica")   # no foreign key checks
        cursor.execute("UPDATE pg_index SET indisready = false, indisvalid = false"
                       " WHERE indrelid = ANY (%s::regclass[])", (tables,))
        cursor.execute(script.replace(":n", str(count)))
        for table in tables:
            cursor.execute(f"REINDEX TABLE {table}")
    connection.close()


@pytest.fixture(scope="module")
def postgres_of_plans(tmp_path_factory):
    """Holds databases "small", "large", and "new", which is empty and never analyzed."""
    postgres = servers.Postgres(tmp_path_factory.mktemp("plans"), settings=(
        "shared_buffers = 512MB", "maintenance_work_mem = 256MB", "autovacuum = off",
        "wal_level = minimal", "max_wal_senders = 0", "max_wal_size = 4GB"))
    postgres.start()
    try:
        sizes = {"small": SMALL, "large": LARGE}
        for postgres.database in (*sizes, "new"):
            postgres.install("install.sql")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda of: fill(postgres, *of), [
                (database, count, *one) for database, count in sizes.items()
                for one in FILL_SCRIPTS]))
        for postgres.database in sizes:
            postgres.psql("-c", "VACUUM ANALYZE")
        yield postgres
    finally:
        postgres.stop("smart")   # Closed sessions may still be ending.
        shutil.rmtree(postgres.data)   # pytest would keep these gigabytes for three runs.
    fail_on(postgres.log.problems())


def open_cursors(postgres, user, *databases):
    """Their changes are rolled back unless they are committed."""
    connections = [psycopg2.connect(
        postgres.dsn(user, dbname=database),
        options="-c idle_in_transaction_session_timeout=0") for database in databases]
    yield [connection.cursor() for connection in connections]
    for connection in connections:
        connection.close()


@pytest.fixture
def cursors(postgres_of_plans):
    """Cursors of the service's role, in the small and in the large database."""
    yield from open_cursors(postgres_of_plans, "registration", "small", "large")


@pytest.fixture
def administrators(postgres_of_plans):
    yield from open_cursors(postgres_of_plans, postgres_of_plans.administrator, "small",
                            "large")


# --- The calls -----------------------------------------------------------------------------

def uuid(text):
    return hashlib.md5(text.encode()).hexdigest()


def registration(number):
    return f"{number:032x}"


def call(operation, *values):
    """One request, as the module sends it: each argument is an array with one value."""
    arrays = ["{NULL}" if value is None else "{" + json.dumps(value, ensure_ascii=False) + "}"
              for value in values]
    return f"SELECT * FROM registration.{operation}({', '.join(['%s'] * len(arrays))})", arrays


AUDITED = "caller", "request"


def search(limit=10, page=1, sort="createdAt", descending=True, event=None, occurrence=None,
           status=None, text=None, categories=None, trashed=False, organization=None,
           after=(None, None), after_text=None):
    return call("events_search", limit, page, sort, descending,
                event and uuid(event), occurrence and uuid(occurrence), status, text,
                categories and uuid(categories), trashed, organization and uuid(organization),
                *after, after_text, False, *AUDITED)


def live(patient, email):
    return call("live_register", uuid(f"new {patient}"), uuid("hot"), patient, email, "guest",
                *AUDITED)


def create(user, occurrence):
    return call("events_create", uuid(f"new {user}"), uuid(occurrence), user, "{}",
                uuid(f"new user {user}"), "new@example.org", "New", "User", None, None, *AUDITED)


def member(email, code="LIMITED"):
    return call("groups_register", uuid(f"new {email}"), uuid("hot"), "/groups", code, email,
                *[None] * 11, *AUDITED)


def family(username):
    return call("families_register", uuid(f"new {username}")[:24], username, "hash",
                uuid("hot")[:24], f"{uuid('child 1')[:24]},{uuid('child 2')[:24]}", *AUDITED)


def keyed(key, request):
    """The request with an Idempotency-Key."""
    _, [keys, prints, seconds] = call("", key, "print", 60)
    statement, arrays = request
    return (statement.replace("live_register(", "idempotent('live_register', %s, %s, %s, "),
            [keys, prints, seconds, *arrays])


CALLS = {
    "idempotent": keyed("a new key", live("new", "new@example.org")),
    "idempotent, kept": keyed("key 8", live("new", "new@example.org")),
    "idempotent, expired": keyed("key 7", live("new", "new@example.org")),
    "live_register": live("new", "new@example.org"),
    "live_register, known": live("patient 5", None),
    "groups_register": member("new@example.org"),
    "groups_register, open code": member("new@example.org", "OPEN"),
    "groups_register, known": member("member7@example.org"),
    "groups_get_group": call("groups_get_group", uuid("hot"), "/groups"),
    "groups_get_plan": call("groups_get_plan", uuid("hot"), uuid("hot"), "/groups"),
    "groups_get_member": call("groups_get_member", uuid("member 7"), uuid("hot"), "/groups"),
    "families_register": family("new"),
    "families_register, known": family("family 7"),
    "events_create": create("user 7", "occurrence 0"),
    "events_create, unknown user": create("somebody", "occurrence 0"),
    "events_create, full": create("somebody", "hot"),
    "events_create, known": create("user 7", "hot"),
    "events_get": call("events_get", registration(8), False, None),
    "events_get, trashed": call("events_get", registration(7), True, uuid("large")),
    "events_update": call("events_update", registration(8), "ATTENDED", '{"a": 1}', None,
                          None, uuid("call"), *AUDITED),
    "events_update, promoting": call("events_update", registration(8), "CANCELLED", None,
                                     "1", None, uuid("call"), *AUDITED),
    "events_update, to the list": call("events_update", registration(8), "WAITING_LIST",
                                       None, None, None, uuid("call"), *AUDITED),
    "events_delete": call("events_delete", registration(8), False, None, None,
                          uuid("call"), *AUDITED),
    "search, all": search(),
    "search, event": search(event="event 0"),
    "search, popular event": search(event="hot"),
    "search, occurrence": search(occurrence="occurrence 0"),
    "search, popular occurrence": search(occurrence="hot"),
    "search, occurrence and status": search(occurrence="hot", status="WAITING_LIST"),
    "search, status": search(status="CONFIRMED"),
    "search, rare status": search(status="PENDING"),
    "search, absent status": search(status="ATTENDED"),
    "search, large organization": search(organization="large"),
    "search, small organization": search(organization="small"),
    "search, organization and status": search(organization="small", status="PENDING"),
    "search, text of one": search(text="beeblebrox"),
    "search, text of an event": search(text="slarti"),
    "search, text without match": search(text="xyzzy"),
    "search, text of all": search(text="nygård"),
    "search, text of all in an occurrence": search(text="nygård", occurrence="hot"),
    "search, one of many addresses": search(text="user77@"),
    "search, small category": search(categories="one"),
    "search, popular category": search(categories="hot"),
    "search, large category": search(categories="all"),
    "search, with the trashed": search(trashed=True),
    "search, occurrence with the trashed": search(occurrence="hot", trashed=True),
    **{f"search, {sort} {direction}": search(sort=sort, descending=direction == "DESC")
       for sort in ("createdAt", "updatedAt", "status", "startDate", "eventName",
                    "firstName", "lastName", "email") for direction in ("ASC", "DESC")},
    **{f"search, organization by {sort}": search(sort=sort, organization="small")
       for sort in ("status", "startDate", "eventName", "lastName", "email", "updatedAt")},
    **{f"search, popular occurrence by {sort}": search(sort=sort, occurrence="hot")
       for sort in ("status", "startDate", "eventName", "lastName", "email", "updatedAt")},
}


JOINED = ["event_users", "organizations", "events", "occurrences"]

# These read each match, and count up to 10,001. events_search.sql lists what else would need
# another index.
TEXT_OF_MANY = [name for name in CALLS if "text of all" in name]


# --- Their cost ------------------------------------------------------------------------

def execute_and_roll_back(cursor, statement, arguments):
    """Returns the rows of the statement."""
    cursor.execute("SAVEPOINT before")
    cursor.execute(statement, arguments)
    found = cursor.fetchall() if cursor.description else []
    cursor.execute("ROLLBACK TO before")
    return found


def warm_up_plans(cursor, request):
    """Calls until PostgreSQL has chosen between generic and custom plans."""
    for _ in range(7):
        execute_and_roll_back(cursor, *request)


def count_pages(cursor, request):
    """Counts the pages that a call reads, and those it writes to sort."""
    statement, arguments = request
    warm_up_plans(cursor, request)
    [[[explained]]] = execute_and_roll_back(
        cursor, f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}", arguments)
    return sum(value for name, value in explained["Plan"].items()
               if name.endswith(("Hit Blocks", "Read Blocks", "Temp Written Blocks")))


def count_rows(cursor, request, tables):
    """Counts the rows of these tables, and entries of their indexes, that a call reads."""
    count = ("SELECT sum(pg_stat_get_xact_tuples_returned(c.oid)) FROM pg_class AS c"
             " LEFT JOIN pg_index AS i ON i.indexrelid = c.oid"
             " WHERE coalesce(i.indrelid, c.oid) = ANY (%s::regclass[])",
             ([f"registration.{table}" for table in tables],))
    # These numbers do not include parallel workers.
    cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
    warm_up_plans(cursor, request)
    [[before]] = execute_and_roll_back(cursor, *count)
    execute_and_roll_back(cursor, *request)
    [[after]] = execute_and_roll_back(cursor, *count)
    return after - before


def allowed_pages(name, small):
    # A search counts up to 10,001 matches, more than the small database has: so many entries
    # of an index fit into 300 pages.
    return 2 * small + (300 if name.startswith("search") else 10)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in TEXT_OF_MANY])
def test_call_cost_is_independent_of_table_size(cursors, name):
    small, large = (count_pages(cursor, CALLS[name]) for cursor in cursors)
    assert large <= allowed_pages(name, small)


@pytest.mark.parametrize("name", TEXT_OF_MANY)
def test_search_for_common_text_reads_counted_matches_only(cursors, name):
    assert count_rows(cursors[1], CALLS[name], ["event_registrations", *JOINED]) <= 5 * 10001


@pytest.mark.parametrize("statement, argument", [
    ("SELECT registration.cancel_live_registration(%s)", uuid("live 7")),
    ("SELECT registration.remove_group_member(%s)", uuid("member 7")),
    ("SELECT registration.remove_family(%s)", "family 7"),
    ("SELECT registration.forget_idempotency_keys(%s)", 10),
    ("UPDATE registration.occurrences SET capacity = capacity + 1 WHERE id = %s",
     uuid("hot"))],
    ids=["cancel_live_registration", "remove_group_member", "remove_family",
         "forget_idempotency_keys", "capacity"])
def test_administrative_function_cost_is_independent_of_table_size(administrators,
                                                                   statement, argument):
    small, large = (count_pages(cursor, (statement, (argument,))) for cursor in administrators)
    assert large <= allowed_pages("", small)


# --- Before any statistics -----------------------------------------------------------------

NEW = {"live_register": lambda n: live(f"new {n}", f"new{n}@example.org"),
       "groups_register": lambda n: member(f"new{n}@example.org"),
       "families_register": lambda n: family(f"new {n}"),
       "events_create": lambda n: create(f"new {n}", "hot"),
       "idempotent": lambda n: keyed(f"new {n}", live(f"keyed {n}", f"keyed{n}@example.org"))}


@pytest.fixture(scope="module")
def new_database(postgres_of_plans):
    """A cursor in the new database, with a session, a group, a child and an occurrence."""
    fill(postgres_of_plans, "new", 0, """
        INSERT INTO live_sessions (id, title) VALUES (md5('hot')::uuid, 'New');
        INSERT INTO groups (id, name) VALUES (md5('hot')::uuid, 'New');
        INSERT INTO plans (id, group_id, name) VALUES (md5('hot')::uuid, md5('hot')::uuid, '');
        INSERT INTO invite_codes (code, plan_id, max_uses)
        VALUES ('LIMITED', md5('hot')::uuid, 10000);
        INSERT INTO institutions (id, name) VALUES (left(md5('hot'), 24), 'New');
        INSERT INTO children (id, username, institution_id)
        SELECT left(md5('child ' || n), 24), 'Child', left(md5('hot'), 24)
          FROM generate_series(1, 2) AS n;
        INSERT INTO organizations (id, name) VALUES (md5('hot')::uuid, 'New');
        INSERT INTO events (id, organization_id, name)
        VALUES (md5('hot')::uuid, md5('hot')::uuid, 'New');
        INSERT INTO occurrences (id, event_id) VALUES (md5('hot')::uuid, md5('hot')::uuid);
        """, [])
    yield from open_cursors(postgres_of_plans, "registration", "new")


@pytest.mark.parametrize("operation", NEW)
def test_call_without_statistics_uses_an_index(new_database, operation):
    """Before the first ANALYZE the planner cannot tell which index is the better one."""
    [cursor] = new_database
    first = count_pages(cursor, NEW[operation](0))
    requests = [NEW[operation](n) for n in range(1, 2001)]
    arrays = ["{" + ",".join(array[1:-1] for array in column) + "}"
              for column in zip(*(arrays for _, arrays in requests))]
    cursor.execute(requests[0][0], arrays)
    assert {row[1] for row in cursor.fetchall()} == {"created"}
    cursor.connection.commit()
    assert count_pages(cursor, NEW[operation](0)) <= allowed_pages(operation, first)


# --- Deep pages ----------------------------------------------------------------------------

DEEP = {name: dict(limit=10, page=500, **filter) for name, filter in {
    "all": {}, "organization": {"organization": "large"}, "event": {"event": "hot"},
    "occurrence": {"occurrence": "hot"}, "status": {"status": "CONFIRMED"},
    "trashed": {"trashed": True}, "updatedAt": {"sort": "updatedAt"},
    "email": {"sort": "email"}, "lastName ASC": {"sort": "lastName", "descending": False},
    "eventName": {"sort": "eventName"}, "startDate": {"sort": "startDate"}}.items()}


@pytest.mark.parametrize("name", DEEP)
def test_deep_page_joins_no_skipped_rows(cursors, name):
    # These sort orders are those of the tables that they read.
    ordered = {"eventName": JOINED[2:], "startDate": JOINED[2:], "email": JOINED[:1],
               "lastName ASC": JOINED[:1]}
    tables = [table for table in JOINED if table not in ordered.get(name, [])]
    assert 0 < count_rows(cursors[1], search(**DEEP[name]), tables) <= len(tables) * 2 * 10


# Each sort order with its column and the cursor parameter of its value: 0 after, 1 after_text.
ORDERS = {"createdAt": ("r.created_at", 0), "updatedAt": ("r.updated_at", 0),
          "startDate": ("o.start_date", 0), "status": ("r.status", 1), "eventName": ("e.name", 1),
          "firstName": ("r.first_name", None), "lastName": ("r.last_name", None),
          "email": ("r.email", None)}


def middle_of_list(cursor, sort, filter):
    """The cursor parameters of the registration in the middle of a list of a million."""
    column, kind = ORDERS[sort]
    cursor.execute(f"""
        SELECT {column}::text, r.id::text FROM registration.event_registrations AS r
          JOIN registration.occurrences AS o ON o.id = r.occurrence_id
          JOIN registration.events AS e ON e.id = r.event_id
         WHERE r.deleted_at IS NULL AND ({filter})
         ORDER BY {column}, r.id OFFSET (SELECT count(*) / 2
                                           FROM registration.event_registrations AS r
                                          WHERE r.deleted_at IS NULL AND ({filter}))
         LIMIT 1""")
    [[value, id]] = cursor.fetchall()
    return dict(after=(value if kind == 0 else None, id),
                after_text=value if kind == 1 else None)


@pytest.mark.parametrize("descending", [True, False], ids=["DESC", "ASC"])
@pytest.mark.parametrize("sort", ORDERS)
def test_keyset_cursor_page_cost_is_independent_of_depth(administrators, sort, descending):
    """In the middle of a million rows it reads as many pages as at the beginning."""
    [_, cursor] = administrators
    for filter, condition in [
            ({}, "true"),
            *[({"occurrence": "hot"}, "r.occurrence_id = md5('hot')::uuid")]
            * (sort in ("createdAt", "status", "startDate", "eventName"))]:
        place = middle_of_list(cursor, sort, condition)
        first, deep = (
            count_pages(cursor, search(sort=sort, descending=descending, **filter, **one))
            for one in ({}, place))
        assert deep <= 2 * first + 300, filter


def test_control_page_by_number_costs_its_skipped_rows(administrators):
    """A page of the same depth, without a cursor."""
    [_, cursor] = administrators
    first, deep = (count_pages(cursor, search(sort="email", page=page))
                   for page in (1, LARGE // 20))
    assert deep > 2 * first + 300


WHOLE = {"all": {}, "organization": {"organization": "large"},
         "event": {"event": "hot"}, "occurrence": {"occurrence": "hot"},
         "status": {"status": "CONFIRMED"}, "trashed": {"trashed": True},
         "category": {"categories": "hot"}, "all categories": {"categories": "all"},
         "occurrence and status": {"occurrence": "hot", "status": "WAITING_LIST"}}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("descending", [True, False])
def test_list_after_cursor_reads_no_earlier_rows(administrators, name, descending):
    """Its cost in the middle is that at the beginning."""
    [_, cursor] = administrators
    cursor.execute("SELECT created_at::text, id::text FROM registration.event_registrations"
                   " ORDER BY created_at, id LIMIT 1 OFFSET %s", (LARGE // 2,))
    [middle] = cursor.fetchall()
    first, after_cursor = (
        count_rows(cursor, search(descending=descending, after=after, **WHOLE[name]),
                   ["event_registrations"]) for after in [(None, None), middle])
    assert 0 < after_cursor <= first + 100 < LARGE // 2


def test_control_page_by_number_reads_earlier_rows(cursors):
    skipped = count_rows(cursors[1], search(page=LARGE // 20), ["event_registrations"])
    assert skipped >= LARGE // 2


def test_control_naive_page_joins_skipped_rows(administrators):
    naive = ("SELECT u.email FROM registration.event_registrations AS r"
             " JOIN registration.event_users AS u ON u.id = r.user_id"
             " ORDER BY r.id LIMIT 10 OFFSET 4990", ())
    assert count_rows(administrators[1], naive, ["event_users"]) >= 4990


def test_control_without_index_cost_grows(administrators):
    for cursor in administrators:
        cursor.execute("ALTER TABLE registration.event_registrations"
                       " DROP CONSTRAINT event_registrations_pkey")
    small, large = (count_pages(cursor, CALLS["events_get"]) for cursor in administrators)
    assert large > allowed_pages("events_get", small)
