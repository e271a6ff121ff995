/*
 * Pictures of a GPU's decoder: copied to planes on the host, as a software decoder outputs them, or into device memory
 * for further work there.
 */
#include <ffnvcodec/dynlink_cuda.h>
#include <ffnvcodec/dynlink_nvcuvid.h>

#include <ffnvcodec/dynlink_loader.h>

#include "libavutil/frame.h"
#include "libavutil/imgutils.h"
#include "libavutil/mem.h"
#include "libavutil/pixdesc.h"
#include "libavutil/refstruct.h"

#include "gpu.h"

#define PITCH 256

/* The location of a mapped picture, and the part of each plane to copy. */
typedef struct Mapped {
    CUdeviceptr base;
    unsigned pitch;
    int planes, rows[3];
    size_t offsets[3];
    size_t row_bytes;
    int bytes_per_sample;
} Mapped;

static const BsSurface *surface_of(const AVFrame *f) {
    const BsSurface *surface = f->format == AV_PIX_FMT_CUDA && f->buf[0] ? (BsSurface *)f->buf[0]->data : NULL;
    return surface && f->buf[0]->size == sizeof(*surface) && surface->loan ? surface : NULL;
}

static void lay_out(const BsShape *shape, Mapped *out) {
    int is_444 = shape->chroma == cudaVideoChromaFormat_444;
    int height = (shape->height + 1) & ~1;
    out->bytes_per_sample = shape->depth > 8 ? 2 : 1;
    out->row_bytes = (size_t)shape->width * out->bytes_per_sample;
    out->planes = shape->chroma == cudaVideoChromaFormat_Monochrome ? 1 : is_444 ? 3 : 2;
    for (int i = 0; i < out->planes; i++) {
        out->rows[i] = i && !is_444 ? shape->height / 2 : shape->height;
        out->offsets[i] = (size_t)out->pitch * height * i;
    }
}

/* Waits until the picture is decoded, and copies it to host memory (`host`) or device memory, its planes one after
 * the other with `pitch` bytes a row. The context is entered. */
static int copy_out(const BsSurface *surface, uint8_t *host, CUdeviceptr device, size_t pitch, Mapped *mapped) {
    BsLoan *loan = surface->loan;
    BsGpu *gpu = loan->gpu;
    BsSession *session = loan->session;
    CUVIDPROCPARAMS how = { .progressive_frame = 1, .output_stream = session->stream };
    size_t at = 0;
    /* Mapping waits too, but without a limit. */
    int ret = bs_gpu_settle(loan, surface->index);
    if (ret >= 0)
        ret = bs_gpu_fail(gpu, "cuvidMapVideoFrame",
                          gpu->cv->cuvidMapVideoFrame(session->decoder, surface->index, &mapped->base, &mapped->pitch, &how));
    if (ret < 0)
        return ret;
    lay_out(&session->shape, mapped);
    for (int i = 0; i < mapped->planes && ret >= 0; i++) {
        CUDA_MEMCPY2D copy = { .srcMemoryType = CU_MEMORYTYPE_DEVICE,
                               .srcDevice = mapped->base + mapped->offsets[i],
                               .srcPitch = mapped->pitch,
                               .dstMemoryType = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE,
                               .dstHost = host ? host + at : NULL,
                               .dstDevice = host ? 0 : device + at,
                               .dstPitch = pitch,
                               .WidthInBytes = mapped->row_bytes,
                               .Height = mapped->rows[i] };
        at += pitch * mapped->rows[i];
        ret = bs_gpu_fail(gpu, "cuMemcpy2DAsync", gpu->cu->cuMemcpy2DAsync(&copy, session->stream));
    }
    int waited = bs_gpu_fail(gpu, "cuStreamSynchronize", gpu->cu->cuStreamSynchronize(session->stream));
    int unmapped = bs_gpu_fail(gpu, "cuvidUnmapVideoFrame", gpu->cv->cuvidUnmapVideoFrame(session->decoder, mapped->base));
    return ret < 0 ? ret : waited < 0 ? waited : unmapped;
}

/* 0 if the picture is complete and of the session's size. */
static int check(const AVFrame *from, const BsSurface *surface) {
    const BsShape *shape = &surface->loan->session->shape;
    /* In a picture with a single field, the other field's rows are those of an older picture. */
    if (surface->fields != 3)
        return bs_gpu_refuse(AVERROR_INVALIDDATA, "only one field of a picture was decoded");
    /* AV1 pictures may change their size without a new sequence. */
    int is_other = from->width != shape->width || from->height != shape->height;
    if (from->width > shape->width || from->height > shape->height || (shape->codec == cudaVideoCodec_AV1 && is_other))
        return bs_gpu_refuse(AVERROR_INVALIDDATA, "the size of a picture differs from its stream's");
    return 0;
}

/* Waits for all pictures that were sent, and checks that none is damaged. */
static int settle_all(const BsSurface *surface) {
    BsLoan *loan = surface->loan;
    int ret = 0;
    for (unsigned i = 0; i < 32 && ret >= 0; i++)
        ret = bs_gpu_settle(loan, i);
    if (ret < 0)
        return ret;
    return atomic_load(&loan->damaged) ? bs_gpu_refuse(AVERROR_INVALIDDATA, "the GPU reports a damaged picture") : 0;
}

/* Bytes of a picture with its planes one after the other. */
static size_t bytes_of(const BsShape *shape, size_t *pitch) {
    size_t row = (size_t)shape->width * (shape->depth > 8 ? 2 : 1);
    *pitch = (row + PITCH - 1) / PITCH * PITCH;
    return *pitch * shape->height * (shape->chroma == cudaVideoChromaFormat_444 ? 3 : 2);
}

/* Values are in the upper bits on the device, in the lower ones on the host. */
static void copy_row(uint8_t *to, const uint8_t *from, int samples, int depth) {
    if (depth == 8) {
        memcpy(to, from, samples);
        return;
    }
    const uint16_t *source = (const uint16_t *)from;
    uint16_t *target = (uint16_t *)to;
    for (int i = 0; i < samples; i++)
        target[i] = source[i] >> (16 - depth);
}

static void split_row(uint8_t *u, uint8_t *v, const uint8_t *from, int samples, int depth) {
    if (depth == 8) {
        for (int i = 0; i < samples; i++) {
            u[i] = from[2 * i];
            v[i] = from[2 * i + 1];
        }
        return;
    }
    const uint16_t *source = (const uint16_t *)from;
    uint16_t *to_u = (uint16_t *)u, *to_v = (uint16_t *)v;
    for (int i = 0; i < samples; i++) {
        to_u[i] = source[2 * i] >> (16 - depth);
        to_v[i] = source[2 * i + 1] >> (16 - depth);
    }
}

/* The planes of `to` from what copy_out() left at `from`. */
static void spread(AVFrame *to, const uint8_t *from, size_t pitch, const Mapped *mapped, int depth) {
    const AVPixFmtDescriptor *format = av_pix_fmt_desc_get(to->format);
    for (int plane = 0; plane < mapped->planes; plane++) {
        int is_chroma = plane > 0;
        int width = is_chroma ? AV_CEIL_RSHIFT(to->width, format->log2_chroma_w) : to->width;
        int height = is_chroma ? AV_CEIL_RSHIFT(to->height, format->log2_chroma_h) : to->height;
        for (int y = 0; y < height && y < mapped->rows[plane]; y++) {
            const uint8_t *row = from + y * pitch;
            uint8_t *target = to->data[plane] + (ptrdiff_t)y * to->linesize[plane];
            if (is_chroma && mapped->planes == 2)
                split_row(target, to->data[2] + (ptrdiff_t)y * to->linesize[2], row, width, depth);
            else
                copy_row(target, row, width, depth);
        }
        from += pitch * mapped->rows[plane];
    }
}

const BsKept *bs_gpu_kept_of(const AVFrame *f) {
    const BsKept *kept = f->format == AV_PIX_FMT_CUDA && f->buf[0] ? (BsKept *)f->buf[0]->data : NULL;
    return kept && f->buf[0]->size == sizeof(*kept) && kept->block ? kept : NULL;
}

/* A kept picture's planes to the host, one below the other with its own pitch. The context is entered. */
static int copy_kept(const BsKept *kept, uint8_t *host, Mapped *mapped) {
    const BsGpuPicture *picture = &kept->picture;
    const struct CudaFunctions *cu = kept->gpu->cu;
    int is_444 = picture->plane_count == 3, ret = 0;
    *mapped = (Mapped){ .planes = picture->plane_count };
    for (int i = 0; i < mapped->planes && ret >= 0; i++) {
        int width = i && !is_444 ? (picture->width + 1) & ~1 : picture->width;
        mapped->rows[i] = i && !is_444 ? (picture->height + 1) / 2 : picture->height;
        CUDA_MEMCPY2D copy = { .srcMemoryType = CU_MEMORYTYPE_DEVICE,
                               .srcDevice = picture->planes[i],
                               .srcPitch = picture->pitch,
                               .dstMemoryType = CU_MEMORYTYPE_HOST,
                               .dstHost = host,
                               .dstPitch = picture->pitch,
                               .WidthInBytes = (size_t)width * picture->bytes_per_sample,
                               .Height = mapped->rows[i] };
        host += picture->pitch * mapped->rows[i];
        ret = bs_gpu_fail(kept->gpu, "cuMemcpy2D", cu->cuMemcpy2D(&copy));
    }
    return ret;
}

static int download_kept(const BsKept *kept, const AVFrame *from, AVFrame *to) {
    const BsGpuPicture *picture = &kept->picture;
    Mapped mapped;
    int ret = bs_gpu_enter(kept->gpu);
    if (ret < 0)
        return ret;
    BsBlock *block = bs_gpu_take_block(kept->gpu, 1, kept->block->size);
    ret = block ? copy_kept(kept, block->host, &mapped) : AVERROR(ENOMEM);
    bs_gpu_leave(kept->gpu);
    to->format = picture->planar;
    to->width = picture->width;
    to->height = picture->height;
    if (ret >= 0)
        ret = bs_get_planes(to);
    if (ret >= 0) {
        spread(to, block->host, picture->pitch, &mapped, picture->bit_depth);
        ret = av_frame_copy_props(to, from);
    }
    if (block)
        bs_gpu_give_block(kept->gpu, block);
    return ret;
}

int bs_gpu_download(const AVFrame *from, AVFrame *to) {
    const BsSurface *surface = surface_of(from);
    const BsKept *kept = bs_gpu_kept_of(from);
    Mapped mapped;
    size_t pitch;
    if (kept)
        return download_kept(kept, from, to);
    if (!surface)
        return bs_gpu_refuse(AVERROR(EINVAL), "this picture was not decoded on a GPU");
    BsGpu *gpu = surface->loan->gpu;
    const BsShape *shape = &surface->loan->session->shape;
    int ret = check(from, surface);
    if (ret < 0 || (ret = bs_gpu_enter(gpu)) < 0)
        return ret;
    BsBlock *block = bs_gpu_take_block(gpu, 1, bytes_of(shape, &pitch));
    ret = block ? copy_out(surface, block->host, 0, pitch, &mapped) : AVERROR(ENOMEM);
    if (ret >= 0)
        ret = settle_all(surface);
    bs_gpu_leave(gpu);
    if (ret >= 0) {
        to->format = surface->loan->planar;
        to->width = from->width;
        to->height = from->height;
        ret = bs_get_planes(to);
    }
    if (ret >= 0) {
        spread(to, block->host, pitch, &mapped, shape->depth);
        ret = av_frame_copy_props(to, from);
    }
    if (block)
        bs_gpu_give_block(gpu, block);
    return ret;
}

static void free_kept(void *opaque, uint8_t *data) {
    BsKept *kept = (BsKept *)data;
    if (kept->block)
        bs_gpu_give_block(kept->gpu, kept->block);
    av_refstruct_unref(&kept->gpu);
    av_free(kept);
}

/* Describes the visible part of a kept picture. */
static void describe(const AVFrame *from, const BsShape *shape, enum AVPixelFormat planar, const Mapped *mapped,
                     size_t pitch, BsKept *kept) {
    BsGpuPicture *picture = &kept->picture;
    int is_444 = shape->chroma == cudaVideoChromaFormat_444;
    CUdeviceptr at = kept->block->device;
    *picture = (BsGpuPicture){ .context = (uintptr_t)kept->gpu->context, .pitch = pitch, .plane_count = mapped->planes };
    picture->width = from->width - (int)(from->crop_left + from->crop_right);
    picture->height = from->height - (int)(from->crop_top + from->crop_bottom);
    picture->bytes_per_sample = mapped->bytes_per_sample;
    picture->bit_depth = shape->depth;
    picture->ordinal = kept->gpu->ordinal;
    picture->planar = planar;
    for (int i = 0; i < mapped->planes; i++) {
        size_t top = i && !is_444 ? from->crop_top / 2 : from->crop_top;
        size_t left = i && !is_444 ? from->crop_left / 2 * 2 : from->crop_left;
        picture->planes[i] = at + top * pitch + left * mapped->bytes_per_sample;
        at += pitch * mapped->rows[i];
    }
}

int bs_gpu_keep(const AVFrame *from, AVFrame *to) {
    const BsSurface *surface = surface_of(from);
    Mapped mapped;
    size_t pitch;
    if (!surface)
        return bs_gpu_refuse(AVERROR(EINVAL), "this picture was not decoded on a GPU");
    BsGpu *gpu = surface->loan->gpu;
    const BsShape *shape = &surface->loan->session->shape;
    BsKept *kept = av_mallocz(sizeof(*kept));
    to->buf[0] = kept ? av_buffer_create((uint8_t *)kept, sizeof(*kept), free_kept, NULL, AV_BUFFER_FLAG_READONLY) : NULL;
    if (!to->buf[0]) {
        av_free(kept);
        return AVERROR(ENOMEM);
    }
    kept->gpu = av_refstruct_ref(gpu);
    int ret = check(from, surface);
    if (ret < 0 || (ret = bs_gpu_enter(gpu)) < 0)
        return ret;
    kept->block = bs_gpu_take_block(gpu, 0, bytes_of(shape, &pitch));
    ret = kept->block ? copy_out(surface, NULL, kept->block->device, pitch, &mapped) : AVERROR(ENOMEM);
    if (ret >= 0)
        ret = settle_all(surface);
    bs_gpu_leave(gpu);
    if (ret < 0)
        return ret;
    describe(from, shape, surface->loan->planar, &mapped, pitch, kept);
    ret = av_frame_copy_props(to, from);
    to->format = AV_PIX_FMT_CUDA;
    to->width = kept->picture.width;
    to->height = kept->picture.height;
    to->crop_left = to->crop_right = to->crop_top = to->crop_bottom = 0;
    for (int i = 0; i < mapped.planes; i++) {
        to->data[i] = (uint8_t *)(uintptr_t)kept->picture.planes[i];
        to->linesize[i] = (int)pitch;
    }
    return ret;
}

int bs_gpu_kept(const AVFrame *f, BsGpuPicture *out) {
    const BsKept *kept = bs_gpu_kept_of(f);
    if (!kept)
        return AVERROR(EINVAL);
    *out = kept->picture;
    return 0;
}
