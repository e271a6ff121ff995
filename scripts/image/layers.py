"""Layers of overlayfs, cached by their inputs."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from image.common import FOLDER, say


def digest(*parts):
    whole = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()[:24]


class Stage:
    """The result of the instructions so far."""

    def __init__(self, layers, env):
        self.layers, self.env = layers, env
        self.folder, self.user, self.arguments = "/", "", {}
        self.ports, self.volumes, self.labels = [], [], {}
        self.entrypoint, self.command, self.health, self.stop = [], [], None, "SIGTERM"

    def child(self):
        other = Stage(list(self.layers), dict(self.env))
        other.folder, other.user = self.folder, self.user
        return other

    def key(self):
        return self.layers[-1]


def layer_path(key):
    return FOLDER / "layers" / key


def layer(stage, key, what, fill):
    """The layer `key` on top of the others; `fill` makes it in a mounted root, where commands run."""
    path = layer_path(key)
    if path.exists():
        say(f"kept: {what}")
    else:
        say(f"runs: {what}")
        since = time.monotonic()
        work = Path(tempfile.mkdtemp(prefix="work-", dir=FOLDER))
        for name in ("upper", "work", "root"):
            (work / name).mkdir()
        lower = ":".join(str(layer_path(one)) for one in reversed(stage.layers))
        mount("overlay", work / "root", "overlay", f"lowerdir={lower},upperdir={work}/upper,workdir={work}/work")
        try:
            fill(work / "root")
        finally:
            umount(work / "root")
        os.rename(work / "upper", path)
        shutil.rmtree(work)
        say(f"      {time.monotonic() - since:.1f} s, {size(path) >> 20} MiB")
    stage.layers.append(key)


def size(path):
    out = subprocess.run(["du", "-sbx", path], capture_output=True, text=True, check=True)
    return int(out.stdout.split()[0])


def mount(what, where, kind=None, options=None):
    command = ["mount", what, str(where)]
    command += ["-t", kind] if kind else []
    command += ["-o", options] if options else []
    subprocess.run(command, check=True)


def umount(where):
    subprocess.run(["umount", "--recursive", str(where)], check=True)
