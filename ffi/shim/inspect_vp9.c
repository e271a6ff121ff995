/* Damage in VP9 pictures: see inspect.c. Sections are those of the VP9 bitstream specification. */
#include "libavcodec/thread.h"
#include "libavcodec/vp9dec.h"

#include "inspect.h"

/* More bytes than an encoder's flush leaves as zeros. Before a tile there are always as many: the headers. */
#define FLUSHED 8

static int are_zeros(const uint8_t *at, const uint8_t *end) {
    while (at < end)
        if (*at++)
            return 0;
    return 1;
}

/* Where a tile's symbols end its data end too: the decoder has not run out of them, and what it has not read is zero (9.2.3),
 * which is BS_FOUND_DAMAGE else. Encoders flush the coder with the lower end of its interval, so that zeros remain of the
 * value too, BS_FOUND_END else. libavcodec reads two bytes at a time, the last time perhaps one too many: that one does not
 * count. */
static int look_at_end(const VPXRangeCoder *coder) {
    unsigned rest = coder->code_word;
    if (coder->buffer == coder->end + 1)
        rest &= ~(0xffu << (coder->bits + 16));
    if (!are_zeros(coder->buffer, coder->end))
        return BS_FOUND_DAMAGE;
    if (coder->bits >= 0)
        return BS_FOUND_DAMAGE;
    /* Data that were lost may have become zeros, and zeros go on for as long as symbols are read. */
    return rest || are_zeros(coder->end - FLUSHED, coder->end) ? BS_FOUND_END : 0;
}

/* Of several rows of tiles the coders of the last one are still there. */
static int look_at_ends(const AVCodecContext *c, const VP9Context *s) {
    int found = 0;
    for (unsigned i = 0; i < s->s.h.tiling.tile_cols && !(c->active_thread_type & FF_THREAD_SLICE); i++)
        found |= look_at_end(&s->td[0].c_b[i]);
    return found;
}

/* libavcodec calls this between the two passes of frame threads, of which the first one has read the data (TAPPED in
 * build.rs). */
void bs_vp9_finish_setup(AVCodecContext *c) {
    const VP9Context *s = c->priv_data;
    if (s->pass == 1)
        bs_seen.is_astray |= look_at_ends(c, s);
    ff_thread_finish_setup(c);
}

int bs_inspect_vp9(AVCodecContext *c, AVFrame *frame, int *got, AVPacket *packet) {
    VP9Context *s = c->priv_data;
    BsWatch *watch = bs_watch_of(c);
    bs_seen = (BsSeen){ 0 };
    int ret = bs_tapped_vp9_decoder.cb.decode(c, frame, got, packet);
    if (!watch || !packet->size)
        return ret;
    const VP9Frame *current = &s->s.frames[CUR_FRAME];
    /* Else it showed an earlier picture once more. */
    int is_decoded = ret >= 0 && current->tf.f && current->frame_header == s->frame_header;
    BsVerdict verdict = { 0 };
    if (is_decoded && s->s.h.keyframe)
        watch->is_adrift = 0;
    if (ret < 0 || (watch->options.is_lenient && bs_seen.errors))
        verdict.found = BS_FOUND_DAMAGE;
    else if (is_decoded)
        verdict.found = s->s.frames[CUR_FRAME].uses_2pass ? bs_seen.is_astray : look_at_ends(c, s);
    if (!watch->options.checks_ends)
        verdict.found &= ~BS_FOUND_END;
    /* Pictures leave probabilities, a segmentation map and motion vectors to the next: all up to a key frame may differ. */
    if (watch->options.is_lenient && (watch->is_adrift || verdict.found)) {
        watch->is_adrift = 1;
        verdict.is_tainted = 1;
        if (*got)
            bs_mark(frame, BS_MARK_DAMAGED);
    }
    int judged = bs_judge(watch, is_decoded ? current->tf.f : NULL, verdict, ret);
    if (judged < 0 && *got) {
        av_frame_unref(frame);
        *got = 0;
    }
    return judged;
}
