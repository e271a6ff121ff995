/* Damage in H.264 pictures: see inspect.c. Sections are those of ITU-T H.264. */
#include <stdatomic.h>

#include "libavcodec/golomb.h"
#include "libavcodec/h264_parse.h"
#include "libavcodec/h264dec.h"
#include "libavutil/refstruct.h"

#include "fork.h"
#include "inspect.h"

#define UNTOUCHED 0xffff

static int is_slice(const H2645NAL *nal) { return nal->type == H264_NAL_SLICE || nal->type == H264_NAL_IDR_SLICE; }

/* Nonzero if every macroblock of the frame, or of the field that was decoded last, was decoded as part of a slice. */
static int is_covered(const H264Context *h) {
    int is_field = h->picture_structure != PICT_FRAME, step = is_field ? 2 : 1;
    for (int y = h->picture_structure == PICT_BOTTOM_FIELD; y < h->mb_height; y += step)
        for (int x = 0; x < h->mb_width; x++)
            if (h->slice_table[y * h->mb_stride + x] == UNTOUCHED)
                return 0;
    return 1;
}

/* Slices come in the order of their macroblocks, each once (7.4.3, first_mb_in_slice), unless the profile has
 * arbitrary order or the stream redundant slices. The second field of a frame begins again. */
static int is_in_order(const H264Context *h) {
    const SPS *sps = h->ps.sps;
    int is_arbitrary = sps->profile_idc == 66 && !(sps->constraint_set_flags & 2);
    int starts = 0;
    int64_t last = -1;
    if (is_arbitrary || h->ps.pps->redundant_pic_cnt_present)
        return 1;
    for (int i = 0; i < h->pkt.nb_nals; i++) {
        if (!is_slice(&h->pkt.nals[i]))
            continue;
        GetBitContext gb = h->pkt.nals[i].gb;
        unsigned first = get_ue_golomb_long(&gb);
        starts += first == 0;
        if (first != 0 && first <= last)
            return 0;
        last = first;
    }
    return starts <= (h->picture_structure == PICT_FRAME ? 1 : 2);
}

static int slice_ends_in_time(const H264Context *h, const H264SliceContext *sl) {
    GetBitContext gb = sl->gb;
    /* x264 writes bits into the rest of the last byte. */
    if (h->ps.pps->cabac)
        return bs_cabac_ends_at(&sl->cabac, gb.buffer, gb.size_in_bits + 1, 7);
    return get_bits_left(&gb) == 0;
}

/* libavcodec calls this for every slice (TAPPED in build.rs). The data of each must end after its last macroblock
   (7.3.2.10). */
int bs_h264_execute_decode_slices(H264Context *h) {
    int count = h->nb_slice_ctx_queued, ret = ff_h264_execute_decode_slices(h);
    /* After the second field of a packet the first one's table is overwritten. */
    if (count && h->picture_structure != PICT_FRAME) {
        bs_seen.has_failed |= bs_seen.structure && bs_seen.structure != h->picture_structure && !bs_seen.is_full;
        bs_seen.structure = h->picture_structure;
        bs_seen.is_full = is_covered(h);
    }
    for (int i = 0; i < count && !h->avctx->hwaccel; i++) {
        bs_seen.has_failed |= ret < 0 || (h->ps.pps->cabac && !bs_cabac_is_over(&h->slice_ctx[i].cabac));
        bs_seen.is_astray |= ret >= 0 && !slice_ends_in_time(h, &h->slice_ctx[i]);
    }
    return ret;
}

/* Removes parameter sets of pictures that are too large before anything is allocated for these. */
static int refuse_large(AVCodecContext *c, H264ParamSets *ps) {
    int is_found = 0;
    for (int i = 0; i < COUNT(ps->sps_list); i++) {
        const SPS *sps = ps->sps_list[i];
        if (!sps || !bs_is_too_large(c, sps->mb_width * 16, sps->mb_height * 16))
            continue;
        is_found = 1;
        for (int j = 0; j < COUNT(ps->pps_list); j++)
            if (ps->pps_list[j] && ps->pps_list[j]->sps_id == (unsigned)i)
                av_refstruct_unref(&ps->pps_list[j]);
        av_refstruct_unref(&ps->sps_list[i]);
    }
    return is_found;
}

/* libavcodec calls these (TAPPED in build.rs). */
int bs_h264_decode_seq_parameter_set(GetBitContext *gb, AVCodecContext *c, H264ParamSets *ps, int ignores_truncation) {
    int ret = ff_h264_decode_seq_parameter_set(gb, c, ps, ignores_truncation);
    refuse_large(c, ps);
    return ret;
}

int bs_h264_decode_extradata(const uint8_t *data, int size, H264ParamSets *ps, int *is_avc, int *length_size, int recognition,
                             void *context) {
    int ret = ff_h264_decode_extradata(data, size, ps, is_avc, length_size, recognition, context);
    refuse_large(context, ps);
    return ret;
}

static int is_damaged(const H264Picture *p) {
    return p->f->decode_error_flags || (p->decode_error_flags && atomic_load(p->decode_error_flags));
}

/* The pictures that libavcodec made up for missing frame numbers (8.2.5.2), as a bit for each place. */
static uint64_t gaps(const H264Context *h) {
    uint64_t found = 0;
    for (int i = 0; i < H264_MAX_PICTURE_COUNT; i++)
        found |= (uint64_t)(h->DPB[i].f && h->DPB[i].f->buf[0] && h->DPB[i].invalid_gap) << i;
    return found;
}

/* Nonzero for a reference that was damaged, or made up after the first picture that can be shown: before that,
 * streams that begin at a recovery point refer to pictures that do not exist. */
static int is_suspect(const H264Picture *p) {
    return p && p->f && p->f->buf[0] && p->recovered && (p->invalid_gap || bs_marks(p->f));
}

static int is_intra(const H264Context *h) {
    const H264Picture *p = h->cur_pic_ptr;
    for (int y = 0; y < h->mb_height; y++)
        for (int x = 0; x < h->mb_width; x++)
            if (!IS_INTRA(p->mb_type[y * h->mb_stride + x]))
                return 0;
    return 1;
}

/* Checks the references of the last slice and, since other slices may have had other lists, all that the decoder
   holds. */
static int has_suspect_reference(const H264Context *h) {
    const H264SliceContext *sl = &h->slice_ctx[0];
    int is_found = 0;
    for (unsigned list = 0; list < sl->list_count && list < 2; list++)
        for (unsigned i = 0; i < sl->ref_count[list] && i < COUNT(sl->ref_list[list]); i++)
            is_found |= is_suspect(sl->ref_list[list][i].parent);
    for (int i = 0; i < h->short_ref_count; i++)
        is_found |= h->short_ref[i] != h->cur_pic_ptr && is_suspect(h->short_ref[i]);
    for (int i = 0; i < COUNT(h->long_ref); i++)
        is_found |= h->long_ref[i] != h->cur_pic_ptr && is_suspect(h->long_ref[i]);
    return is_found && !is_intra(h);
}

/* A reference picture is missing: the contents of its place are unknown. */
static void suspect_all(H264Context *h) {
    for (int i = 0; i < h->short_ref_count; i++)
        if (h->short_ref[i] && h->short_ref[i] != h->cur_pic_ptr)
            bs_mark(h->short_ref[i]->f, BS_MARK_SUSPECT);
    for (int i = 0; i < COUNT(h->long_ref); i++)
        if (h->long_ref[i] && h->long_ref[i] != h->cur_pic_ptr)
            bs_mark(h->long_ref[i]->f, BS_MARK_SUSPECT);
}

/* The frame number of the last reference picture, if known; else -1. */
static int last_reference_number(const H264Context *h) {
    return h->short_ref_count && !h->long_ref_count && !h->first_field ? h->short_ref[0]->frame_num : -1;
}

/* Frame numbers rise by one after each reference picture (7.4.3, frame_num). libavcodec compares with the last
 * picture of any kind, and misses a loss after a picture without references to it. */
static int is_out_of_order(const H264Context *h, int last) {
    const SPS *sps = h->ps.sps;
    int number = h->cur_pic_ptr->frame_num, next = (last + 1) & ((1 << sps->log2_max_frame_num) - 1);
    int restarts = h->picture_idr || h->cur_pic_ptr->mmco_reset || sps->gaps_in_frame_num_allowed_flag;
    return last >= 0 && !restarts && number != last && number != next;
}

static int look(const H264Context *h, const BsWatch *watch) {
    if (is_damaged(h->cur_pic_ptr) || bs_seen.has_failed)
        return BS_FOUND_DAMAGE;
    if (watch->options.is_lenient && bs_seen.errors)
        return BS_FOUND_DAMAGE;
    if (!is_covered(h) || !is_in_order(h))
        return BS_FOUND_DAMAGE;
    if (watch->options.checks_ends && bs_seen.is_astray)
        return BS_FOUND_END;
    return 0;
}

int bs_inspect_h264(AVCodecContext *c, AVFrame *frame, int *got, AVPacket *packet) {
    H264Context *h = c->priv_data;
    BsWatch *watch = bs_watch_of(c);
    bs_seen = (BsSeen){ 0 };
    int was_recovered = h->frame_recovered;
    uint64_t old_gaps = gaps(h);
    int last = last_reference_number(h);
    int ret = bs_tapped_h264_decoder.cb.decode(c, frame, got, packet);
    if (!watch || !packet->size)
        return ret;
    uint64_t new_gaps = was_recovered ? gaps(h) & ~old_gaps : 0;
    for (int i = 0; i < H264_MAX_PICTURE_COUNT; i++)
        h->DPB[i].recovered |= new_gaps >> i & 1;
    int has_picture = ret >= 0 && h->cur_pic_ptr && h->has_slice;
    BsVerdict verdict = { .found = has_picture ? look(h, watch) : ret < 0 ? BS_FOUND_DAMAGE : 0 };
    int is_gap = has_picture && was_recovered && is_out_of_order(h, last);
    if (is_gap || (!has_picture && verdict.found))
        suspect_all(h);
    /* The next frame thread has the references already, without these marks. */
    if (!watch->options.is_lenient && (is_gap || new_gaps))
        verdict.found |= BS_FOUND_DAMAGE;
    if (has_picture)
        verdict.is_tainted = has_suspect_reference(h);
    /* A made-up reference is damage in a strict decoder too: its slices did not show it. */
    if (verdict.is_tainted && !watch->options.is_lenient)
        verdict.found |= BS_FOUND_DAMAGE;
    const AVFrame *picture = has_picture ? h->cur_pic_ptr->f : NULL;
    if (has_picture && h->cur_pic_ptr->needs_fg && (verdict.found || verdict.is_tainted))
        bs_mark(h->cur_pic_ptr->f_grain, BS_MARK_DAMAGED);
    int judged = bs_judge(watch, picture, verdict, ret);
    if (judged < 0 && *got) {
        av_frame_unref(frame);
        *got = 0;
    }
    return judged;
}
