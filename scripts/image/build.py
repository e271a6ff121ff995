"""Executes the instructions of a stage, layer by layer."""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from image.common import FOLDER, PATH, ROOT, SUITE, TOOLCHAIN, fail, say
from image.dockerfile import Ignored, exec_form, substitute
from image.enter import run
from image.layers import Stage, digest, layer, layer_path, mount, umount


def base(image, host):
    """The stand-in for an image of a registry."""
    key = digest("debootstrap", SUITE)
    path = layer_path(key)
    if not path.exists():
        say(f"debootstrap: {SUITE}")
        work = Path(tempfile.mkdtemp(prefix="base-", dir=FOLDER))
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(work / "root")], check=True, stdout=sys.stderr)
        shutil.rmtree(work / "root/var/lib/apt/lists")
        (work / "root/var/lib/apt/lists/partial").mkdir(parents=True)
        os.rename(work / "root", path)
        shutil.rmtree(work)
    stage = Stage([key], {"PATH": PATH})
    name = image.split("@")[0].removeprefix("docker.io/").removeprefix("library/").split(":")[0]
    if name == "debian":
        return stage
    if name != "rust":
        fail(f"there is nothing here that could stand in for {image}")
    # As in the image: /usr/local/cargo and /usr/local/rustup. The toolchain itself is bound there for each step.
    version = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    stage.env.update({
        "PATH": f"/usr/local/cargo/bin:{PATH}",
        "CARGO_HOME": "/usr/local/cargo",
        "RUSTUP_HOME": "/usr/local/rustup",
        "RUST_VERSION": version,
    })

    def fill(root):
        (root / TOOLCHAIN[1:]).mkdir(parents=True)
        programs = root / "usr/local/cargo/bin"
        programs.mkdir(parents=True)
        for program in ("cargo", "rustc", "rustdoc"):
            (programs / program).symlink_to(f"{TOOLCHAIN}/bin/{program}")

    packages = "ca-certificates gcc libc6-dev"
    install = f"apt-get update && apt-get install -y --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/*"
    words = ["env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", install]
    layer(stage, digest(key, packages), f"{image}: {packages}", lambda root: run(stage, root, words, host))
    key = digest(stage.key(), "rust", host.toolchain, version)
    layer(stage, key, f"{image}: this machine's Rust {version} on {SUITE}", fill)
    return stage


def copied(stage, instruction, source_root, ignored, values):
    """The files of a COPY: pairs of source and destination, in order."""
    *sources, target = [substitute(word, values) for word in instruction.words()]
    target = os.path.normpath(os.path.join(stage.folder, target)) + ("/" if target.endswith(("/", ".")) else "")
    found = []
    for source in sources:
        pattern = os.path.normpath(source.lstrip("/"))
        if pattern.startswith(".."):
            fail(f"Dockerfile:{instruction.line}: {source} is outside")
        matches = sorted(source_root.glob(pattern)) if pattern != "." else [source_root]
        files = 0
        for match in matches:
            if match.is_dir() and not match.is_symlink():
                for path in sorted(match.rglob("*")):
                    name = str(path.relative_to(source_root))
                    if (path.is_symlink() or not path.is_dir()) and name not in ignored:
                        found.append((path, os.path.join(target, str(path.relative_to(match)))))
                        files += 1
            elif str(match.relative_to(source_root)) not in ignored:
                is_folder = target.endswith("/") or len(sources) > 1 or len(matches) > 1
                found.append((match, os.path.join(target, match.name) if is_folder else target))
                files += 1
        if not files:
            fail(f"Dockerfile:{instruction.line}: there is no {source}, or .dockerignore leaves it out")
    return found


def copy(stage, instruction, stages, ignored, values):
    if unknown := set(instruction.flags) - {"from", "chmod"}:
        fail(f"Dockerfile:{instruction.line}: COPY --{unknown.pop()} is not something that this can do")
    mode = int(instruction.flags["chmod"], 8) if "chmod" in instruction.flags else None
    view = None
    if "from" in instruction.flags:
        other = stages[instruction.flags["from"]]
        view = Path(tempfile.mkdtemp(prefix="view-", dir=FOLDER))
        mount("overlay", view, "overlay", "lowerdir=" + ":".join(str(layer_path(key)) for key in reversed(other.layers)))
    try:
        files = copied(stage, instruction, view or ROOT, ignored if view is None else (), values)
        parts = [stage.key(), "COPY", mode]
        for path, target in files:
            content = os.readlink(path) if path.is_symlink() else path.read_bytes()
            parts += [target, stat.S_IMODE(path.lstat().st_mode), content]

        def fill(root):
            for path, target in files:
                place = root / target.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                # With its time, as Docker does; not with its owner.
                shutil.copy2(path, place, follow_symlinks=False)
                os.chown(place, 0, 0, follow_symlinks=False)
                if mode is not None:
                    os.chmod(place, mode)

        layer(stage, digest(*parts), f"{instruction} ({len(files)} files)", fill)
    finally:
        if view:
            umount(view)
            view.rmdir()


def build(instructions, host):
    ignored = Ignored(ROOT / ".dockerignore")
    defaults, stages, stage = {}, {}, None
    for instruction in instructions:
        name, text = instruction.name, instruction.text
        if stage is None and name not in ("ARG", "FROM"):
            fail(f"Dockerfile:{instruction.line}: {name} before FROM")
        values = defaults if stage is None else {**stage.arguments, **stage.env}
        if name == "ARG":
            key, _, value = text.partition("=")
            if stage is None:
                defaults[key] = substitute(value, defaults)
            else:
                stage.arguments[key] = substitute(value, values) or defaults.get(key, "")
        elif name == "FROM":
            image, *alias = substitute(text, defaults).split()
            stage = stages[image].child() if image in stages else base(image, host)
            stages[alias[1] if alias else str(len(stages))] = stage
            say(f"--- {image}")
        elif name == "RUN":
            words = exec_form(text) or ["/bin/sh", "-c", text]
            settings = json.dumps([stage.env, stage.arguments, stage.folder, stage.user, words])
            key = digest(stage.key(), "RUN", settings)
            layer(stage, key, str(instruction), lambda root: run(stage, root, words, host))
        elif name == "COPY":
            copy(stage, instruction, stages, ignored, values)
        elif name == "WORKDIR":
            stage.folder = os.path.normpath(os.path.join(stage.folder, substitute(text, values)))
            folder = stage.folder.lstrip("/")
            layer(stage, digest(stage.key(), "WORKDIR", folder), str(instruction),
                  lambda root: (root / folder).mkdir(parents=True, exist_ok=True))
        elif name == "ENV":
            for word in shlex.split(text):
                key, _, value = word.partition("=")
                stage.env[key] = substitute(value, values)
        elif name == "LABEL":
            stage.labels.update(substitute(word, values).split("=", 1) for word in shlex.split(text))
        elif name == "USER":
            stage.user = substitute(text, values)
            if not re.fullmatch(r"\d+:\d+", stage.user):
                fail(f"Dockerfile:{instruction.line}: USER is not a pair of numbers")
        elif name == "EXPOSE":
            stage.ports += [int(word.split("/")[0]) for word in substitute(text, values).split()]
        elif name == "VOLUME":
            stage.volumes += instruction.words()
        elif name == "STOPSIGNAL":
            stage.stop = text
        elif name == "HEALTHCHECK":
            match = re.fullmatch(r"CMD\s+(.*)", text)
            if not match:
                fail(f"Dockerfile:{instruction.line}: HEALTHCHECK without CMD")
            stage.health = exec_form(match[1]) or ["/bin/sh", "-c", match[1]]
        elif name in ("ENTRYPOINT", "CMD"):
            words = exec_form(text) or ["/bin/sh", "-c", text]
            stage.entrypoint, stage.command = (words, []) if name == "ENTRYPOINT" else (stage.entrypoint, words)
        else:
            fail(f"Dockerfile:{instruction.line}: {name} is not something that this can do")
    return stage
