/*
 * A fake NVIDIA driver for tests: one shared object that stands for both libcuda.so.1 and
 * libnvcuvid.so.1, so that a program's NVDEC path can run on a machine without a GPU.
 *
 * It does not decode. A picture's content comes from an oracle file, by a hash of its bitstream
 * bytes. What it checks is how the driver is used: a context for every call, the extents of every
 * copy, the limits of a decoder, that a picture's references stand in the surfaces it names, that
 * mapped frames are unmapped, that everything is released. It fails on demand, in chosen calls.
 *
 * What it cannot tell: whether the codec parameters other than the references are right, anything
 * about speed, what a real device does with a damaged stream, and whether work that a real device
 * does later (streams, asynchronous copies) was waited for: here all work is done at once.
 *
 * Environment: FAKE_GPUS, FAKE_MEMORY_MIB, FAKE_MIN_SIZE, FAKE_NO_CODEC, FAKE_ORACLE, FAKE_BUSY,
 * FAKE_DAMAGED, FAKE_FAIL, FAKE_DECODE_US, FAKE_MAP_US, FAKE_CREATE_US, FAKE_QUIET, FAKE_REPORT;
 * each is read when the library is loaded, and explained where it is used.
 *
 * Build: cc -shared -fPIC -O1 -I<nv-codec-headers>/include -o DIR/libcuda.so.1 driver.c -lpthread
 *        ln -s libcuda.so.1 DIR/libnvcuvid.so.1     (a link: both names must share one state)
 * Use:   LD_LIBRARY_PATH=DIR program
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <ffnvcodec/dynlink_cuda.h>
#include <ffnvcodec/dynlink_cuviddec.h>

/* The header's enum has only a few of the codes. */
#define INVALID_VALUE   ((CUresult)1)
#define OUT_OF_MEMORY   ((CUresult)2)
#define NOT_INITIALIZED ((CUresult)3)
#define NO_DEVICE       ((CUresult)100)
#define INVALID_DEVICE  ((CUresult)101)
#define INVALID_CONTEXT ((CUresult)201)
#define MAP_FAILED_CODE ((CUresult)205)
#define INVALID_HANDLE  ((CUresult)400)
#define ILLEGAL_ADDRESS ((CUresult)700)
#define NOT_SUPPORTED   ((CUresult)801)

#define CUDA_ERROR_NOT_SUPPORTED NOT_SUPPORTED
#define MAX_SURFACES 32
#define STACK_DEPTH 64
#define QUARANTINE_BYTES ((size_t)64 << 20)

/* Declared by the headers' own function types: a wrong signature below does not compile. */
tcuInit cuInit; tcuDriverGetVersion cuDriverGetVersion; tcuDeviceGetCount cuDeviceGetCount;
tcuDeviceGet cuDeviceGet; tcuDeviceGetAttribute cuDeviceGetAttribute;
tcuDeviceGetName cuDeviceGetName; tcuDeviceComputeCapability cuDeviceComputeCapability;
tcuCtxCreate_v2 cuCtxCreate_v2; tcuCtxGetCurrent cuCtxGetCurrent; tcuCtxSetLimit cuCtxSetLimit;
tcuCtxPushCurrent_v2 cuCtxPushCurrent_v2; tcuCtxPopCurrent_v2 cuCtxPopCurrent_v2;
tcuCtxDestroy_v2 cuCtxDestroy_v2; tcuCtxGetDevice cuCtxGetDevice;
tcuDevicePrimaryCtxRetain cuDevicePrimaryCtxRetain;
tcuDevicePrimaryCtxRelease cuDevicePrimaryCtxRelease;
tcuDevicePrimaryCtxSetFlags cuDevicePrimaryCtxSetFlags;
tcuDevicePrimaryCtxGetState cuDevicePrimaryCtxGetState;
tcuMemAlloc_v2 cuMemAlloc_v2; tcuMemAllocPitch_v2 cuMemAllocPitch_v2; tcuMemFree_v2 cuMemFree_v2;
tcuMemsetD8Async cuMemsetD8Async; tcuMemcpy2D_v2 cuMemcpy2D_v2;
tcuMemcpy2DAsync_v2 cuMemcpy2DAsync_v2; tcuMemcpyHtoD_v2 cuMemcpyHtoD_v2;
tcuMemcpyHtoDAsync_v2 cuMemcpyHtoDAsync_v2; tcuMemcpyDtoH_v2 cuMemcpyDtoH_v2;
tcuMemcpyDtoHAsync_v2 cuMemcpyDtoHAsync_v2; tcuMemcpyDtoD_v2 cuMemcpyDtoD_v2;
tcuMemcpyDtoDAsync_v2 cuMemcpyDtoDAsync_v2;
tcuGetErrorName cuGetErrorName; tcuGetErrorString cuGetErrorString;
tcuStreamCreate cuStreamCreate; tcuStreamQuery cuStreamQuery;
tcuStreamSynchronize cuStreamSynchronize; tcuStreamDestroy_v2 cuStreamDestroy_v2;
tcuStreamWaitEvent cuStreamWaitEvent; tcuEventCreate cuEventCreate;
tcuEventDestroy_v2 cuEventDestroy_v2; tcuEventSynchronize cuEventSynchronize;
tcuEventQuery cuEventQuery; tcuEventRecord cuEventRecord;
tcuvidGetDecoderCaps cuvidGetDecoderCaps; tcuvidCreateDecoder cuvidCreateDecoder;
tcuvidDestroyDecoder cuvidDestroyDecoder; tcuvidDecodePicture cuvidDecodePicture;
tcuvidGetDecodeStatus cuvidGetDecodeStatus; tcuvidReconfigureDecoder cuvidReconfigureDecoder;
tcuvidMapVideoFrame64 cuvidMapVideoFrame64; tcuvidUnmapVideoFrame64 cuvidUnmapVideoFrame64;
CUresult cuMemHostAlloc(void **pp, size_t bytes, unsigned flags);
CUresult cuMemFreeHost(void *p);

/* Symbols that a loader wants to find and that nobody is expected to call. */
tcuModuleLoadData cuModuleLoadData; tcuModuleUnload cuModuleUnload;
tcuModuleGetFunction cuModuleGetFunction; tcuLaunchKernel cuLaunchKernel;
/* The kernels, on the host: kernel_host.c. */
int fake_launch(const char *name, unsigned gx, unsigned gy, unsigned bx, unsigned by, void **params);

#define STUB(name) CUresult name(void); CUresult name(void) { return CUDA_ERROR_NOT_SUPPORTED; }
STUB(cuMemAllocManaged) STUB(cuMemcpy) STUB(cuMemcpyAsync) STUB(cuDevicePrimaryCtxReset)
STUB(cuStreamAddCallback) STUB(cuLinkCreate) STUB(cuLinkAddData)
STUB(cuLinkComplete) STUB(cuLinkDestroy) STUB(cuModuleGetGlobal) STUB(cuTexObjectCreate)
STUB(cuTexObjectDestroy) STUB(cuGLGetDevices_v2) STUB(cuGraphicsGLRegisterImage)
STUB(cuGraphicsUnregisterResource) STUB(cuGraphicsMapResources) STUB(cuGraphicsUnmapResources)
STUB(cuGraphicsSubResourceGetMappedArray) STUB(cuGraphicsResourceGetMappedPointer_v2)
STUB(cuArrayCreate_v2) STUB(cuArray3DCreate_v2) STUB(cuArrayDestroy)
STUB(cuvidCtxLockCreate) STUB(cuvidCtxLockDestroy) STUB(cuvidCtxLock) STUB(cuvidCtxUnlock)
STUB(cuvidCreateVideoSource) STUB(cuvidCreateVideoSourceW) STUB(cuvidDestroyVideoSource)
STUB(cuvidSetVideoSourceState) STUB(cuvidGetVideoSourceState) STUB(cuvidGetSourceVideoFormat)
STUB(cuvidGetSourceAudioFormat) STUB(cuvidCreateVideoParser) STUB(cuvidParseVideoData)
STUB(cuvidDestroyVideoParser)

/* ---- state: all of it under one lock, none of it freed at exit (threads may still call) ---- */

struct CUctx_st { CUcontext next; CUdevice device; bool alive; unsigned retained; };

enum kind { DEVICE = 1, FRAME = 2, HOST = 4, STREAM = 8, EVENT = 16 };

struct block {                 /* anything with an address that a caller may hand back */
    struct block *next;
    enum kind kind;
    unsigned char *start;
    size_t size;
    CUcontext context;
    const void *decoder;       /* of a FRAME: whose it is */
};

struct fault { char name[48]; unsigned nth, seen; CUresult code; struct fault *next; };

struct picture {               /* an entry of the oracle */
    uint64_t hash;
    const unsigned char *planes;
    uint32_t width, height, format, depth;
    long index;                /* place in the file */
};

enum content { EMPTY, GOOD, UNKNOWN, GARBAGE };

struct surface {
    enum content content;
    uint64_t hash;
    const struct picture *picture;
    int order[2];              /* HEVC: picture order count in [0]; H.264: of top and bottom */
    unsigned fields;           /* H.264: bit 0 top, bit 1 bottom */
    unsigned era;
    unsigned busy;
    bool damaged;
};

struct decoder {
    struct decoder *next;
    CUcontext context;
    CUVIDDECODECREATEINFO info;
    unsigned long max_width, max_height;
    size_t bytes;
    unsigned era;
    int era_order;             /* picture order count of the picture that began the era */
    long last_index;
    struct surface surface[MAX_SURFACES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local CUcontext stack[STACK_DEPTH];
static _Thread_local int depth;
static CUcontext contexts;
static struct block *blocks, *quarantine, **quarantine_end = &quarantine;
static size_t quarantined;
static struct decoder *decoders;
static struct fault *faults;
static struct picture *oracle;
static long oracle_count;
static bool initialized, oracle_tried;
static CUresult lost;
static size_t device_bytes, host_bytes;
static unsigned decoders_open, decodes_running;
static struct {
    unsigned long decoders_created, decoders_destroyed, reconfigured, decoded, garbage, unknown,
        maps, unmaps, max_decoders_open, max_concurrent_decodes, contexts_created,
        contexts_destroyed, errors;
} count;
static struct {
    unsigned long gpus, memory, min_size, busy, decode_us, map_us, create_us;
    const char *no_codec, *oracle, *damaged, *report;
    bool quiet;
} set;

static void __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(stderr, "fake driver: %s\n", text);
    count.errors++;
}

/* For references only: a test that breaks streams on purpose expects them to be wrong. */
#define wrong(...) (set.quiet ? (void)0 : complain(__VA_ARGS__))

static CUresult lose(CUresult code)
{
    if (lost == CUDA_SUCCESS)
        lost = code;
    return code;
}

/* Codes after which a real device serves no more calls. */
static bool is_fatal(CUresult code)
{
    return code == 700 || code == 719 || code == 214 || code == 46 || code == 4;
}

static CUcontext current(void)
{
    return depth > 0 && stack[depth - 1]->alive ? stack[depth - 1] : NULL;
}

enum need { NOTHING = 0, INIT = 1, CONTEXT = 2, WHEN_LOST = 4 };

/* Begins a call: holds the lock on success. WHEN_LOST: also serves on a lost device. */
static CUresult enter(const char *name, unsigned need)
{
    CUresult code = CUDA_SUCCESS;
    pthread_mutex_lock(&lock);
    for (struct fault *f = faults; f; f = f->next)
        if (!strcmp(f->name, name) && ++f->seen == f->nth)
            code = f->code;
    if (code != CUDA_SUCCESS && is_fatal(code))
        lose(code);
    if (code == CUDA_SUCCESS && !(need & WHEN_LOST))
        code = lost;
    if (code == CUDA_SUCCESS && need & (INIT | CONTEXT) && !initialized)
        code = NOT_INITIALIZED;
    if (code == CUDA_SUCCESS && need & CONTEXT && !current())
        code = INVALID_CONTEXT;
    if (code != CUDA_SUCCESS)
        pthread_mutex_unlock(&lock);
    return code;
}

static CUresult leave(CUresult code)
{
    pthread_mutex_unlock(&lock);
    return code;
}

#define ENTER(name, need) \
    do { CUresult code_ = enter(name, need); if (code_ != CUDA_SUCCESS) return code_; } while (0)

/* Takes time as a device would: other threads go on meanwhile. Answers if the device was lost. */
static CUresult nap(unsigned long us)
{
    if (!us)
        return CUDA_SUCCESS;
    struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
    pthread_mutex_unlock(&lock);
    nanosleep(&t, NULL);
    pthread_mutex_lock(&lock);
    return lost;
}

/* ---- memory ---- */

static struct block *take(enum kind kind, size_t size)
{
    struct block *b = calloc(1, sizeof *b);
    if (!b || !(b->start = aligned_alloc(512, (size + 511) & ~(size_t)511))) {
        free(b);
        return NULL;
    }
    b->kind = kind;
    b->size = size;
    b->context = current();
    b->next = blocks;
    blocks = b;
    if (kind == DEVICE)
        device_bytes += size;
    if (kind == HOST)
        host_bytes += size;
    memset(b->start, 0xcd, size);     /* nobody may count on fresh memory being zero */
    return b;
}

/* Freed addresses stay out of use for a while: else the next frame would get the address of the
 * last one, and a copy from a frame after its unmapping would look right. */
static void drop(struct block *b)
{
    struct block **at = &blocks;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    if (b->kind == DEVICE)
        device_bytes -= b->size;
    if (b->kind == HOST)
        host_bytes -= b->size;
    b->next = NULL;
    *quarantine_end = b;
    quarantine_end = &b->next;
    quarantined += b->size;
    while (quarantined > QUARANTINE_BYTES) {
        b = quarantine;
        quarantined -= b->size;
        if (!(quarantine = b->next))
            quarantine_end = &quarantine;
        free(b->start);
        free(b);
    }
}

static struct block *find(unsigned kinds, const void *address)
{
    for (struct block *b = blocks; b; b = b->next)
        if (b->kind & kinds && (uintptr_t)address - (uintptr_t)b->start < b->size)
            return b;
    return NULL;
}

static CUresult release(unsigned kinds, const void *address)
{
    struct block *b = find(kinds, address);
    if (!b || b->start != address) {
        complain("released %p, which is not allocated", address);
        return INVALID_VALUE;
    }
    drop(b);
    return CUDA_SUCCESS;
}

static bool fits_memory(size_t bytes)
{
    return !set.memory || device_bytes + bytes <= set.memory << 20;
}

static CUresult take_device(CUdeviceptr *p, size_t bytes)
{
    if (!p || !bytes)
        return INVALID_VALUE;
    struct block *b = fits_memory(bytes) ? take(DEVICE, bytes) : NULL;
    if (!b)
        return OUT_OF_MEMORY;
    *p = (uintptr_t)b->start;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t bytes)
{
    ENTER("cuMemAlloc", CONTEXT);
    return leave(take_device(p, bytes));
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *p, size_t *pitch, size_t width, size_t height,
                            unsigned element)
{
    ENTER("cuMemAllocPitch", CONTEXT);
    if (!pitch || (element != 4 && element != 8 && element != 16))
        return leave(INVALID_VALUE);
    *pitch = (width + 511) & ~(size_t)511;
    return leave(take_device(p, *pitch * height));
}

CUresult cuMemFree_v2(CUdeviceptr p)
{
    ENTER("cuMemFree", CONTEXT | WHEN_LOST);
    return leave(p ? release(DEVICE, (void *)(uintptr_t)p) : CUDA_SUCCESS);
}

CUresult cuMemHostAlloc(void **pp, size_t bytes, unsigned flags)
{
    (void)flags;
    ENTER("cuMemHostAlloc", CONTEXT);
    struct block *b = pp && bytes ? take(HOST, bytes) : NULL;
    if (!b)
        return leave(pp && bytes ? OUT_OF_MEMORY : INVALID_VALUE);
    *pp = b->start;
    return leave(CUDA_SUCCESS);
}

CUresult cuMemFreeHost(void *p)
{
    ENTER("cuMemFreeHost", CONTEXT | WHEN_LOST);
    return leave(release(HOST, p));
}

/* ---- streams and events: handles to check, and nothing to wait for ---- */

static bool is_stream(CUstream s)
{
    return (uintptr_t)s <= 2 || find(STREAM, s);     /* 0 to 2: the default streams */
}

static CUresult take_handle(enum kind kind, void **handle)
{
    struct block *b = handle ? take(kind, 16) : NULL;
    if (!b)
        return handle ? OUT_OF_MEMORY : INVALID_VALUE;
    *handle = b->start;
    return CUDA_SUCCESS;
}

static CUresult with_stream(const char *name, CUstream s)
{
    ENTER(name, CONTEXT);
    return leave(is_stream(s) ? CUDA_SUCCESS : INVALID_HANDLE);
}

static CUresult with_event(const char *name, CUevent e, CUstream s)
{
    ENTER(name, CONTEXT);
    return leave(find(EVENT, e) && is_stream(s) ? CUDA_SUCCESS : INVALID_HANDLE);
}

static CUresult end_handle(const char *name, enum kind kind, void *handle)
{
    ENTER(name, CONTEXT | WHEN_LOST);
    return leave(release(kind, handle) == CUDA_SUCCESS ? CUDA_SUCCESS : INVALID_HANDLE);
}

/* ---- kernels: a module is any text that is PTX, a function is its name ---- */

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    ENTER("cuModuleLoadData", CONTEXT);
    if (!module || !image || !strstr(image, ".version"))
        return leave(INVALID_VALUE);
    *module = (CUmodule)image;
    return leave(CUDA_SUCCESS);
}

CUresult cuModuleUnload(CUmodule module)
{
    ENTER("cuModuleUnload", CONTEXT);
    return leave(module ? CUDA_SUCCESS : INVALID_HANDLE);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    ENTER("cuModuleGetFunction", CONTEXT);
    if (!function || !module || !name || !strstr((const char *)module, name))
        return leave(INVALID_VALUE);
    /* The name that the caller has is a constant of its own. */
    *function = (CUfunction)(uintptr_t)name;
    return leave(CUDA_SUCCESS);
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void **params, void **extra)
{
    (void)shared;
    (void)stream;
    ENTER("cuLaunchKernel", CONTEXT);
    int is_flat = gz == 1 && bz == 1 && bx * by <= 1024 && params && !extra;
    if (!function || !is_flat || fake_launch((const char *)function, gx, gy, bx, by, params))
        return leave(INVALID_VALUE);
    return leave(CUDA_SUCCESS);
}

CUresult cuStreamCreate(CUstream *s, unsigned flags)
{
    (void)flags;
    ENTER("cuStreamCreate", CONTEXT);
    return leave(take_handle(STREAM, (void **)s));
}

CUresult cuEventCreate(CUevent *e, unsigned flags)
{
    (void)flags;
    ENTER("cuEventCreate", CONTEXT);
    return leave(take_handle(EVENT, (void **)e));
}

CUresult cuStreamQuery(CUstream s) { return with_stream("cuStreamQuery", s); }
CUresult cuStreamSynchronize(CUstream s) { return with_stream("cuStreamSynchronize", s); }
CUresult cuStreamDestroy_v2(CUstream s) { return end_handle("cuStreamDestroy", STREAM, s); }
CUresult cuEventQuery(CUevent e) { return with_event("cuEventQuery", e, NULL); }
CUresult cuEventSynchronize(CUevent e) { return with_event("cuEventSynchronize", e, NULL); }
CUresult cuEventRecord(CUevent e, CUstream s) { return with_event("cuEventRecord", e, s); }
CUresult cuEventDestroy_v2(CUevent e) { return end_handle("cuEventDestroy", EVENT, e); }

CUresult cuStreamWaitEvent(CUstream s, CUevent e, unsigned flags)
{
    (void)flags;
    return with_event("cuStreamWaitEvent", e, s);
}

/* ---- copies ---- */

struct side { uintptr_t address; bool device; size_t pitch; };

/* A device side must lie within one block; a host side must not be a device address: here that
 * would work, on a device it would not. */
static CUresult check_side(const char *name, const char *which, struct side s, size_t extent)
{
    const struct block *b = find(DEVICE | FRAME, (void *)s.address);
    if (s.device && (!b || extent > b->size - (s.address - (uintptr_t)b->start))) {
        complain("%s: %s %#lx + %zu bytes is not in one live allocation (%s)", name, which,
                 (unsigned long)s.address, extent, b ? "it passes the end" : "it is in none");
        return lose(ILLEGAL_ADDRESS);
    }
    if (!s.device && (b || !s.address)) {
        complain("%s: host %s %#lx is not host memory", name, which, (unsigned long)s.address);
        return INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

static CUresult copy(const char *name, struct side to, struct side from, size_t width,
                     size_t height, CUstream stream)
{
    if (!is_stream(stream))
        return INVALID_HANDLE;
    if (!width || !height)
        return CUDA_SUCCESS;
    CUresult code = check_side(name, "source", from, (height - 1) * from.pitch + width);
    if (code == CUDA_SUCCESS)
        code = check_side(name, "destination", to, (height - 1) * to.pitch + width);
    for (size_t y = 0; code == CUDA_SUCCESS && y < height; y++)
        memmove((void *)(to.address + y * to.pitch), (void *)(from.address + y * from.pitch),
                width);
    return code;
}

static struct side side_of(CUmemorytype type, const void *host, CUdeviceptr device, size_t x,
                           size_t y, size_t pitch)
{
    bool unified = (int)type == 4;    /* the address itself tells, and stands in the device field */
    struct side s = { .device = type == CU_MEMORYTYPE_DEVICE, .pitch = pitch };
    uintptr_t base = s.device || unified ? (uintptr_t)device : (uintptr_t)host;
    if (unified)
        s.device = find(DEVICE | FRAME, (void *)base) != NULL;
    s.address = base ? base + y * pitch + x : 0;
    return s;
}

static CUresult copy_2d(const char *name, const CUDA_MEMCPY2D *c, CUstream stream)
{
    ENTER(name, CONTEXT);
    if (!c)
        return leave(INVALID_VALUE);
    if (c->srcMemoryType == CU_MEMORYTYPE_ARRAY || c->dstMemoryType == CU_MEMORYTYPE_ARRAY)
        return leave(NOT_SUPPORTED);
    if (c->Height > 1 && (c->srcPitch < c->srcXInBytes + c->WidthInBytes ||
                          c->dstPitch < c->dstXInBytes + c->WidthInBytes)) {
        complain("%s: rows of %zu bytes do not fit the pitches %zu and %zu", name,
                 c->WidthInBytes, c->srcPitch, c->dstPitch);
        return leave(INVALID_VALUE);
    }
    struct side from = side_of(c->srcMemoryType, c->srcHost, c->srcDevice, c->srcXInBytes,
                               c->srcY, c->srcPitch);
    struct side to = side_of(c->dstMemoryType, c->dstHost, c->dstDevice, c->dstXInBytes,
                             c->dstY, c->dstPitch);
    return leave(copy(name, to, from, c->WidthInBytes, c->Height, stream));
}

static CUresult copy_1d(const char *name, struct side to, struct side from, size_t bytes,
                        CUstream stream)
{
    ENTER(name, CONTEXT);
    return leave(copy(name, to, from, bytes, 1, stream));
}

static struct side on_host(const void *p) { return (struct side){ (uintptr_t)p, false, 0 }; }
static struct side on_device(CUdeviceptr p) { return (struct side){ (uintptr_t)p, true, 0 }; }

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *c) { return copy_2d("cuMemcpy2D", c, NULL); }

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *c, CUstream s)
{
    return copy_2d("cuMemcpy2DAsync", c, s);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t n)
{
    return copy_1d("cuMemcpyHtoD", on_device(to), on_host(from), n, NULL);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, CUstream s)
{
    return copy_1d("cuMemcpyHtoDAsync", on_device(to), on_host(from), n, s);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t n)
{
    return copy_1d("cuMemcpyDtoH", on_host(to), on_device(from), n, NULL);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, CUstream s)
{
    return copy_1d("cuMemcpyDtoHAsync", on_host(to), on_device(from), n, s);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n)
{
    return copy_1d("cuMemcpyDtoD", on_device(to), on_device(from), n, NULL);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s)
{
    return copy_1d("cuMemcpyDtoDAsync", on_device(to), on_device(from), n, s);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, CUstream s)
{
    ENTER("cuMemsetD8Async", CONTEXT);
    CUresult code = is_stream(s) ? CUDA_SUCCESS : INVALID_HANDLE;
    if (code == CUDA_SUCCESS && n)
        code = check_side("cuMemsetD8Async", "destination", on_device(to), n);
    if (code == CUDA_SUCCESS && n)
        memset((void *)(uintptr_t)to, value, n);
    return leave(code);
}

/* ---- devices and contexts ---- */

CUresult cuInit(unsigned flags)
{
    ENTER("cuInit", NOTHING);
    if (flags || !set.gpus)
        return leave(flags ? INVALID_VALUE : NO_DEVICE);
    initialized = true;
    return leave(CUDA_SUCCESS);
}

CUresult cuDriverGetVersion(int *version)
{
    ENTER("cuDriverGetVersion", NOTHING);
    *version = 12040;
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetCount(int *n)
{
    ENTER("cuDeviceGetCount", INIT);
    *n = (int)set.gpus;
    return leave(CUDA_SUCCESS);
}

static CUresult device_check(CUdevice device)
{
    return device >= 0 && (unsigned long)device < set.gpus ? CUDA_SUCCESS : INVALID_DEVICE;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    ENTER("cuDeviceGet", INIT);
    CUresult code = device_check(ordinal);
    if (code == CUDA_SUCCESS)
        *device = ordinal;
    return leave(code);
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    ENTER("cuDeviceGetName", INIT);
    CUresult code = length > 0 ? device_check(device) : INVALID_VALUE;
    if (code == CUDA_SUCCESS)
        snprintf(name, (size_t)length, "Fake GPU %d", device);
    return leave(code);
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
    ENTER("cuDeviceComputeCapability", INIT);
    *major = 9;
    *minor = 0;
    return leave(device_check(device));
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    static const int values[][2] = {
        { 11, INT32_MAX },                /* maximum pitch */
        { CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1500000 },
        { CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512 },
        { CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 64 },
        { CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1 },
        { CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1 },
        { CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 1 },
        { CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1500000 },
        { CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 256 },
        { CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2 },
        { CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1 },
        { CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32 },
        { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9 },
        { CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1 },
    };
    ENTER("cuDeviceGetAttribute", INIT);
    *value = 0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (values[i][0] == (int)attribute)
            *value = values[i][1];
    return leave(device_check(device));
}

/* A dead context's record stays: other threads may have it on their stacks. */
static CUcontext new_context(CUdevice device)
{
    CUcontext c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->device = device;
    c->alive = true;
    c->next = contexts;
    contexts = c;
    count.contexts_created++;
    return c;
}

static void end_context(CUcontext c)
{
    unsigned left = 0;
    for (struct decoder *d = decoders; d; d = d->next)
        left += d->context == c;
    if (left)
        complain("a context was destroyed that still has %u decoder(s)", left);
    for (struct block *b = blocks, *next; b; b = next) {
        next = b->next;
        if (b->context == c)
            drop(b);
    }
    c->alive = false;
    count.contexts_destroyed++;
}

static bool is_context(CUcontext c)
{
    CUcontext at = contexts;
    while (at && at != c)
        at = at->next;
    return at && at->alive;
}

static CUcontext primary(CUdevice device)
{
    CUcontext c = contexts;
    while (c && !(c->alive && c->retained && c->device == device))
        c = c->next;
    return c;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device)
{
    (void)flags;
    ENTER("cuCtxCreate", INIT);
    if (device_check(device) != CUDA_SUCCESS || !context)
        return leave(context ? INVALID_DEVICE : INVALID_VALUE);
    CUcontext c = depth < STACK_DEPTH ? new_context(device) : NULL;
    if (!c)
        return leave(OUT_OF_MEMORY);
    *context = stack[depth++] = c;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    ENTER("cuCtxDestroy", INIT | WHEN_LOST);
    if (!is_context(context) || context->retained)
        return leave(INVALID_CONTEXT);
    end_context(context);
    if (depth > 0 && stack[depth - 1] == context)
        depth--;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    ENTER("cuCtxPushCurrent", INIT);
    if (!is_context(context))
        return leave(INVALID_CONTEXT);
    if (depth == STACK_DEPTH) {
        complain("more than %d contexts on a thread's stack", STACK_DEPTH);
        return leave(INVALID_CONTEXT);
    }
    stack[depth++] = context;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    ENTER("cuCtxPopCurrent", INIT | WHEN_LOST);
    if (!depth)
        return leave(INVALID_CONTEXT);
    CUcontext c = stack[--depth];
    if (context)
        *context = c;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    ENTER("cuCtxGetCurrent", INIT);
    *context = current();
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    ENTER("cuCtxGetDevice", CONTEXT);
    *device = current()->device;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
    (void)limit, (void)value;
    ENTER("cuCtxSetLimit", CONTEXT);
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    ENTER("cuDevicePrimaryCtxRetain", INIT);
    if (device_check(device) != CUDA_SUCCESS)
        return leave(INVALID_DEVICE);
    CUcontext c = primary(device);
    if (!c && !(c = new_context(device)))
        return leave(OUT_OF_MEMORY);
    c->retained++;
    *context = c;
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    ENTER("cuDevicePrimaryCtxRelease", INIT | WHEN_LOST);
    CUcontext c = primary(device);
    if (!c)
        return leave(INVALID_CONTEXT);
    if (!--c->retained)
        end_context(c);
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    ENTER("cuDevicePrimaryCtxGetState", INIT);
    *flags = 0;
    *active = primary(device) != NULL;
    return leave(device_check(device));
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags)
{
    (void)flags;
    ENTER("cuDevicePrimaryCtxSetFlags", INIT);
    return leave(device_check(device));
}

/* ---- error names ---- */

static const struct { int code; const char *name, *text; } names[] = {
    { 0, "CUDA_SUCCESS", "no error" },
    { 1, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
    { 2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
    { 3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error" },
    { 4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down" },
    { 46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "device is busy or unavailable" },
    { 100, "CUDA_ERROR_NO_DEVICE", "no device is detected" },
    { 101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" },
    { 201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
    { 205, "CUDA_ERROR_MAP_FAILED", "mapping failed" },
    { 214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable memory error" },
    { 400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" },
    { 600, "CUDA_ERROR_NOT_READY", "device not ready" },
    { 700, "CUDA_ERROR_ILLEGAL_ADDRESS", "illegal memory access" },
    { 719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
    { 801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" },
    { 999, "CUDA_ERROR_UNKNOWN", "unknown error" },
};

static size_t name_index(CUresult code)
{
    size_t i = 0, last = sizeof names / sizeof *names - 1;
    while (i < last && names[i].code != (int)code)
        i++;
    return i;
}

CUresult cuGetErrorName(CUresult code, const char **text)
{
    *text = names[name_index(code)].name;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult code, const char **text)
{
    *text = names[name_index(code)].text;
    return CUDA_SUCCESS;
}

/* ---- the oracle ---- */

/* FNV-1a, without the zeros that a stream may have between a unit and the next start code: whether they come along is the
 * caller's choice. */
static uint64_t hash_of(const unsigned char *data, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        size_t end = i;
        while (end < n && !data[end])
            end++;
        if (end == n)
            break;
        if (end - i > 2 && data[end] == 1)
            i = end - 2;
        h = (h ^ data[i]) * 0x100000001b3u;
    }
    return h;
}

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    while (bytes--)
        v = v << 8 | p[bytes];
    return v;
}

static int by_hash(const void *a, const void *b)
{
    const struct picture *x = a, *y = b;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

/* Format bit 0: 16-bit samples; bit 1: 4:4:4. The same holds for cudaVideoSurfaceFormat. */
static unsigned sample_bytes(unsigned format) { return format & 1 ? 2 : 1; }
static uint32_t chroma_size(unsigned format, uint32_t n) { return format & 2 ? n : (n + 1) / 2; }

static uint64_t picture_bytes(const struct picture *p)
{
    uint64_t chroma = (uint64_t)chroma_size(p->format, p->width) *
                      chroma_size(p->format, p->height);
    return ((uint64_t)p->width * p->height + 2 * chroma) * sample_bytes(p->format);
}

/* "FAKEORA1", u32 count, then entries { u64 hash, u64 offset, u32 width, height, format, depth },
 * little-endian; the offsets lead to tightly packed planes. */
static void load_oracle(void)
{
    struct stat st;
    int fd = set.oracle ? open(set.oracle, O_RDONLY | O_CLOEXEC) : -1;
    const unsigned char *file = MAP_FAILED;
    oracle_tried = true;
    if (fd >= 0 && !fstat(fd, &st) && st.st_size >= 12)
        file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0)
        close(fd);
    if (file == MAP_FAILED || memcmp(file, "FAKEORA1", 8)) {
        if (set.oracle)
            complain("%s is not an oracle", set.oracle);
        return;
    }
    uint64_t size = (uint64_t)st.st_size, n = little(file + 8, 4);
    oracle = n && n <= (size - 12) / 32 ? calloc(n, sizeof *oracle) : NULL;
    for (uint64_t i = 0; oracle && i < n; i++) {
        const unsigned char *e = file + 12 + 32 * i;
        struct picture p = {
            .hash = little(e, 8), .width = (uint32_t)little(e + 16, 4),
            .height = (uint32_t)little(e + 20, 4), .format = (uint32_t)little(e + 24, 4),
            .depth = (uint32_t)little(e + 28, 4), .index = (long)i,
        };
        uint64_t offset = little(e + 8, 8);
        p.planes = file + offset;
        if (p.format > 3 || p.width > 16384 || p.height > 16384 || p.depth < 8 || p.depth > 16 ||
            offset > size || picture_bytes(&p) > size - offset)
            complain("oracle: entry %lu makes no sense", (unsigned long)i);
        else
            oracle[oracle_count++] = p;
    }
    if (n && !oracle)
        complain("%s is too short for %lu entries", set.oracle, (unsigned long)n);
    if (oracle)
        qsort(oracle, (size_t)oracle_count, sizeof *oracle, by_hash);
}

/* Two pictures may have the same bytes and not the same content (both say "as the one before").
 * Then the entry is taken that stands nearest in the file to that of the picture last decoded. */
static const struct picture *look_up(uint64_t hash, long last)
{
    const struct picture *best = NULL;
    long low = 0, high, nearest = 0;
    if (!oracle_tried)
        load_oracle();
    for (high = oracle_count; low < high;) {
        long middle = low + (high - low) / 2;
        if (oracle[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < oracle_count && oracle[low].hash == hash; low++) {
        long far = labs(oracle[low].index - last) * 2 - (oracle[low].index > last);
        if (!best || (far < nearest && far) || !nearest) {
            best = &oracle[low];
            nearest = far;
        }
    }
    return best;
}

static bool is_damaged(uint64_t hash)      /* FAKE_DAMAGED: hex hashes, by commas */
{
    for (const char *at = set.damaged; at && *at;) {
        char *end;
        if (strtoull(at, &end, 16) == hash && end != at)
            return true;
        if ((at = strchr(end, ',')))
            at++;
    }
    return false;
}

/* ---- decoders ---- */

static struct { cudaVideoCodec codec; const char *name; unsigned short width, height, most; }
    const codecs[] = {
        { cudaVideoCodec_H264, "h264", 48, 16, 4096 },
        { cudaVideoCodec_HEVC, "hevc", 144, 144, 8192 },
        { cudaVideoCodec_VP9, "vp9", 128, 128, 8192 },
    };

static bool switched_off(const char *name)      /* FAKE_NO_CODEC: names, by commas */
{
    for (const char *at = set.no_codec; at && *at; at += strspn(at, ",")) {
        size_t n = strcspn(at, ",");
        if (n == strlen(name) && !strncasecmp(at, name, n))
            return true;
        at += n;
    }
    return false;
}

static void fill_caps(CUVIDDECODECAPS *c)
{
    unsigned bits = c->nBitDepthMinus8;
    bool full = c->eChromaFormat == cudaVideoChromaFormat_444;
    memset(&c->bIsSupported, 0, sizeof *c - offsetof(CUVIDDECODECAPS, bIsSupported));
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        if (codecs[i].codec != c->eCodecType || switched_off(codecs[i].name))
            continue;
        if (!full && c->eChromaFormat != cudaVideoChromaFormat_420)
            continue;
        if ((full && c->eCodecType != cudaVideoCodec_HEVC) || (bits && bits != 2 && bits != 4) ||
            (bits && c->eCodecType == cudaVideoCodec_H264))
            continue;
        c->bIsSupported = 1;
        c->nNumNVDECs = 7;
        c->nOutputFormatMask = (unsigned short)((bits ? 3 : 1) << (full ? 2 : 0));
        c->nMaxWidth = c->nMaxHeight = codecs[i].most;
        c->nMaxMBCount = 262144;
        c->nMinWidth = set.min_size ? (unsigned short)set.min_size : codecs[i].width;
        c->nMinHeight = set.min_size ? (unsigned short)set.min_size : codecs[i].height;
    }
}

CUresult cuvidGetDecoderCaps(CUVIDDECODECAPS *c)
{
    ENTER("cuvidGetDecoderCaps", CONTEXT);
    if (c)
        fill_caps(c);
    return leave(c ? CUDA_SUCCESS : INVALID_VALUE);
}

/* What is wrong with a decoder of this kind, or NULL. */
static const char *info_fault(const CUVIDDECODECREATEINFO *i)
{
    CUVIDDECODECAPS c = { .eCodecType = i->CodecType, .eChromaFormat = i->ChromaFormat,
                          .nBitDepthMinus8 = (unsigned)i->bitDepthMinus8 };
    fill_caps(&c);
    if (!c.bIsSupported)
        return "the codec, chroma format or depth is not supported";
    if (i->ulWidth < c.nMinWidth || i->ulHeight < c.nMinHeight || i->ulWidth > c.nMaxWidth ||
        i->ulHeight > c.nMaxHeight || i->ulWidth * i->ulHeight / 256 > c.nMaxMBCount)
        return "the size is outside the limits";
    if ((i->ulMaxWidth && i->ulWidth > i->ulMaxWidth) || i->ulMaxWidth > c.nMaxWidth ||
        (i->ulMaxHeight && i->ulHeight > i->ulMaxHeight) || i->ulMaxHeight > c.nMaxHeight)
        return "the size and the maximum size do not go together";
    if (i->ulNumDecodeSurfaces < 1 || i->ulNumDecodeSurfaces > MAX_SURFACES)
        return "the number of surfaces is not 1 to 32";
    if (i->ulTargetWidth != i->ulWidth || i->ulTargetHeight != i->ulHeight)
        return "the target size is not the coded size";
    if (i->ulTargetWidth & 1 || i->ulTargetHeight & 1)
        return "the target size is odd";
    if ((i->display_area.right || i->display_area.bottom) &&
        (i->display_area.left || i->display_area.top ||
         (unsigned long)i->display_area.right != i->ulTargetWidth ||
         (unsigned long)i->display_area.bottom != i->ulTargetHeight))
        return "the display area is not the target: a device would scale";
    if ((unsigned)i->OutputFormat != (i->ChromaFormat == cudaVideoChromaFormat_444 ? 2u : 0u) +
                                         (i->bitDepthMinus8 ? 1u : 0u))
        return "the output format does not fit the chroma format and the depth";
    if (i->DeinterlaceMode != cudaVideoDeinterlaceMode_Weave)
        return "it asks for deinterlacing";
    return i->ulNumOutputSurfaces < 1 ? "it has no output surfaces" : NULL;
}

static unsigned long larger(unsigned long a, unsigned long b) { return a > b ? a : b; }

static size_t decoder_bytes(const struct decoder *d)
{
    size_t row = d->max_width * sample_bytes(d->info.OutputFormat);
    size_t luma = ((row + 255) & ~(size_t)255) * d->max_height * d->info.ulNumDecodeSurfaces;
    return d->info.OutputFormat & 2 ? luma * 3 : luma + luma / 2;
}

CUresult cuvidCreateDecoder(CUvideodecoder *out, CUVIDDECODECREATEINFO *info)
{
    ENTER("cuvidCreateDecoder", CONTEXT);
    CUresult code = out && info ? nap(set.create_us) : INVALID_VALUE;
    if (code != CUDA_SUCCESS)
        return leave(code);
    const char *fault = info_fault(info);
    if (fault) {
        complain("cuvidCreateDecoder: %s (codec %d, chroma %d, %lu bit, %lux%lu, target %lux%lu, "
                 "%lu surfaces, output %d)", fault, info->CodecType, info->ChromaFormat,
                 info->bitDepthMinus8 + 8, info->ulWidth, info->ulHeight, info->ulTargetWidth,
                 info->ulTargetHeight, info->ulNumDecodeSurfaces, info->OutputFormat);
        return leave(INVALID_VALUE);
    }
    struct decoder *d = calloc(1, sizeof *d);
    if (!d)
        return leave(OUT_OF_MEMORY);
    d->info = *info;
    d->context = current();
    d->max_width = larger(info->ulWidth, info->ulMaxWidth);
    d->max_height = larger(info->ulHeight, info->ulMaxHeight);
    d->bytes = decoder_bytes(d);
    d->last_index = -1;
    if (!fits_memory(d->bytes)) {
        free(d);
        return leave(OUT_OF_MEMORY);
    }
    device_bytes += d->bytes;
    d->next = decoders;
    decoders = d;
    count.decoders_created++;
    count.max_decoders_open = larger(count.max_decoders_open, ++decoders_open);
    *out = d;
    return leave(CUDA_SUCCESS);
}

/* The decoder of a handle. Searched, not trusted: it may have been destroyed meanwhile. */
static struct decoder *decoder_of(const char *name, CUvideodecoder handle)
{
    struct decoder *d = decoders;
    while (d && d != handle)
        d = d->next;
    if (!d)
        complain("%s: there is no decoder %p", name, handle);
    return d;
}

static unsigned long mapped(const struct decoder *d)
{
    unsigned long n = 0;
    for (struct block *b = blocks; b; b = b->next)
        n += b->kind == FRAME && b->decoder == d;
    return n;
}

CUresult cuvidDestroyDecoder(CUvideodecoder handle)
{
    ENTER("cuvidDestroyDecoder", CONTEXT | WHEN_LOST);
    struct decoder *d = decoder_of("cuvidDestroyDecoder", handle), **at = &decoders;
    if (!d)
        return leave(INVALID_HANDLE);
    if (mapped(d) && lost == CUDA_SUCCESS)     /* on a lost device nothing can be unmapped */
        complain("cuvidDestroyDecoder: %lu frame(s) still mapped", mapped(d));
    for (struct block *b = blocks, *next; b; b = next) {
        next = b->next;
        if (b->kind == FRAME && b->decoder == d)
            drop(b);
    }
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    device_bytes -= d->bytes;
    decoders_open--;
    count.decoders_destroyed++;
    free(d);
    return leave(CUDA_SUCCESS);
}

CUresult cuvidReconfigureDecoder(CUvideodecoder handle, CUVIDRECONFIGUREDECODERINFO *r)
{
    ENTER("cuvidReconfigureDecoder", CONTEXT);
    struct decoder *d = decoder_of("cuvidReconfigureDecoder", handle);
    if (!d || !r)
        return leave(d ? INVALID_VALUE : INVALID_HANDLE);
    CUVIDDECODECREATEINFO info = d->info;
    info.ulWidth = r->ulWidth;
    info.ulHeight = r->ulHeight;
    info.ulMaxWidth = d->max_width;
    info.ulMaxHeight = d->max_height;
    info.ulTargetWidth = r->ulTargetWidth;
    info.ulTargetHeight = r->ulTargetHeight;
    info.ulNumDecodeSurfaces = r->ulNumDecodeSurfaces;
    info.display_area.left = r->display_area.left;
    info.display_area.top = r->display_area.top;
    info.display_area.right = r->display_area.right;
    info.display_area.bottom = r->display_area.bottom;
    const char *fault = info_fault(&info);
    if (fault) {
        complain("cuvidReconfigureDecoder: %s (%ux%u, target %ux%u, %u surfaces, at most %lux%lu)",
                 fault, r->ulWidth, r->ulHeight, r->ulTargetWidth, r->ulTargetHeight,
                 r->ulNumDecodeSurfaces, d->max_width, d->max_height);
        return leave(INVALID_VALUE);
    }
    d->info = info;
    d->era = 0;
    memset(d->surface, 0, sizeof d->surface);
    count.reconfigured++;
    return leave(CUDA_SUCCESS);
}

/* ---- decoding ---- */

static const struct surface *surface_of(const struct decoder *d, int index)
{
    return index >= 0 && (unsigned long)index < d->info.ulNumDecodeSurfaces ? &d->surface[index]
                                                                            : NULL;
}

/* One entry of a HEVC picture's reference set. *spoiled: it is right, but itself garbage. */
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

/* Which of the three are used is not known here: each has to be a picture. */
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

/* NVDEC wants every slice of H.264 and HEVC with its start code, and told where each begins. */
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
    /* A list names also what a picture does not use: an intra picture takes no harm from it. */
    if (!right || (spoiled && !p->intra_pic_flag))
        spoil(s);
    /* What a card conceals looks like something. */
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

/* ---- mapped frames ---- */

struct plane { unsigned char *to; size_t pitch; uint32_t width, height; unsigned step; };

/* Samples of 16 bit go to the top of their words, as NVDEC puts them. */
static void put_plane(struct plane t, const unsigned char *from, uint32_t width, uint32_t height,
                      const struct picture *p)
{
    for (uint32_t y = 0; y < height && y < t.height; y++) {
        const unsigned char *f = from + (size_t)y * width * sample_bytes(p->format);
        unsigned char *to = t.to + y * t.pitch;
        for (uint32_t x = 0; x < width && x < t.width; x++) {
            if (p->format & 1) {
                unsigned v = (unsigned)(f[2 * x] | f[2 * x + 1] << 8) << (16 - p->depth);
                to[2 * x * t.step] = (unsigned char)v;
                to[2 * x * t.step + 1] = (unsigned char)(v >> 8);
            } else {
                to[x * t.step] = f[x];
            }
        }
    }
}

static void put_picture(const struct decoder *d, const struct picture *p, unsigned char *frame,
                        size_t pitch)
{
    uint32_t w = (uint32_t)d->info.ulTargetWidth, h = (uint32_t)d->info.ulTargetHeight;
    uint32_t cw = chroma_size(p->format, p->width), ch = chroma_size(p->format, p->height);
    unsigned bytes = sample_bytes(p->format);
    unsigned char *chroma = frame + pitch * h;
    const unsigned char *u = p->planes + (size_t)p->width * p->height * bytes;
    bool full = p->format & 2;
    put_plane((struct plane){ frame, pitch, w, h, 1 }, p->planes, p->width, p->height, p);
    for (unsigned i = 0; i < 2; i++) {
        struct plane t = { full ? chroma + i * pitch * h : chroma + i * bytes, pitch,
                           chroma_size(p->format, w), chroma_size(p->format, h), full ? 1 : 2 };
        put_plane(t, u + (size_t)i * cw * ch * bytes, cw, ch, p);
    }
}

static void put_pattern(unsigned char *frame, size_t size, uint64_t hash)
{
    for (size_t i = 0; i < size; i++)
        frame[i] = (unsigned char)(hash >> (i & 7) * 8);
}

CUresult cuvidMapVideoFrame64(CUvideodecoder handle, int index, unsigned long long *pointer,
                              unsigned *pitch, CUVIDPROCPARAMS *how)
{
    ENTER("cuvidMapVideoFrame", CONTEXT);
    CUresult code = pointer && pitch && how ? nap(set.map_us) : INVALID_VALUE;
    struct decoder *d = code == CUDA_SUCCESS ? decoder_of("cuvidMapVideoFrame", handle) : NULL;
    if (!d)
        return leave(code == CUDA_SUCCESS ? INVALID_HANDLE : code);
    const struct surface *s = surface_of(d, index);
    if (!s) {
        complain("cuvidMapVideoFrame: surface %d of %lu", index, d->info.ulNumDecodeSurfaces);
        return leave(INVALID_VALUE);
    }
    if (mapped(d) >= d->info.ulNumOutputSurfaces) {
        complain("cuvidMapVideoFrame: all %lu output surfaces are mapped",
                 d->info.ulNumOutputSurfaces);
        return leave(MAP_FAILED_CODE);
    }
    if (s->content == EMPTY)
        complain("cuvidMapVideoFrame: nothing was decoded into surface %d", index);
    size_t rows = d->info.ulTargetHeight;
    size_t line = d->info.ulTargetWidth * sample_bytes(d->info.OutputFormat);
    line = ((line + 255) & ~(size_t)255) + 256;        /* a pitch that is not the width */
    struct block *b = take(FRAME, line * (d->info.OutputFormat & 2 ? rows * 3 : rows * 3 / 2));
    if (!b)
        return leave(OUT_OF_MEMORY);
    b->decoder = d;
    memset(b->start, 0x5a, b->size);
    if (s->content == GOOD)
        put_picture(d, s->picture, b->start, line);
    else if (s->content != EMPTY)
        put_pattern(b->start, b->size, s->hash);
    *pointer = (uintptr_t)b->start;
    *pitch = (unsigned)line;
    count.maps++;
    return leave(CUDA_SUCCESS);
}

CUresult cuvidUnmapVideoFrame64(CUvideodecoder handle, unsigned long long pointer)
{
    ENTER("cuvidUnmapVideoFrame", CONTEXT);
    struct decoder *d = decoder_of("cuvidUnmapVideoFrame", handle);
    struct block *b = find(FRAME, (void *)(uintptr_t)pointer);
    if (!d || !b || b->decoder != d || (uintptr_t)b->start != pointer) {
        if (d)
            complain("cuvidUnmapVideoFrame: %#llx is not mapped", pointer);
        return leave(d ? INVALID_VALUE : INVALID_HANDLE);
    }
    drop(b);
    count.unmaps++;
    return leave(CUDA_SUCCESS);
}

/* ---- loading and leaving ---- */

static unsigned long number(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 10) : otherwise;
}

/* FAKE_FAIL: "call:n[:code]" by commas; the n-th such call fails with the code (or 999). */
static void read_faults(const char *text)
{
    for (; text && *text; text += strspn(text, ",")) {
        struct fault f = { .code = CUDA_ERROR_UNKNOWN };
        int code = 999;
        if (sscanf(text, "%47[^:,]:%u:%d", f.name, &f.nth, &code) >= 2) {
            struct fault *kept = malloc(sizeof *kept);
            f.code = (CUresult)code;
            f.next = faults;
            if (kept) {
                *kept = f;
                faults = kept;
            }
        } else {
            complain("FAKE_FAIL: cannot read \"%s\"", text);
        }
        text += strcspn(text, ",");
    }
}

static void __attribute__((constructor)) start(void)
{
    /* A program that unloads its driver and loads it again must find the same state. */
    Dl_info self;
    if (dladdr((void *)&lock, &self))
        (void)dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    set.gpus = number("FAKE_GPUS", 1);
    set.memory = number("FAKE_MEMORY_MIB", 0);
    set.min_size = number("FAKE_MIN_SIZE", 0);
    set.busy = number("FAKE_BUSY", 0);
    set.decode_us = number("FAKE_DECODE_US", 0);
    set.map_us = number("FAKE_MAP_US", 0);
    set.create_us = number("FAKE_CREATE_US", 0);
    set.quiet = getenv("FAKE_QUIET") != NULL;
    set.no_codec = getenv("FAKE_NO_CODEC");
    set.oracle = getenv("FAKE_ORACLE");
    set.damaged = getenv("FAKE_DAMAGED");
    set.report = getenv("FAKE_REPORT");
    read_faults(getenv("FAKE_FAIL"));
}

/* FAKE_REPORT: a file that gets one line of JSON. Other threads may still be running. */
static void __attribute__((destructor)) finish(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    bool held = !pthread_mutex_timedlock(&lock, &until);
    FILE *f = set.report && *set.report ? fopen(set.report, "w") : NULL;
    if (f) {
        fprintf(f, "{\"decoders_created\": %lu, \"decoders_destroyed\": %lu, "
                "\"reconfigured\": %lu, \"pictures_decoded\": %lu, \"pictures_garbage\": %lu, "
                "\"pictures_unknown\": %lu, \"maps\": %lu, \"unmaps\": %lu, "
                "\"max_decoders_open\": %lu, \"bytes_allocated_now\": %zu, "
                "\"host_bytes_now\": %zu, \"max_concurrent_decodes\": %lu, "
                "\"contexts_created\": %lu, \"contexts_destroyed\": %lu, \"errors\": %lu, "
                "\"lost\": %s}\n", count.decoders_created, count.decoders_destroyed,
                count.reconfigured, count.decoded, count.garbage, count.unknown, count.maps,
                count.unmaps, count.max_decoders_open, device_bytes, host_bytes,
                count.max_concurrent_decodes, count.contexts_created, count.contexts_destroyed,
                count.errors, lost != CUDA_SUCCESS ? "true" : "false");
        fclose(f);
    }
    if (held)
        pthread_mutex_unlock(&lock);
}
