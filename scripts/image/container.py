"""Runs the image."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from image.common import FOLDER, fail
from image.enter import ENTER, namespaces
from image.layers import layer_path, mount, umount


class Container:
    """The running image: read-only except for its volumes."""

    def __init__(self, stage, volumes=None, env=None, arguments=None):
        self.stage = stage
        self.work = Path(tempfile.mkdtemp(prefix="run-", dir=FOLDER))
        self.work.chmod(0o755)
        root = self.work / "root"
        root.mkdir()
        mount("overlay", root, "overlay", "lowerdir=" + ":".join(str(layer_path(key)) for key in reversed(stage.layers)))
        for volume in stage.volumes:
            place = root / volume.lstrip("/")
            # A new volume has the image's content at that place, and its owner.
            own = self.work / ("volume" + volume.replace("/", "-"))
            shutil.copytree(place, own, symlinks=True)
            shutil.copystat(place, own)
            mount(str((volumes or {}).get(volume, own)), place, options="bind")
        uid, gid = stage.user.split(":")
        values = dict(stage.env, HOME="/nonexistent", **(env or {}))
        # chroot needs a capability, and the program gets none: so setpriv comes after it.
        command = namespaces("--net") + ["sh", "-c", f"ip link set lo up\n{ENTER}", "sh", str(root), "", "", "yes"]
        command += ["env", "-i", f"--chdir={stage.folder}"] + [f"{name}={value}" for name, value in values.items()]
        self.privileges = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs",
                           "--inh-caps=-all", "--bounding-set=-all"]
        command += self.privileges + stage.entrypoint + (arguments or stage.command)
        self.log = open(self.work / "log", "wb+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.pid = self.first_child()

    def first_child(self):
        for _ in range(100):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children:
                return int(children[0])
            time.sleep(0.02)
        fail("the container did not begin")

    def enter(self, *words, everything=True):
        """A command inside, as HEALTHCHECK runs it, or, for requests from outside, only in its network."""
        which = ["--mount", "--pid", "--net", "--root", "--wd=/"] if everything else ["--net"]
        values = ["env", "-i"] + [f"{name}={value}" for name, value in self.stage.env.items()] if everything else []
        privileges = self.privileges if everything else []
        return subprocess.run(["nsenter", "--target", str(self.pid), *which, *values, *privileges, *words],
                              capture_output=True, timeout=120)

    def healthy(self, within_s=30):
        end = time.monotonic() + within_s
        while time.monotonic() < end and self.process.poll() is None:
            if self.enter(*self.stage.health).returncode == 0:
                return True
            time.sleep(0.2)
        return False

    def get(self, path):
        """Status, headers and body of a request from this machine through the container's network."""
        code = f"""import http.client, sys, json
connection = http.client.HTTPConnection("127.0.0.1", {self.stage.ports[0]}, timeout=90)
connection.request("GET", {path!r})
answer = connection.getresponse()
head = json.dumps([answer.status, {{key.lower(): value for key, value in answer.getheaders()}}])
sys.stdout.buffer.write(head.encode() + b"\\n" + answer.read())"""
        out = self.enter(sys.executable, "-c", code, everything=False)
        if out.returncode:
            fail(f"GET {path}: {out.stderr.decode().strip().splitlines()[-1:]}")
        head, _, body = out.stdout.partition(b"\n")
        return *json.loads(head), body

    def status(self):
        fields = (line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return {name: value.split() for name, value in fields}

    def stop(self, within_s=40):
        os.kill(self.pid, getattr(signal, self.stage.stop))
        since = time.monotonic()
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = None
        return code, time.monotonic() - since

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        umount(self.work / "root")
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        self.log.close()
        shutil.rmtree(self.work)
        return text
