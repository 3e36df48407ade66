"""A headless Chromium at the other end of a pipe: the DevTools protocol, with nothing between."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_SECONDS = 60  # that a busy machine may take for an answer


class Browser:
    """One process, with one page at a time."""

    def __init__(self):
        # the protocol speaks on the descriptors 3 and 4
        to_read, to_write = os.pipe(), os.pipe()
        self.folder = Path(tempfile.mkdtemp())
        arguments = [
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={self.folder}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # which root cannot have
        ]
        script = f'exec 3<&{to_write[0]} 4>&{to_read[1]}; exec "$@"'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, "bash", CHROMIUM, *arguments, "about:blank"],
            pass_fds=(to_write[0], to_read[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_write[0])
        os.close(to_read[1])
        self._in, self._out = to_read[0], to_write[1]
        self._buffer, self._number, self.session = b"", 0, None
        self.events = []
        pages = self.send("Target.getTargets")["targetInfos"]
        page = next(target for target in pages if target["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)  # pages copy only with the focus

    def close(self):
        self.session = None
        self.send("Browser.close")
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, method, **parameters):
        """The answer to a command; what happens meanwhile is kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], _SECONDS)
            assert ready, f"the browser has said nothing for {_SECONDS} seconds"
            piece = os.read(self._in, 2**20)
            assert piece, "the browser has gone"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def wait_for(self, method):
        """The next event of a kind that was not waited for yet."""
        while True:
            for event in self.events:
                if event.get("method") == method and not event.get("seen"):
                    event["seen"] = True
                    return event["params"]
            self.events.append(self._receive())

    def run(self, expression):
        """The value of a JavaScript expression, awaited."""
        done = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def size(self, width, height=900):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.settle()

    def scheme(self, name):
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])
        self.settle()

    def settle(self):
        """Let what follows from a change of size be drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def open(self, address):
        self.events.clear()
        self.send("Page.navigate", url=address)
        self.wait_for("Page.loadEventFired")
        self.settle()

    def key(self, name, code=0, text=None):
        parameters = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        if text is not None:
            parameters["text"] = text
        self.send("Input.dispatchKeyEvent", type="keyDown", **parameters)
        self.send("Input.dispatchKeyEvent", type="keyUp", **parameters)

    def screenshot(self, path, whole=True):
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path):
        made = self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        Path(path).write_bytes(base64.b64decode(made["data"]))

    def download(self, expression, folder):
        """The text of the one file that the expression makes the browser save."""
        folder.mkdir(exist_ok=True)
        before = set(folder.iterdir())
        session, self.session = self.session, None
        self.send(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=False
        )
        self.session = session
        self.run(expression)
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            new = [path for path in folder.iterdir() if path not in before and path.suffix != ".crdownload"]
            if new and new[0].stat().st_size:
                return new[0]
            time.sleep(0.02)
        raise AssertionError(f"nothing was saved by {expression}")
