# SPDX-License-Identifier: Apache-2.0
"""A second httpd is a proxy that serves the APIs below a prefix, as in docs/operating.md: each
URL in an answer works through the proxy."""

import json
import re
import sys

import pytest

import samples
import servers
from conftest import new_uuid
from faults import CHILD, MODULES, OPERATING, Caller, database

sys.path.insert(1, str(servers.ROOT / "tests"))
import documents  # noqa: E402

PREFIX = "/registration"
OPEN = '<Location "/">\nRequire all granted\n</Location>\n'
PROXY_MODULES = ("authz_core", "proxy", "proxy_http")


def printed():
    """The blocks of the document: for the backend, for the proxy, and mod_remoteip's."""
    return [block.text for block, _ in documents.chosen(
        "docs/operating.md", "Behind a proxy with a path prefix",
        "tests/http/test_path_prefix.py")]


@pytest.fixture
def behind(start_httpd, postgres):
    """behind(backend, proxy): a Caller of a proxy with these directives, and a Caller of the
    httpd behind it."""
    def start(backend, proxy):
        inner = start_httpd(CHILD + OPEN + backend + database(postgres.dsn()),
                            modules=(*MODULES, "authz_host", "remoteip"))
        address = f"http://127.0.0.1:{inner.port}"
        outer = start_httpd(CHILD + proxy.replace("http://backend.example.org", address),
                            modules=PROXY_MODULES, registration=None)
        return Caller(outer), Caller(inner)
    return start


def registered(one, prefix, occurrence, group, session):
    """A registration by each API that answers with URLs, and all of these."""
    events = f"{prefix}/api/v1/event-registrations"
    assert one.post(f"{prefix}/v1/sessions/{session}/register",
                    json={"patient_id": new_uuid()}).status_code == 201
    for number in range(2):
        answer = one.post(events, json={"occurrenceId": occurrence,
                                        "externalUserId": f"user {number}"})
        assert answer.status_code == 201
    page = one.get(events, params={"occurrenceId": occurrence, "limit": 1})
    urls = [answer.headers["Location"], *(link["url"] for link in page.links.values())]
    for path in (f"{prefix}/api/v1/groups/{group.id}/members", f"{prefix}/api/v1/users"):
        member = one.post(path, json=samples.member(group.code))
        assert member.status_code == 201
        urls += [member.headers["Location"],
                 *re.findall(r'"href": ?"([^"]+)"', json.dumps(member.json()))]
    return urls


def dead(one, urls):
    return [url for url in urls if one.get(url).status_code != 200]


def test_documented_prefix_makes_every_url_work_through_proxy(behind, occurrence, group,
                                                             live_session):
    outside, _ = behind(*printed()[:2])
    urls = registered(outside, PREFIX, occurrence(), group(), live_session())
    assert len(urls) > 8
    assert all(url.startswith(f"{PREFIX}/api/v1/") for url in urls), urls
    assert dead(outside, urls) == []
    assert outside.get(f"{PREFIX}/openapi.json").json()["servers"] == [{"url": "/"}]
    # Errors have the API's own shape there too.
    assert outside.get(f"{PREFIX}/api/v1/groups/{new_uuid()}").json()["status"] == 404
    assert outside.get(f"{PREFIX}/metrics").status_code == 404


def test_prefix_removed_by_proxy_makes_dead_links(behind, occurrence, group, live_session):
    """The control, and what the document says of ProxyPassReverse."""
    backend, proxy, _ = printed()
    outside, _ = behind(
        backend.replace(PREFIX, ""),
        proxy.replace('org/registration/"', 'org/"')
        + f'\nProxyPassReverse "{PREFIX}/" "/"')
    urls = registered(outside, PREFIX, occurrence(), group(), live_session())
    corrected = [url for url in urls if url.startswith(f"https://localhost{PREFIX}/")]
    assert len(corrected) == 3   # the Location of each POST
    assert dead(outside, [url.replace("https://localhost", "") for url in corrected]) == []
    others = [url for url in urls if url not in corrected]
    assert len(others) > 6
    assert dead(outside, others) == others


def test_client_of_local_proxy_is_remote_with_mod_remoteip(behind):
    remoteip = printed()[2]
    local = '<Location "/metrics">\nRequire local\n</Location>\n' + OPERATING
    forwarded = {"X-Forwarded-For": "192.0.2.7"}
    proxy = 'ProxyPass "/" "http://backend.example.org/"\n'
    outside, inside = behind(remoteip + local, proxy)
    assert outside.get("/metrics", headers=forwarded).status_code == 403
    assert inside.get("/metrics").status_code == 200
    # The control, and what the document warns of.
    outside, _ = behind(local, proxy)
    assert outside.get("/metrics", headers=forwarded).status_code == 200
