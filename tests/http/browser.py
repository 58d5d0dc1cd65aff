# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, with its requests and console messages."""

import json

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import servers

SCREENSHOTS = servers.ROOT / "build" / "screenshots"
PATIENCE = 60   # seconds: on a busy machine a page takes long


class Browser:
    def __init__(self, directory, dark=False):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu",
                         "--disable-dev-shm-usage", "--ignore-certificate-errors",
                         "--window-size=1280,1600", f"--user-data-dir={directory}",
                         "--disable-background-networking", "--disable-component-update",
                         *(["--blink-settings=preferredColorScheme=0"] if dark else [])):
            options.add_argument(argument)
        self.downloads = directory / "downloads"
        options.add_experimental_option("prefs", {
            "download.default_directory": str(self.downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"),
                                       options=options)
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)

    def find(self, css):
        """The first element that fits, as soon as it is there and shown."""
        def shown(driver):
            return next((element for element in driver.find_elements(By.CSS_SELECTOR, css)
                         if element.is_displayed()), None)
        return WebDriverWait(self.driver, PATIENCE).until(shown, css)

    def click(self, css):
        element = self.find(css)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def complaints(self):
        """What the console says since the last call."""
        return [entry for entry in self.driver.get_log("browser")
                if entry["level"] != "INFO"]

    def downloaded(self, name):
        """The text of a file that is being saved, as soon as it is whole."""
        servers.wait_until((self.downloads / name).exists, PATIENCE, f"{name} was not saved")
        return (self.downloads / name).read_text()

    def screenshot(self, name):
        """To be looked at in build/screenshots."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def requests(self):
        """The addresses asked for since the last call, the browser's own pages left out."""
        events = [json.loads(entry["message"])["message"]
                  for entry in self.driver.get_log("performance")]
        urls = [event["params"]["request"]["url"] for event in events
                if event["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("chrome:", "data:", "blob:"))]


@pytest.fixture
def browser(tmp_path, start_httpd):   # that one first: a browser ends before its httpd
    """browser(dark=True): a Browser."""
    made = []

    def make(**options):
        made.append(Browser(tmp_path / f"chromium{len(made)}", **options))
        return made[-1]
    yield make
    for one in made:
        one.driver.quit()
