"""GStreamer: a demuxer, a decoder and an appsink, paused; each frame is an accurate, flushing seek. Planes.

GStreamer has no frame numbers. When it opens, the packets are read once, without decoding, for the times of the frames;
then it seeks to the middle of the time for which a frame is on show, which no rounding can move to another one.
"""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstApp, GstVideo

import common

PATIENCE = 30 * Gst.SECOND


class Clip:
    OUTPUT = "planes"

    def __init__(self, path, threads):
        Gst.init(None)
        self.threads = threads
        self.times = frame_times(path)
        self.count = len(self.times)
        self.pipeline = Gst.parse_launch(
            "filesrc name=file ! qtdemux name=demuxer demuxer.video_0 ! decodebin name=decoder "
            "! appsink name=sink sync=false max-buffers=1 enable-last-sample=false")
        self.pipeline.get_by_name("file").set_property("location", path)
        self.pipeline.get_by_name("decoder").connect("deep-element-added", self.added)
        self.sink = self.pipeline.get_by_name("sink")
        self.pipeline.set_state(Gst.State.PAUSED)
        state, *_ = self.pipeline.get_state(PATIENCE)
        if state != Gst.StateChangeReturn.SUCCESS:
            raise OSError(self.problem())

    def added(self, _bin, _inside, element):
        for name in ("max-threads", "threads"):
            if element.find_property(name):
                element.set_property(name, self.threads)

    def problem(self):
        message = self.pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        return message.parse_error()[0].message if message else "cannot be decoded"

    def frame(self, index):
        if index >= self.count:
            raise LookupError("past the last frame")
        follows = self.times[index + 1] if index + 1 < self.count else 2 * self.times[index] - self.times[index - 1]
        middle = (self.times[index] + follows) // 2
        if not self.pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE, middle):
            raise LookupError("refuses to seek")
        sample = self.sink.emit("try-pull-preroll", PATIENCE)
        if sample is None:
            raise LookupError("no frame")
        return sample

    def keep(self, sample):
        info, buffer = GstVideo.VideoInfo.new_from_caps(sample.get_caps()), sample.get_buffer()
        data, meta = buffer.extract_dup(0, buffer.get_size()), GstVideo.buffer_get_video_meta(buffer)
        layout = meta or info
        planes = []
        for plane in range(info.finfo.n_planes):
            width = -(-info.width // (1 << info.finfo.w_sub[plane])) * info.finfo.pixel_stride[plane]
            height = -(-info.height // (1 << info.finfo.h_sub[plane]))
            rest = data[layout.offset[plane]:]
            planes.append(common.without_padding(rest, layout.stride[plane], width, height))
        return planes

    def seen(self, planes):
        return common.planes_md5(planes)


def frame_times(path):
    """The presentation time of each frame in nanoseconds, ascending."""
    pipeline = Gst.parse_launch("filesrc name=file ! qtdemux name=demuxer demuxer.video_0 ! appsink name=sink sync=false")
    pipeline.get_by_name("file").set_property("location", path)
    sink, times = pipeline.get_by_name("sink"), []
    pipeline.set_state(Gst.State.PLAYING)
    while True:
        sample = sink.emit("try-pull-sample", PATIENCE)
        if sample is None:
            break
        time = sample.get_segment().to_stream_time(Gst.Format.TIME, sample.get_buffer().pts)
        if time != Gst.CLOCK_TIME_NONE:
            times.append(time)
    pipeline.set_state(Gst.State.NULL)
    return sorted(times)


def version():
    Gst.init(None)
    libav = Gst.Registry.get().find_plugin("libav")
    return f"{Gst.version_string()}, gst-libav {libav.get_version() if libav else 'missing'}"


if __name__ == "__main__":
    common.main(Clip, version)
