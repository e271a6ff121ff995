"""What bench/remote/run measures, and where its files lie."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = ROOT / "target/bench/remote"
FILES = HOME / "clips"
RAW = HOME / "raw.jsonl"
RELEASE = ROOT / "target/release"
OURS = RELEASE / "bucket-streamer"
SCENARIOS = ["open", "untouched", "touched", "next", "known", "keys", "batch", "process", "containers"]
ENGINES = ["ours", "local", "ffmpeg", "pyav", "fsspec", "torchcodec"]
# What is asked of each clip: how many GOPs are entered, how many frames of GOPs that have been entered are asked for, how
# many steps are made, by how many frames programs are tried that are started for each; and whether all of it is asked for.
CLIPS = {
    "hevc_gop30_b": {"gops": 6, "touched": 4, "steps": 3, "processes": 3, "whole": True},
    "hevc_gop250_b": {"gops": 2, "touched": 2, "steps": 2, "processes": 2, "whole": True},
    "h264_gop250": {"gops": 2, "touched": 2, "steps": 2, "processes": 2, "whole": False},
    "keyed_10m": {"gops": 4, "touched": 2, "steps": 2, "processes": 3, "whole": False},
}
# The long clip is this one over and over.
LOOPED = {"keyed_10m": "hevc_gop30_b"}
PICTURES = 500
# Seconds for one operation.
PATIENCE = 60
BATCH = 60
CONTAINERS = {"mp4, tables in front": ("hevc_gop30_b.mp4", ["-movflags", "+faststart"]),
              "mp4, tables at the end": ("hevc_gop30_b_end.mp4", []),
              "mp4, fragmented": ("hevc_gop30_b_fragmented.mp4", ["-movflags", "+frag_keyframe+empty_moov+default_base_moof"]),
              "mkv": ("hevc_gop30_b.mkv", []),
              "ts": ("hevc_gop30_b.ts", [])}


def say(text):
    print(f"remote/run: {text}", file=sys.stderr, flush=True)


def output(command, **more):
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, **more).stdout
