# SPDX-License-Identifier: Apache-2.0
"""What the operations cost does not grow with the tables.

Two databases hold the same kind of data, 1,000 and 1,000,000 rows of each kind of
registration. Cost is what EXPLAIN (ANALYZE, BUFFERS) counts for a whole call, the
statements inside the function included: the pages it looked at. It does not depend on how
busy the machine is. A tree of pages may be two levels higher in the large database, but
whatever went through a table or sorted it would cost a hundred times as much there.
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

# Of :n registrations, one in ten is in the :n/10 that stand for what is popular: the
# session, occurrence or event "hot", half of whose registrations wait for a place.
# The others are spread thinly over many.
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

# With the tables whose indexes are made in one go, after the rows: that is much faster.
FILLS = [(FILL_EVENTS, ["event_registrations", "event_users"]),
         (FILL_OTHERS, ["live_registrations", "group_members", "member_emails", "families",
                        "family_children"]),
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
                for one in FILLS]))
        for postgres.database in sizes:
            postgres.psql("-c", "VACUUM ANALYZE")
        yield postgres
    finally:
        postgres.stop("smart")   # The sessions just closed may still be ending.
        shutil.rmtree(postgres.data)   # pytest would keep these gigabytes for three runs.
    fail_on(postgres.log.problems())


def open_cursors(postgres, user, *databases):
    """Nothing that is changed through them is kept, unless it is committed."""
    connections = [psycopg2.connect(
        postgres.dsn(user, dbname=database),
        options="-c idle_in_transaction_session_timeout=0") for database in databases]
    yield [connection.cursor() for connection in connections]
    for connection in connections:
        connection.close()


@pytest.fixture
def cursors(postgres_of_plans):
    """The service's own role's, in the small and in the large database."""
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
    """One request, as the module makes it: every argument an array of one."""
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
    """The same request under a key."""
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
    "search, everything": search(),
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
    "search, text of nobody": search(text="xyzzy"),
    "search, text of everybody": search(text="nygård"),
    "search, text of everybody in an occurrence": search(text="nygård", occurrence="hot"),
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

# In these every match has to be looked at by itself, and up to 10,001 are counted. What
# else cannot be had without another index is told in events_search.sql.
TEXT_OF_MANY = [name for name in CALLS if "everybody" in name]


# --- What they cost ------------------------------------------------------------------------

def tried(cursor, statement, arguments):
    """The rows of a statement that is taken back again."""
    cursor.execute("SAVEPOINT before")
    cursor.execute(statement, arguments)
    found = cursor.fetchall() if cursor.description else []
    cursor.execute("ROLLBACK TO before")
    return found


def make_often(cursor, request):
    """Makes a call as often as it takes until its plans are those that stay."""
    for _ in range(7):
        tried(cursor, *request)


def pages(cursor, request):
    """How many pages a call looks at, and writes to sort."""
    statement, arguments = request
    make_often(cursor, request)
    [[[explained]]] = tried(
        cursor, f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}", arguments)
    return sum(value for name, value in explained["Plan"].items()
               if name.endswith(("Hit Blocks", "Read Blocks", "Temp Written Blocks")))


def rows(cursor, request, tables):
    """How many rows of these tables a call reads, and entries of their indexes."""
    count = ("SELECT sum(pg_stat_get_xact_tuples_returned(c.oid)) FROM pg_class AS c"
             " LEFT JOIN pg_index AS i ON i.indexrelid = c.oid"
             " WHERE coalesce(i.indrelid, c.oid) = ANY (%s::regclass[])",
             ([f"registration.{table}" for table in tables],))
    # What parallel workers read is not in these numbers.
    cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
    make_often(cursor, request)
    [[before]] = tried(cursor, *count)
    tried(cursor, *request)
    [[after]] = tried(cursor, *count)
    return after - before


def most_pages(name, small):
    # A search counts up to 10,001 matches, which the small database does not have: 300
    # pages are room for as many entries of an index.
    return 2 * small + (300 if name.startswith("search") else 10)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in TEXT_OF_MANY])
def test_the_cost_does_not_grow_with_the_tables(cursors, name):
    small, large = (pages(cursor, CALLS[name]) for cursor in cursors)
    assert large <= most_pages(name, small)


@pytest.mark.parametrize("name", TEXT_OF_MANY)
def test_of_a_common_text_s_matches_no_more_are_read_than_are_counted(cursors, name):
    assert rows(cursors[1], CALLS[name], ["event_registrations", *JOINED]) <= 5 * 10001


@pytest.mark.parametrize("statement, argument", [
    ("SELECT registration.cancel_live_registration(%s)", uuid("live 7")),
    ("SELECT registration.remove_group_member(%s)", uuid("member 7")),
    ("SELECT registration.remove_family(%s)", "family 7"),
    ("SELECT registration.forget_idempotency_keys(%s)", 10),
    ("UPDATE registration.occurrences SET capacity = capacity + 1 WHERE id = %s",
     uuid("hot"))],
    ids=["cancel_live_registration", "remove_group_member", "remove_family",
         "forget_idempotency_keys", "capacity"])
def test_what_an_administrator_does_costs_no_more_either(administrators, statement, argument):
    small, large = (pages(cursor, (statement, (argument,))) for cursor in administrators)
    assert large <= most_pages("", small)


# --- Before any statistics -----------------------------------------------------------------

NEW = {"live_register": lambda n: live(f"new {n}", f"new{n}@example.org"),
       "groups_register": lambda n: member(f"new{n}@example.org"),
       "families_register": lambda n: family(f"new {n}"),
       "events_create": lambda n: create(f"new {n}", "hot"),
       "idempotent": lambda n: keyed(f"new {n}", live(f"keyed {n}", f"keyed{n}@example.org"))}


@pytest.fixture(scope="module")
def new_database(postgres_of_plans):
    """The new database with what one can register for."""
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
def test_a_new_database_needs_no_statistics(new_database, operation):
    """As nothing has been analyzed yet, the planner takes every index for as good."""
    [cursor] = new_database
    first = pages(cursor, NEW[operation](0))
    requests = [NEW[operation](n) for n in range(1, 2001)]
    arrays = ["{" + ",".join(array[1:-1] for array in column) + "}"
              for column in zip(*(arrays for _, arrays in requests))]
    cursor.execute(requests[0][0], arrays)
    assert {row[1] for row in cursor.fetchall()} == {"created"}
    cursor.connection.commit()
    assert pages(cursor, NEW[operation](0)) <= most_pages(operation, first)


# --- Deep pages ----------------------------------------------------------------------------

DEEP = {name: dict(limit=10, page=500, **filter) for name, filter in {
    "everything": {}, "organization": {"organization": "large"}, "event": {"event": "hot"},
    "occurrence": {"occurrence": "hot"}, "status": {"status": "CONFIRMED"},
    "trashed": {"trashed": True}, "updatedAt": {"sort": "updatedAt"},
    "email": {"sort": "email"}, "lastName ASC": {"sort": "lastName", "descending": False},
    "eventName": {"sort": "eventName"}, "startDate": {"sort": "startDate"}}.items()}


@pytest.mark.parametrize("name", DEEP)
def test_a_deep_page_does_not_join_what_it_skips(cursors, name):
    # To sort by the event's name or the start, events and occurrences are gone through.
    tables = JOINED[:2] if "sort" in DEEP[name] and name in ("eventName", "startDate") \
        else JOINED
    assert 0 < rows(cursors[1], search(**DEEP[name]), tables) <= len(tables) * 2 * 10


# What a list is sorted by, and where the registration that is in the middle of it has it.
ORDERS = {"createdAt": ("r.created_at", 0), "updatedAt": ("r.updated_at", 0),
          "startDate": ("o.start_date", 0), "status": ("r.status", 1), "eventName": ("e.name", 1),
          "firstName": ("r.first_name", None), "lastName": ("r.last_name", None),
          "email": ("r.email", None)}


def middle(cursor, sort, filter):
    """The place in the middle of a list of a million, as a cursor has it."""
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
def test_a_page_behind_a_cursor_costs_the_same_however_deep(administrators, sort, descending):
    """In pages looked at, in the middle of a million as at the beginning."""
    [_, cursor] = administrators
    for filter, condition in [
            ({}, "true"),
            *[({"occurrence": "hot"}, "r.occurrence_id = md5('hot')::uuid")]
            * (sort in ("createdAt", "status", "startDate", "eventName"))]:
        place = middle(cursor, sort, condition)
        first, deep = (pages(cursor, search(sort=sort, descending=descending, **filter, **one))
                       for one in ({}, place))
        assert deep <= 2 * first + 300, filter


def test_a_page_by_its_number_costs_what_it_skips(administrators):
    """The control: a page that is as deep, without a cursor."""
    [_, cursor] = administrators
    first, deep = (pages(cursor, search(sort="email", page=page))
                   for page in (1, LARGE // 20))
    assert deep > 2 * first + 300


WHOLE = {"everything": {}, "organization": {"organization": "large"},
         "event": {"event": "hot"}, "occurrence": {"occurrence": "hot"},
         "status": {"status": "CONFIRMED"}, "trashed": {"trashed": True},
         "category": {"categories": "hot"}, "all categories": {"categories": "all"},
         "occurrence and status": {"occurrence": "hot", "status": "WAITING_LIST"}}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("descending", [True, False])
def test_a_list_is_read_on_from_where_it_was_left(administrators, name, descending):
    """And not from its beginning: in the middle it costs what it does there."""
    [_, cursor] = administrators
    cursor.execute("SELECT created_at::text, id::text FROM registration.event_registrations"
                   " ORDER BY created_at, id LIMIT 1 OFFSET %s", (LARGE // 2,))
    [middle] = cursor.fetchall()
    begin, on = (rows(cursor, search(descending=descending, after=after, **WHOLE[name]),
                      ["event_registrations"]) for after in [(None, None), middle])
    assert 0 < on <= begin + 100 < LARGE // 2


def test_a_list_that_is_read_from_its_beginning_would_be_noticed(cursors):
    assert rows(cursors[1], search(page=LARGE // 20), ["event_registrations"]) >= LARGE // 2


def test_a_page_that_joins_what_it_skips_would_be_noticed(administrators):
    naive = ("SELECT u.email FROM registration.event_registrations AS r"
             " JOIN registration.event_users AS u ON u.id = r.user_id"
             " ORDER BY r.id LIMIT 10 OFFSET 4990", ())
    assert rows(administrators[1], naive, ["event_users"]) >= 4990


def test_a_missing_index_would_be_noticed(administrators):
    for cursor in administrators:
        cursor.execute("ALTER TABLE registration.event_registrations"
                       " DROP CONSTRAINT event_registrations_pkey")
    small, large = (pages(cursor, CALLS["events_get"]) for cursor in administrators)
    assert large > most_pages("events_get", small)
