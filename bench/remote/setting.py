"""The clips and scenarios of bench/remote/run, and the paths of its files."""

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
# The requests for each clip: the number of touched GOPs, of further frames in touched GOPs, of steps, and of frames with a
# process of their own; and whether key frames and a batch of the whole file are requested.
CLIPS = {
    "hevc_gop30_b": {"gops": 6, "touched": 4, "steps": 3, "processes": 3, "whole": True},
    "hevc_gop250_b": {"gops": 2, "touched": 2, "steps": 2, "processes": 2, "whole": True},
    "h264_gop250": {"gops": 2, "touched": 2, "steps": 2, "processes": 2, "whole": False},
    "keyed_10m": {"gops": 4, "touched": 2, "steps": 2, "processes": 3, "whole": False},
}
# The long clip repeats this one.
LOOPED = {"keyed_10m": "hevc_gop30_b"}
PICTURES = 500
# The time limit of one operation, in seconds.
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
