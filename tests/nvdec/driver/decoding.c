/*
 * Decoding: checks of references and slices, and the content of surfaces.
 */
#include "driver.h"

#include <string.h>

static unsigned decodes_running;

const struct surface *surface_of(const struct decoder *d, int index)
{
    return index >= 0 && (unsigned long)index < d->info.ulNumDecodeSurfaces ? &d->surface[index]
                                                                            : NULL;
}

/* One entry of a HEVC picture's reference set. *spoiled: the reference is right, but its content is garbage. */
static bool hevc_reference(const struct decoder *d, const CUVIDPICPARAMS *p, unsigned j,
                           bool *spoiled)
{
    const CUVIDHEVCPICPARAMS *h = &p->CodecSpecific.hevc;
    const struct surface *s = j < 16 ? surface_of(d, h->RefPicIdx[j]) : NULL;
    int index = j < 16 ? h->RefPicIdx[j] : -1, order = h->CurrPicOrderCntVal;
    if (!s)
        wrong("picture %d: reference %u is in surface %d, which is none", order, j, index);
    else if (index == p->CurrPicIdx)
        wrong("picture %d: reference %u is the surface it decodes into", order, j);
    else if (s->content == EMPTY)
        wrong("picture %d: reference %u is in surface %d, which is empty", order, j, index);
    else if (s->order[0] != h->PicOrderCntVal[j])
        wrong("picture %d: reference %u should be picture %d, but surface %d holds %d", order, j,
              h->PicOrderCntVal[j], index, s->order[0]);
    else if (s->era != d->era && !(s->era + 1 == d->era && order < d->era_order))
        wrong("picture %d: reference %u, picture %d, is from before the random access point",
              order, j, s->order[0]);
    else {
        *spoiled |= s->content == GARBAGE;
        return true;
    }
    return false;
}

static bool hevc_references(struct decoder *d, const CUVIDPICPARAMS *p, bool *spoiled)
{
    const CUVIDHEVCPICPARAMS *h = &p->CodecSpecific.hevc;
    const struct { int n; const unsigned char *list; } sets[] = {
        { h->NumPocStCurrBefore, h->RefPicSetStCurrBefore },
        { h->NumPocStCurrAfter, h->RefPicSetStCurrAfter },
        { h->NumPocLtCurr, h->RefPicSetLtCurr },
    };
    bool right = true;
    if (h->IrapPicFlag) {
        d->era++;
        d->era_order = h->CurrPicOrderCntVal;
    }
    for (int k = 0; k < 3; k++) {
        if (sets[k].n < 0 || sets[k].n > 8) {
            wrong("picture %d: %d references in one set", h->CurrPicOrderCntVal, sets[k].n);
            right = false;
            continue;
        }
        for (int i = 0; i < sets[k].n; i++)
            right &= hevc_reference(d, p, sets[k].list[i], spoiled);
    }
    return right;
}

/* The picture's use of the three is not known here: each has to be a picture. */
static bool vp9_references(const struct decoder *d, const CUVIDPICPARAMS *p)
{
    const CUVIDVP9PICPARAMS *v = &p->CodecSpecific.vp9;
    const unsigned char index[] = { v->LastRefIdx, v->GoldenRefIdx, v->AltRefIdx };
    bool right = true;
    bool is_intra = !v->frameType || v->intraOnly;
    for (int i = 0; i < 3 && !is_intra; i++) {
        const struct surface *s = index[i] < d->info.ulNumDecodeSurfaces ? &d->surface[index[i]] : NULL;
        if (!s || s->content == EMPTY || index[i] == p->CurrPicIdx) {
            wrong("a picture refers to surface %d, which holds none", index[i]);
            right = false;
        }
    }
    return right;
}

static bool h264_references(const struct decoder *d, const CUVIDPICPARAMS *p, bool *spoiled)
{
    const CUVIDH264PICPARAMS *h = &p->CodecSpecific.h264;
    bool right = true;
    for (int i = 0; i < 16; i++) {
        const CUVIDH264DPBENTRY *e = &h->dpb[i];
        unsigned fields = (unsigned)e->used_for_reference & 3;
        if (!e->used_for_reference || e->not_existing)
            continue;
        const struct surface *s = surface_of(d, e->PicIdx);
        bool good = false;
        if (!s)
            wrong("frame %d: reference %d is in surface %d, which is none", h->frame_num, i,
                  e->PicIdx);
        else if (e->PicIdx == p->CurrPicIdx && !p->second_field)
            wrong("frame %d: reference %d is the surface it decodes into", h->frame_num, i);
        else if (s->content == EMPTY || (s->fields & fields) != fields)
            wrong("frame %d: reference %d: surface %d has no such field", h->frame_num, i,
                  e->PicIdx);
        else if ((fields & 1 && s->order[0] != e->FieldOrderCnt[0]) ||
                 (fields & 2 && s->order[1] != e->FieldOrderCnt[1]))
            wrong("frame %d: reference %d should be (%d, %d), but surface %d holds (%d, %d)",
                  h->frame_num, i, e->FieldOrderCnt[0], e->FieldOrderCnt[1], e->PicIdx,
                  s->order[0], s->order[1]);
        else
            good = true;
        *spoiled |= good && s->content == GARBAGE;
        right &= good;
    }
    return right;
}

/* NVDEC demands every slice of H.264 and HEVC with its start code, and the offset of each. */
static bool slices_right(const CUVIDPICPARAMS *p)
{
    unsigned n = p->nBitstreamDataLen;
    bool right = p->nNumSlices > 0 && p->pSliceDataOffsets;
    for (unsigned i = 0; right && i < p->nNumSlices; i++) {
        unsigned at = p->pSliceDataOffsets[i];
        right = at < n && n - at > 4 && (!i || at > p->pSliceDataOffsets[i - 1]);
        const unsigned char *s = p->pBitstreamData + at;
        right = right && !s[0] && !s[1] && (s[2] == 1 || (!s[2] && s[3] == 1));
    }
    if (!right)
        complain("cuvidDecodePicture: the slice offsets do not lead to start codes");
    return right;
}

static void spoil(struct surface *s)
{
    count.unknown -= s->content == UNKNOWN;
    count.garbage += s->content != GARBAGE;
    s->content = GARBAGE;
}

static void begin_picture(struct decoder *d, struct surface *s, uint64_t hash)
{
    const struct picture *p = look_up(hash, d->last_index);
    *s = (struct surface){ .content = p ? GOOD : UNKNOWN, .hash = hash, .picture = p,
                           .era = d->era };
    count.decoded++;
    count.unknown += !p;
    if (!p)
        return;
    d->last_index = p->index;
    if (p->format != (uint32_t)d->info.OutputFormat || p->depth != d->info.bitDepthMinus8 + 8) {
        complain("cuvidDecodePicture: a picture of format %u and %u bit in a decoder for format "
                 "%d and %lu bit", p->format, p->depth, d->info.OutputFormat,
                 d->info.bitDepthMinus8 + 8);
        spoil(s);
    }
}

static void decode(struct decoder *d, const CUVIDPICPARAMS *p, uint64_t hash)
{
    struct surface *s = &d->surface[p->CurrPicIdx];
    bool h264 = d->info.CodecType == cudaVideoCodec_H264, spoiled = false, right = true;
    unsigned fields = !p->field_pic_flag ? 3 : p->bottom_field_flag ? 2 : 1;
    bool second = h264 && p->field_pic_flag && p->second_field;
    if (h264 || d->info.CodecType == cudaVideoCodec_HEVC)
        right = slices_right(p);
    if (h264)
        right &= h264_references(d, p, &spoiled);
    else if (d->info.CodecType == cudaVideoCodec_HEVC)
        right &= hevc_references(d, p, &spoiled);
    else if (d->info.CodecType == cudaVideoCodec_VP9)
        right &= vp9_references(d, p);
    if (second && (s->content == EMPTY || s->fields != (fields ^ 3))) {
        wrong("frame %d: a second field without its first", p->CodecSpecific.h264.frame_num);
        second = right = false;
    }
    if (!second)       /* a second field adds nothing: the entry of its first has both */
        begin_picture(d, s, hash);
    if (h264) {
        s->fields |= fields;
        for (int i = 0; i < 2; i++)
            if (fields >> i & 1)
                s->order[i] = p->CodecSpecific.h264.CurrFieldOrderCnt[i];
    } else if (d->info.CodecType == cudaVideoCodec_HEVC) {
        s->order[0] = p->CodecSpecific.hevc.CurrPicOrderCntVal;
    }
    /* Lists include unused pictures: damaged ones do not affect an intra picture. */
    if (!right || (spoiled && !p->intra_pic_flag))
        spoil(s);
    /* Concealed damage looks like a picture. */
    if (is_damaged(hash)) {
        s->damaged = true;
        spoil(s);
    }
    s->busy = (unsigned)set.busy;
}

CUresult cuvidDecodePicture(CUvideodecoder handle, CUVIDPICPARAMS *p)
{
    ENTER("cuvidDecodePicture", CONTEXT);
    if (!p || !p->pBitstreamData || !p->nBitstreamDataLen)
        return leave(INVALID_VALUE);
    count.max_concurrent_decodes = larger(count.max_concurrent_decodes, ++decodes_running);
    pthread_mutex_unlock(&lock);
    uint64_t hash = hash_of(p->pBitstreamData, p->nBitstreamDataLen);
    pthread_mutex_lock(&lock);
    CUresult code = nap(set.decode_us);
    decodes_running--;
    struct decoder *d = code == CUDA_SUCCESS ? decoder_of("cuvidDecodePicture", handle) : NULL;
    if (!d)
        return leave(code == CUDA_SUCCESS ? INVALID_HANDLE : code);
    if (!surface_of(d, p->CurrPicIdx)) {
        complain("cuvidDecodePicture: surface %d of %lu", p->CurrPicIdx,
                 d->info.ulNumDecodeSurfaces);
        return leave(INVALID_VALUE);
    }
    decode(d, p, hash);
    return leave(CUDA_SUCCESS);
}

CUresult cuvidGetDecodeStatus(CUvideodecoder handle, int index, CUVIDGETDECODESTATUS *status)
{
    ENTER("cuvidGetDecodeStatus", CONTEXT);
    struct decoder *d = decoder_of("cuvidGetDecodeStatus", handle);
    if (!d)
        return leave(INVALID_HANDLE);
    if (d->info.CodecType != cudaVideoCodec_H264 && d->info.CodecType != cudaVideoCodec_HEVC)
        return leave(NOT_SUPPORTED);
    if (!surface_of(d, index) || !status)
        return leave(INVALID_VALUE);
    struct surface *s = &d->surface[index];
    memset(status, 0, sizeof *status);
    if (s->content == EMPTY)
        status->decodeStatus = cuvidDecodeStatus_Invalid;
    else if (s->busy) {
        s->busy--;
        status->decodeStatus = cuvidDecodeStatus_InProgress;
    } else
        status->decodeStatus = s->damaged ? cuvidDecodeStatus_Error : cuvidDecodeStatus_Success;
    return leave(CUDA_SUCCESS);
}
