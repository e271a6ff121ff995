"""video_reader-rs: RGB arrays."""

from importlib.metadata import version as installed

from video_reader import PyVideoReader

import common


class Clip:
    OUTPUT = "RGB"

    def __init__(self, path, threads):
        self.reader = PyVideoReader(path, threads=threads)
        self.count = self.reader.get_shape()[0]

    # with_fallback=False seeks to the key frame, and continues inside of a GOP. The other modes (True: decode the whole
    # video; None: choose by an estimate, which sometimes is the whole video) were not faster.
    def frame(self, index):
        return self.reader.get_batch([index], with_fallback=False)[0]

    def batch(self, indices):
        return list(self.reader.get_batch(indices, with_fallback=False))

    def keep(self, frame):
        return frame.copy()

    def seen(self, picture):
        return common.rgb_signature(picture)


def version():
    return f"video_reader-rs {installed('video-reader-rs')}"


if __name__ == "__main__":
    common.main(Clip, version)
