# SPDX-License-Identifier: Apache-2.0
"""The demo's page to try the APIs on, in a real browser."""

import json

import pytest

import servers
from browser import browser   # noqa: F401, a fixture
from conftest import new_uuid

REGISTER = "#operations-live-registerForLiveSession"


@pytest.fixture
def explorer(tmp_path, start_httpd, admin_token):
    """The address of the page."""
    if not servers.Explorer.is_there():
        pytest.fail("make explorer fetches what it is made of")
    page = servers.Explorer(tmp_path / "explorer", admin_token)
    httpd = start_httpd(change=page.added_to, descriptors=[page.descriptor],
                        modules=(*servers.MODULES, *servers.EXPLORER_MODULES))
    return f"https://localhost:{httpd.port}/explorer/"


def origin_of(url):
    return "/".join(url.split("/")[:3])


def try_to_register(page, session, body):
    """Fills in the form of an operation and sends it; the status that is then shown."""
    page.click(f"{REGISTER} .opblock-summary-control")
    field = page.find(f"{REGISTER} tr[data-param-name=id] input")
    field.clear()
    field.send_keys(session)
    area = page.find(f"{REGISTER} textarea.body-param__text")
    page.driver.execute_script("""
        const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set;
        set.call(arguments[0], arguments[1]);
        arguments[0].dispatchEvent(new Event("input", {bubbles: true}));""",
                               area, json.dumps(body))
    page.click(f"{REGISTER} .execute")
    return page.find(f"{REGISTER} .live-responses-table tbody .response-col_status").text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_registration_is_made_on_the_page(explorer, browser, live_session, sql, dark):
    page = browser(dark=dark)
    session, patient = live_session(), f"patient {new_uuid()}"
    page.driver.get(explorer)
    page.find(".authorize.locked")   # the token is in
    status = try_to_register(page, session, {"patient_id": patient})
    assert status.split()[0] == "201"
    assert sql("SELECT patient_id FROM live_registrations WHERE session_id = %s", session) \
        == [(patient,)]
    page.screenshot("explorer-dark" if dark else "explorer-light")
    classes = page.find("html").get_attribute("class").split()
    assert ("dark-mode" in classes) == dark
    assert page.complaints() == []
    assert {origin_of(url) for url in page.requests()} == {origin_of(explorer)}


def test_control_what_the_page_must_not_do_is_noticed(explorer, browser, httpd):
    """Its policy keeps it from asking elsewhere, and the checks above see that it tried, and
    where a browser went."""
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
