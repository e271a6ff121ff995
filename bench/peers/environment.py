"""The paths of the installed peers, and the command of each."""

import os
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = ROOT / "target/bench/peers"
VENV = HOME / "venv"
PYTHON = VENV / "bin/python"
# Debian packages, unpacked; and PyAV's FFmpeg libraries under the names by which others look for them.
DEBIAN = HOME / "debian/root"
FFMPEG = HOME / "ffmpeg"
INSTALLED = HOME / "installed.json"

# The identifier of each peer, and its name in reports.
PEERS = {"torchcodec": "torchcodec", "pyav": "PyAV", "decord": "decord", "ffms2": "FFMS2", "opencv": "OpenCV",
         "video_reader": "video_reader-rs", "gstreamer": "GStreamer"}


def site_packages():
    return next(VENV.glob("lib/python*/site-packages"), VENV)


def debian_libraries():
    return next(DEBIAN.glob("usr/lib/*-linux-gnu*"), DEBIAN)


def command(peer):
    """The command of a peer. GStreamer's bindings are Debian's, and built for Debian's Python."""
    python = "/usr/bin/python3" if peer == "gstreamer" else PYTHON
    return [str(python), str(HERE / f"{peer}_peer.py")]


def environment(peer):
    site, debian = site_packages(), debian_libraries()
    libraries = {
        # torchcodec contains no FFmpeg. PyAV's is newer than that of most systems, and its decoders are faster.
        "torchcodec": [FFMPEG, site / "av.libs"],
        # Some libraries of this wheel need the search path to find each other.
        "video_reader": [site / "video_reader_rs.libs"],
        "ffms2": [debian],
        "gstreamer": [debian],
    }
    own = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1",
           "LD_LIBRARY_PATH": ":".join(map(str, libraries.get(peer, [])))}
    if peer == "ffms2":
        own["FFMS2_LIBRARY"] = str(debian / "libffms2.so.5")
    if peer == "gstreamer":
        own.update(GI_TYPELIB_PATH=str(debian / "girepository-1.0"), GST_PLUGIN_PATH_1_0=str(debian / "gstreamer-1.0"),
                   GST_REGISTRY=str(HOME / "gstreamer-registry.bin"), GST_REGISTRY_FORK="no",
                   PYTHONPATH=str(DEBIAN / "usr/lib/python3/dist-packages"))
        # The packages contain this only if the system has no GStreamer.
        for scanner in debian.glob("gstreamer1.0/gstreamer-1.0/gst-plugin-scanner"):
            own["GST_PLUGIN_SCANNER"] = str(scanner)
    return own


def script(name):
    """A script of bench/ as a module, for its selection of frames and its formats of numbers."""
    loader = SourceFileLoader(f"bench_{name}", str(ROOT / "bench" / name))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module
