/* The input of bindgen: the public headers of the vendored FFmpeg, our shims, and the macros that bindgen cannot
 * evaluate. */
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

/* Error numbers that FFmpeg makes of characters. src/error.rs has those of errno.h, which differ among systems, from
 * the libc crate. */
enum BsError {
    BS_AVERROR_EOF = AVERROR_EOF,
    BS_AVERROR_EXTERNAL = AVERROR_EXTERNAL,
    BS_AVERROR_PATCHWELCOME = AVERROR_PATCHWELCOME,
    BS_AVERROR_INVALIDDATA = AVERROR_INVALIDDATA,
};

/* A constant of an enum without a name. */
enum BsCrop { BS_CROP_UNALIGNED = AV_FRAME_CROP_UNALIGNED };
