"""torchcodec over a network: its FFmpeg's own HTTP protocol reads. RGB tensors.

    python torchcodec_peer.py http|--version

`seek_mode="approximate"`: "exact" reads all packets when it opens, and so the whole file. The time of a
frame identifies it, because RGB has no MD5 to compare.
"""

import os
import sys

import torch
import torchcodec
from torchcodec.decoders import VideoDecoder

import answering


class Clip:
    def __init__(self, url):
        torch.set_num_threads(os.cpu_count())
        self.decoder = VideoDecoder(url, num_ffmpeg_threads=os.cpu_count(), seek_mode="approximate",
                                    dimension_order="NHWC")

    def close(self):
        self.decoder = None

    def frame(self, number):
        return self.decoder.get_frame_at(number)

    def frames(self, numbers):
        return dict(zip(numbers, self.decoder.get_frames_at(numbers)))

    def keys(self):
        raise NotImplementedError("has no call for key frames")

    def seen(self, _, frame):
        return {"seconds": float(frame.pts_seconds)}


def version():
    libavcodec = next((line.rsplit(".so.", 1)[1].strip() for line in open("/proc/self/maps") if "libavcodec" in line), "?")
    return f"torchcodec {torchcodec.__version__}, torch {torch.__version__}, libavcodec {libavcodec}"


if __name__ == "__main__":
    print(version()) if "--version" in sys.argv else answering.answer(Clip)
