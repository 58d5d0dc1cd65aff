# SPDX-License-Identifier: Apache-2.0
"""The time of a page of event registrations, for each filter and each order."""

import http.client
import statistics
import time
import urllib.parse

from bench.load import Wrong
from bench.runs import make_searched

PATH = "/api/v1/event-registrations"
ID = "00000000-0000-4000-8000-000000000007"     # of an event, an occurrence and a category
REPEATED = 15

FILTERS = {
    "none": {}, "withTrashed": {"withTrashed": "true"}, "event": {"eventId": ID},
    "occurrence": {"occurrenceId": ID}, "status": {"status": "CANCELLED"},
    "occurrence, status": {"occurrenceId": ID, "status": "CONFIRMED"},
    "category": {"categories": ID}, "search": {"search": "aba"}}

FIELDS = ("createdAt", "updatedAt", "status", "startDate", "eventName", "firstName", "lastName",
          "email")
SORTS = [f"{field} {direction}" for field in FIELDS for direction in ("ASC", "DESC")]


def median_time(connection, parameters):
    """The median seconds of a request with these parameters, after one that is not counted."""
    times = []
    for _ in range(REPEATED + 1):
        begun = time.perf_counter()
        connection.request("GET", f"{PATH}?{urllib.parse.urlencode(parameters)}")
        answer = connection.getresponse()
        body = answer.read()
        times.append(time.perf_counter() - begun)
        if answer.status != 200 or len(body) < 1000:
            raise Wrong(f"{parameters}: {answer.status} {body[:200]}")
    return statistics.median(times[1:])


def table(stage):
    """The lines of a table in milliseconds: a row for each order, a column for each filter."""
    stage.once(stage.rows, make_searched, stage.rows)
    width = max(map(len, SORTS))
    lines = [f"{'':{width}}  " + "  ".join(FILTERS)]
    with stage.httpd(database=f"registrations_{stage.rows}") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for sort in SORTS:
            cells = [f"{median_time(connection, {'sort': sort, **more}) * 1e3:{len(name)}.1f}"
                     for name, more in FILTERS.items()]
            lines.append(f"{sort:{width}}  " + "  ".join(cells))
        connection.close()
    return lines
