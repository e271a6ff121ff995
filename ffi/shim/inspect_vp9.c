/* Damage in VP9 pictures: see inspect.c. Sections are those of the VP9 bitstream specification. */
#include "libavcodec/thread.h"
#include "libavcodec/vp9dec.h"

#include "fork.h"
#include "inspect.h"

/* More bytes than an encoder's flush leaves as zeros. There are always as many before a tile: the headers. */
#define FLUSHED 8

static int are_zeros(const uint8_t *at, const uint8_t *end) {
    while (at < end)
        if (*at++)
            return 0;
    return 1;
}

/* The data of a tile end with its symbols: the decoder has not run out of data, and the unread bytes are zero
 * (9.2.3); otherwise BS_FOUND_DAMAGE. Encoders flush the coder with the lower end of its interval, so that zeros
 * remain of the value too; otherwise BS_FOUND_END. libavcodec reads two bytes at a time, the last time perhaps one
 * too many: that byte does not count. */
static int look_at_end(const VPXRangeCoder *coder) {
    unsigned rest = coder->code_word;
    if (coder->buffer == coder->end + 1)
        rest &= ~(0xffu << (coder->bits + 16));
    if (!are_zeros(coder->buffer, coder->end))
        return BS_FOUND_DAMAGE;
    if (coder->bits >= 0)
        return BS_FOUND_DAMAGE;
    /* Lost data may have become zeros, and zeros continue for as long as symbols are read. */
    return rest || are_zeros(coder->end - FLUSHED, coder->end) ? BS_FOUND_END : 0;
}

/* With several rows of tiles the coders of the last row are still there. */
static int look_at_ends(const AVCodecContext *c, const VP9Context *s) {
    int found = 0;
    for (unsigned i = 0; i < s->s.h.tiling.tile_cols && !(c->active_thread_type & FF_THREAD_SLICE); i++)
        found |= look_at_end(&s->td[0].c_b[i]);
    return found;
}

/* libavcodec calls this between the two passes of frame threads, after the first one has read the data (TAPPED in
 * build.rs). */
void bs_vp9_finish_setup(AVCodecContext *c) {
    const VP9Context *s = c->priv_data;
    if (s->pass == 1)
        bs_seen.is_astray |= look_at_ends(c, s);
    ff_thread_finish_setup(c);
}

/* Marks of the pictures in the slots: one bit for each marked picture. */
static unsigned suspect_slots(const VP9Context *s) {
    unsigned found = 0;
    for (int i = 0; i < COUNT(s->s.refs); i++)
        found |= (bs_marks(s->s.refs[i].f) != 0) << i;
    return found;
}

/* A picture is missing: the slots that it would have written hold earlier ones. */
static void suspect_all(const VP9Context *s) {
    for (int i = 0; i < COUNT(s->s.refs); i++)
        bs_mark(s->s.refs[i].f, BS_MARK_SUSPECT);
}

/* Nonzero if the last picture began with probabilities of its own (7.2, reset_frame_context). */
static int has_own_contexts(const VP9Context *s) {
    return s->s.h.keyframe || s->s.h.errorres || (s->s.h.intraonly && s->s.h.resetctx == 3);
}

static int has_suspect_reference(const VP9Context *s, unsigned suspects) {
    int is_found = 0;
    for (int i = 0; i < 3 && !s->s.h.keyframe && !s->s.h.intraonly; i++)
        is_found |= suspects >> s->s.h.refidx[i] & 1;
    return is_found;
}

int bs_inspect_vp9(AVCodecContext *c, AVFrame *frame, int *got, AVPacket *packet) {
    VP9Context *s = c->priv_data;
    BsWatch *watch = bs_watch_of(c);
    unsigned suspects = suspect_slots(s);
    bs_seen = (BsSeen){ 0 };
    int ret = bs_tapped_vp9_decoder.cb.decode(c, frame, got, packet);
    if (!watch || !packet->size)
        return ret;
    const VP9Frame *current = &s->s.frames[CUR_FRAME];
    /* Otherwise it showed an earlier picture again. */
    int is_decoded = ret >= 0 && current->tf.f && current->frame_header == s->frame_header;
    BsVerdict verdict = { 0 };
    if (is_decoded && has_own_contexts(s))
        watch->is_adrift = 0;
    if (ret < 0 || (watch->options.is_lenient && bs_seen.errors))
        verdict.found = BS_FOUND_DAMAGE;
    else if (is_decoded)
        verdict.found = s->s.frames[CUR_FRAME].uses_2pass ? bs_seen.is_astray : look_at_ends(c, s);
    if (!watch->options.checks_ends)
        verdict.found &= ~BS_FOUND_END;
    if (watch->options.is_lenient) {
        verdict.is_tainted = is_decoded ? watch->is_adrift || has_suspect_reference(s, suspects) : *got && bs_marks(frame);
        /* The state that it hands on, mainly probabilities, results from damage. */
        watch->is_adrift |= verdict.found || (is_decoded && verdict.is_tainted);
        if (ret < 0)
            suspect_all(s);
        if (*got && (verdict.is_tainted || verdict.found))
            bs_mark(frame, BS_MARK_DAMAGED);
    }
    int judged = bs_judge(watch, is_decoded ? current->tf.f : NULL, verdict, ret);
    if (judged < 0 && *got) {
        av_frame_unref(frame);
        *got = 0;
    }
    return judged;
}
