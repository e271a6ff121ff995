"""Checks of the built image."""

import json
import os
import shutil
import tempfile

from image.common import FOLDER, ROOT
from image.container import Container
from image.layers import layer_path, size


class Checks:
    def __init__(self):
        self.failed = 0

    def __call__(self, what, is_so, seen=""):
        self.failed += not is_so
        print(f"{'ok  ' if is_so else 'FAIL'} {what}{f' ({seen})' if seen != '' else ''}", flush=True)


def frame_of(container, check, what):
    status, _, body = container.get("/videos")
    videos = [entry["video"] for entry in json.loads(body)["videos"]] if status == 200 else []
    check(f"{what}: /videos lists some", videos, f"{status}, {len(videos)} videos")
    if videos:
        status, headers, body = container.get(f"/frame/{videos[0]}?frame=7")
        is_jpeg = body[:3] == b"\xff\xd8\xff" and body[-2:] == b"\xff\xd9"
        check(f"{what}: a frame", status == 200 and is_jpeg and headers.get("x-frame-index") == "7",
              f"{videos[0]}: {status}, {headers.get('content-type')}, {len(body)} bytes")


def attempt(stage):
    check = Checks()
    whole = sum(size(layer_path(key)) for key in stage.layers[1:])
    print(f"image: {whole >> 20} MiB above its base, user {stage.user}, ports {stage.ports}, volumes {stage.volumes}")
    print(f"       {json.dumps(stage.labels)}")

    container = Container(stage)
    logs = []
    try:
        check("healthy", container.healthy(), " ".join(stage.health))
        status = container.status()
        uid, gid = stage.user.split(":")
        check("not root", status["Uid"] == [uid] * 4 and status["Gid"] == [gid] * 4, f"uid {status['Uid'][0]}")
        capabilities = {name: status[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        check("no capabilities", all(int(value, 16) == 0 for value in capabilities.values()), capabilities["CapEff"])
        # An overlay without an upper layer accepts no writes of any user: the check is that none are needed.
        wrote = container.enter("sh", "-c", "touch /tmp/x /usr/x 2>&1")
        check("nothing can be written", wrote.returncode != 0, wrote.stdout.decode().strip().splitlines()[0][-60:])
        check("it is the first process", status["NSpid"][-1] == "1", f"pid {status['NSpid'][-1]}")
        for path in ("/health", "/ready"):
            code, _, body = container.get(path)
            check(path, code == 200 and json.loads(body)["ok"], code)
        code, _, body = container.get("/metrics")
        check("/metrics", code == 200 and b"bucket_streamer_" in body, code)
        frame_of(container, check, "bundled clips")
        code, took = container.stop()
        check(f"{stage.stop}: ends with 0", code == 0, f"code {code}, {took:.2f} s")
    finally:
        logs.append(container.close())

    # The same with mounted videos, which the user of the image need not own.
    with tempfile.TemporaryDirectory(dir=FOLDER) as videos:
        os.chmod(videos, 0o755)
        shutil.copy(ROOT / "fixtures/hevc_demo.mp4", videos)
        container = Container(stage, volumes={"/data": videos}, env={"BUCKET_STREAMER_LOG_FORMAT": "json"})
        try:
            check("healthy with a volume", container.healthy())
            frame_of(container, check, "a volume")
            code, took = container.stop()
            check(f"{stage.stop}: ends with 0", code == 0, f"code {code}, {took:.2f} s")
        finally:
            logs.append(container.close())
    for text in logs:
        print("--- log\n" + text.strip())
    return check.failed
