/*
 * JPEGs of decoded pictures that never leave the GPU: a kernel converts NVDEC's output (NV12 or P016 of any matrix and
 * range) to JFIF's planes, nvJPEG compresses them, and only the file is copied to the host.
 *
 * engine/src/pixels/jfif.rs defines the planes; its arithmetic is repeated here, and the results differ by at most 1.
 * HDR and wide gamut, YCgCo, scaling, turning, fields, and every subsampling but 4:2:0 are left to the CPU; the caller
 * selects the pictures.
 *
 * nvJPEG is loaded when the first encoder is opened and stays loaded: unloading a library that has used a GPU is not
 * safe. The kernel is PTX, which the driver compiles for its GPU (and caches).
 */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ffnvcodec/dynlink_cuda.h>
#include <ffnvcodec/dynlink_loader.h>

#include "libavutil/error.h"
#include "libavutil/macros.h"
#include "libavutil/mem.h"
#include "libavutil/pixfmt.h"

#include "libavutil/frame.h"
#include "libavutil/refstruct.h"

#include "gpu.h"
#include "gpu_jpeg.h"
#include "gpu_jpeg_kernel.ptx.h"
#include "gpu_jpeg_pixel.h"
#include "gpu_nvjpeg.h"

_Static_assert(sizeof(BsConvert) == BS_GPU_JPEG_PARAMETER_BYTES, "the PTX is of another source: run scripts/gpu-kernel");

/* A CUresult without a name in the headers. */
#define CUDA_ERROR_OUT_OF_MEMORY 2
/* The longest side of a JPEG. */
#define MAX_SIDE 65535
/* Luma samples across and down in a unit of a 4:2:0 JPEG. An encoder may read to the end of a unit. */
#define UNIT 16
/* Rows begin at multiples of this, as in the driver's own allocations of pictures. */
#define PITCH 256
/* Threads in a block of the grid. */
#define BLOCK_COLUMNS 32
#define BLOCK_ROWS 8

typedef struct Nvjpeg {
    void *library;
    BsNvjpegCreateSimple *create;
    BsNvjpegDestroy *destroy;
    BsNvjpegEncoderStateCreate *state_create;
    BsNvjpegEncoderStateDestroy *state_destroy;
    BsNvjpegEncoderParamsCreate *params_create;
    BsNvjpegEncoderParamsDestroy *params_destroy;
    BsNvjpegEncoderParamsSet *set_quality, *set_sampling, *set_optimized;
    BsNvjpegEncodeYUV *encode;
    BsNvjpegEncodeRetrieveBitstream *retrieve;
} Nvjpeg;

struct BsGpuJpeg {
    CudaFunctions *cu;
    CUcontext context;
    const Nvjpeg *nvjpeg;
    CUmodule module;
    CUfunction convert;
    BsNvjpegHandle handle;
    BsNvjpegState state;
    BsNvjpegParams params;
    int quality; /* that `params` have; 0 if none is set */
    CUdeviceptr planes;
    size_t planes_size;
};

/* JFIF's planes within one piece of device memory. */
typedef struct Layout {
    size_t luma_pitch, chroma_pitch; /* bytes */
    size_t cb, cr, size;             /* where Cb and Cr begin, and where all ends */
    int columns, rows;               /* of chroma, up to the end of the last unit */
} Layout;

static _Thread_local char reason[256];

const char *bs_gpu_jpeg_why(void) {
    return reason;
}

av_printf_format(2, 3) static int failed(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    return code;
}

/* 0, or the AVERROR for an error of the driver. */
static int of_driver(const BsGpuJpeg *e, CUresult result, const char *call) {
    const char *text = NULL;
    if (result == CUDA_SUCCESS)
        return 0;
    e->cu->cuGetErrorString(result, &text);
    const int code = (int)result == CUDA_ERROR_OUT_OF_MEMORY ? AVERROR(ENOMEM) : AVERROR_EXTERNAL;
    return failed(code, "%s: %s (CUDA error %d)", call, text ? text : "unknown error", (int)result);
}

/* 0, or the AVERROR for a status of nvJPEG. */
static int of_nvjpeg(int status, const char *call) {
    static const char *const texts[] = {
        "success", "not initialized", "invalid parameter", "bad JPEG", "JPEG not supported", "out of memory",
        "execution failed", "not for this GPU", "internal error", "not implemented", "incomplete bitstream",
    };
    if (status == BS_NVJPEG_SUCCESS)
        return 0;
    const char *text = status > 0 && status < (int)FF_ARRAY_ELEMS(texts) ? texts[status] : "unknown status";
    const int code = status == BS_NVJPEG_ALLOCATOR_FAILURE ? AVERROR(ENOMEM) : AVERROR_EXTERNAL;
    return failed(code, "%s: %s (nvJPEG status %d)", call, text, status);
}

/* Finds a function of an opened library. `place` points to a function pointer. */
static int find(void *library, const char *name, void *place) {
    void *symbol = dlsym(library, name);
    if (!symbol)
        return failed(AVERROR(ENOSYS), "nvJPEG has no %s", name);
    memcpy(place, &symbol, sizeof(symbol));
    return 0;
}

static int find_all(Nvjpeg *n) {
    const struct { const char *name; void *place; } symbols[] = {
        { "nvjpegCreateSimple", &n->create },
        { "nvjpegDestroy", &n->destroy },
        { "nvjpegEncoderStateCreate", &n->state_create },
        { "nvjpegEncoderStateDestroy", &n->state_destroy },
        { "nvjpegEncoderParamsCreate", &n->params_create },
        { "nvjpegEncoderParamsDestroy", &n->params_destroy },
        { "nvjpegEncoderParamsSetQuality", &n->set_quality },
        { "nvjpegEncoderParamsSetSamplingFactors", &n->set_sampling },
        { "nvjpegEncoderParamsSetOptimizedHuffman", &n->set_optimized },
        { "nvjpegEncodeYUV", &n->encode },
        { "nvjpegEncodeRetrieveBitstream", &n->retrieve },
    };
    int ret = 0;
    for (size_t i = 0; i < FF_ARRAY_ELEMS(symbols) && !ret; i++)
        ret = find(n->library, symbols[i].name, symbols[i].place);
    return ret;
}

static void *open_library(void) {
    static const char *const names[] = { "libnvjpeg.so.13", "libnvjpeg.so.12", "libnvjpeg.so.11", "libnvjpeg.so" };
    const char *named = getenv(BS_NVJPEG_VARIABLE);
    void *library = NULL;
    if (named && *named)
        return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < FF_ARRAY_ELEMS(names) && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

/* The process's only nvJPEG. After a failure the next call tries again: it may have been installed since. */
static int load(const Nvjpeg **out) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static Nvjpeg loaded;
    int ret = 0;
    pthread_mutex_lock(&lock);
    if (!loaded.library) {
        Nvjpeg n = { .library = open_library() };
        const char *why = n.library ? NULL : dlerror();
        ret = n.library ? find_all(&n) : failed(AVERROR(ENOSYS), "no nvJPEG: %s", why ? why : "not found");
        if (!ret)
            loaded = n;
        else if (n.library)
            dlclose(n.library);
    }
    pthread_mutex_unlock(&lock);
    *out = &loaded;
    return ret;
}

static int enter(const BsGpuJpeg *e) {
    return of_driver(e, e->cu->cuCtxPushCurrent(e->context), "cuCtxPushCurrent");
}

static void leave(const BsGpuJpeg *e) {
    CUcontext left;
    e->cu->cuCtxPopCurrent(&left);
}

static int load_kernel(BsGpuJpeg *e) {
    int ret = of_driver(e, e->cu->cuModuleLoadData(&e->module, bs_gpu_jpeg_ptx), "cuModuleLoadData");
    if (ret < 0)
        return ret;
    return of_driver(e, e->cu->cuModuleGetFunction(&e->convert, e->module, BS_CONVERT_NAME), "cuModuleGetFunction");
}

/* Huffman tables are the default ones, as in JPEGs that the CPU makes. */
static int create_encoder(BsGpuJpeg *e) {
    const Nvjpeg *n = e->nvjpeg;
    int ret = of_nvjpeg(n->create(&e->handle), "nvjpegCreateSimple");
    if (!ret)
        ret = of_nvjpeg(n->state_create(e->handle, &e->state, NULL), "nvjpegEncoderStateCreate");
    if (!ret)
        ret = of_nvjpeg(n->params_create(e->handle, &e->params, NULL), "nvjpegEncoderParamsCreate");
    if (!ret)
        ret = of_nvjpeg(n->set_sampling(e->params, BS_NVJPEG_CSS_420, NULL), "nvjpegEncoderParamsSetSamplingFactors");
    if (!ret)
        ret = of_nvjpeg(n->set_optimized(e->params, 0, NULL), "nvjpegEncoderParamsSetOptimizedHuffman");
    return ret;
}

static int create(CudaFunctions *cu, CUcontext context, BsGpuJpeg **out) {
    const Nvjpeg *nvjpeg;
    int ret = load(&nvjpeg);
    if (ret < 0)
        return ret;
    BsGpuJpeg *e = *out = av_mallocz(sizeof(*e));
    if (!e)
        return failed(AVERROR(ENOMEM), "out of memory");
    *e = (BsGpuJpeg){ .cu = cu, .context = context, .nvjpeg = nvjpeg };
    ret = enter(e);
    if (ret < 0)
        return ret;
    ret = load_kernel(e);
    if (!ret)
        ret = create_encoder(e);
    leave(e);
    return ret;
}

int bs_gpu_jpeg_open(CudaFunctions *cu, CUcontext context, BsGpuJpeg **out, char *why, size_t why_size) {
    *out = NULL;
    int ret = create(cu, context, out);
    if (ret < 0) {
        bs_gpu_jpeg_close(out);
        if (why && why_size)
            snprintf(why, why_size, "%s", reason);
    }
    return ret;
}

static void release(BsGpuJpeg *e) {
    if (e->params)
        e->nvjpeg->params_destroy(e->params);
    if (e->state)
        e->nvjpeg->state_destroy(e->state);
    if (e->handle)
        e->nvjpeg->destroy(e->handle);
    if (e->planes)
        e->cu->cuMemFree(e->planes);
    if (e->module)
        e->cu->cuModuleUnload(e->module);
}

void bs_gpu_jpeg_close(BsGpuJpeg **encoder) {
    BsGpuJpeg *e = encoder ? *encoder : NULL;
    if (!e)
        return;
    /* In a context that cannot be entered nothing is left to free on the device; nvJPEG has host memory as well. */
    const int is_inside = e->cu->cuCtxPushCurrent(e->context) == CUDA_SUCCESS;
    release(e);
    if (is_inside)
        leave(e);
    av_freep(encoder);
}

/* JFIF's Y', Cb and Cr of R'G'B', as in jfif.rs. */
static void jfif_of_rgb(const double rgb[3], double out[3]) {
    const double wr = 0.299, wg = 0.587, wb = 0.114;
    out[0] = wr * rgb[0] + wg * rgb[1] + wb * rgb[2];
    out[1] = (rgb[2] - out[0]) / (2.0 * (1.0 - wb));
    out[2] = (rgb[0] - out[0]) / (2.0 * (1.0 - wr));
}

/* JFIF's Y', Cb and Cr of a unit of the source's Cb or Cr. */
static void jfif_of_chroma(double kr, double kb, double cb, double cr, double out[3]) {
    const double red = 2.0 * (1.0 - kr) * cr, blue = 2.0 * (1.0 - kb) * cb;
    const double rgb[3] = { red, (-kr * red - kb * blue) / (1.0 - kr - kb), blue };
    jfif_of_rgb(rgb, out);
}

/* BT.601's own, which came as single precision. */
static int is_bt601(const BsGpuColour *colour) {
    return fabs(colour->kr - 0.299) < 1e-5 && fabs(colour->kb - 0.114) < 1e-5;
}

/* Sets the factors of BsConvert for code values of this depth. */
static void set_colour(BsConvert *c, const BsGpuColour *colour, int depth) {
    const double unit = (double)(1 << (depth - 8)), full = 255.0 / ((1 << depth) - 1);
    const double luma_gain = colour->is_full_range ? full : 255.0 / 219.0 / unit;
    const double chroma_gain = colour->is_full_range ? full : 255.0 / 224.0 / unit;
    const double black = colour->is_full_range ? 0.0 : 16.0 * unit, middle = 128.0 * unit;
    /* Exact: if the matrix is unchanged, chroma must not affect luma. */
    double of_cb[3] = { 0.0, 1.0, 0.0 }, of_cr[3] = { 0.0, 0.0, 1.0 }, offset[3];
    c->is_corrected = !is_bt601(colour);
    if (c->is_corrected) {
        jfif_of_chroma(colour->kr, colour->kb, 1.0, 0.0, of_cb);
        jfif_of_chroma(colour->kr, colour->kb, 0.0, 1.0, of_cr);
    }
    for (int i = 0; i < 3; i++) {
        of_cb[i] *= chroma_gain;
        of_cr[i] *= chroma_gain;
        offset[i] = (i ? 128.5 : 0.5 - luma_gain * black) - middle * (of_cb[i] + of_cr[i]);
    }
    c->luma_gain = (float)luma_gain;
    c->luma_of_cb = (float)of_cb[0], c->luma_of_cr = (float)of_cr[0], c->luma_offset = (float)offset[0];
    c->cb_of_cb = (float)of_cb[1], c->cb_of_cr = (float)of_cr[1], c->cb_offset = (float)offset[1];
    c->cr_of_cb = (float)of_cb[2], c->cr_of_cr = (float)of_cr[2], c->cr_offset = (float)offset[2];
}

/* Siting as in siting.rs, in quarters: a luma sample at the place of a chroma sample gets 4 of it, its neighbour 2 of
 * each side; with chroma halfway, both get 3 of their own. */
static void set_siting(BsConvert *c, int location) {
    const int is_centred = location == AVCHROMA_LOC_CENTER || location == AVCHROMA_LOC_TOP ||
                           location == AVCHROMA_LOC_BOTTOM;
    const int is_top = location == AVCHROMA_LOC_TOPLEFT || location == AVCHROMA_LOC_TOP;
    const int is_bottom = location == AVCHROMA_LOC_BOTTOMLEFT || location == AVCHROMA_LOC_BOTTOM;
    c->near_column[0] = is_centred ? 3 : 4;
    c->near_column[1] = is_centred ? 3 : 2;
    c->near_row[0] = is_top ? 4 : is_bottom ? 2 : 3;
    c->near_row[1] = is_top ? 2 : is_bottom ? 4 : 3;
}

static void set_source(BsConvert *c, const BsGpuPlanes *p) {
    const size_t bytes = p->bit_depth > 8 ? 2 : 1;
    /* The same byte offset in both planes: chroma has half the columns, and two samples in each. */
    c->luma = (const unsigned char *)(uintptr_t)p->luma + p->top * p->luma_pitch + p->left * bytes;
    c->chroma = (const unsigned char *)(uintptr_t)p->chroma + p->top / 2 * p->chroma_pitch + p->left * bytes;
    c->luma_pitch = p->luma_pitch;
    c->chroma_pitch = p->chroma_pitch;
    c->sample_bytes = (int)bytes;
    c->shift = bytes > 1 ? 16 - p->bit_depth : 0;
    c->width = p->width;
    c->height = p->height;
}

static Layout lay_out(int width, int height) {
    Layout l = { .columns = FFALIGN(width, UNIT) / 2, .rows = FFALIGN(height, UNIT) / 2 };
    l.luma_pitch = FFALIGN((size_t)l.columns * 2, PITCH);
    l.chroma_pitch = FFALIGN((size_t)l.columns, PITCH);
    l.cb = l.luma_pitch * l.rows * 2;
    l.cr = l.cb + l.chroma_pitch * l.rows;
    l.size = l.cr + l.chroma_pitch * l.rows;
    return l;
}

/* The channels are JFIF's: Y, Cb, Cr. */
static BsNvjpegImage image_at(CUdeviceptr planes, const Layout *l) {
    unsigned char *luma = (unsigned char *)(uintptr_t)planes;
    return (BsNvjpegImage){
        .channel = { luma, luma + l->cb, luma + l->cr },
        .pitch = { l->luma_pitch, l->chroma_pitch, l->chroma_pitch },
    };
}

/* Sizes rarely alternate; keeping the largest would hold memory that decoders lack. */
static int make_room(BsGpuJpeg *e, size_t size) {
    if (e->planes && e->planes_size == size)
        return 0;
    if (e->planes)
        e->cu->cuMemFree(e->planes);
    e->planes = 0;
    int ret = of_driver(e, e->cu->cuMemAlloc(&e->planes, size), "cuMemAlloc");
    if (ret < 0)
        e->planes = 0;
    else
        e->planes_size = size;
    return ret;
}

static int convert(BsGpuJpeg *e, const BsGpuPlanes *p, const BsGpuColour *colour, const Layout *l,
                   const BsNvjpegImage *to, CUstream stream) {
    BsConvert c = { .columns = l->columns, .rows = l->rows };
    void *parameters[] = { &c };
    set_source(&c, p);
    set_colour(&c, colour, p->bit_depth);
    set_siting(&c, colour->chroma_location);
    c.to_luma = to->channel[0], c.to_cb = to->channel[1], c.to_cr = to->channel[2];
    c.to_luma_pitch = l->luma_pitch;
    c.to_chroma_pitch = l->chroma_pitch;
    const unsigned across = (c.columns + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
    const unsigned down = (c.rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    return of_driver(e, e->cu->cuLaunchKernel(e->convert, across, down, 1, BLOCK_COLUMNS, BLOCK_ROWS, 1, 0, stream,
                                              parameters, NULL), "cuLaunchKernel");
}

static int compress(BsGpuJpeg *e, const BsNvjpegImage *image, int width, int height, int quality, CUstream stream) {
    if (e->quality != quality) {
        int ret = of_nvjpeg(e->nvjpeg->set_quality(e->params, quality, stream), "nvjpegEncoderParamsSetQuality");
        e->quality = ret < 0 ? 0 : quality;
        if (ret < 0)
            return ret;
    }
    const int status =
        e->nvjpeg->encode(e->handle, e->state, e->params, image, BS_NVJPEG_CSS_420, width, height, stream);
    return of_nvjpeg(status, "nvjpegEncodeYUV");
}

/* Waits for the stream, also after an error: its pending work uses the caller's memory. */
static int settle(const BsGpuJpeg *e, int ret, CUstream stream) {
    const CUresult result = e->cu->cuStreamSynchronize(stream);
    return ret < 0 ? ret : of_driver(e, result, "cuStreamSynchronize");
}

static int retrieve(const BsGpuJpeg *e, unsigned char *data, size_t *length, CUstream stream) {
    int ret = of_nvjpeg(e->nvjpeg->retrieve(e->handle, e->state, data, length, stream), "nvjpegEncodeRetrieveBitstream");
    /* Length and bytes are queued on the stream, and are valid once it has reached them. */
    return settle(e, ret, stream);
}

static int take_bytes(const BsGpuJpeg *e, CUstream stream, uint8_t **bytes, size_t *size) {
    size_t length = 0;
    int ret = retrieve(e, NULL, &length, stream);
    if (ret < 0)
        return ret;
    if (!length)
        return failed(AVERROR_EXTERNAL, "nvJPEG made an empty file");
    uint8_t *data = av_malloc(length);
    if (!data)
        return failed(AVERROR(ENOMEM), "out of memory");
    ret = retrieve(e, data, &length, stream);
    if (ret < 0) {
        av_free(data);
        return ret;
    }
    *bytes = data;
    *size = length;
    return 0;
}

/* The context is entered. */
static int encode(BsGpuJpeg *e, const BsGpuPlanes *p, const BsGpuColour *colour, int quality, CUstream stream,
                  uint8_t **bytes, size_t *size) {
    const Layout l = lay_out(p->width, p->height);
    int ret = make_room(e, l.size);
    if (ret < 0)
        return ret;
    const BsNvjpegImage image = image_at(e->planes, &l);
    ret = convert(e, p, colour, &l, &image, stream);
    if (!ret)
        ret = compress(e, &image, p->width, p->height, quality, stream);
    /* Reports errors of the kernel before nvJPEG would report them as its own. */
    ret = settle(e, ret, stream);
    return ret < 0 ? ret : take_bytes(e, stream, bytes, size);
}

/* A kernel that reads unmapped memory destroys the whole context. */
static int check_planes(const BsGpuPlanes *p) {
    const size_t bytes = p->bit_depth > 8 ? 2 : 1;
    if (p->width < 1 || p->height < 1 || p->width > MAX_SIDE || p->height > MAX_SIDE)
        return failed(AVERROR(EINVAL), "a JPEG cannot be %dx%d", p->width, p->height);
    if (p->bit_depth < 8 || p->bit_depth > 16)
        return failed(AVERROR(EINVAL), "samples of %d bits", p->bit_depth);
    if (p->left < 0 || p->top < 0 || p->left % 2 || p->top % 2)
        return failed(AVERROR(EINVAL), "the crop offset %d, %d is negative or odd", p->left, p->top);
    if (p->luma_pitch < (p->left + (size_t)p->width) * bytes ||
        p->chroma_pitch < (p->left + FFALIGN((size_t)p->width, 2)) * bytes)
        return failed(AVERROR(EINVAL), "rows of a picture overlap");
    if ((p->luma | p->chroma | p->luma_pitch | p->chroma_pitch) % bytes)
        return failed(AVERROR(EINVAL), "samples of two bytes begin at an odd address");
    return 0;
}

int bs_gpu_jpeg_encode(BsGpuJpeg *e, const BsGpuPlanes *p, const BsGpuColour *colour, int quality, CUstream stream,
                       uint8_t **bytes, size_t *size) {
    *bytes = NULL;
    *size = 0;
    int ret = check_planes(p);
    if (ret < 0)
        return ret;
    if (quality < 1 || quality > 100)
        return failed(AVERROR(EINVAL), "quality %d", quality);
    if (!(colour->kr > 0 && colour->kb > 0 && colour->kr + colour->kb < 1))
        return failed(AVERROR(EINVAL), "a matrix with kr %g and kb %g", colour->kr, colour->kb);
    ret = enter(e);
    if (ret < 0)
        return ret;
    ret = encode(e, p, colour, quality, stream, bytes, size);
    leave(e);
    return ret;
}

/* An encoder with a reference to its GPU and a stream of its own, so that threads do not wait for each other's
   pictures. */
struct BsGpuEncoder {
    BsGpu *gpu;
    BsGpuJpeg *jpeg;
    CUstream stream;
};

static int told(int ret) { return ret < 0 ? bs_gpu_refuse(ret, "%s", reason) : ret; }

int bs_gpu_encoder_open(const AVFrame *frame, BsGpuEncoder **out) {
    const BsKept *kept = bs_gpu_kept_of(frame);
    BsGpuEncoder *encoder = kept ? av_mallocz(sizeof(*encoder)) : NULL;
    if (!encoder)
        return kept ? AVERROR(ENOMEM) : bs_gpu_refuse(AVERROR(EINVAL), "this picture is not on a GPU");
    encoder->gpu = av_refstruct_ref(kept->gpu);
    int ret = told(bs_gpu_jpeg_open((CudaFunctions *)kept->gpu->cu, kept->gpu->context, &encoder->jpeg, NULL, 0));
    if (ret >= 0 && (ret = bs_gpu_enter(encoder->gpu)) >= 0) {
        CUresult result = encoder->gpu->cu->cuStreamCreate(&encoder->stream, CU_STREAM_NON_BLOCKING);
        ret = bs_gpu_fail(encoder->gpu, "cuStreamCreate", result);
        bs_gpu_leave(encoder->gpu);
    }
    if (ret < 0)
        bs_gpu_encoder_close(&encoder);
    *out = encoder;
    return ret;
}

void bs_gpu_encoder_close(BsGpuEncoder **place) {
    BsGpuEncoder *encoder = *place;
    *place = NULL;
    if (!encoder)
        return;
    bs_gpu_jpeg_close(&encoder->jpeg);
    if (encoder->stream && encoder->gpu->cu->cuCtxPushCurrent(encoder->gpu->context) == CUDA_SUCCESS) {
        encoder->gpu->cu->cuStreamDestroy(encoder->stream);
        bs_gpu_leave(encoder->gpu);
    }
    av_refstruct_unref(&encoder->gpu);
    av_free(encoder);
}

int bs_gpu_encoder_fits(const BsGpuEncoder *encoder, const AVFrame *frame) {
    const BsKept *kept = bs_gpu_kept_of(frame);
    return kept && kept->gpu == encoder->gpu;
}

int bs_gpu_encode_jpeg(BsGpuEncoder *encoder, const AVFrame *frame, const BsGpuColour *colour, int quality,
                       uint8_t **bytes, size_t *size) {
    const BsKept *kept = bs_gpu_kept_of(frame);
    if (!kept || kept->gpu != encoder->gpu || kept->picture.plane_count != 2)
        return bs_gpu_refuse(AVERROR(EINVAL), "no 4:2:0 picture on this GPU");
    const BsGpuPicture *picture = &kept->picture;
    BsGpuPlanes planes = { .luma = picture->planes[0],
                           .chroma = picture->planes[1],
                           .luma_pitch = picture->pitch,
                           .chroma_pitch = picture->pitch,
                           .width = picture->width,
                           .height = picture->height,
                           .bit_depth = picture->bit_depth };
    return told(bs_gpu_jpeg_encode(encoder->jpeg, &planes, colour, quality, encoder->stream, bytes, size));
}
