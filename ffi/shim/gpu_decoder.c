/*
 * libavcodec's decoders on a GPU. Parsing, reference sets and the parameters of a picture are left to libavcodec: its
 * NVDEC hwaccels fill them in (nvdec_hevc.c and similar). The layer below them is ours, since random access needs this:
 *
 * - Sessions (hardware decoders) outlive the stream that they were made for. libavcodec makes a new one whenever a
 *   sequence begins.
 * - A picture that comes out of the decoder stays in its surface until the caller requests it (gpu_picture.c).
 *   libavcodec copies each one, also the many that only serve as references for the requested one.
 * - The GPU conceals damage; here the status of every picture of a decode run is checked, and damage is an error.
 *
 * So the codecs are copies of libavcodec's own with another hwaccel: libavcodec's with three functions replaced.
 */
#include "libavcodec/av1dec.h"
#include "libavcodec/codec_internal.h"
#include "libavcodec/decode.h"
#include "libavcodec/hwaccel_internal.h"
#include "libavcodec/hwconfig.h"
#include "libavcodec/internal.h"
#include "libavcodec/nvdec.h"
#include "libavutil/hwcontext.h"
#include "libavutil/mem.h"
#include "libavutil/pixdesc.h"
#include "libavutil/refstruct.h"

#include "fork.h"
#include "gpu.h"
#include "inspect.h"

/* Surfaces beside those for a stream's references: pictures that wait for output, one that is copied out, and some
 * for the hardware to work ahead. */
#define MORE_SURFACES 6
#define MOST_SURFACES 32

extern const FFCodec ff_hevc_decoder, ff_h264_decoder, ff_vp9_decoder, ff_av1_decoder;
extern const FFHWAccel ff_hevc_nvdec_hwaccel, ff_h264_nvdec_hwaccel, ff_vp9_nvdec_hwaccel, ff_av1_nvdec_hwaccel;

/* The picture in decoding; NULL if it should not be decoded here. */
static AVFrame *current(AVCodecContext *c) {
    if (c->codec_id == AV_CODEC_ID_AV1)
        return ((AV1DecContext *)c->priv_data)->cur_frame.f;
    return bs_fork_current(c);
}

static int references(const AVCodecContext *c, const AVFrame **out) {
    const AV1DecContext *s = c->priv_data;
    if (c->codec_id != AV_CODEC_ID_AV1)
        return bs_fork_references(c, out);
    const AV1RawFrameHeader *header = s->raw_frame_header;
    if (header->frame_type == AV1_FRAME_KEY || header->frame_type == AV1_FRAME_INTRA_ONLY)
        return 0;
    for (int i = 0; i < AV1_REFS_PER_FRAME; i++)
        out[i] = s->ref[header->ref_frame_idx[i]].f;
    return AV1_REFS_PER_FRAME;
}

/* Nonzero if all pictures that this one may refer to are in the session. A picture that libavcodec made up for a
 * missing one is not, nor is one of another session, from before a change of size: the GPU would use the contents of
 * its surface instead. */
static int has_references(const AVCodecContext *c, const BsLoan *loan) {
    const AVFrame *frames[BS_MOST_REFERENCES];
    int count = references(c, frames);
    for (int i = 0; i < count; i++) {
        const BsSurface *surface = frames[i] && frames[i]->buf[0] ? (BsSurface *)frames[i]->buf[0]->data : NULL;
        if (!surface || surface->loan != loan)
            return 0;
    }
    return 1;
}

typedef struct Way {
    const FFCodec *codec;
    const FFHWAccel *hwaccel;
    cudaVideoCodec cuvid;
    /* The driver reports damage. */
    int is_told;
} Way;

static const Way ways[] = {
    { &ff_hevc_decoder, &ff_hevc_nvdec_hwaccel, cudaVideoCodec_HEVC, 1 },
    { &ff_h264_decoder, &ff_h264_nvdec_hwaccel, cudaVideoCodec_H264, 1 },
    { &ff_vp9_decoder, &ff_vp9_nvdec_hwaccel, cudaVideoCodec_VP9, 0 },
    { &ff_av1_decoder, &ff_av1_nvdec_hwaccel, cudaVideoCodec_AV1, 0 },
};

static FFCodec codecs[COUNT(ways)];
static FFHWAccel hwaccels[COUNT(ways)];
static AVCodecHWConfigInternal configs[COUNT(ways)];
static const AVCodecHWConfigInternal *lists[COUNT(ways)][2];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const Way *way_of(int codec_id) {
    for (int i = 0; i < COUNT(ways); i++)
        if (ways[i].codec->p.id == (enum AVCodecID)codec_id)
            return &ways[i];
    return NULL;
}

static int chroma_of(const AVPixFmtDescriptor *format) {
    if (format->nb_components == 1)
        return cudaVideoChromaFormat_Monochrome;
    if (format->log2_chroma_w == 1)
        return format->log2_chroma_h == 1 ? cudaVideoChromaFormat_420 : cudaVideoChromaFormat_422;
    return cudaVideoChromaFormat_444;
}

/* The number of surfaces for the stream's references, as in libavcodec's hwaccel. */
static int references_of(AVCodecContext *c, const Way *way) {
    AVHWFramesContext frames = { 0 };
    AVBufferRef reference = { .data = (uint8_t *)&frames };
    int ret = way->hwaccel->frame_params(c, &reference);
    return ret < 0 ? bs_gpu_refuse(ret, "this chroma format or bit depth is not decoded on a GPU") : frames.initial_pool_size;
}

static int shape_of(AVCodecContext *c, const Way *way, BsShape *shape) {
    const AVPixFmtDescriptor *format = av_pix_fmt_desc_get(c->sw_pix_fmt);
    int references = references_of(c, way);
    if (references < 0)
        return references;
    if (bs_is_too_large(c, c->coded_width, c->coded_height))
        return bs_gpu_refuse(AVERROR(ENOSYS), "the pictures have more pixels than allowed");
    if (!format || (format->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_ALPHA)))
        return bs_gpu_refuse(AVERROR(ENOSYS), "RGB and alpha are not decoded on a GPU");
    /* Pictures come out in whole pairs of rows and columns; others would be scaled. */
    if ((c->coded_width | c->coded_height) & 1)
        return bs_gpu_refuse(AVERROR(ENOSYS), "an odd width or height is not decoded on a GPU");
    *shape = (BsShape){ .codec = way->cuvid, .chroma = chroma_of(format), .depth = format->comp[0].depth };
    shape->owner = ((const BsWatch *)c->opaque)->options.owner;
    shape->width = c->coded_width;
    shape->height = c->coded_height;
    shape->surfaces = FFMIN(references + MORE_SURFACES, MOST_SURFACES);
    int is_deep = shape->depth > 8;
    if (shape->chroma == cudaVideoChromaFormat_444)
        shape->output = is_deep ? cudaVideoSurfaceFormat_YUV444_16Bit : cudaVideoSurfaceFormat_YUV444;
    else if (shape->chroma == cudaVideoChromaFormat_422)
        return bs_gpu_refuse(AVERROR(ENOSYS), "4:2:2 is not decoded on a GPU");
    else
        shape->output = is_deep ? cudaVideoSurfaceFormat_P016 : cudaVideoSurfaceFormat_NV12;
    return 0;
}

typedef struct Indices {
    unsigned given, count;
} Indices;

static int next_index(AVRefStructOpaque opaque, void *object) {
    Indices *indices = opaque.nc;
    if (indices->given >= indices->count)
        return AVERROR(ENOMEM);
    *(unsigned *)object = indices->given++;
    return 0;
}

static void free_indices(AVRefStructOpaque opaque) { av_free(opaque.nc); }

static int init(AVCodecContext *c) {
    NVDECContext *nvdec = c->internal->hwaccel_priv_data;
    const Way *way = way_of(c->codec_id);
    BsLoan *loan = NULL;
    BsShape shape;
    /* As in nvdec_hevc.c; the other codecs do not check it. */
    nvdec->supports_444 = c->codec_id == AV_CODEC_ID_HEVC;
    if (c->codec_id == AV_CODEC_ID_HEVC && c->profile != AV_PROFILE_HEVC_MAIN && c->profile != AV_PROFILE_HEVC_MAIN_10 &&
        c->profile != AV_PROFILE_HEVC_MAIN_STILL_PICTURE && c->profile != AV_PROFILE_HEVC_REXT)
        return bs_gpu_refuse(AVERROR(ENOSYS), "this profile of H.265 is not decoded on a GPU");
    int ret = shape_of(c, way, &shape);
    if (ret < 0 || (ret = bs_gpu_borrow(((BsWatch *)c->opaque)->gpu, &shape, &loan)) < 0)
        return ret;
    loan->planar = c->sw_pix_fmt;
    loan->session->tells_nothing = !way->is_told;
    Indices *indices = av_mallocz(sizeof(*indices));
    if (indices)
        indices->count = loan->session->shape.surfaces;
    nvdec->decoder_pool = indices ? av_refstruct_pool_alloc_ext(sizeof(unsigned), 0, indices, next_index, NULL, NULL,
                                                                free_indices)
                                  : NULL;
    if (!nvdec->decoder_pool) {
        av_free(indices);
        av_refstruct_unref(&loan);
        return AVERROR(ENOMEM);
    }
    nvdec->decoder = (struct NVDECDecoder *)loan;
    return 0;
}

/* libavcodec's function refers to the picture's surface in its own way, and would copy it on output. */
static int start_frame(AVCodecContext *c, const AVBufferRef *buffer, const uint8_t *data, uint32_t size) {
    const Way *way = way_of(c->codec_id);
    AVFrame *frame = current(c);
    NVDECContext *nvdec = c->internal->hwaccel_priv_data;
    BsLoan *loan = (BsLoan *)nvdec->decoder;
    if (!frame)
        return bs_gpu_refuse(AVERROR_PATCHWELCOME, "film grain, or monochrome H.264, is not decoded on a GPU");
    if (!has_references(c, loan))
        return AVERROR_INVALIDDATA;
    int ret = way->hwaccel->start_frame(c, buffer, data, size);
    if (ret < 0)
        return ret;
    FrameDecodeData *decode = frame->private_ref;
    const NVDECFrame *where = decode->hwaccel_priv;
    BsSurface *surface = (BsSurface *)frame->buf[0]->data;
    decode->hwaccel_priv_post_process = NULL;
    surface->fields |= nvdec->pic_params.field_pic_flag ? 1 << nvdec->pic_params.bottom_field_flag : 3;
    if (!surface->loan) {
        surface->loan = av_refstruct_ref(loan);
        surface->index_ref = av_refstruct_ref(where->idx_ref);
        surface->index = where->idx;
    }
    /* The status of the surface's earlier picture, or of its first field, is checked now, or never. */
    if ((ret = bs_gpu_enter(loan->gpu)) < 0)
        return ret;
    ret = bs_gpu_settle(loan, surface->index);
    bs_gpu_leave(loan->gpu);
    return ret;
}

static int decode_picture(NVDECContext *nvdec, BsLoan *loan) {
    CUVIDPICPARAMS *picture = &nvdec->pic_params;
    picture->nBitstreamDataLen = nvdec->bitstream_len;
    picture->pBitstreamData = nvdec->bitstream;
    picture->nNumSlices = nvdec->nb_slices;
    picture->pSliceDataOffsets = nvdec->slice_offsets;
    int ret = bs_gpu_enter(loan->gpu);
    if (ret < 0)
        return ret;
    ret = bs_gpu_fail(loan->gpu, "cuvidDecodePicture", loan->gpu->cv->cuvidDecodePicture(loan->session->decoder, picture));
    bs_gpu_leave(loan->gpu);
    return ret;
}

static int end_frame(AVCodecContext *c) {
    NVDECContext *nvdec = c->internal->hwaccel_priv_data;
    BsLoan *loan = (BsLoan *)nvdec->decoder;
    int ret = decode_picture(nvdec, loan);
    if (ret < 0)
        atomic_store(&loan->damaged, 1);
    else if (!loan->session->tells_nothing)
        loan->session->unsettled |= UINT32_C(1) << nvdec->pic_params.CurrPicIdx;
    nvdec->bitstream = NULL;
    nvdec->bitstream_len = 0;
    nvdec->nb_slices = 0;
    return ret;
}

static enum AVPixelFormat get_format(AVCodecContext *c, const enum AVPixelFormat *choices) {
    for (; *choices != AV_PIX_FMT_NONE; choices++)
        if (*choices == AV_PIX_FMT_CUDA)
            return *choices;
    /* On the second call without CUDA, init() has recorded the reason. */
    if (!bs_gpu_error())
        bs_gpu_refuse(AVERROR(ENOSYS), "this pixel format is not decoded on a GPU");
    return AV_PIX_FMT_NONE;
}

static void make_codecs(void) {
    for (int i = 0; i < COUNT(ways); i++) {
        hwaccels[i] = *ways[i].hwaccel;
        hwaccels[i].init = init;
        hwaccels[i].start_frame = start_frame;
        hwaccels[i].end_frame = end_frame;
        configs[i].public.pix_fmt = AV_PIX_FMT_CUDA;
        configs[i].public.methods = AV_CODEC_HW_CONFIG_METHOD_INTERNAL;
        configs[i].public.device_type = AV_HWDEVICE_TYPE_NONE;
        configs[i].hwaccel = &hwaccels[i];
        lists[i][0] = &configs[i];
        codecs[i] = *ways[i].codec;
        codecs[i].hw_configs = lists[i];
    }
}

const AVCodec *bs_gpu_codec(int codec_id) {
    const Way *way = way_of(codec_id);
    pthread_once(&once, make_codecs);
    return way ? &codecs[way - ways].p : NULL;
}

void bs_gpu_attach(AVCodecContext *c, BsGpu *gpu) {
    ((BsWatch *)c->opaque)->gpu = gpu;
    c->get_format = get_format;
}

int bs_gpu_is_attached(const AVCodecContext *c) { return c->get_format == get_format; }

void bs_gpu_begin(AVCodecContext *c) {
    NVDECContext *nvdec = c->hwaccel ? c->internal->hwaccel_priv_data : NULL;
    BsLoan *loan = nvdec ? (BsLoan *)nvdec->decoder : NULL;
    if (loan) {
        atomic_store(&loan->damaged, 0);
        loan->session->stale = loan->session->unsettled;
    }
}

static void free_surface(void *opaque, uint8_t *data) {
    BsSurface *surface = (BsSurface *)data;
    av_refstruct_unref(&surface->index_ref);
    av_refstruct_unref(&surface->loan);
    av_free(surface);
}

int bs_gpu_get_buffer(AVCodecContext *c, AVFrame *f) {
    BsSurface *surface = av_mallocz(sizeof(*surface));
    f->buf[0] = surface ? av_buffer_create((uint8_t *)surface, sizeof(*surface), free_surface, NULL, 0) : NULL;
    if (!f->buf[0]) {
        av_free(surface);
        return AVERROR(ENOMEM);
    }
    f->extended_data = f->data;
    return 0;
}
