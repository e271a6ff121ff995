"""Drives a headless Chromium over its DevTools protocol, as far as the test needs."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

import websockets


# Seconds until an expected state counts as missing.
PATIENCE = float(os.environ.get("BROWSER_TEST_PATIENCE", 60))


class Failed(Exception):
    """An expectation about the page is not met."""


class Browser:
    """A browser process, with a temporary profile."""

    def __init__(self, program, *further):
        self.profile = tempfile.mkdtemp(prefix="browser-test-")
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
            "--disable-extensions", "--metrics-recording-only", "--hide-scrollbars", "--force-color-profile=srgb",
            "--remote-debugging-port=0", f"--user-data-dir={self.profile}", *further, "about:blank",
        ]
        self.process = subprocess.Popen(
            [program, *flags], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.port = self._port()

    def _port(self):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                with open(f"{self.profile}/DevToolsActivePort", encoding="ascii") as file:
                    return int(file.readline())
            except (FileNotFoundError, ValueError):
                if self.process.poll() is not None:
                    raise Failed("Chromium does not start") from None
                time.sleep(0.05)
        raise Failed("Chromium does not say where it listens")

    async def page(self, **how):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request) as answer:
            target = json.load(answer)
        page = Page(await websockets.connect(target["webSocketDebuggerUrl"], max_size=None, ping_interval=None))
        await page.begin(**how)
        return page

    def close(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        # Its helper processes are in its session, and may still write into the profile.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for _ in range(50):
            shutil.rmtree(self.profile, ignore_errors=True)
            if not os.path.exists(self.profile):
                break
            time.sleep(0.05)


class Page:
    """A tab: sends commands, and records errors and requests."""

    def __init__(self, socket):
        self.socket = socket
        self.next = 0
        self.waiting = {}
        self.errors = []
        self.addresses = []
        self.answers = {}
        self.reader = asyncio.ensure_future(self._read())

    async def _read(self):
        try:
            async for text in self.socket:
                message = json.loads(text)
                if "id" in message:
                    self.waiting.pop(message["id"]).set_result(message)
                else:
                    self._hear(message["method"], message["params"])
        except websockets.ConnectionClosed:
            pass
        for waiting in self.waiting.values():
            if not waiting.done():
                waiting.set_exception(Failed("the browser is gone"))

    def _hear(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(f"console.{params['type']}: " + " ".join(str(a.get("value", a)) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.errors.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.addresses.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.addresses.append(params["url"])
        elif method == "Fetch.requestPaused":
            asyncio.ensure_future(self._answer(params))

    async def _answer(self, params):
        """Replaces a file of the server for the page."""
        path = params["request"]["url"].split("//", 1)[1].partition("/")[2].split("?")[0].split("#")[0]
        found = self.answers.get(path)
        if found is None:
            with contextlib.suppress(Failed):  # the page may have given it up
                await self.ask("Fetch.continueRequest", requestId=params["requestId"])
            return
        kind, headers, content = found
        headers = [{"name": name, "value": value} for name, value in {"content-type": kind, **headers}.items()]
        body = base64.b64encode(content).decode()
        await self.ask("Fetch.fulfillRequest", requestId=params["requestId"], responseCode=200, responseHeaders=headers, body=body)

    async def ask(self, method, **params):
        self.next += 1
        waiting = asyncio.get_running_loop().create_future()
        self.waiting[self.next] = waiting
        await self.socket.send(json.dumps({"id": self.next, "method": method, "params": params}))
        answer = await asyncio.wait_for(waiting, 120)
        if "error" in answer:
            raise Failed(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def begin(self, width=1280, height=860, scale=1, mobile=False, dark=False, answers=None):
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.ask(f"{domain}.enable")
        if answers:
            self.answers = answers
            await self.ask("Fetch.enable", patterns=[{"urlPattern": "http://*"}])
        await self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile)
        if mobile:
            await self.ask("Emulation.setTouchEmulationEnabled", enabled=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])
        await self.ask("Page.bringToFront")

    async def js(self, expression):
        result = await self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise Failed(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    async def until(self, expression, what=None, seconds=PATIENCE):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while True:
            value = await self.js(expression)
            if value:
                return value
            if time.monotonic() > end:
                raise Failed(f"did not happen: {what or expression}; {await self.description()}")
            await asyncio.sleep(0.02)

    async def description(self):
        """A short description of the page's state, for messages."""
        return await self.js("""JSON.stringify({frame: document.getElementById('frame')?.value,
            drawn: {...document.getElementById('picture')?.dataset},
            notice: document.getElementById('notice')?.hidden ? '' : document.getElementById('notice')?.innerText,
            connection: document.getElementById('connection')?.innerText, at: location.hash})""")

    async def mouse(self, kind, x, y, buttons=0):
        button = "left" if kind != "mouseMoved" or buttons else "none"
        await self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)

    async def click(self, selector):
        x, y = await self.middle(selector)
        await self.mouse("mouseMoved", x, y)
        await self.mouse("mousePressed", x, y, 1)
        await self.mouse("mouseReleased", x, y)

    async def touch(self, kind, *points):
        await self.ask("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    async def box(self, selector):
        box = await self.js(f"""(() => {{ const it = document.querySelector({json.dumps(selector)}); if (!it) return null;
            it.scrollIntoView({{block: "nearest"}}); const b = it.getBoundingClientRect();
            return [b.left, b.top, b.width, b.height]; }})()""")
        if not box or not box[2] or not box[3]:
            raise Failed(f"{selector} is not to be seen")
        return box

    async def middle(self, selector):
        left, top, width, height = await self.box(selector)
        return left + width / 2, top + height / 2

    async def key(self, key, shift=False):
        await self.hold(key, None, shift)

    async def hold(self, key, until, shift=False):
        """Presses a key, and lets it repeat until an expression is true."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "PageUp": 33, "PageDown": 34, " ": 32, "Enter": 13,
                 ",": 188, ".": 190, "Tab": 9, "Escape": 27}
        event = {"key": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        if key in (" ", ",", ".", "Enter"):
            event["text"] = "\r" if key == "Enter" else key
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **event)
        while until and not await self.js(until):
            await self.ask("Input.dispatchKeyEvent", type="keyDown", autoRepeat=True, **event)
        event.pop("text", None)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **event)

    async def type(self, text):
        await self.ask("Input.insertText", text=text)

    async def go(self, url):
        loaded = await self.ask("Page.navigate", url=url)
        if loaded.get("errorText"):
            raise Failed(f"{url}: {loaded['errorText']}")
        await self.until("document.readyState === 'complete'")

    async def screenshot(self, path, full=False):
        picture = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))

    async def close(self):
        await self.ask("Page.close")
        await self.socket.close()
