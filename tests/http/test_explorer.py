# SPDX-License-Identifier: Apache-2.0
"""The demo's API explorer in a real browser."""

import copy
import json

import pytest

import openapi
import servers
from browser import browser   # noqa: F401, a fixture
from conftest import new_uuid

REGISTER = "#operations-live-registerForLiveSession"
SEARCH = "#operations-events-searchEventRegistrations"
ROWS = 12   # more than the default page size


@pytest.fixture
def explorer(tmp_path, start_httpd, admin_token):
    """The URL of the page; its files are in tmp_path / "explorer"."""
    if not servers.Explorer.is_there():
        pytest.fail("run `make explorer` first, which fetches Swagger UI")
    page = servers.Explorer(tmp_path / "explorer", admin_token)
    httpd = start_httpd(change=page.added_to, descriptors=[page.descriptor],
                        modules=(*servers.MODULES, *servers.EXPLORER_MODULES))
    return f"https://localhost:{httpd.port}/explorer/"


def origin_of(url):
    return "/".join(url.split("/")[:3])


def set_value(page, css, value):
    """Sets a text area or a select and fires its events."""
    page.driver.execute_script("""
        const kind = Object.getPrototypeOf(arguments[0]);
        Object.getOwnPropertyDescriptor(kind, "value").set.call(arguments[0], arguments[1]);
        for (const name of ["input", "change"]) {
            arguments[0].dispatchEvent(new Event(name, {bubbles: true}));
        }""", page.find(css), value)


def try_to_register(page, session, body):
    """Fills in and sends the form of an operation; the status shown."""
    page.click(f"{REGISTER} .opblock-summary-control")
    field = page.find(f"{REGISTER} tr[data-param-name=id] input")
    field.clear()
    field.send_keys(session)
    set_value(page, f"{REGISTER} textarea.body-param__text", json.dumps(body))
    page.click(f"{REGISTER} .execute")
    return page.find(f"{REGISTER} .live-responses-table tbody .response-col_status").text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_registration_form_registers(explorer, browser, live_session, sql, dark):
    page = browser(dark=dark)
    session, patient = live_session(), f"patient {new_uuid()}"
    page.driver.get(explorer)
    page.find(".authorize.locked")   # the token is set
    status = try_to_register(page, session, {"patient_id": patient})
    assert status.split()[0] == "201"
    assert sql("SELECT patient_id FROM live_registrations WHERE session_id = %s", session) \
        == [(patient,)]
    page.screenshot("explorer-dark" if dark else "explorer-light")
    classes = page.find("html").get_attribute("class").split()
    assert ("dark-mode" in classes) == dark
    assert page.complaints() == []
    assert {origin_of(url) for url in page.requests()} == {origin_of(explorer)}


@pytest.fixture
def crowd(admin, occurrence):
    """An occurrence with more registrations than the default page size."""
    made = occurrence()
    for number in range(ROWS):
        assert admin.post("/api/v1/event-registrations", json={
            "occurrenceId": made, "externalUserId": f"user {number}"}).status_code == 201
    return made


def download_table(page, occurrence):
    """The lines of the CSV file of an occurrence's registrations."""
    page.click(f"{SEARCH} .opblock-summary-control")
    page.find(f"{SEARCH} tr[data-param-name=occurrenceId] input").send_keys(occurrence)
    set_value(page, f"{SEARCH} .response-controls select.content-type", "text/csv")
    page.click(f"{SEARCH} .execute")
    page.click(f"{SEARCH} .live-responses-table a[download]")
    return page.downloaded("event-registrations.csv").splitlines()


def test_downloaded_csv_is_complete(explorer, browser, crowd):
    page = browser()
    page.driver.get(explorer)
    page.find(".authorize.locked")
    assert len(download_table(page, crowd)) == 1 + ROWS


def test_control_default_limit_in_document_truncates_csv(explorer, browser, crowd,
                                                         tmp_path):
    """The page sends each default, and a limit selects one page."""
    changed = copy.deepcopy(openapi.DOCUMENT)
    path = changed["paths"]["/api/v1/event-registrations"]["get"]
    path["parameters"][0]["schema"]["default"] = 10
    (tmp_path / "explorer" / "changed.json").write_text(json.dumps(changed))
    script = tmp_path / "explorer" / "explorer.js"
    script.write_text(script.read_text().replace('"/openapi.json"', '"changed.json"'))
    page = browser()
    page.driver.get(explorer)
    page.find(".authorize.locked")
    assert len(download_table(page, crowd)) == 1 + 10


def test_control_request_to_other_origin_is_blocked_and_detected(explorer, browser, httpd):
    """The Content Security Policy blocks the request, and the checks above see the attempt and
    the browser's requests."""
    page = browser()
    page.driver.get(explorer)
    page.find(".authorize.locked")
    assert page.complaints() == []
    page.driver.execute_async_script(f"""
        fetch("https://localhost:{httpd.port}/openapi.json").catch(arguments[0])""")
    assert "Content Security Policy" in page.complaints()[0]["message"]
    page.requests()
    page.driver.get(f"https://localhost:{httpd.port}/openapi.json")
    assert f"https://localhost:{httpd.port}" in map(origin_of, page.requests())
