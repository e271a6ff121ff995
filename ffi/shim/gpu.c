/*
 * NVIDIA's driver: loaded at run time, with one context for each GPU; hardware decoders and memory are kept for reuse.
 * Sending pictures to a decoder is left to gpu_decoder.c, taking them from it to gpu_picture.c.
 *
 * The results of calls into the driver are checked in one place (bs_gpu_fail): some failures are final, and after one
 * of them no further call is made.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libavutil/error.h"
#include "libavutil/macros.h"
#include "libavutil/mem.h"
#include "libavutil/refstruct.h"

/* The last failure of this thread, until bs_gpu_forget(). */
static _Thread_local char why[320];
static _Thread_local int error;

/* The loader's own macros; its last line is the reason of a failure. */
#define FFNV_LOG_FUNC(context, ...) snprintf(why, sizeof(why), __VA_ARGS__)
#define FFNV_DEBUG_LOG_FUNC(context, ...)
#include <ffnvcodec/dynlink_cuda.h>
#include <ffnvcodec/dynlink_nvcuvid.h>

#include <ffnvcodec/dynlink_loader.h>

#include "gpu.h"

/* Idle sessions of a GPU: each has surfaces for some tens of pictures. */
#define IDLE_SESSIONS 32
/* Free blocks of each kind. */
#define FREE_BLOCKS 16
/* Number and interval of the checks for a picture that was sent: 5 s together. */
#define LOOKS 50000
#define LOOK_US 100

/* Results without a name in dynlink_cuda.h (CUDA driver API, CUresult). */
enum {
    OUT_OF_MEMORY = 2,
    DEINITIALIZED = 4,
    DEVICE_UNAVAILABLE = 46,
    ECC_UNCORRECTABLE = 214,
    ILLEGAL_ADDRESS = 700,
    CONTEXT_IS_DESTROYED = 709,
    ASSERT = 710,
    HARDWARE_STACK_ERROR = 714,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
};

/* Never unloaded: sessions and pictures may outlive the code that opened the GPU. */
static CudaFunctions *cuda;
static CuvidFunctions *cuvid;
/* Not among the loader's functions: host memory that the device writes to at full speed. NULL if missing. */
static CUresult (*host_alloc)(void **memory, size_t size, unsigned flags);
static CUresult (*host_free)(void *memory);
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

const char *bs_gpu_why(void) { return why; }

int bs_gpu_error(void) { return error; }

void bs_gpu_forget(void) {
    why[0] = 0;
    error = 0;
}

int bs_gpu_refuse(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    return error = code;
}

static int is_final(CUresult result) {
    switch ((int)result) {
    case DEINITIALIZED:
    case DEVICE_UNAVAILABLE:
    case ECC_UNCORRECTABLE:
    case ILLEGAL_ADDRESS:
    case CONTEXT_IS_DESTROYED:
    case ASSERT:
    case HARDWARE_STACK_ERROR:
    case LAUNCH_FAILED: return 1;
    default: return 0;
    }
}

int bs_gpu_fail(BsGpu *gpu, const char *what, CUresult result) {
    const char *name = NULL;
    if (result == CUDA_SUCCESS)
        return 0;
    cuda->cuGetErrorName(result, &name);
    snprintf(why, sizeof(why), "%s: %s (%d)", what, name ? name : "unknown error", (int)result);
    if (gpu && is_final(result))
        atomic_store(&gpu->lost, (int)result);
    switch ((int)result) {
    case OUT_OF_MEMORY: return error = AVERROR(ENOMEM);
    case NOT_SUPPORTED: return error = AVERROR(ENOSYS);
    default: return error = AVERROR_EXTERNAL;
    }
}

static int load(void) {
    int ret = 0;
    bs_gpu_forget();
    pthread_mutex_lock(&load_lock);
    if (!cuda && cuda_load_functions(&cuda, NULL) < 0)
        ret = AVERROR(ENOSYS);
    else if (!cuvid && cuvid_load_functions(&cuvid, NULL) < 0)
        ret = AVERROR(ENOSYS);
    if (ret >= 0 && !host_alloc) {
        *(void **)&host_alloc = dlsym(cuda->lib, "cuMemHostAlloc");
        *(void **)&host_free = dlsym(cuda->lib, "cuMemFreeHost");
    }
    pthread_mutex_unlock(&load_lock);
    why[strcspn(why, "\n")] = 0;
    return error = ret;
}

int bs_gpu_enter(BsGpu *gpu) {
    int lost = atomic_load(&gpu->lost);
    if (lost)
        return bs_gpu_refuse(AVERROR_EXTERNAL, "GPU %d was lost (%d)", gpu->ordinal, lost);
    return bs_gpu_fail(gpu, "cuCtxPushCurrent", gpu->cu->cuCtxPushCurrent(gpu->context));
}

void bs_gpu_leave(BsGpu *gpu) {
    CUcontext context;
    gpu->cu->cuCtxPopCurrent(&context);
}

static void destroy(BsGpu *gpu, BsSession *session) {
    if (session->decoder)
        gpu->cv->cuvidDestroyDecoder(session->decoder);
    if (session->stream)
        gpu->cu->cuStreamDestroy(session->stream);
    av_free(session);
}

static void free_block(BsGpu *gpu, BsBlock *block) {
    if (block->device)
        gpu->cu->cuMemFree(block->device);
    if (block->host)
        host_free(block->host);
    av_free(block);
}

static void free_gpu(AVRefStructOpaque unused, void *object) {
    BsGpu *gpu = object;
    if (gpu->context) {
        /* Also for a lost GPU: the host's resources must be freed. */
        gpu->cu->cuCtxPushCurrent(gpu->context);
        for (BsSession *session = gpu->idle, *next; session; session = next) {
            next = session->next;
            destroy(gpu, session);
        }
        for (int is_host = 0; is_host < 2; is_host++)
            for (BsBlock *block = is_host ? gpu->host_blocks : gpu->device_blocks, *next; block; block = next) {
                next = block->next;
                free_block(gpu, block);
            }
        bs_gpu_leave(gpu);
        gpu->cu->cuDevicePrimaryCtxRelease(gpu->device);
    }
    pthread_mutex_destroy(&gpu->lock);
}

static int open_device(BsGpu *gpu) {
    const CudaFunctions *cu = gpu->cu;
    int count = 0, ret;
    if ((ret = bs_gpu_fail(gpu, "cuInit", cu->cuInit(0))) < 0 ||
        (ret = bs_gpu_fail(gpu, "cuDeviceGetCount", cu->cuDeviceGetCount(&count))) < 0)
        return ret;
    if (gpu->ordinal < 0 || gpu->ordinal >= count)
        return bs_gpu_refuse(AVERROR(ENODEV), "there is no GPU %d: this machine has %d", gpu->ordinal, count);
    if ((ret = bs_gpu_fail(gpu, "cuDeviceGet", cu->cuDeviceGet(&gpu->device, gpu->ordinal))) < 0)
        return ret;
    cu->cuDeviceGetName(gpu->name, sizeof(gpu->name) - 1, gpu->device);
    cu->cuDriverGetVersion(&gpu->driver);
    /* Threads that wait for the GPU yield their core; but a context that is active already keeps its flags. */
    unsigned flags = 0;
    int is_active = 1;
    cu->cuDevicePrimaryCtxGetState(gpu->device, &flags, &is_active);
    if (!is_active)
        cu->cuDevicePrimaryCtxSetFlags(gpu->device, CU_CTX_SCHED_BLOCKING_SYNC);
    /* The primary context: other code on the device can use pictures that stay there. */
    ret = bs_gpu_fail(gpu, "cuDevicePrimaryCtxRetain", cu->cuDevicePrimaryCtxRetain(&gpu->context, gpu->device));
    if (ret < 0)
        gpu->context = NULL;
    return ret;
}

int bs_gpu_open(int ordinal, BsGpu **out) {
    int ret = load();
    if (ret < 0)
        return ret;
    BsGpu *gpu = av_refstruct_alloc_ext(sizeof(*gpu), 0, NULL, free_gpu);
    if (!gpu)
        return AVERROR(ENOMEM);
    *gpu = (BsGpu){ .cu = cuda, .cv = cuvid, .ordinal = ordinal };
    pthread_mutex_init(&gpu->lock, NULL);
    ret = open_device(gpu);
    if (ret >= 0) {
        BsGpuCaps caps;
        ret = bs_gpu_caps(gpu, cudaVideoCodec_HEVC, cudaVideoChromaFormat_420, 8, &caps);
        gpu->engines = ret >= 0 ? caps.engines : 0;
    }
    if (ret < 0) {
        av_refstruct_unref(&gpu);
        return ret;
    }
    *out = gpu;
    return 0;
}

void bs_gpu_close(BsGpu **gpu) { av_refstruct_unref(gpu); }

int bs_gpu_is_lost(const BsGpu *gpu) { return atomic_load(&gpu->lost); }

void bs_gpu_info(BsGpu *gpu, BsGpuInfo *out) {
    *out = (BsGpuInfo){ .ordinal = gpu->ordinal, .driver = gpu->driver, .engines = gpu->engines };
    out->sessions_opened = atomic_load(&gpu->opened);
    out->sessions_reused = atomic_load(&gpu->reused);
    snprintf(out->name, sizeof(out->name), "%s", gpu->name);
}

int bs_gpu_caps(BsGpu *gpu, int codec, int chroma, int depth, BsGpuCaps *out) {
    CUVIDDECODECAPS caps = { .eCodecType = codec, .eChromaFormat = chroma, .nBitDepthMinus8 = depth - 8 };
    int ret = bs_gpu_enter(gpu);
    if (ret < 0)
        return ret;
    ret = bs_gpu_fail(gpu, "cuvidGetDecoderCaps", gpu->cv->cuvidGetDecoderCaps(&caps));
    bs_gpu_leave(gpu);
    *out = (BsGpuCaps){ .is_supported = caps.bIsSupported, .engines = caps.nNumNVDECs, .output_formats = caps.nOutputFormatMask };
    out->min_width = caps.nMinWidth;
    out->min_height = caps.nMinHeight;
    out->max_width = caps.nMaxWidth;
    out->max_height = caps.nMaxHeight;
    out->max_blocks = caps.nMaxMBCount;
    return ret;
}

/* 0 if the GPU decodes this, else an error with a reason. */
static int check_shape(BsGpu *gpu, const BsShape *shape) {
    BsGpuCaps caps;
    int ret = bs_gpu_caps(gpu, shape->codec, shape->chroma, shape->depth, &caps);
    if (ret < 0)
        return ret;
    if (!caps.is_supported || !(caps.output_formats & (1 << shape->output)))
        return bs_gpu_refuse(AVERROR(ENOSYS), "%s does not decode this codec in this chroma format and %d bit", gpu->name,
                             shape->depth);
    if (shape->width < caps.min_width || shape->height < caps.min_height || shape->width > caps.max_width ||
        shape->height > caps.max_height || (int64_t)shape->width * shape->height / 256 > caps.max_blocks)
        return bs_gpu_refuse(AVERROR(ENOSYS), "%s decodes this codec from %dx%d to %dx%d pixels, not %dx%d", gpu->name,
                             caps.min_width, caps.min_height, caps.max_width, caps.max_height, shape->width,
                             shape->height);
    return 0;
}

/* 2 if an idle session can be used unchanged, 1 if it must be reconfigured for another size, 0 if it is unsuitable.
 * Surfaces keep their old contents, and a GPU conceals what it cannot decode: so a session stays with its video. */
static int fitness(const BsSession *session, const BsShape *shape) {
    const BsShape *own = &session->shape;
    if (own->codec != shape->codec || own->chroma != shape->chroma || own->depth != shape->depth ||
        own->output != shape->output || own->owner != shape->owner || own->surfaces < shape->surfaces)
        return 0;
    if (own->width == shape->width && own->height == shape->height)
        return 2;
    /* Not for a much smaller picture: the surfaces keep their size. */
    return shape->width <= session->max_width && shape->height <= session->max_height &&
           (int64_t)shape->width * shape->height * 4 > (int64_t)session->max_width * session->max_height;
}

static BsSession *take_idle(BsGpu *gpu, const BsShape *shape) {
    BsSession **best = NULL, *found = NULL;
    int fit = 0;
    pthread_mutex_lock(&gpu->lock);
    for (BsSession **at = &gpu->idle; *at; at = &(*at)->next)
        if (fitness(*at, shape) > fit) {
            best = at;
            fit = fitness(*at, shape);
        }
    if (best) {
        found = *best;
        *best = found->next;
        found->next = NULL;
    }
    pthread_mutex_unlock(&gpu->lock);
    return found;
}

/* Waits until the picture in a surface is decoded: 1 if it is damaged, 0 if not. The context is entered. */
static int settle(BsGpu *gpu, BsSession *session, unsigned index) {
    uint32_t bit = UINT32_C(1) << index;
    if (!(session->unsettled & bit))
        return 0;
    for (int look = 0; look < LOOKS; look++) {
        CUVIDGETDECODESTATUS status = { 0 };
        CUresult result = gpu->cv->cuvidGetDecodeStatus(session->decoder, index, &status);
        int ret = bs_gpu_fail(gpu, "cuvidGetDecodeStatus", result);
        if (ret < 0)
            return ret;
        switch (status.decodeStatus) {
        case cuvidDecodeStatus_InProgress: usleep(LOOK_US); continue;
        case cuvidDecodeStatus_Success: session->unsettled &= ~bit; return 0;
        case cuvidDecodeStatus_Error:
        case cuvidDecodeStatus_Error_Concealed: session->unsettled &= ~bit; return 1;
        default: return bs_gpu_refuse(AVERROR(ENOSYS), "the driver does not report damaged pictures");
        }
    }
    atomic_store(&gpu->lost, CUDA_ERROR_LAUNCH_TIMEOUT);
    return bs_gpu_refuse(AVERROR_EXTERNAL, "GPU %d does not finish a picture", gpu->ordinal);
}

/* Prepares an idle session for a stream, perhaps of another size. */
static int reconfigure(BsGpu *gpu, BsSession *session, const BsShape *shape) {
    CUVIDRECONFIGUREDECODERINFO info = { .ulWidth = shape->width,
                                         .ulHeight = shape->height,
                                         .ulTargetWidth = shape->width,
                                         .ulTargetHeight = shape->height,
                                         .ulNumDecodeSurfaces = session->shape.surfaces,
                                         .display_area = { 0, 0, shape->width, shape->height } };
    /* Its last stream may have been stopped with pictures in decoding. */
    for (unsigned i = 0; i < 32; i++) {
        int ret = settle(gpu, session, i);
        if (ret < 0)
            return ret;
    }
    if (session->shape.width == shape->width && session->shape.height == shape->height)
        return 0;
    session->shape.width = shape->width;
    session->shape.height = shape->height;
    return bs_gpu_fail(gpu, "cuvidReconfigureDecoder", gpu->cv->cuvidReconfigureDecoder(session->decoder, &info));
}

static int create(BsGpu *gpu, BsSession *session, const BsShape *shape) {
    CUVIDDECODECREATEINFO info = { .ulWidth = shape->width,
                                   .ulHeight = shape->height,
                                   .ulMaxWidth = shape->width,
                                   .ulMaxHeight = shape->height,
                                   .ulTargetWidth = shape->width,
                                   .ulTargetHeight = shape->height,
                                   .display_area = { 0, 0, shape->width, shape->height },
                                   .ulNumDecodeSurfaces = shape->surfaces,
                                   /* A picture is copied out as soon as it is mapped. */
                                   .ulNumOutputSurfaces = 1,
                                   .CodecType = shape->codec,
                                   .ChromaFormat = shape->chroma,
                                   .OutputFormat = shape->output,
                                   .bitDepthMinus8 = shape->depth - 8,
                                   .ulCreationFlags = cudaVideoCreate_PreferCUVID,
                                   .DeinterlaceMode = cudaVideoDeinterlaceMode_Weave };
    int ret = check_shape(gpu, shape);
    session->shape = *shape;
    session->max_width = shape->width;
    session->max_height = shape->height;
    if (ret < 0 ||
        (ret = bs_gpu_fail(gpu, "cuStreamCreate", gpu->cu->cuStreamCreate(&session->stream, CU_STREAM_NON_BLOCKING))) < 0)
        return ret;
    return bs_gpu_fail(gpu, "cuvidCreateDecoder", gpu->cv->cuvidCreateDecoder(&session->decoder, &info));
}

/* Closes idle sessions, all but `kept`. The context is entered. */
static void close_idle(BsGpu *gpu, int kept) {
    pthread_mutex_lock(&gpu->lock);
    BsSession **at = &gpu->idle;
    while (kept-- > 0 && *at)
        at = &(*at)->next;
    BsSession *rest = *at;
    *at = NULL;
    pthread_mutex_unlock(&gpu->lock);
    while (rest) {
        BsSession *next = rest->next;
        destroy(gpu, rest);
        rest = next;
    }
}

static int session_for(BsGpu *gpu, const BsShape *shape, BsSession **out) {
    BsSession *session = take_idle(gpu, shape);
    if (session && reconfigure(gpu, session, shape) >= 0) {
        atomic_fetch_add(&gpu->reused, 1);
        *out = session;
        return 0;
    }
    if (session)
        destroy(gpu, session);
    int ret = AVERROR(ENOMEM);
    for (int attempt = 0; attempt < 2 && ret == AVERROR(ENOMEM); attempt++) {
        /* Idle sessions may fill the GPU's memory. */
        if (attempt)
            close_idle(gpu, 0);
        session = av_mallocz(sizeof(*session));
        ret = session ? create(gpu, session, shape) : AVERROR(ENOMEM);
        if (ret < 0 && session)
            destroy(gpu, session);
    }
    if (ret < 0)
        return ret;
    bs_gpu_forget();
    atomic_fetch_add(&gpu->opened, 1);
    *out = session;
    return 0;
}

static void end_loan(AVRefStructOpaque unused, void *object) {
    BsLoan *loan = object;
    BsGpu *gpu = loan->gpu;
    if (loan->session) {
        pthread_mutex_lock(&gpu->lock);
        loan->session->next = gpu->idle;
        gpu->idle = loan->session;
        pthread_mutex_unlock(&gpu->lock);
        if (bs_gpu_enter(gpu) >= 0) {
            close_idle(gpu, IDLE_SESSIONS);
            bs_gpu_leave(gpu);
        }
    }
    av_refstruct_unref(&loan->gpu);
}

int bs_gpu_borrow(BsGpu *gpu, const BsShape *shape, BsLoan **out) {
    BsLoan *loan = av_refstruct_alloc_ext(sizeof(*loan), 0, NULL, end_loan);
    if (!loan)
        return AVERROR(ENOMEM);
    loan->gpu = av_refstruct_ref(gpu);
    int ret = bs_gpu_enter(gpu);
    if (ret >= 0) {
        ret = session_for(gpu, shape, &loan->session);
        bs_gpu_leave(gpu);
    }
    if (ret < 0)
        av_refstruct_unref(&loan);
    else
        *out = loan;
    return ret;
}

int bs_gpu_settle(BsLoan *loan, unsigned index) {
    uint32_t bit = UINT32_C(1) << index;
    int ret = settle(loan->gpu, loan->session, index);
    /* Damage of a decode run that was stopped does not matter. */
    if (ret > 0 && !(loan->session->stale & bit))
        atomic_store(&loan->damaged, 1);
    if (ret >= 0)
        loan->session->stale &= ~bit;
    return FFMIN(ret, 0);
}

BsBlock *bs_gpu_take_block(BsGpu *gpu, int is_host, size_t size) {
    pthread_mutex_lock(&gpu->lock);
    for (BsBlock **at = is_host ? &gpu->host_blocks : &gpu->device_blocks; *at; at = &(*at)->next) {
        BsBlock *block = *at;
        if (block->size != size)
            continue;
        *at = block->next;
        pthread_mutex_unlock(&gpu->lock);
        return block;
    }
    pthread_mutex_unlock(&gpu->lock);
    BsBlock *block = av_mallocz(sizeof(*block));
    if (!block)
        return NULL;
    block->size = size;
    if (is_host && host_alloc && host_free) {
        if (bs_gpu_fail(gpu, "cuMemHostAlloc", host_alloc(&block->host, size, 0)) < 0)
            block->host = NULL;
    } else if (is_host)
        bs_gpu_refuse(AVERROR(ENOSYS), "the driver has no cuMemHostAlloc");
    else if (bs_gpu_fail(gpu, "cuMemAlloc", gpu->cu->cuMemAlloc(&block->device, size)) < 0)
        block->device = 0;
    if (!block->host && !block->device)
        av_freep(&block);
    return block;
}

void bs_gpu_give_block(BsGpu *gpu, BsBlock *block) {
    BsBlock *rest = NULL;
    int kept = FREE_BLOCKS;
    pthread_mutex_lock(&gpu->lock);
    BsBlock **list = block->host ? &gpu->host_blocks : &gpu->device_blocks;
    block->next = *list;
    *list = block;
    BsBlock **at = list;
    while (kept-- > 0 && *at)
        at = &(*at)->next;
    rest = *at;
    *at = NULL;
    pthread_mutex_unlock(&gpu->lock);
    if (!rest)
        return;
    gpu->cu->cuCtxPushCurrent(gpu->context);
    while (rest) {
        BsBlock *next = rest->next;
        free_block(gpu, rest);
        rest = next;
    }
    bs_gpu_leave(gpu);
}
