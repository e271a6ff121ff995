/*
 * Determines the properties of a file's streams, with pictures charged to an account. libavformat decodes some for
 * that, with decoders that it opens itself; its object is linked a second time (TAPPED in build.rs), with that call led
 * through here.
 */
#include "libavcodec/avcodec.h"
#include "libavformat/avformat.h"
#include "libavformat/avformat_internal.h"

#include "account.h"
#include "inspect.h"

int bs_tapped_find_stream_info(AVFormatContext *s, AVDictionary **options);
/* Of meter.c: allocations of a decoder are compared with the limit after each call. */
int bs_metered_open(AVCodecContext *decoder, const AVCodec *codec, AVDictionary **options);

/* The largest picture, in pixels, for this thread's call. */
static _Thread_local int64_t probe_max_pixels;

/* libavformat calls these (TAPPED in build.rs). */
const AVCodec *bs_probe_find_decoder(AVFormatContext *s, const AVStream *st, enum AVCodecID id) {
    return id == AV_CODEC_ID_AV1 ? &bs_tapped_dav1d_decoder.p : ff_find_decoder(s, st, id);
}

int bs_probe_open(AVCodecContext *c, const AVCodec *codec, AVDictionary **options) {
    if (bs_probe_account && c->codec_type == AVMEDIA_TYPE_VIDEO) {
        c->get_buffer2 = bs_get_buffer;
        /* Also for streams that appear while others are probed. */
        c->max_pixels = probe_max_pixels;
    }
    return bs_metered_open(c, codec, options);
}

int bs_find_stream_info(AVFormatContext *s, int64_t max_pixels, BsAccount *account) {
    BsAccount *before = bs_probe_account;
    bs_probe_account = account;
    probe_max_pixels = max_pixels;
    int ret = bs_tapped_find_stream_info(s, NULL);
    bs_probe_account = before;
    return ret;
}
