"""Tests the page in a browser: selecting, scrubbing, stepping, playing, errors, reconnection. `scripts/browser-test` runs it.

No test waits for a fixed time, and none measures speed.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from chromium import Browser, Failed

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PLAIN = "fixtures/hevc_closed_gop.mp4"  # 144 pictures with their numbers in them
LARGE = "fixtures/hevc_demo.mp4"  # 640x360, 250 pictures
CUT_OFF = "fixtures/h264_truncated.mp4"  # picture 120 is not in the file
NO_VIDEO = "fixtures/audio_only.mp4"
TOKEN = "a token / with+signs"

# Reads the picture's own number from its top left corner (fixtures/README.md), and compares it with the still.
LOOK = """
window.look = async (video, frame, authorization) => {
  const canvas = document.getElementById("picture");
  const pixels = (source, width, height) => {
    const copy = new OffscreenCanvas(width, height);
    const context = copy.getContext("2d", {willReadFrequently: true});
    context.drawImage(source, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  };
  const {width, height} = canvas;
  const own = pixels(canvas, width, height);
  const headers = authorization ? {authorization} : {};
  const answer = await fetch(`frame/${video}?frame=${frame}&quality=92`, {headers});
  const bitmap = await createImageBitmap(await answer.blob());
  const other = pixels(bitmap, width, height);
  let difference = 0;
  for (let i = 0; i < own.length; i++) difference += Math.abs(own[i] - other[i]);
  const luma = (x, y) => { const at = (y * width + x) * 4; return 0.3 * own[at] + 0.6 * own[at + 1] + 0.1 * own[at + 2]; };
  let number = 0;
  for (let bit = 0; bit < 10; bit++) if (luma(bit * 16 + 8, 8) > 127) number += 1 << bit;
  return {number, difference: difference / own.length, width, height, still: [bitmap.width, bitmap.height]};
};
// Every drawn picture, in order.
window.drawn = [];
new MutationObserver(() => {
  const frame = document.getElementById("picture").dataset.frame;
  if (frame !== undefined && window.drawn.at(-1) !== +frame) window.drawn.push(+frame);
}).observe(document.getElementById("picture"), {attributeFilter: ["data-frame"]});
true
"""


class Server:
    """bucket-streamer on the fixtures."""

    def __init__(self, program, *flags, port=0):
        self.program, self.flags, self.port = program, flags, port
        self.start()

    def start(self):
        command = [self.program, "serve", "--root", f"fixtures={REPOSITORY / 'fixtures'}", "--listen-addr",
                   f"127.0.0.1:{self.port}", "--log", "warn", *self.flags]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BUCKET_STREAMER_")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not found:
            raise Failed(f"the server does not say where it listens: {line!r}")
        self.port = int(found[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


class Test:
    """Helpers of the scenes."""

    def __init__(self, browser, server, options):
        self.browser, self.server, self.options = browser, server, options
        self.last = None

    async def page(self, url=None, **how):
        page = self.last = await self.browser.page(answers=self.answers(), **how)
        page.home = url or self.server.url
        return page

    def answers(self):
        """The page's files from a folder, for work on them, instead of those in the program."""
        folder = self.options.page
        if not folder:
            return None
        text = (REPOSITORY / "server/src/http/page.rs").read_text()
        policy = re.search(r'POLICY: &str = "(.*?)";', text, re.S)[1].replace("\\\n    ", "")
        headers = {"content-security-policy": policy}
        kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
        files = {f"page/{file.name}": (kinds.get(file.suffix, "text/html"), headers, file.read_bytes()) for file in Path(folder).iterdir()}
        return {**files, "": ("text/html; charset=utf-8", headers, (Path(folder) / "index.html").read_bytes())}

    async def open(self, page, video, frame=0):
        await page.go(f"{page.home}#video={video}&frame={frame}")
        await page.js(LOOK)
        await self.shows(page, frame)

    async def reload(self, page):
        await page.js("window.isOld = true")
        await page.ask("Page.reload")
        await page.until("!window.isOld && document.readyState === 'complete'", "the page is there again")

    async def shows(self, page, frame, tier="full"):
        """Waits until the page shows a frame, and its number in all places."""
        canvas = f"document.getElementById('picture').dataset"
        await page.until(f"{canvas}.frame === '{frame}' && {canvas}.tier === '{tier}'", f"frame {frame} is on show")
        await page.until(f"document.getElementById('frame').value === '{frame}'", f"the number is {frame}")
        now = await page.js("document.getElementById('timeline').getAttribute('aria-valuenow')")
        check(now == str(frame), f"the slider is at {now}, not at {frame}")

    async def pixels(self, page, video, frame, number=True, authorization=None):
        """Checks that the shown picture is this frame's."""
        seen = await page.js(f"look({json.dumps(video)}, {frame}, {json.dumps(authorization)})")
        check(seen["difference"] < 1.5, f"the picture on show is not that of frame {frame}: {seen}")
        check([seen["width"], seen["height"]] == seen["still"], f"the picture has another size than the still: {seen}")
        if number:
            check(seen["number"] == frame, f"the picture on show carries the number {seen['number']}, not {frame}")

    async def shot(self, page, name, full=False):
        if self.options.screenshots:
            await page.screenshot(Path(self.options.screenshots) / f"{name}.png", full)

    async def end(self, page, *allowed):
        """Checks that there were no unexpected errors, and no requests to other hosts."""
        for address in page.addresses:
            own = re.match(r"(https?|wss?)://127\.0\.0\.1:\d+/", address)
            check(own or re.match(r"(data|blob|about):", address), f"another host was asked: {address}")
        errors = [error for error in page.errors if not any(re.search(one, error) for one in allowed)]
        check(not errors, "the browser complains: " + "; ".join(errors[:5]))
        await page.close()


def check(is_so, why):
    if not is_so:
        raise Failed(why)


def consecutive(frames, by):
    return all(later - earlier == by for earlier, later in zip(frames, frames[1:]))


async def picks_a_video(test):
    page = await test.page()
    await page.go(page.home)
    await page.until("document.querySelectorAll('#list a').length > 10", "videos are listed")
    await page.until("!document.getElementById('welcome').hidden")
    await test.shot(page, "welcome")
    await page.js(LOOK)
    await page.click("#find")
    await page.type("closed_gop")
    await page.until("document.querySelectorAll('#list a').length === 1", "the search finds one")
    await page.click("#list a")
    await test.shows(page, 0)
    await test.pixels(page, PLAIN, 0)
    check(PLAIN in await page.js("document.getElementById('name').textContent"), "the name is shown")
    await page.until("document.getElementById('about').innerText.includes('HEVC')", "the codec is shown")
    await page.until("document.getElementById('film').dataset.drawn > 3", "there is a filmstrip")
    await page.until("location.hash === '#video=fixtures/hevc_closed_gop.mp4&frame=0'", "the address contains the view")
    await page.until("document.getElementById('connection').dataset.is === 'open'")
    await test.end(page)


async def scrubs_with_the_mouse(test):
    page = await test.page()
    await test.open(page, PLAIN)
    await page.until("document.getElementById('film').dataset.drawn > 3")
    left, top, width, height = await page.box("#timeline")
    at = lambda part: (left + width * part, top + height / 2)
    await page.mouse("mouseMoved", *at(0.5))
    await page.until("!document.getElementById('peek').hidden && document.querySelector('#peek canvas').width > 50", "a thumbnail at the pointer")
    await page.mouse("mousePressed", *at(0.2), 1)
    for step in range(1, 26):
        await page.mouse("mouseMoved", *at(0.2 + step * 0.02), 1)
        if step == 15:
            await page.until("drawn.length > 1", "pictures come while the mouse is held")
            await test.shot(page, "scrubbing")
    frame = int(0.7 * 144)
    await page.mouse("mouseReleased", *at(0.7))
    await test.shows(page, frame)
    await test.pixels(page, PLAIN, frame)
    await page.until(f"location.hash.endsWith('frame={frame}')", "the address follows")
    # A click is a very short drag.
    await page.mouse("mousePressed", *at(0.1), 1)
    await page.mouse("mouseReleased", *at(0.1))
    await test.shows(page, 14)
    await test.pixels(page, PLAIN, 14)
    await test.end(page)


async def steps_with_keys(test):
    page = await test.page()
    await test.open(page, PLAIN, 60)
    frame = 60
    for key, shift, by in [("ArrowRight", 0, 1), ("ArrowRight", 0, 1), ("ArrowLeft", 0, -1), (".", 0, 1), (",", 0, -1),
                           ("ArrowRight", 1, 10), ("ArrowLeft", 1, -10), ("PageDown", 0, 25), ("PageUp", 0, -25),
                           ("ArrowLeft", 0, -1), ("ArrowLeft", 0, -1)]:
        await page.key(key, shift)
        frame += by
        await test.shows(page, frame)
        await test.pixels(page, PLAIN, frame)
    await page.key("End")
    await test.shows(page, 143)
    await test.pixels(page, PLAIN, 143)
    await page.key("ArrowRight")
    await test.shows(page, 143)
    # A key that is held down shows every frame, backward and forward.
    for key, by in [("ArrowLeft", -1), ("ArrowRight", 1)]:
        await page.js("drawn = [Number(document.getElementById('picture').dataset.frame)]; true")
        await page.hold(key, "drawn.length > 30")
        await page.until("Number(document.getElementById('picture').dataset.frame) === Number(document.getElementById('frame').value)")
        frames = await page.js("drawn")
        check(consecutive(frames, by), f"frames were left out: {frames}")
        await test.shows(page, frames[-1])
        await test.pixels(page, PLAIN, frames[-1])
    await page.key("Home")
    await test.shows(page, 0)
    await test.pixels(page, PLAIN, 0)
    await test.end(page)


async def plays(test):
    page = await test.page()
    await test.open(page, PLAIN, 10)
    await page.js("drawn = [10]; true")
    await page.key(" ")
    await page.until("drawn.length > 25", "it plays")
    await test.shot(page, "playing")
    await page.key(" ")
    await page.until("!document.body.classList.contains('is-playing')")
    frames = await page.js("drawn")
    check(consecutive(frames, 1), f"frames were left out: {frames}")
    frame = int(await page.js("document.getElementById('frame').value"))
    await test.shows(page, frame)
    await test.pixels(page, PLAIN, frame)
    # To the end, where it stops.
    await page.key("End")
    await page.key("ArrowLeft", shift=True)
    await test.shows(page, 133)
    await page.key(" ")
    await test.shows(page, 143)
    await page.until("!document.body.classList.contains('is-playing')")
    await test.end(page)


async def has_an_address_for_each_view(test):
    page = await test.page(dark=True)
    await test.open(page, PLAIN, 77)
    await test.pixels(page, PLAIN, 77)
    await page.until("document.getElementById('film').dataset.drawn > 3")
    await test.shot(page, "dark", full=True)
    await page.js("location.hash = '#video=fixtures/h264_bframes.mp4&frame=33'; true")
    await test.shows(page, 33)
    await test.pixels(page, "fixtures/h264_bframes.mp4", 33)
    await page.js("history.back(); true")
    await test.shows(page, 77)
    await test.reload(page)
    await test.shows(page, 77)
    await page.js("location.hash = '#video=fixtures/hevc_closed_gop.mp4&time=4.0'; true")
    await test.shows(page, 100)
    # By number and by time, typed.
    for text, frame in [("12", 12), ("0:02", 50)]:
        await page.js("document.getElementById('frame').focus(); true")
        await page.type(text)
        await page.key("Enter")
        await test.shows(page, frame)
    await page.js("document.getElementById('format').value = 'png'; document.getElementById('format').dispatchEvent(new Event('change')); true")
    kind = await page.js("fetch(document.getElementById('still').href).then(async (a) => [a.status, a.headers.get('content-type'), a.headers.get('x-frame-index'), a.headers.get('cache-control')])")
    check(kind[:3] == [200, "image/png", "50"] and "immutable" in kind[3], f"the still's address is not good: {kind}")
    await test.end(page)


async def says_what_goes_wrong(test):
    page = await test.page()
    await test.open(page, CUT_OFF, 10)
    await page.js("location.hash = '#video=fixtures/h264_truncated.mp4&frame=120'; true")
    await page.until("!document.getElementById('notice').hidden && document.getElementById('notice').innerText.includes('Frame 120 cannot be decoded')")
    await page.until("document.getElementById('marks').dataset.failed?.split(' ').includes('120')", "it is marked on the timeline")
    check(await page.js("document.getElementById('frame').value") == "120", "the number is that of the frame that failed")
    await test.shot(page, "damaged_frame")
    await page.key("ArrowRight")
    await page.until("document.getElementById('notice').innerText.includes('Frame 121 cannot be decoded')")
    await page.key("Home")
    await test.shows(page, 0)
    await page.until("document.getElementById('notice').hidden", "the words go")
    await test.pixels(page, CUT_OFF, 0)
    for video in [NO_VIDEO, "fixtures/no_such.mp4"]:
        await page.js(f"location.hash = '#video={video}'; true")
        await page.until("!document.getElementById('notice').hidden && /cannot be read|no such video/.test(document.getElementById('notice').innerText)")
        await test.shot(page, "unreadable_video")
    await page.js(f"location.hash = '#video={PLAIN}&frame=5'; true")
    await test.shows(page, 5)
    await page.until("document.getElementById('notice').hidden")
    await test.end(page, r"status of (422|404) .*(audio_only|no_such)")


async def comes_back(test):
    server = Server(test.options.program)
    try:
        page = await test.page(server.url)
        await test.open(page, PLAIN, 20)
        server.kill()
        await page.until("document.getElementById('connection').dataset.is === 'lost'", "the page sees that the server is gone")
        await page.key("End")
        await test.shot(page, "lost")
        server.start()
        await page.until("document.getElementById('connection').dataset.is === 'open'", "the page connects again")
        await test.shows(page, 143)
        await test.pixels(page, PLAIN, 143)
        await page.key("ArrowLeft")
        await test.shows(page, 142)
        await test.end(page, "ERR_CONNECTION_REFUSED", "WebSocket connection to .* failed", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    finally:
        server.kill()


async def gives_a_token(test):
    os.environ.pop("BUCKET_STREAMER_TOKENS", None)
    server = Server(test.options.program, "--token", TOKEN)
    try:
        page = await test.page(server.url)
        await page.go(f"{page.home}#video={PLAIN}&frame=9")
        await page.js(LOOK)
        await page.until("document.getElementById('token').open", "a token is requested")
        await test.shot(page, "token")
        # A user without a token gets a message, and can enter one later.
        await page.key("Escape")
        await page.until("!document.getElementById('token').open && document.getElementById('connection').dataset.is === 'locked'")
        await page.until("document.getElementById('notice').innerText.includes('requires a token')")
        await page.click("#connect-now")
        await page.until("document.getElementById('token').open", "a token is requested again")
        await page.type("wrong")
        await page.key("Enter")
        await page.until("document.getElementById('token').open && !document.getElementById('token-wrong').hidden", "a wrong token is reported")
        await page.type(TOKEN)
        await page.key("Enter")
        await test.shows(page, 9)
        await test.pixels(page, PLAIN, 9, authorization=f"Bearer {TOKEN}")
        await page.until("document.querySelectorAll('#list a').length > 10", "videos are listed")
        await page.until("document.getElementById('film').dataset.drawn > 3", "there is a filmstrip")
        check(not any(TOKEN in address or "token" in address for address in page.addresses), "the token is in an address")
        await test.reload(page)
        await test.shows(page, 9)
        await test.end(page, "status of 401")
    finally:
        server.kill()


async def works_on_a_telephone(test):
    page = await test.page(width=390, height=844, scale=2, mobile=True)
    await page.go(page.home)
    await page.js(LOOK)
    await page.until("document.querySelectorAll('#list a').length > 10")
    tap = lambda at: page.touch("touchStart", at)
    await tap(await page.middle("#open-library"))
    await page.touch("touchEnd")
    await page.until("document.body.classList.contains('shows-library')", "the list is shown")
    await test.shot(page, "telephone_list")
    await page.js("document.querySelector('[data-video=\"fixtures/hevc_closed_gop.mp4\"]').scrollIntoView({block: 'center'}); true")
    await tap(await page.middle("[data-video='fixtures/hevc_closed_gop.mp4']"))
    await page.touch("touchEnd")
    await test.shows(page, 0)
    # Before any drag: a tap just after a quick drag only stops its movement.
    await tap(await page.middle("[data-move='1']"))
    await page.touch("touchEnd")
    await test.shows(page, 1)
    await page.until("document.getElementById('film').dataset.drawn > 1")
    left, top, width, height = await page.box("#timeline")
    at = lambda part: (left + width * part, top + height / 2)
    await page.touch("touchStart", at(0.1))
    for step in range(1, 11):
        await page.touch("touchMove", at(0.1 + 0.04 * step))
    await page.until("drawn.length > 1", "pictures come while the finger moves")
    await test.shot(page, "telephone_drag")
    await page.touch("touchEnd")
    await test.shows(page, 72)
    await test.pixels(page, PLAIN, 72)
    # Over the picture, frame by frame.
    x, y = await page.middle("#picture")
    await page.touch("touchStart", (x, y))
    for step in range(1, 17):
        await page.touch("touchMove", (x - 2 * step, y))
    await page.touch("touchEnd")
    await test.shows(page, 72 - 4)
    check(await page.js("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen")
    small = await page.js("""[...document.querySelectorAll('main button, main a')].filter((one) => one.offsetWidth && (one.offsetHeight < 44 || one.offsetWidth < 40)).map((one) => one.outerHTML)""")
    check(not small, f"too small for fingers: {small}")
    await test.shot(page, "telephone", full=True)
    await test.end(page)


async def takes_no_more_than_it_shows(test):
    """A picture that is displayed smaller is requested in a small size while it moves."""
    page = await test.page(width=420, height=800)
    await test.open(page, LARGE, 3)
    left, top, width, height = await page.box("#timeline")
    await page.mouse("mousePressed", left + 30, top + 9, 1)
    await page.mouse("mouseMoved", left + width / 2, top + 9, 1)
    await page.until("document.getElementById('picture').dataset.tier === 'draft'", "a small picture comes")
    check(await page.js("document.getElementById('picture').width") == 480, "it is as wide as it is shown, about")
    await page.mouse("mouseReleased", left + width / 2, top + 9)
    await test.shows(page, 125)
    await test.pixels(page, LARGE, 125, number=False)
    await test.end(page)


SCENES = [picks_a_video, scrubs_with_the_mouse, steps_with_keys, plays, has_an_address_for_each_view, says_what_goes_wrong,
          comes_back, gives_a_token, works_on_a_telephone, takes_no_more_than_it_shows]


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="bucket-streamer")
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--screenshots", metavar="DIR", help="put pictures of the page there")
    parser.add_argument("--page", metavar="DIR", help="take the page's files from there, not from the server")
    parser.add_argument("--only", metavar="WORD", help="only scenes with this word in their names")
    options = parser.parse_args()
    if options.screenshots:
        Path(options.screenshots).mkdir(parents=True, exist_ok=True)
    failures = 0
    # On SIGTERM it ends its browser and its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = Server(options.program)
    try:
        # A page from a file may not open WebSockets to this machine.
        lax = ["--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"] if options.page else []
        browser = Browser(options.chromium, *lax)
        try:
            for scene in SCENES:
                if options.only and options.only not in scene.__name__:
                    continue
                name, since = scene.__name__.replace("_", " "), time.monotonic()
                test = Test(browser, server, options)
                try:
                    await scene(test)
                    print(f"ok      {name} ({time.monotonic() - since:.1f} s)", flush=True)
                except Failed as failure:
                    failures += 1
                    print(f"FAILED  {name}: {failure}", flush=True)
                    if test.last:
                        await test.shot(test.last, f"failed_{scene.__name__}")
                        print("        " + "; ".join(test.last.errors[:5]))
        finally:
            browser.close()
    finally:
        server.kill()
    print(f"browser-test: {failures} failed" if failures else "browser-test: all well")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
