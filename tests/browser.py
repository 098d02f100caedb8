"""A headless Chromium over WebDriver: plain HTTP from the standard library, nothing to install."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
WHY_NOT = (
    None
    if BROWSER and DRIVER
    else "no Chromium with chromedriver found; on Debian: apt-get install chromium chromium-driver"
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the W3C standard fixes
# Finds an element also where components hide theirs in shadow trees.
DEEP = """
const deep = (root, selector) => {
  const found = root.querySelector(selector)
  if (found) return found
  for (const element of root.querySelectorAll('*')) {
    const inner = element.shadowRoot && deep(element.shadowRoot, selector)
    if (inner) return inner
  }
  return null
};
"""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Page:
    """One tab."""

    def __init__(self, address: str) -> None:
        self.address = address

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.address}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(error.read().decode()) from error

    def open(self, page):
        """Go to a file, or to an address."""
        self.call("POST", "/url", {"url": page if isinstance(page, str) else page.as_uri()})

    def find(self, selector):
        return self.call("POST", "/element", {"using": "css selector", "value": selector})

    def deep(self, selector):
        """The first element of a selector, also inside shadow trees; None without one."""
        return self.run(f"{DEEP} return deep(document, arguments[0])", selector)

    def wait(self, script, *arguments, seconds=30):
        """What a script returns once that is true; the function `deep` is known to it."""
        end = time.monotonic() + seconds
        while not (found := self.run(f"{DEEP} {script}", *arguments)):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {script}")
            time.sleep(0.05)
        return found

    def press(self, element, keys):
        """Keys, sent to an element."""
        self.call("POST", f"/element/{element[ELEMENT]}/value", {"text": keys})

    def drag(self, element, x):
        """An element, moved to the right by x pixels with the mouse."""
        at = {"type": "pointerMove", "duration": 0, "origin": element, "x": 0, "y": 0}
        moves = [at, {"type": "pointerDown", "button": 0}, {**at, "duration": 50, "x": x}]
        moves.append({"type": "pointerUp", "button": 0})
        mouse = {"type": "pointer", "id": "mouse", "actions": moves}
        self.call("POST", "/actions", {"actions": [mouse]})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": arguments})

    def click(self, selector):
        self.call("POST", f"/element/{self.find(selector)[ELEMENT]}/click", {})

    def hover(self, selector):
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        moves = [{"type": "pointerMove", "duration": 0, "origin": element, "x": 0, "y": 0}]
        mouse = {"type": "pointer", "id": "mouse", "actions": moves}
        self.call("POST", "/actions", {"actions": [mouse]})

    def type(self, selector, text):
        self.call("POST", f"/element/{self.find(selector)[ELEMENT]}/value", {"text": text})

    def console(self):
        """Messages since the last call."""
        return self.call("POST", "/se/log", {"type": "browser"})

    def requests(self):
        """Addresses that the page asked for since the last call."""
        log = self.call("POST", "/se/log", {"type": "performance"})
        entries = [json.loads(entry["message"])["message"] for entry in log]
        sent = [entry for entry in entries if entry["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def forget(self):
        """Leave the page and drop what was logged so far."""
        self.call("POST", "/url", {"url": "about:blank"})
        self.console(), self.requests()

    def screenshot(self):
        return base64.b64decode(self.call("GET", "/screenshot"))


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(address, driver):
    for _ in range(200):
        if driver.poll() is not None:
            raise RuntimeError(f"chromedriver ended with code {driver.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/status") as answer:
            if json.load(answer)["value"]["ready"]:
                return
        time.sleep(0.05)
    raise RuntimeError("chromedriver did not answer within 10 s")


@contextlib.contextmanager
def page(profile, size=(1400, 1000), dark=False):
    """A tab of a fresh browser whose profile is the empty folder `profile`."""
    port = _free_port()
    driver = subprocess.Popen(
        [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address, driver)
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        flags += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        wanted = {
            "goog:chromeOptions": {"binary": BROWSER, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        started = Page(address).call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        tab = Page(f"{address}/session/{started['sessionId']}")
        try:
            yield tab
        finally:
            tab.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()
