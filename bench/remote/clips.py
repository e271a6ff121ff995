"""The clips of bench/remote/run: their copies in other containers, and the MD5s of their frames."""

import json
from pathlib import Path

from setting import CONTAINERS, FILES, HOME, LOOPED, OURS, ROOT, output


def prepare_clips(folder, names, ffmpeg):
    """The clips with their tables in front, and one of them in other containers; none is encoded again."""
    FILES.mkdir(parents=True, exist_ok=True)
    wanted = [(f"{name}.mp4", name, ["-movflags", "+faststart"]) for name in names]
    wanted += [(file, "hevc_gop30_b", flags) for file, flags in CONTAINERS.values()]
    for file, source, flags in dict.fromkeys((file, source, tuple(flags)) for file, source, flags in wanted):
        made, source = FILES / file, Path(folder) / f"{source}.mp4"
        if source.exists() and (not made.exists() or made.stat().st_mtime < source.stat().st_mtime):
            unfinished = FILES / f"unfinished-{file}"
            output([ffmpeg, "-nostdin", "-v", "error", "-y", "-i", source, "-map", "0:v:0", "-c", "copy", *flags, unfinished])
            unfinished.rename(made)


def references(names):
    """The MD5 of every frame of a sequential decode by the vendored FFmpeg; and the index files."""
    sums = {}
    plain = output([ROOT / "scripts/vendor", "path", "ffmpeg"]).strip()
    for name in names:
        file, index = HOME / f"{name}.md5", HOME / f"{name}.index"
        clip = FILES / f"{name}.mp4"
        if not index.exists() or index.stat().st_mtime < clip.stat().st_mtime:
            output([OURS, "index", clip, "--output", index])
        if name not in LOOPED:
            if not file.exists() or file.stat().st_mtime < clip.stat().st_mtime:
                file.write_text(output([plain, "-nostdin", "-v", "error", "-i", clip, "-f", "framemd5", "-"]))
            sums[name] = [line.split(",")[-1].strip() for line in file.read_text().splitlines() if line[0] != "#"]
    return {name: sums[LOOPED.get(name, name)] for name in names if LOOPED.get(name, name) in sums}


def facts(name):
    record = json.loads(output([OURS, "info", "--json", FILES / f"{name}.mp4"]))
    return {"frames": record["frames"], "keyframes": record["keyframes"], "bytes": record["size_bytes"]}
