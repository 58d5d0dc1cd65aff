# SPDX-License-Identifier: Apache-2.0
"""GET of the collection of event registrations as CSV or NDJSON, and the whole list, which is
streamed in chunks."""

import contextlib
import csv
import gzip
import http.client
import io
import json
import re
import ssl
import subprocess
import time

import pytest

import faults
import servers
from conftest import new_uuid
from event_registrations import (MOUNT, TENANT_MOUNT, category_of, created, crowd, delete,
                                 error, ids, insert_registrations, person, search)
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures

CSV, NDJSON = "text/csv", "application/x-ndjson"
HEADINGS = ["id", "createdAt", "updatedAt", "deletedAt", "status", "user.id", "user.email",
            "user.firstName", "user.lastName", "user.role", "occurrence.id",
            "occurrence.startDate", "occurrence.endDate", "event.id", "event.name",
            "organization.id", "organization.name", "fields"]


def parsed(answer):
    """The registrations of an answer in JSON, CSV or NDJSON; CSV rows are dicts."""
    assert answer.status_code == 200, answer.text
    media_type = answer.headers["Content-Type"].partition(";")[0]
    if media_type == CSV:
        return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    if media_type == NDJSON:
        return [json.loads(line) for line in answer.content.splitlines()]
    return answer.json()


def listed(api, accept, mount=MOUNT, **params):
    answer = api.get(mount, params=params, headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(accept)
    return parsed(answer)


def flat(registration):
    """The CSV row of a registration."""
    row = {}
    for heading in HEADINGS:
        value = registration
        for key in heading.split("."):
            value = value.get(key)
        row[heading] = json.loads(json.dumps(value)) if heading == "fields" else value or ""
    return row


# --- Representations -----------------------------------------------------------------------

def test_each_representation_has_the_same_content(api, sql, occurrence):
    one = occurrence(end_date=None)
    person(api, sql, one, "jane@example.org", "Jane", "Doe, \"the\" 2nd")
    people = [created(api, one, "user", fields={
        "lines": "a\r\nb\tc\u2028", "quotes": "\"'\\/", "deep": {"x": [1, None, 1.50]}})]
    delete(api, people[0])
    expected = search(api, occurrenceId=one, withTrashed="true")
    assert len(expected) == 2
    assert listed(api, NDJSON, occurrenceId=one, withTrashed="true") == expected
    table = listed(api, CSV, occurrenceId=one, withTrashed="true")
    assert [list(row) for row in table] == [HEADINGS] * 2
    for row in table:
        row["fields"] = json.loads(row["fields"])
    assert table == [flat(registration) for registration in expected]
    assert table[0]["deletedAt"] and not table[1]["deletedAt"]


def test_csv_conforms_to_rfc_4180(api, sql, occurrence):
    one = occurrence()
    person(api, sql, one, first_name="Ann")
    text = api.get(MOUNT, params={"occurrenceId": one}, headers={"Accept": CSV}).text
    heading, row, end = text.split("\r\n")
    assert (heading, end) == (",".join(HEADINGS), "")
    assert re.fullmatch(r'(("[^"]*")?,){17}"\{\}"', row), row


@pytest.mark.parametrize("accept, expected", [
    (None, "application/json"), ("*/*", "application/json"), ("text/html", "application/json"),
    (f"{CSV}, */*;q=0.1", CSV), (f"{NDJSON};q=0.5, {CSV};q=0.4", NDJSON)])
def test_representation_is_negotiated_by_accept(api, accept, expected):
    answer = api.get(MOUNT, params={"occurrenceId": new_uuid()}, headers={"Accept": accept})
    assert answer.headers["Content-Type"].partition(";")[0] == expected
    assert answer.headers["Vary"] == "Accept"


def test_single_registration_is_always_json(api, occurrence):
    registration = created(api, occurrence())
    answer = api.get(f"{MOUNT}/{registration['id']}", headers={"Accept": CSV})
    assert answer.json() == registration
    assert "Vary" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_csv_has_file_name(api, method):
    answer = api.request(method, MOUNT, params={"occurrenceId": new_uuid()},
                         headers={"Accept": CSV})
    assert answer.headers["Content-Disposition"] == \
        'attachment; filename="event-registrations.csv"'
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer.text == (",".join(HEADINGS) + "\r\n") * (method == "GET")


def test_csv_with_bom_begins_with_byte_order_mark(api, occurrence):
    one = occurrence()
    crowd(api, one, 3)
    for more in ({}, {"limit": 2}):
        plain, marked = (api.get(MOUNT, params={"occurrenceId": one, **mark, **more},
                                 headers={"Accept": CSV}).content
                         for mark in ({}, {"bom": "true"}))
        assert marked == b"\xef\xbb\xbf" + plain
    assert listed(api, NDJSON, occurrenceId=one, bom="true") == \
        search(api, occurrenceId=one, bom="true")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "＝1", "＋1", "－1", "＠x"]


def test_csv_escapes_formulas(api, sql, occurrence):
    one = occurrence()
    for name in [*FORMULAS, "Jane", "a=1", "'"]:
        person(api, sql, one, first_name=name)
    names = {row["user.firstName"] for row in listed(api, CSV, occurrenceId=one)}
    assert names == {*("'" + name for name in FORMULAS), "Jane", "a=1", "'"}


def formulas(text):
    """The cells that a spreadsheet takes for formulas, with any separator."""
    return [cell for separator in ",;\t|"
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            for cell in row if cell.lstrip(" \r\n")[:1] in [*"=+-@＝＋－＠"]]


@pytest.mark.parametrize("separator", [*",;\t|", "\n"])
def test_csv_has_no_formula_for_any_separator(api, sql, occurrence, separator):
    one = occurrence()
    texts = [f"a{separator}{before}{formula}{separator}b" for formula in FORMULAS
             for before in ("", '"', '""', '" "', '"x";')]
    for text in texts:
        person(api, sql, one, first_name=text)
    created(api, one, "own", fields={"text": texts})
    answer = api.get(MOUNT, params={"occurrenceId": one}, headers={"Accept": CSV})
    assert len(parsed(answer)) == len(texts) + 1
    assert formulas(answer.text) == []


def test_control_formula_in_cell_is_detected():
    assert formulas('"x","a;""=1+1;b"\r\n') == formulas('"x","a|=1+1|b"\r\n') == ["=1+1"]
    assert "=1" in formulas('"=1"\r\n')


def test_csv_escapes_formulas_in_administrators_texts(api, sql, event, occurrence,
                                                      organization):
    home = organization('=HYPERLINK("http://localhost","x")')
    one = occurrence(event_id=event(home, name="\t=1"))
    person(api, sql, one, email="\r=1")
    [row] = listed(api, CSV, occurrenceId=one)
    assert row["organization.name"] == '\'=HYPERLINK("http://localhost","x")'
    assert (row["event.name"], row["user.email"]) == ("\t'=1", "\r'=1")


# --- Pages ---------------------------------------------------------------------------------

@pytest.mark.parametrize("accept", [CSV, NDJSON])
def test_pages_work_in_each_representation(api, occurrence, accept):
    one = occurrence()
    people = ids(crowd(api, one, 5))[::-1]
    answer = api.get(MOUNT, params={"occurrenceId": one, "limit": 2, "page": 2},
                     headers={"Accept": accept})
    assert ids(parsed(answer)) == people[2:4]
    assert answer.headers["X-Total-Count"] == "5"
    assert set(answer.links) == {"first", "prev", "next", "last"}
    following = api.get(answer.links["next"]["url"], headers={"Accept": accept})
    assert ids(parsed(following)) == people[4:]
    assert ids(listed(api, accept, occurrenceId=one, page=1, sort="email")) == people[::-1]


def test_whole_list_has_no_pages(api, occurrence):
    one = occurrence()
    people = ids(crowd(api, one, 11))[::-1]   # One more than a page has.
    answer = api.get(MOUNT, params={"occurrenceId": one}, headers={"Accept": CSV})
    assert ids(parsed(answer)) == people
    assert "Link" not in answer.headers
    assert answer.headers["X-Total-Count"] == "11"


def test_whole_list_can_only_be_sorted_by_time(api):
    answer = api.get(MOUNT, params={"sort": "lastName"}, headers={"Accept": CSV})
    assert error(answer, 400) == {
        "sort": "must be createdAt, perhaps with ASC or DESC, unless there is a limit"}


# --- Streaming -----------------------------------------------------------------------------

# Chunks of three rows.
SMALL = """
<Location "/api/v1/event-registrations">
    RegistrationMaxPageSize 3
</Location>
"""


@pytest.fixture
def parts(client, token, start_httpd):
    """A client of an httpd that streams lists in chunks of three rows."""
    return client(token, start_httpd(inside=SMALL))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
def test_chunks_list_each_registration_once(parts, sql, occurrence, count):
    one = occurrence()
    people = sorted(ids(crowd(parts, one, count)))
    sql("UPDATE event_registrations SET created_at = '2031-01-01' WHERE occurrence_id = %s",
        one)   # The sort key differs in the id only.
    for accept in (CSV, NDJSON):
        assert ids(listed(parts, accept, occurrenceId=one)) == people[::-1]
        assert ids(listed(parts, accept, occurrenceId=one, sort="createdAt")) == people
        assert ids(listed(parts, accept, occurrenceId=one, sort="createdAt DESC",
                          withTrashed="1")) == people[::-1]


def test_chunks_apply_the_same_filters_as_pages(parts, sql, event, occurrence):
    """For each of the query plans of a chunk."""
    events = [event(name=f"Quuxfest {n}") for n in range(2)]
    places = [occurrence(event_id=one, capacity=4) for one in events for _ in range(2)]
    for place in places:
        for n in range(6):   # Two of them wait.
            person(parts, sql, place, f"jane{n}@example.org", "Jane", f"Doe{n}")
    for waiting in search(parts, eventId=events[0], status="WAITING_LIST", limit=3)[:2]:
        delete(parts, waiting)
    category = category_of(sql, *events)
    for params, count in [
            ({"occurrenceId": places[0]}, 4), ({"eventId": events[1]}, 12),
            ({"categories": category}, 22), ({"categories": category, "withTrashed": 1}, 24),
            ({"eventId": events[1], "status": "CONFIRMED"}, 8),
            ({"occurrenceId": places[3], "status": "WAITING_LIST"}, 2),
            ({"search": "quuxFEST"}, 22), ({"search": "Quuxfest 1"}, 12),
            ({"categories": category, "search": "doe3"}, 4),
            ({"categories": category, "search": "doe"}, 22)]:
        for direction in ("ASC", "DESC"):
            params["sort"] = f"createdAt {direction}"
            paged = [registration for page in range(1, 12)
                     for registration in search(parts, limit=3, page=page, **params)]
            if params.get("occurrenceId") != places[0]:   # Some of these were deleted.
                assert len(paged) == count, params
            assert listed(parts, NDJSON, **params) == paged, params


def test_whole_list_is_limited_to_organization(client, token, start_httpd, sql, event,
                                               organization, occurrence, api):
    one = occurrence()
    crowd(api, one, 4)
    other = occurrence(event_id=event(organization()))
    crowd(api, other, 4)
    api = client(token, start_httpd(inside=SMALL + """
        <Location "/tenant/api/v1/event-registrations">
            RegistrationMaxPageSize 3
        </Location>"""))
    assert len(listed(api, CSV, TENANT_MOUNT, occurrenceId=one)) == 4
    assert listed(api, CSV, TENANT_MOUNT, occurrenceId=other) == []
    assert len(listed(api, CSV, occurrenceId=other)) == 4
    everything = listed(api, NDJSON, TENANT_MOUNT)
    assert len(everything) >= 4
    assert len({one["organization"]["id"] for one in everything}) == 1


def test_transfer_encoding_marks_the_end(parts, occurrence):
    """It is chunked, unless all rows are in one chunk of the list."""
    one = occurrence()
    crowd(parts, one, 4)
    for params, chunked in [({}, True), ({"status": "PENDING"}, False)]:
        for method in ("GET", "HEAD"):
            answer = parts.request(method, MOUNT, params={"occurrenceId": one, **params},
                                   headers={"Accept": CSV})
            assert ("Content-Length" in answer.headers) != chunked
            if method == "GET":
                assert ("Transfer-Encoding" in answer.headers) == chunked


def test_vary_of_other_modules_is_kept(client, token, start_httpd):
    api = client(token, start_httpd(
        inside="""RewriteEngine on
                  RewriteCond %{HTTP:Origin} ^https://localhost$
                  RewriteRule ^ - [E=REGISTRATION_ORIGIN:1]""",
        modules=[*servers.MODULES, "rewrite"]))
    answer = api.get(MOUNT, params={"occurrenceId": new_uuid()},
                     headers={"Origin": "https://localhost"})
    assert answer.headers["Vary"] == "Origin,Accept"


def test_whole_list_can_be_compressed(client, token, start_httpd, occurrence):
    api = client(token, start_httpd(inside=SMALL + "SetOutputFilter DEFLATE",
                                    modules=[*servers.MODULES, "deflate"]))
    one = occurrence()
    people = ids(crowd(api, one, 7))[::-1]
    answer = api.get(MOUNT, params={"occurrenceId": one}, stream=True,
                     headers={"Accept": NDJSON, "Accept-Encoding": "gzip"})
    assert answer.headers["Vary"] == "Accept,Accept-Encoding"
    lines = gzip.decompress(answer.raw.read()).splitlines()
    assert [json.loads(line)["id"] for line in lines] == people


# --- Changes and failures while streaming --------------------------------------------------

LARGE = 400   # registrations, more than all buffers hold


def insert_large_registrations(query, place):
    """Inserts LARGE registrations of 50 kB each; their ids, the latest first."""
    incompressible = """jsonb_build_object('text', (
        SELECT string_agg(md5(people.id::text || n), '') FROM generate_series(1, 1500) AS n))"""
    return insert_registrations(
        query, place, LARGE, incompressible,
        "'2031-01-01'::timestamptz + row_number() OVER () * interval '1 s'")[::-1]


@contextlib.contextmanager
def slow_reader(httpd, token, place, certificates=None):
    """An answer with a list, of which only the head has been read."""
    if certificates:
        connection = http.client.HTTPSConnection(
            "localhost", httpd.port, timeout=30,
            context=ssl.create_default_context(cafile=str(certificates.authority)))
    else:
        connection = http.client.HTTPConnection("localhost", httpd.port, timeout=30)
    headers = {"Accept": NDJSON, **({"Authorization": f"Bearer {token}"} if token else {})}
    connection.request("GET", f"{MOUNT}?occurrenceId={place}", headers=headers)
    yield connection.getresponse()
    connection.close()


def lines_of(answer):
    return [json.loads(line)["id"] for line in answer.read().splitlines()]


def test_registration_that_exists_throughout_is_listed_once(api, start_httpd, token,
                                                            certificates, sql, occurrence):
    one, httpd = occurrence(), start_httpd(inside=SMALL)
    people = insert_large_registrations(sql, one)
    with slow_reader(httpd, token, one, certificates) as answer:
        first = created(api, one, "another")["id"]   # Its place is behind these.
        gone = people[-200::2]
        sql("DELETE FROM event_registrations WHERE id = ANY (%s::uuid[])", gone)
        listed_ids = lines_of(answer)
    assert [id for id in listed_ids if id != first] == [id for id in people if id not in gone]


def test_slow_reader_holds_no_connection(client, token, start_httpd, certificates,
                                         occurrence, sql, live_session):
    """It holds the memory of one chunk."""
    one, session = occurrence(), live_session()
    httpd = start_httpd(inside=SMALL + "RegistrationConnections 1")
    people = insert_large_registrations(sql, one)
    other = client(token, httpd)
    with contextlib.ExitStack() as readers:
        answers = [readers.enter_context(slow_reader(httpd, token, one, certificates))
                   for _ in range(5)]
        for n in range(3):
            assert other.post(f"/v1/sessions/{session}/register",
                              json={"patient_id": f"reader-{n}"}).status_code == 201
        for answer in answers:
            assert lines_of(answer) == people


# How a client requests a list, and curl's exit status if it is truncated.
CUT = {"HTTP/1.0": (["--http1.0"], 56), "HTTP/1.1": (["--http1.1"], 18),
       "HTTP/2": (["--http2-prior-knowledge"], 92),
       "compressed": (["--http1.1", "-H", "Accept-Encoding: gzip"], 18)}


@pytest.fixture
def long_list(start_httpd, postgres_to_break, expect_log):
    """curl(*options), which reads a list larger than all buffers, and the list's ids."""
    expect_log(*faults.OUTAGE, "REG0203")
    postgres = postgres_to_break
    [[one]] = postgres.query("INSERT INTO occurrences (event_id) SELECT id FROM events LIMIT 1"
                             " RETURNING id")
    people = insert_large_registrations(postgres.query, one)
    httpd = start_httpd(
        faults.CHILD + faults.MOUNTS + faults.database(postgres.dsn()) + SMALL
        + "Protocols h2c http/1.1\nSetOutputFilter DEFLATE\nDeflateCompressionLevel 1\n",
        modules=[*faults.MODULES, "http2", "deflate"])
    return lambda *options: subprocess.Popen(
        ["curl", "-sS", *options, "-H", f"Accept: {NDJSON}",
         f"http://localhost:{httpd.port}{MOUNT}?occurrenceId={one}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL), people


@pytest.mark.parametrize("way", CUT)
def test_aborted_list_is_seen_as_truncated(long_list, postgres_to_break, way):
    curl, people = long_list
    options, status = CUT[way]
    with curl(*options) as client:
        begun = client.stdout.read(1)
        postgres_to_break.stop("immediate")
        listed_ids = begun + client.stdout.read()
    postgres_to_break.start()
    assert client.returncode == status
    if way != "compressed":
        listed_ids = [json.loads(line)["id"] for line in listed_ids.splitlines()[:-1]]
        assert 0 < len(listed_ids) < LARGE and listed_ids == people[:len(listed_ids)]
    # Negative control: with the database running the list is complete.
    time.sleep(faults.RECOVERY)
    with curl(*options) as client:
        client.stdout.read()
    assert client.returncode == 0


# --- Memory --------------------------------------------------------------------------------

def peak_memory(httpd):
    """Peak resident memory of the child process, in MiB."""
    [child] = faults.children(httpd.pid())
    return servers.resident(child, "VmHWM")


@pytest.mark.skipif(servers.is_sanitized(servers.MODULE),
                    reason="AddressSanitizer keeps freed memory for a while")
@pytest.mark.parametrize("part, most", [(10, 6), (10000, None)])
def test_list_needs_memory_of_one_chunk(start_httpd, postgres, sql, occurrence, part, most):
    """The list is 20 MB. Negative control: all of it in one chunk needs more than that."""
    one = occurrence()
    people = insert_large_registrations(sql, one)
    httpd = start_httpd(
        faults.CHILD + faults.MOUNTS + faults.database(postgres.dsn("registration"))
        + SMALL.replace("Size 3", f"Size {part}"), modules=faults.MODULES)
    with slow_reader(httpd, None, new_uuid()) as answer:
        assert lines_of(answer) == []
    before = peak_memory(httpd)
    with slow_reader(httpd, None, one) as answer:
        assert lines_of(answer) == people
    grown = peak_memory(httpd) - before
    assert grown < most if most else grown > 20, grown
