/*
 * Checks every picture for damage, just after its decoding and in the thread that has decoded it.
 *
 * libavcodec conceals damage: slices that are missing, repeated or cut short raise no error in H.265; in H.264 missing
 * parts are made up and may be flagged too late; in VP9 nothing is checked at all. So the codecs here are copies of
 * libavcodec's own with a function of ours after the decoding function (inspect_hevc.c and similar). It reads the
 * decoder's tables: whether the right slice covered every block, the data ended with the blocks, a reference was
 * damaged or made up, libavcodec logged an error.
 *
 * A strict decoder makes damage an error of the packet, and the engine falls back. A lenient one outputs the picture:
 * it, and all pictures that refer to it, are marked in their memory. Lenient decoders use one thread: libavcodec's
 * output for damage is then the same in every run.
 */
#include <pthread.h>

#include "libavcodec/avcodec.h"
#include "libavcodec/cabac.h"
#include "libavcodec/cabac_functions.h"
#include "libavutil/intmath.h"
#include "libavutil/mem.h"

#include "dav1d_state.h"
#include "fork.h"
#include "inspect.h"

_Thread_local BsSeen bs_seen;

static FFCodec codecs[3];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_codecs(void) {
    codecs[0] = bs_tapped_hevc_decoder;
    codecs[0].cb.receive_frame = bs_inspect_hevc;
    codecs[0].flush = bs_flush_hevc;
    codecs[1] = bs_tapped_h264_decoder;
    codecs[1].cb.decode = bs_inspect_h264;
    codecs[2] = bs_tapped_vp9_decoder;
    codecs[2].cb.decode = bs_inspect_vp9;
}

const AVCodec *bs_inspecting_codec(int codec_id) {
    pthread_once(&once, make_codecs);
    for (int i = 0; i < COUNT(codecs); i++)
        if (codecs[i].p.id == (enum AVCodecID)codec_id)
            return &codecs[i].p;
    /* dav1d does not output incomplete pictures. */
    return codec_id == AV_CODEC_ID_AV1 ? &bs_tapped_dav1d_decoder.p : avcodec_find_decoder(codec_id);
}

BsWatch *bs_watch_of(const AVCodecContext *c) {
    BsWatch *watch = c->opaque;
    return watch && !watch->gpu ? watch : NULL;
}

int bs_watch_attach(AVCodecContext *c, const BsWatchOptions *options) {
    BsWatch *watch = av_mallocz(sizeof(*watch));
    if (!watch)
        return AVERROR(ENOMEM);
    watch->options = *options;
    c->opaque = watch;
    return 0;
}

void bs_decoder_free(AVCodecContext **c) {
    BsWatch *watch = *c ? (*c)->opaque : NULL;
    int is_gpu = watch && watch->gpu;
    /* Ends its threads first: they access the account. */
    avcodec_free_context(c);
    /* Settles the decoder's tables; its pictures settle by themselves. */
    if (watch && !is_gpu)
        bs_watch_settle(watch);
    if (watch)
        bs_dav1d_recent_free(watch->recent);
    av_free(watch);
}

void bs_watch_begin(AVCodecContext *c) {
    BsWatch *watch = bs_watch_of(c);
    if (!watch)
        return;
    atomic_store(&watch->found, 0);
    watch->is_adrift = 0;
}

int bs_watch_found(const AVCodecContext *c) {
    BsWatch *watch = bs_watch_of(c);
    return watch ? atomic_load(&watch->found) : 0;
}

void bs_watch_set_ends(AVCodecContext *c, int checks_ends) {
    BsWatch *watch = bs_watch_of(c);
    if (watch)
        watch->options.checks_ends = checks_ends;
}

int bs_is_damaged(const AVCodecContext *c, const AVFrame *f) {
    int is_ours = c->codec_id == AV_CODEC_ID_HEVC || c->codec_id == AV_CODEC_ID_H264 || c->codec_id == AV_CODEC_ID_VP9;
    return is_ours && bs_watch_of(c) && (bs_marks(f) & BS_MARK_DAMAGED);
}

int bs_is_too_large(AVCodecContext *c, int width, int height) {
    if ((int64_t)width * height <= c->max_pixels)
        return 0;
    c->coded_width = width;
    c->coded_height = height;
    return 1;
}

void bs_clear_tables(AVCodecContext *c) {
    if (c->codec_id == AV_CODEC_ID_HEVC)
        bs_hevc_clear_tables(c);
}

/* True if the last symbol signalled the end of a slice. */
int bs_cabac_is_over(const CABACContext *cabac) { return cabac->low >= cabac->range << (CABAC_BITS + 1); }

/*
 * An encoder's flush writes the stop bit as the last bit of the arithmetic code (ITU-T H.265 9.3.4.5, H.264 9.3.4.5),
 * and a decoder that reaches the end has read up to it and no further. libavcodec reads ahead, two bytes at a time; the
 * lowest set bit of `low` gives its position. At the end of the data it reads two bytes without moving on.
 */
int bs_cabac_ends_at(const CABACContext *cabac, const uint8_t *data, int64_t bits, int spare) {
    int64_t read = (cabac->bytestream - data) * 8 - (CABAC_BITS - ff_ctz(cabac->low));
    int64_t more = cabac->bytestream >= cabac->bytestream_end ? read + CABAC_BITS : read;
    return bs_cabac_is_over(cabac) && ((read <= bits && bits <= read + spare) || (more <= bits && bits <= more + spare));
}

int bs_judge(BsWatch *watch, const AVFrame *picture, BsVerdict verdict, int ret) {
    if (!watch->options.checks_ends)
        verdict.found &= ~BS_FOUND_END;
    atomic_fetch_or(&watch->found, verdict.found);
    if (verdict.found || verdict.is_tainted)
        bs_mark(picture, BS_MARK_DAMAGED | BS_MARK_SUSPECT);
    if (watch->options.is_lenient)
        return verdict.found && !picture && ret == AVERROR(EAGAIN) ? AVERROR_INVALIDDATA : ret;
    if (!verdict.found)
        return ret;
    return ret >= 0 || ret == AVERROR(EAGAIN) ? AVERROR_INVALIDDATA : ret;
}
