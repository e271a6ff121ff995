"""decord, on the CPU: RGB arrays."""

import decord

import common


class Clip:
    OUTPUT = "RGB"

    def __init__(self, path, threads):
        # Indexing seeks accurately, and continues decoding if that is shorter; the array stays decord's own, asnumpy()
        # would copy it.
        self.reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=threads)
        self.count = len(self.reader)

    def frame(self, index):
        return self.reader[index]

    def batch(self, indices):
        return list(self.reader.get_batch(indices).asnumpy())

    def keep(self, frame):
        return frame.asnumpy() if hasattr(frame, "asnumpy") else frame

    def seen(self, picture):
        return common.rgb_signature(picture)


def version():
    return f"decord {decord.__version__}"


if __name__ == "__main__":
    common.main(Clip, version)
