"""The served page in a real browser (make test-all, with selenium and chromedriver)."""

import shutil
import subprocess
import sys
import time

import pytest

from biopart.studies.examples import simulated_night, simulated_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs chromedriver"),
]


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the group browser")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server in a process of its own, stopped by an interrupt as by Ctrl-C."""
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "biopart", "serve", str(simulated_run(folder).path)]
    command += ["--port", "8766"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield server.stdout.readline().strip(), simulated_night(folder)
        server.send_signal(2)
        assert server.wait(20) == 0


def until(browser, found):
    for _ in range(600):
        if found():
            return
        time.sleep(0.1)
    raise AssertionError(browser.page_source)


def test_a_night_is_dropped_watched_and_shown(browser, address):
    url, night = address
    until(browser, lambda: browser.get(url) or "Stage a night" in browser.title)
    browser.find_element("id", "file").send_keys(str(night))
    browser.find_element("id", "send").click()
    until(browser, lambda: "/nights/" in browser.current_url)
    until(browser, lambda: browser.find_elements("tag name", "iframe"))
    browser.switch_to.frame(browser.find_element("tag name", "iframe"))
    assert "Sleep statistics" in browser.page_source
    browser.switch_to.default_content()
    browser.find_element("css selector", "button.plain").click()  # delete
    until(browser, lambda: browser.title == "Stage a night")


def test_a_wrong_file_is_refused_on_the_page_itself(browser, address, tmp_path):
    url, _ = address
    (tmp_path / "notes.pdf").write_text("no night")
    browser.get(url)
    browser.find_element("id", "file").send_keys(str(tmp_path / "notes.pdf"))
    browser.find_element("id", "send").click()
    status = browser.find_element("id", "status")
    until(browser, lambda: "is not of an accepted type" in status.text)
