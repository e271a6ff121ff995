/* Checkpoints of H.265 decoders: see fork.c. */
#include <string.h>

#include "libavcodec/hevc/hevcdec.h"
#include "libavutil/macros.h"

#include "fork.h"
#include "inspect.h"

/* The checkpoint gets the SPS beforehand, so that no tables are allocated for it. Pictures without references to
 * them are released; the others are not output again: the caller requests pictures by their tag. */
static int save(BsCheckpoint *checkpoint, AVCodecContext *from, uint32_t tag) {
    AVCodecContext *to = checkpoint->context;
    HEVCContext *s = to->priv_data;
    const HEVCContext *s0 = from->priv_data;
    s->avctx = to;
    for (int i = 0; i < COUNT(s->layers); i++) {
        av_refstruct_replace(&s->layers[i].sps, s0->layers[i].sps);
        for (int j = 0; j < COUNT(s->layers[i].DPB); j++) {
            AVFrame **grain = &s->layers[i].DPB[j].frame_grain;
            if (s0->layers[i].DPB[j].needs_fg && !*grain && !(*grain = av_frame_alloc()))
                return AVERROR(ENOMEM);
        }
    }
    int ret = bs_update(to, from);
    s->dovi_ctx.logctx = to;
    if (ret < 0)
        return ret;
    for (int i = 0; i < COUNT(s->layers); i++)
        for (int j = 0; j < COUNT(s->layers[i].DPB); j++) {
            HEVCFrame *f = &s->layers[i].DPB[j];
            int unwanted = f->flags & (HEVC_FRAME_FLAG_UNAVAILABLE | HEVC_FRAME_FLAG_CORRUPT);
            ff_hevc_unref_frame(f, unwanted ? ~0 : HEVC_FRAME_FLAG_OUTPUT);
        }
    return 0;
}

static void clear(AVCodecContext *context) {
    HEVCContext *s = context->priv_data;
    ff_hevc_flush_dpb(s);
    for (int i = 0; i < COUNT(s->layers); i++)
        av_refstruct_unref(&s->layers[i].sps);
    ff_hevc_ps_uninit(&s->ps);
    av_refstruct_unref(&s->pps);
    av_refstruct_unref(&s->vps);
    ff_hevc_reset_sei(&s->sei);
    ff_dovi_ctx_unref(&s->dovi_ctx);
    av_buffer_unref(&s->rpu_buf);
    av_freep(&s->view_ids);
    s->nb_view_ids = 0;
}

static void free_tables(AVCodecContext *context) {
    HEVCContext *s = context->priv_data;
    for (int i = 0; i < COUNT(s->layers); i++)
        for (int j = 0; j < COUNT(s->layers[i].DPB); j++)
            av_frame_free(&s->layers[i].DPB[j].frame_grain);
}

static void restored(const BsCheckpoint *from, AVCodecContext *to) {
    HEVCContext *s = to->priv_data;
    for (int i = 0; i < COUNT(s->layers); i++)
        s->layers[i].cur_frame = NULL;
    s->cur_frame = s->collocated_ref = NULL;
    /* ff_dovi_ctx_replace() has copied the log context: a decoder that may be closed by now. */
    s->dovi_ctx.logctx = to;
}

static int pictures(const AVCodecContext *context, BsPicture *out, int capacity) {
    const HEVCContext *s = context->priv_data;
    int count = 0;
    for (int i = 0; i < COUNT(s->layers); i++)
        for (int j = 0; j < COUNT(s->layers[i].DPB); j++) {
            const HEVCFrame *f = &s->layers[i].DPB[j];
            if (!f->f || !f->f->buf[0] || count == capacity)
                continue;
            const HEVCSPS *sps = f->pps->sps;
            size_t more = (size_t)sps->min_pu_width * sps->min_pu_height * sizeof(MvField) +
                          (size_t)f->ctb_count * sizeof(*f->rpl_tab) + (size_t)f->nb_rpl_elems * sizeof(*f->rpl);
            if (f->needs_fg)
                more += f->frame_grain->buf[0] ? f->frame_grain->buf[0]->size : 0;
            bs_fork_describe(&out[count++], f->f, more, i ? BS_PICTURE_OTHER_LAYER : 0);
        }
    return count;
}

static int take(const AVCodecContext *context, uint32_t tag, AVFrame *out) {
    const HEVCContext *s = context->priv_data;
    for (int j = 0; j < COUNT(s->layers[0].DPB); j++) {
        const HEVCFrame *f = &s->layers[0].DPB[j];
        if (f->f && bs_has_tag(f->f, tag)) {
            if (f->flags & (HEVC_FRAME_FLAG_UNAVAILABLE | HEVC_FRAME_FLAG_CORRUPT))
                break;
            return bs_fork_take(out, f->f, f->needs_fg ? f->frame_grain : f->f);
        }
    }
    return AVERROR(EAGAIN);
}

/* libavcodec's pools of tables keep as many as were ever in use at the same time, those of checkpoints included. A
 * new pool is empty; tables of the old ones are freed when they are released. The entries are those of
 * pic_arrays_init(), except rpl_tab: its entries are pointers, where libavcodec allocates 528 bytes each (4 MB for
 * 1080p in blocks of 16). */
void bs_hevc_renew_pools(AVCodecContext *context) {
    HEVCContext *s = context->priv_data;
    for (int i = 0; i < COUNT(s->layers); i++) {
        HEVCLayerContext *l = &s->layers[i];
        if (!l->sps || !l->tab_mvf_pool || !l->rpl_tab_pool)
            continue;
        size_t units = (size_t)l->sps->min_pu_width * l->sps->min_pu_height;
        size_t blocks = (size_t)l->sps->ctb_width * l->sps->ctb_height;
        struct AVRefStructPool *mvf = av_refstruct_pool_alloc(units * sizeof(MvField), 0);
        struct AVRefStructPool *rpl = av_refstruct_pool_alloc(blocks * sizeof(RefPicListTab *), 0);
        if (mvf && rpl) {
            FFSWAP(struct AVRefStructPool *, mvf, l->tab_mvf_pool);
            FFSWAP(struct AVRefStructPool *, rpl, l->rpl_tab_pool);
        }
        av_refstruct_pool_uninit(&mvf);
        av_refstruct_pool_uninit(&rpl);
    }
}

static const AVFrame *last(const AVCodecContext *context) {
    const HEVCContext *s = context->priv_data;
    return s->layers[0].cur_frame ? s->layers[0].cur_frame->f : NULL;
}

static const AVFrame *current(const AVCodecContext *context) {
    const HEVCContext *s = context->priv_data;
    int has_grain = s->sei.common.film_grain_characteristics && s->sei.common.film_grain_characteristics->present;
    return has_grain || s->sei.common.itut_t35.aom_film_grain.enable || !s->cur_frame ? NULL : s->cur_frame->f;
}

static int references(const AVCodecContext *context, const AVFrame **out) {
    static const int used[] = { ST_CURR_BEF, ST_CURR_AFT, LT_CURR };
    const HEVCContext *s = context->priv_data;
    int count = 0;
    for (int i = 0; i < COUNT(used); i++)
        for (int j = 0; j < s->rps[used[i]].nb_refs && count < BS_MOST_REFERENCES; j++)
            out[count++] = s->rps[used[i]].ref[j] ? s->rps[used[i]].ref[j]->f : NULL;
    return count;
}

const BsForkCodec bs_fork_hevc = { save, restored, clear, free_tables, pictures, take, NULL, bs_hevc_renew_pools, last, current, references, NULL };
