"""Runs commands in a root, in namespaces of their own."""

import subprocess
import sys

from image.common import fail

# Runs in namespaces of its own: mounts vanish when it ends.
ENTER = """
set -eu
root=$1 toolchain=$2 certificates=$3 bare=$4
shift 4
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero full random urandom; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
ln -s /proc/self/fd "$root/dev/fd"
for number in 0 1 2; do
    name=$(echo stdin stdout stderr | cut -d' ' -f$((number + 1)))
    ln -s "/proc/self/fd/$number" "$root/dev/$name"
done
mkdir "$root/dev/shm" && mount -t tmpfs shm "$root/dev/shm"
if [ "$bare" = no ]; then
    # A missing file cannot be the target of a bind mount; /run is empty in every image built here.
    mount -t tmpfs run "$root/run"
    cp -L /etc/resolv.conf "$root/run/resolv.conf"
    [ -e "$root/etc/resolv.conf" ] && mount --bind "$root/run/resolv.conf" "$root/etc/resolv.conf"
    [ -n "$certificates" ] && cp -L "$certificates" "$root/run/try-image-certificates.crt"
    [ -d "$root/usr/local/rustup/toolchains/stand-in" ] && mount --bind -o ro "$toolchain" "$root/usr/local/rustup/toolchains/stand-in"
fi
exec chroot "$root" "$@"
"""


def namespaces(*more):
    # No process remains after this program, however it ends.
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--ipc", "--uts", *more, "--fork", "--kill-child"]


def run(stage, root, words, host):
    env = dict(stage.env, **stage.arguments)
    env.setdefault("HOME", "/root")
    env.update(host.env)
    user = ["setpriv", "--reuid", stage.user.split(":")[0], "--regid", stage.user.split(":")[-1], "--clear-groups"]
    command = namespaces() + ["sh", "-c", ENTER, "sh", str(root), host.toolchain, host.certificates or "", "no"]
    command += ["env", "-i", f"--chdir={stage.folder}"] + [f"{name}={value}" for name, value in env.items()]
    command += (user if stage.user else []) + words
    code = subprocess.run(command, stdout=sys.stderr).returncode
    if code:
        fail(f"the step ended with code {code}")
