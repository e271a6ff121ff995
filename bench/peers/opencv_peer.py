"""OpenCV's VideoCapture over FFmpeg: BGR arrays."""

import re

import cv2

import common


class Clip:
    OUTPUT = "RGB"

    def __init__(self, path, threads):
        cv2.setNumThreads(threads)
        self.capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
        if not self.capture.isOpened():
            raise OSError("cannot be opened")
        # Pictures as coded: no peer rotates them.
        self.capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self.count = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.next = 0

    def frame(self, index):
        # The next frame in order needs no seek.
        if index != self.next:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        came, picture = self.capture.read()
        if not came:
            self.next = None
            raise LookupError("no frame")
        self.next = index + 1
        return picture

    def keep(self, frame):
        return frame.copy()

    def seen(self, picture):
        return common.rgb_signature(picture[:, :, ::-1])


def version():
    found = re.search(r"avcodec:\s*YES \(([0-9.]+)\)", cv2.getBuildInformation())
    return f"OpenCV {cv2.__version__}, libavcodec {found.group(1) if found else '?'}"


if __name__ == "__main__":
    common.main(Clip, version)
