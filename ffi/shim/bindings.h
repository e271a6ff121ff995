/* What bindgen reads: the public headers of the vendored FFmpeg, our shims, and the macros that bindgen cannot see. */
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/cpu.h>
#include <libavutil/display.h>
#include <libavutil/dovi_meta.h>
#include <libavutil/imgutils.h>
#include <libavutil/log.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/pixdesc.h>

#include "shim.h"

/* Without the numbers of errno.h, which differ among systems: src/error.rs has them from the libc crate. */
enum BsError {
    BS_AVERROR_EOF = AVERROR_EOF,
    BS_AVERROR_EXTERNAL = AVERROR_EXTERNAL,
    BS_AVERROR_PATCHWELCOME = AVERROR_PATCHWELCOME,
    BS_AVERROR_INVALIDDATA = AVERROR_INVALIDDATA,
};

/* From an enum without a name. */
enum BsCrop { BS_CROP_UNALIGNED = AV_FRAME_CROP_UNALIGNED };
