"""torchcodec, on the CPU: RGB tensors."""

import torch
import torchcodec
from torchcodec.decoders import VideoDecoder

import common


class Clip:
    OUTPUT = "RGB"

    def __init__(self, path, threads):
        torch.set_num_threads(threads)
        # exact: opening reads all packets, so that frame numbers are right; "approximate" opens faster and can return
        # another frame. The decoder writes NHWC; NCHW would be another view of the same bytes.
        self.decoder = VideoDecoder(path, num_ffmpeg_threads=threads, seek_mode="exact", dimension_order="NHWC")
        self.count = len(self.decoder)

    def frame(self, index):
        return self.decoder.get_frame_at(index).data

    def batch(self, indices):
        return list(self.decoder.get_frames_at(indices).data)

    def keep(self, frame):
        return frame.numpy().copy()

    def seen(self, picture):
        return common.rgb_signature(picture)


def version():
    libavcodec = next((line.rsplit(".so.", 1)[1].strip() for line in open("/proc/self/maps") if "libavcodec" in line), "?")
    return f"torchcodec {torchcodec.__version__}, torch {torch.__version__}, libavcodec {libavcodec}"


if __name__ == "__main__":
    common.main(Clip, version)
