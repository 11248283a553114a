"""A headless Chromium, driven over its own protocol through two pipes: nothing to install, no port to open."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_S = 60


def chromium() -> str | None:
    """Path of the browser; None where there is none."""
    return next((path for name in BINARIES if (path := shutil.which(name))), None)


class Browser:
    """The browser process; use it as a context."""

    def __init__(self, binary, profile):
        self._binary, self._profile = binary, profile
        self._number = 0
        self._waiting = b""
        self.events = []

    def __enter__(self):
        ours_in, theirs_out = (_high(end) for end in os.pipe())
        theirs_in, ours_out = (_high(end) for end in os.pipe())
        self._in, self._out = ours_in, ours_out

        def as_3_and_4():
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        command = [self._binary, *_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={self._profile}", "about:blank"]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, preexec_fn=as_3_and_4, close_fds=False, stdin=null, stdout=null, stderr=null
        )
        os.close(theirs_in)
        os.close(theirs_out)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method, session=None, **params):
        """Send a command and return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(f"the answer to {method}")
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        """Wait until an event has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next(method))

    def _next(self, what):
        deadline = time.monotonic() + PATIENCE_S
        while b"\0" not in self._waiting:
            left = deadline - time.monotonic()
            assert left > 0, f"the browser does not send {what}"
            if select.select([self._in], [], [], min(left, 1.0))[0]:
                data = os.read(self._in, 1 << 16)
                assert data, "the browser has ended"
                self._waiting += data
        message, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(message)


class Page:
    """One page, with what it logs and loads."""

    def __init__(self, browser, url, width=1280, height=900, dark=False):
        self._browser = browser
        browser.events = []
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        browser.events = []
        self.call("Page.navigate", url=url)
        browser.wait_for("Page.loadEventFired")

    def call(self, method, **params):
        return self._browser.call(method, session=self.session, **params)

    def evaluate(self, expression):
        """Value of an expression; the policy of the page does not hold for it."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def click(self, selector):
        """Press the mouse on an element, as a user does."""
        place = self.evaluate(
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center', "
            "behavior: 'instant'}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", buttons=1, clickCount=1
            )

    def press(self, key):
        """Press Enter or Tab."""
        codes = {"Enter": (13, "\r"), "Tab": (9, "")}
        code, text = codes[key]
        down = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **down, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **down)

    def type(self, text):
        self.call("Input.insertText", text=text)

    @property
    def complaints(self):
        """What stands in the console: errors of scripts, and what the policy forbade."""
        self.evaluate("new Promise(requestAnimationFrame)")
        found = []
        for event in self._browser.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"])
            elif event.get("method") == "Runtime.consoleAPICalled":
                found.append(params["args"])
            elif event.get("method") == "Log.entryAdded":
                found.append(params["entry"]["text"])
        return found

    @property
    def requests(self):
        """Addresses that were asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]


def _high(end):
    """The same end of a pipe under a number that is not 3 or 4."""
    copy = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return copy
