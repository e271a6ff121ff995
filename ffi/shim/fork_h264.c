/* Checkpoints of H.264 decoders: see fork.c. */
#include <stdatomic.h>
#include <string.h>

#include "libavcodec/h264dec.h"

#include "fork.h"

/* Nonzero if all pictures that it holds were decoded without an error. libavcodec's output for damage depends on the
 * pictures before: so no checkpoint is taken of such a state, and no picture is returned that may refer to damage. */
static int is_clean(const AVCodecContext *context) {
    const H264Context *h = context->priv_data;
    for (int i = 0; i < H264_MAX_PICTURE_COUNT; i++) {
        const H264Picture *p = &h->DPB[i];
        if (!p->f || !p->f->buf[0])
            continue;
        /* Without frame threads the frame itself has the flags. */
        if (p->f->decode_error_flags || (p->decode_error_flags && atomic_load(p->decode_error_flags)))
            return 0;
    }
    return 1;
}

int bs_h264_error_flags(const AVCodecContext *context, uint32_t tag) {
    const H264Context *h = context->priv_data;
    for (int i = 0; i < H264_MAX_PICTURE_COUNT; i++) {
        const H264Picture *p = &h->DPB[i];
        if (p->f && bs_has_tag(p->f, tag))
            return p->f->decode_error_flags | (p->decode_error_flags ? atomic_load(p->decode_error_flags) : 0);
    }
    return 0;
}

/* The checkpoint looks initialised, so that no tables are allocated for it. After a picture that was decoded without
 * frame threads, the reference marking is done; the update function would repeat it, unless the picture is declared
 * droppable. */
static int save(BsCheckpoint *to, AVCodecContext *from, uint32_t tag) {
    H264Context *h = to->context->priv_data, *h0 = from->priv_data;
    h->avctx = to->context;
    for (int i = 0; i <= H264_MAX_PICTURE_COUNT; i++) {
        H264Picture *p = i < H264_MAX_PICTURE_COUNT ? &h->DPB[i] : &h->cur_pic;
        if (!p->f && !(p->f = av_frame_alloc()))
            return AVERROR(ENOMEM);
        if (!p->f_grain && !(p->f_grain = av_frame_alloc()))
            return AVERROR(ENOMEM);
    }
    if (!h0->context_initialized || !h0->ps.sps || !is_clean(from))
        return AVERROR(EAGAIN);
    h->context_initialized = 1;
    h->width = h0->width;
    h->height = h0->height;
    h->mb_width = h0->mb_width;
    h->mb_height = h0->mb_height;
    h->mb_num = h0->mb_num;
    h->mb_stride = h0->mb_stride;
    h->b_stride = h0->b_stride;
    h->x264_build = h0->x264_build;
    h->ps.sps = h0->ps.sps;

    int droppable = h0->droppable;
    if (!bs_has_frame_threads(from))
        h0->droppable = 1;
    int ret = bs_update(to->context, from);
    h0->droppable = droppable;
    to->droppable = droppable;
    h->droppable = 1;
    h->next_output_pic = NULL;
    return ret;
}

static void clear(AVCodecContext *context) {
    H264Context *h = context->priv_data;
    for (int i = 0; i < H264_MAX_PICTURE_COUNT; i++)
        if (h->DPB[i].f)
            ff_h264_unref_picture(&h->DPB[i]);
    if (h->cur_pic.f)
        ff_h264_unref_picture(&h->cur_pic);
    h->cur_pic_ptr = NULL;
    memset(h->delayed_pic, 0, sizeof(h->delayed_pic));
    memset(h->short_ref, 0, sizeof(h->short_ref));
    memset(h->long_ref, 0, sizeof(h->long_ref));
    ff_h264_ps_uninit(&h->ps);
    ff_h264_sei_uninit(&h->sei);
}

static void free_tables(AVCodecContext *context) {
    H264Context *h = context->priv_data;
    for (int i = 0; i <= H264_MAX_PICTURE_COUNT; i++) {
        H264Picture *p = i < H264_MAX_PICTURE_COUNT ? &h->DPB[i] : &h->cur_pic;
        av_frame_free(&p->f);
        av_frame_free(&p->f_grain);
    }
}

static void restored(const BsCheckpoint *from, AVCodecContext *to) {
    H264Context *h = to->priv_data;
    h->droppable = from->droppable;
    h->next_output_pic = NULL;
}

/* Only the decoder's own output serves for a single field, a picture that does not count as recovered, or one with
   film grain. */
static int is_whole(const H264Picture *p) {
    return p->recovered && p->field_poc[0] != INT_MAX && p->field_poc[1] != INT_MAX && !p->invalid_gap &&
           !p->gray && !p->needs_fg;
}

static int pictures(const AVCodecContext *context, BsPicture *out, int capacity) {
    const H264Context *h = context->priv_data;
    int count = 0;
    for (int i = 0; i < H264_MAX_PICTURE_COUNT; i++) {
        const H264Picture *p = &h->DPB[i];
        if (!p->f || !p->f->buf[0] || count == capacity)
            continue;
        /* As in alloc_picture(). */
        size_t blocks = (size_t)p->mb_stride * (p->mb_height + 1);
        size_t more = blocks * (1 + sizeof(uint32_t) + 2 * 4) + (size_t)p->mb_width * p->mb_height * 16 * 2 * 4;
        bs_fork_describe(&out[count++], p->f, more, is_whole(p) ? 0 : BS_PICTURE_NOT_WHOLE);
    }
    return count;
}

static int take(const AVCodecContext *context, uint32_t tag, AVFrame *out) {
    const H264Context *h = context->priv_data;
    for (int i = 0; i < H264_MAX_PICTURE_COUNT; i++) {
        const H264Picture *p = &h->DPB[i];
        if (!p->f || !bs_has_tag(p->f, tag))
            continue;
        if (!is_whole(p) || !is_clean(context))
            break;
        return bs_fork_take(out, p->f, p->f);
    }
    return AVERROR(EAGAIN);
}

static const AVFrame *last(const AVCodecContext *context) {
    const H264Context *h = context->priv_data;
    return h->cur_pic_ptr && !h->first_field ? h->cur_pic_ptr->f : NULL;
}

static const AVFrame *current(const AVCodecContext *context) {
    const H264Context *h = context->priv_data;
    int has_grain = h->sei.common.film_grain_characteristics && h->sei.common.film_grain_characteristics->present;
    /* The driver's parameters for H.264 cannot express monochrome. */
    int is_gray = h->ps.sps && !h->ps.sps->chroma_format_idc;
    return has_grain || is_gray || !h->cur_pic_ptr ? NULL : h->cur_pic_ptr->f;
}

static int references(const AVCodecContext *context, const AVFrame **out) {
    const H264Context *h = context->priv_data;
    int count = 0;
    for (int i = 0; i < h->short_ref_count && count < BS_MOST_REFERENCES; i++)
        out[count++] = h->short_ref[i] ? h->short_ref[i]->f : NULL;
    for (int i = 0; i < COUNT(h->long_ref) && count < BS_MOST_REFERENCES; i++)
        if (h->long_ref[i])
            out[count++] = h->long_ref[i]->f;
    return count;
}

const BsForkCodec bs_fork_h264 = { save, restored, clear, free_tables, pictures, take, is_clean, NULL, last, current, references, NULL };
