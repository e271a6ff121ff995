/* Damage in H.265 pictures: see inspect.c. Sections are those of ITU-T H.265. */
#include <string.h>

#include "libavcodec/cabac.h"
#include "libavcodec/golomb.h"
#include "libavcodec/hevc/hevcdec.h"
#include "libavcodec/hevc/parse.h"
#include "libavcodec/hevc/ps.h"
#include "libavcodec/internal.h"
#include "libavutil/bswap.h"
#include "libavutil/container_fifo.h"
#include "libavutil/crc.h"
#include "libavutil/intreadwrite.h"
#include "libavutil/md5.h"
#include "libavutil/mem.h"
#include "libavutil/refstruct.h"

#include "fork.h"
#include "inspect.h"

/* The first fields of a slice segment header (7.3.6.1). */
typedef struct Segment {
    int is_first, is_dependent;
    unsigned address; /* in raster scan */
} Segment;

static int is_slice(const H2645NAL *nal) {
    int is_trailing = nal->type <= HEVC_NAL_RASL_R;
    int is_irap = nal->type >= HEVC_NAL_BLA_W_LP && nal->type <= HEVC_NAL_CRA_NUT;
    return nal->nuh_layer_id == 0 && (is_trailing || is_irap);
}

/* Nonzero for an access unit without a slice, by units that begin or fill one. Parameter sets alone are none: they
 * are sent alone if the rest of their sample is left out. */
static int lacks_slices(const HEVCContext *s) {
    int is_unit = 0;
    for (int i = 0; i < s->pkt.nb_nals; i++) {
        if (is_slice(&s->pkt.nals[i]))
            return 0;
        is_unit |= s->pkt.nals[i].type == HEVC_NAL_AUD || s->pkt.nals[i].type == HEVC_NAL_FD_NUT;
    }
    return is_unit;
}

static int read_segment(const H2645NAL *nal, const HEVCPPS *pps, Segment *out) {
    GetBitContext gb = nal->gb;
    int count = pps->sps->ctb_width * pps->sps->ctb_height;
    *out = (Segment){ .is_first = get_bits1(&gb) };
    if (nal->type >= HEVC_NAL_BLA_W_LP)
        skip_bits1(&gb);
    get_ue_golomb_long(&gb);
    if (!out->is_first) {
        if (pps->dependent_slice_segments_enabled_flag)
            out->is_dependent = get_bits1(&gb);
        out->address = get_bits(&gb, av_ceil_log2(count));
    }
    return get_bits_left(&gb) >= 0 && out->address < (unsigned)count;
}

/* Nonzero if the blocks from `*at` up to `end` in decoding order belong to the slice at `slice`. */
static int is_covered(const HEVCLayerContext *l, const HEVCPPS *pps, int *at, int end, int slice) {
    for (; *at < end; ++*at)
        if (l->tab_slice_address[pps->ctb_addr_ts_to_rs[*at]] != slice)
            return 0;
    return 1;
}

/* Slice segments come in the order of their blocks, the first one once, and each slice covers all blocks up to the
 * next (7.4.2.4.5). libavcodec records for each block the slice that it was decoded with last. */
static int is_whole(const HEVCContext *s, const HEVCLayerContext *l, const HEVCPPS *pps) {
    int at = 0, slice = -1, last = -1;
    for (int i = 0; i < s->pkt.nb_nals; i++) {
        Segment segment;
        if (!is_slice(&s->pkt.nals[i]))
            continue;
        if (!read_segment(&s->pkt.nals[i], pps, &segment))
            return 0;
        int place = pps->ctb_addr_rs_to_ts[segment.address];
        if (segment.is_first != (last < 0) || place <= last)
            return 0;
        last = place;
        if (segment.is_dependent)
            continue;
        if (!is_covered(l, pps, &at, place, slice))
            return 0;
        slice = segment.address;
    }
    return last >= 0 && is_covered(l, pps, &at, pps->sps->ctb_width * pps->sps->ctb_height, slice);
}

/* Nonzero if the data of the slice in decoding end here. */
int bs_hevc_ends_in_time(const HEVCContext *s, const CABACContext *cabac) {
    for (int i = 0; i < s->pkt.nb_nals; i++) {
        const H2645NAL *nal = &s->pkt.nals[i];
        if (cabac->bytestream_start > nal->data && cabac->bytestream_start < nal->data + nal->size)
            return bs_cabac_ends_at(cabac, nal->data, nal->size_bits + 1, 0);
    }
    return 0;
}

/* libavcodec calls this after every block (TAPPED in build.rs). */
void bs_hevc_block_done(HEVCLocalContext *lc, const HEVCLayerContext *l, const HEVCPPS *pps, int x, int y, int size) {
    /* Slices of another layer, such as alpha, do not belong to the picture. */
    if (l == &lc->parent->layers[0] && bs_cabac_is_over(&lc->cc)) {
        bs_seen.ends++;
        bs_seen.is_astray |= !bs_hevc_ends_in_time(lc->parent, &lc->cc);
    }
    ff_hevc_hls_filters(lc, l, pps, x, y, size);
}

/* The data of each slice segment end with its last block, and all segments end (9.3.2.5). Rows that threads decode
 * side by side are checked in wavefronts.c. */
static int look_at_ends(const AVCodecContext *c, const HEVCContext *s, int checks_ends) {
    unsigned segments = 0;
    for (int i = 0; i < s->pkt.nb_nals; i++)
        segments += is_slice(&s->pkt.nals[i]);
    if (!(c->active_thread_type & FF_THREAD_SLICE) && bs_seen.ends != segments)
        return BS_FOUND_DAMAGE;
    return checks_ends && bs_seen.is_astray ? BS_FOUND_END : 0;
}

/* SEI message picture hash (D.2.19): the bytes after the payload's size; NULL without one. */
static const uint8_t *find_hash(const HEVCContext *s, int *size) {
    for (int i = 0; i < s->pkt.nb_nals; i++) {
        const H2645NAL *nal = &s->pkt.nals[i];
        if (nal->type != HEVC_NAL_SEI_SUFFIX || nal->nuh_layer_id)
            continue;
        const uint8_t *at = nal->data + 2, *end = nal->data + nal->size;
        while (end - at > 2) {
            int type = 0, length = 0;
            for (; at < end && *at == 0xff; at++)
                type += 255;
            type += at < end ? *at++ : 0;
            for (; at < end && *at == 0xff; at++)
                length += 255;
            length += at < end ? *at++ : 0;
            if (length > end - at)
                break;
            if (type == SEI_TYPE_DECODED_PICTURE_HASH && length > 0) {
                *size = length;
                return at;
            }
            at += length;
        }
    }
    return NULL;
}

/* Writes the plane's hash, of `type` 0 (MD5), 1 (CRC), 2 (checksum), as in the message; returns its size. */
static int hash_plane(const AVFrame *f, int plane, int width, int height, int is_wide, int type, struct AVMD5 *md5,
                      uint8_t out[16]) {
    const AVCRC *table = av_crc_get_table(AV_CRC_16_CCITT);
    /* The standard's sixteen zero bits after the picture, applied at the beginning. */
    uint32_t crc = av_bswap16(0x1d0f), sum = 0;
    if (type == 0)
        av_md5_init(md5);
    for (int y = 0; y < height; y++) {
        const uint8_t *row = f->data[plane] + y * f->linesize[plane];
        if (type == 0)
            av_md5_update(md5, row, width << is_wide);
        else if (type == 1)
            crc = av_crc(table, crc, row, width << is_wide);
        for (int x = 0; type == 2 && x < width; x++) {
            int mask = (x & 0xff) ^ (y & 0xff) ^ (x >> 8) ^ (y >> 8);
            sum += row[x << is_wide] ^ mask;
            if (is_wide)
                sum += row[(x << 1) + 1] ^ mask;
        }
    }
    if (type == 0)
        av_md5_final(md5, out);
    else if (type == 1)
        AV_WB16(out, av_bswap16(crc));
    else
        AV_WB32(out, sum);
    return type == 0 ? 16 : type == 1 ? 2 : 4;
}

/* Zero if the picture differs from the hash in the stream. */
static int agrees_with_hash(const HEVCContext *s, const HEVCFrame *f) {
    int size = 0;
    const uint8_t *hash = find_hash(s, &size);
    const HEVCSPS *sps = f->pps->sps;
    if (!hash || hash[0] > 2)
        return 1;
    struct AVMD5 *md5 = av_md5_alloc();
    const uint8_t *at = hash + 1, *end = hash + size;
    int agrees = md5 != NULL;
    for (int i = 0; agrees && i < (sps->chroma_format_idc ? 3 : 1); i++) {
        uint8_t found[16];
        int width = sps->width >> sps->hshift[i], height = sps->height >> sps->vshift[i];
        int length = hash_plane(f->f, i, width, height, sps->pixel_shift, hash[0], md5, found);
        agrees = end - at >= length && !memcmp(at, found, length);
        at += length;
    }
    av_free(md5);
    return agrees;
}

static int has_damaged_reference(const HEVCContext *s) {
    static const int used[] = { ST_CURR_BEF, ST_CURR_AFT, LT_CURR };
    for (int i = 0; i < COUNT(used); i++)
        for (int j = 0; j < s->rps[used[i]].nb_refs; j++) {
            const HEVCFrame *ref = s->rps[used[i]].ref[j];
            if (ref && ref->f && bs_marks(ref->f))
                return 1;
        }
    return 0;
}

/* A picture is missing: later pictures find an unknown one in its place, under its number. */
static void suspect_all(HEVCLayerContext *l) {
    for (int i = 0; i < COUNT(l->DPB); i++)
        if (l->DPB[i].f)
            bs_mark(l->DPB[i].f, BS_MARK_SUSPECT);
}

static int look(AVCodecContext *c, const BsWatch *watch, int ret) {
    const HEVCContext *s = c->priv_data;
    const HEVCLayerContext *l = &s->layers[0];
    if (!l->cur_frame)
        return ret < 0 || bs_seen.errors || lacks_slices(s) ? BS_FOUND_DAMAGE : 0;
    if (ret < 0 && ret != AVERROR(EAGAIN))
        return BS_FOUND_DAMAGE;
    if (watch->options.is_lenient && bs_seen.errors)
        return BS_FOUND_DAMAGE;
    if (!is_whole(s, l, l->cur_frame->pps))
        return BS_FOUND_DAMAGE;
    if (watch->options.checks_hashes && !agrees_with_hash(s, l->cur_frame))
        return BS_FOUND_DAMAGE;
    return look_at_ends(c, s, watch->options.checks_ends);
}

/* Removes parameter sets of pictures that are too large before anything is allocated for these. */
static int refuse_large(AVCodecContext *c, HEVCParamSets *ps) {
    int is_found = 0;
    for (int i = 0; i < COUNT(ps->sps_list); i++) {
        const HEVCSPS *sps = ps->sps_list[i];
        if (!sps || !bs_is_too_large(c, sps->width, sps->height))
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
int bs_hevc_decode_nal_sps(GetBitContext *gb, AVCodecContext *c, HEVCParamSets *ps, unsigned layer, int window) {
    int ret = ff_hevc_decode_nal_sps(gb, c, ps, layer, window);
    return refuse_large(c, ps) ? AVERROR(EINVAL) : ret;
}

int bs_hevc_decode_extradata(const uint8_t *data, int size, HEVCParamSets *ps, HEVCSEI *sei, int *is_nalff, int *length_size,
                             int recognition, int window, void *context) {
    int ret = ff_hevc_decode_extradata(data, size, ps, sei, is_nalff, length_size, recognition, window, context);
    refuse_large(context, ps);
    return ret;
}

/* Tables that pic_arrays_init() allocates, and hevc_frame_start() does not clear. */
void bs_hevc_clear_tables(AVCodecContext *c) {
    HEVCContext *s = c->priv_data;
    for (int i = 0; i < COUNT(s->layers); i++) {
        HEVCLayerContext *l = &s->layers[i];
        const HEVCSPS *sps = l->sps;
        if (!sps || !l->sao)
            continue;
        size_t blocks = (size_t)sps->ctb_width * sps->ctb_height;
        size_t coding = (size_t)sps->min_cb_width * sps->min_cb_height;
        size_t entries = (size_t)((sps->width >> sps->log2_min_cb_size) + 1) * ((sps->height >> sps->log2_min_cb_size) + 1);
        memset(l->sao, 0, blocks * sizeof(*l->sao));
        memset(l->deblock, 0, blocks * sizeof(*l->deblock));
        memset(l->filter_slice_edges, 0, blocks);
        memset(l->skip_flag, 0, coding);
        memset(l->tab_ct_depth, 0, coding);
        memset(l->tab_ipm, 0, (size_t)sps->min_pu_width * sps->min_pu_height);
        memset(l->qp_y_tab, 0, entries * sizeof(*l->qp_y_tab));
        for (int j = 0; j < 3 && sps->sao_enabled; j++) {
            size_t width = (size_t)(sps->width >> sps->hshift[j]) << sps->pixel_shift;
            size_t height = (size_t)(sps->height >> sps->vshift[j]) << sps->pixel_shift;
            if (l->sao_pixel_buffer_h[j])
                memset(l->sao_pixel_buffer_h[j], 0, width * 2 * sps->ctb_height);
            if (l->sao_pixel_buffer_v[j])
                memset(l->sao_pixel_buffer_v[j], 0, height * 2 * sps->ctb_width);
        }
    }
    /* Tables of motion vectors come from pools. */
    bs_hevc_renew_pools(c);
    memset(&s->cabac, 0, sizeof(s->cabac));
    for (unsigned i = 0; i < s->nb_local_ctx; i++) {
        HEVCLocalContext *lc = &s->local_ctx[i];
        memset(&lc->cu, 0, sizeof(lc->cu));
        memset(&lc->tu, 0, sizeof(lc->tu));
        memset(&lc->pu, 0, sizeof(lc->pu));
        lc->qp_y = lc->qPy_pred = 0;
    }
}

int bs_inspect_hevc(AVCodecContext *c, AVFrame *frame) {
    HEVCContext *s = c->priv_data;
    BsWatch *watch = bs_watch_of(c);
    bs_seen = (BsSeen){ 0 };
    int is_waiting = av_container_fifo_can_read(s->output_fifo);
    int ret = bs_tapped_hevc_decoder.cb.receive_frame(c, frame);
    /* A picture that waited for output was checked before; without a packet nothing was decoded. */
    if (!watch || is_waiting || !c->internal->in_pkt->data)
        return ret;
    BsVerdict verdict = { .found = look(c, watch, ret == AVERROR(EAGAIN) ? 0 : ret) };
    const HEVCFrame *current = s->layers[0].cur_frame;
    if (!current && verdict.found)
        suspect_all(&s->layers[0]);
    if (current && watch->options.is_lenient) {
        verdict.is_tainted = has_damaged_reference(s);
        if ((verdict.is_tainted || verdict.found) && current->needs_fg)
            bs_mark(current->frame_grain, BS_MARK_DAMAGED);
    }
    int judged = bs_judge(watch, current ? current->f : NULL, verdict, ret);
    if (judged < 0 && ret >= 0)
        av_frame_unref(frame);
    return judged;
}

/* libavcodec's flush keeps pictures that wait for output, with frame threads those of each thread. They would come
 * out among the next ones, after the findings about them are cleared. */
void bs_flush_hevc(AVCodecContext *c) {
    HEVCContext *s = c->priv_data;
    av_container_fifo_drain(s->output_fifo, av_container_fifo_can_read(s->output_fifo));
    bs_tapped_hevc_decoder.flush(c);
}
