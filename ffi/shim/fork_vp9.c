/* Checkpoints of VP9 decoders: see fork.c. */
#include "libavcodec/cbs.h"
#include "libavcodec/cbs_vp9.h"
#include "libavcodec/vp9dec.h"

#include "fork.h"

/* The update function needs a header reader in the checkpoint, though an empty one. */
static int save(BsCheckpoint *checkpoint, AVCodecContext *from, uint32_t tag) {
    AVCodecContext *to = checkpoint->context;
    VP9Context *s = to->priv_data;
    if (!s->cbc) {
        if (!(s->cbc = av_mallocz(sizeof(*s->cbc))))
            return AVERROR(ENOMEM);
        if (!(s->cbc->priv_data = av_mallocz(sizeof(CodedBitstreamVP9Context))))
            return AVERROR(ENOMEM);
    }
    int ret = bs_update(to, from);
    /* The update function takes references from the slots that the current picture will write. */
    for (int i = 0; i < 8; i++)
        ff_progress_frame_replace(&s->next_refs[i], &s->s.refs[i]);
    return ret;
}

static void clear_frame(VP9Frame *f) {
    ff_progress_frame_unref(&f->tf);
    av_refstruct_unref(&f->header_ref);
    av_refstruct_unref(&f->extradata);
    av_refstruct_unref(&f->hwaccel_picture_private);
    f->segmentation_map = NULL;
}

static void clear(AVCodecContext *context) {
    VP9Context *s = context->priv_data;
    for (int i = 0; i < COUNT(s->s.frames); i++)
        clear_frame(&s->s.frames[i]);
    for (int i = 0; i < 8; i++) {
        ff_progress_frame_unref(&s->s.refs[i]);
        ff_progress_frame_unref(&s->next_refs[i]);
        clear_frame(&s->s.ref_frames[i]);
    }
    av_refstruct_unref(&s->header_ref);
    av_refstruct_pool_uninit(&s->frame_extradata_pool);
}

static void free_tables(AVCodecContext *context) {
    VP9Context *s = context->priv_data;
    if (s->cbc)
        av_freep(&s->cbc->priv_data);
    av_freep(&s->cbc);
}

static void restored(const BsCheckpoint *from, AVCodecContext *to) {}

static int is_unseen(const BsPicture *pictures, int count, const AVFrame *f) {
    for (int i = 0; i < count; i++)
        if (pictures[i].identity == (uintptr_t)f->buf[0]->data)
            return 0;
    return 1;
}

static int pictures(const AVCodecContext *context, BsPicture *out, int capacity) {
    const VP9Context *s = context->priv_data;
    int count = 0;
    for (int i = 0; i < 3 + 8; i++) {
        const AVFrame *f = i < 3 ? s->s.frames[i].tf.f : s->s.refs[i - 3].f;
        if (!f || !f->buf[0] || count == capacity || !is_unseen(out, count, f))
            continue;
        size_t blocks = ((size_t)(f->width + 63) / 64) * ((f->height + 63) / 64);
        /* The checkpoint does not record which pictures were shown: so none can be returned. */
        bs_fork_describe(&out[count++], f, blocks * 64 * (1 + sizeof(VP9mvrefPair)), BS_PICTURE_NOT_WHOLE);
    }
    return count;
}

/* The decoder outputs each picture at once. */
static int take(const AVCodecContext *context, uint32_t tag, AVFrame *out) { return AVERROR(EAGAIN); }

static const AVFrame *last(const AVCodecContext *context) {
    const VP9Context *s = context->priv_data;
    return s->s.frames[CUR_FRAME].tf.f;
}

static int references(const AVCodecContext *context, const AVFrame **out) {
    const VP9Context *s = context->priv_data;
    if (s->s.h.keyframe || s->s.h.intraonly)
        return 0;
    for (int i = 0; i < 3; i++)
        out[i] = s->s.refs[s->s.h.refidx[i]].f;
    return 3;
}

const BsForkCodec bs_fork_vp9 = { save, restored, clear, free_tables, pictures, take, NULL, NULL, last, last, references, NULL };
