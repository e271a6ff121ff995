"""The reference of a clip, a sequential decode by the project's own build of FFmpeg, and the check of answers with it.

The reference has for each frame the MD5 of its planes, as in `-f framemd5`, and a signature of its luma: the means of
64 x 64 blocks. Planes are right if they have the MD5 of the requested frame. RGB has no MD5 to compare with, because
engines convert differently; so its signature is compared with those of all frames. It is wrong if it is clearly nearer
to another frame than to the requested one; a frame that cannot be distinguished from others is not counted as wrong.
"""

import base64
import hashlib
import json
import subprocess

import numpy

from common import BLOCKS, block_means
from environment import HOME

# Frames whose signatures differ by less, in levels of 8 bit luma (root of the mean square), cannot be distinguished in RGB.
ALIKE = 0.05
# A frame is wrong only if it is this many times nearer to another frame; pictures with less contrast are all alike.
CLEARLY = 1.5
FLAT = 0.5
SAMPLES = {"yuv420p": (1, 1.5), "yuvj420p": (1, 1.5), "yuv444p": (1, 3), "yuv422p": (1, 2), "yuv420p10le": (2, 1.5),
           "yuv422p10le": (2, 2), "yuv444p10le": (2, 3)}


class Reference:
    def __init__(self, ffmpeg, path, facts):
        """`facts` are width, height and pixel_format, as in `bucket-streamer info --json`."""
        size = path.stat()
        cache = HOME / "reference" / f"{path.stem}-{size.st_size}-{int(size.st_mtime)}.npz"
        if not cache.exists():
            cache.parent.mkdir(parents=True, exist_ok=True)
            md5, luma = decode(ffmpeg, path, facts)
            numpy.savez_compressed(cache, md5=numpy.array(md5), luma=luma.astype("float32"))
        stored = numpy.load(cache)
        self.md5, self.luma = [str(sum) for sum in stored["md5"]], stored["luma"]

    def verdicts(self, answers):
        """For each answer: `right`, or the received frame (`came`, None if it is no frame of the clip)."""
        seen = [answer for answer in answers if "signature" in answer and answer["index"] < len(self.md5)]
        lumas, willing = self.as_luma(seen)
        judged = iter(zip(lumas, willing))
        for answer in answers:
            if "error" in answer:
                verdict = {}
            elif "md5" in answer:
                verdict = self.of_planes(answer["index"], answer.pop("md5"))
            elif answer["index"] < len(self.md5):
                verdict = self.of_luma(answer["index"], *next(judged))
            else:
                verdict = {"right": False, "came": None}
            answer.pop("signature", None)
            answer.update(verdict)
        return answers

    def of_planes(self, index, md5):
        if index < len(self.md5) and self.md5[index] == md5:
            return {"right": True}
        same = [frame for frame, sum in enumerate(self.md5) if sum == md5]
        return {"right": False, "came": min(same, key=lambda frame: abs(frame - index), default=None)}

    def of_luma(self, index, luma, willing):
        """`willing` is the luma under the assumption that the requested frame was returned."""
        away = distances(self.luma, luma)
        came = int(away.argmin())
        if came == index:
            return {"right": True}
        alike = float(distances(self.luma[index][None], self.luma[came])[0]) < ALIKE
        # The conversion error is the same for all frames of an almost still or fading picture; and a fade changes the
        # same sums as the conversion.
        at_best = min(away[index], distances(self.luma[index][None], willing)[0])
        unclear = at_best <= CLEARLY * away[came] + ALIKE
        flat = max(luma.std(), self.luma[index].std()) < FLAT
        if alike or unclear or flat:
            return {"right": True, "alike": came}
        return {"right": False, "came": came}

    def as_luma(self, answers):
        """Luma of RGB in the coded orientation: once without, and once with the assumption that the frame is the requested one.

        Luma is a sum of the three channels and a constant, other ones for each matrix and range. Which ones, a fit says:
        from a usual sum on, each picture to the frame that is nearest to it. Four numbers for thousands of blocks cannot
        make another frame of it, unless all that differs is how bright it is.
        """
        if not answers:
            return [], []
        channels = [numpy.frombuffer(base64.b64decode(answer["signature"]), "float32").reshape(BLOCKS, BLOCKS, 3)
                    for answer in answers]
        asked = self.luma[[answer["index"] for answer in answers]]
        best = None
        for quarter in range(4):
            turned = numpy.stack([numpy.rot90(picture, quarter) for picture in channels]).astype("float64")
            terms = numpy.concatenate([turned.reshape(-1, 3), numpy.ones((turned.size // 3, 1))], axis=1)
            weights = numpy.array([0.22, 0.58, 0.06, 16])
            for _ in range(4):
                lumas = (terms @ weights).reshape(asked.shape)
                nearest = self.luma[[int(distances(self.luma, luma).argmin()) for luma in lumas]]
                weights = fitted(terms, nearest)
            lumas = (terms @ weights).reshape(asked.shape)
            error = float(numpy.abs(lumas - nearest).mean())
            if best is None or error < best[0]:
                best = error, lumas, (terms @ fitted(terms, asked)).reshape(asked.shape)
        return best[1], best[2]


def fitted(terms, lumas):
    return numpy.linalg.lstsq(terms, lumas.reshape(-1), rcond=None)[0]


def distances(lumas, luma):
    return numpy.sqrt(((lumas - luma.astype("float32")) ** 2).mean(axis=(1, 2)))


def decode(ffmpeg, path, facts):
    """MD5 sums and signatures of all frames, in the order of the sequential decode."""
    size, planes = SAMPLES[facts["pixel_format"]]
    width, height = facts["width"], facts["height"]
    frame = int(width * height * size * planes)
    source = [ffmpeg, "-nostdin", "-v", "error", "-noautorotate", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
    sums = subprocess.run([*source, "-f", "framemd5", "-"], check=True, capture_output=True, text=True).stdout
    md5 = [line.rsplit(",", 1)[1].strip() for line in sums.splitlines() if not line.startswith("#")]
    luma = []
    with subprocess.Popen([*source, "-f", "rawvideo", "-"], stdout=subprocess.PIPE) as running:
        while len(data := running.stdout.read(frame)) == frame:
            if hashlib.md5(data).hexdigest() != md5[len(luma)]:
                raise SystemExit(f"{path}: two decodes differ at frame {len(luma)}")
            plane = numpy.frombuffer(data, "<u2" if size == 2 else "u1", count=width * height).reshape(height, width)
            luma.append(block_means(plane) / (4 if size == 2 else 1))
    if len(luma) != len(md5):
        raise SystemExit(f"{path}: {len(md5)} MD5 sums for {len(luma)} frames")
    return md5, numpy.stack(luma)
