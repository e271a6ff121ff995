/*
 * The shared declarations of the fake driver's files: see calls.c. The shared state is hidden, so that no symbol of a
 * program or library in the same process replaces it.
 */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

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

/* Symbols that a loader looks up, but that no caller should call. */
tcuModuleLoadData cuModuleLoadData; tcuModuleUnload cuModuleUnload;
tcuModuleGetFunction cuModuleGetFunction; tcuLaunchKernel cuLaunchKernel;
/* The kernels, on the host: kernel_host.c. */
int fake_launch(const char *name, unsigned gx, unsigned gy, unsigned bx, unsigned by, void **params);

/* State: all of it under one lock, none of it freed at exit (threads may still call). */

#pragma GCC visibility push(hidden)

struct CUctx_st { CUcontext next; CUdevice device; bool alive; unsigned retained; };

enum kind { DEVICE = 1, FRAME = 2, HOST = 4, STREAM = 8, EVENT = 16 };

struct block {                 /* an object whose address a caller may pass to a call */
    struct block *next;
    enum kind kind;
    unsigned char *start;
    size_t size;
    CUcontext context;
    const void *decoder;       /* of a FRAME: its decoder */
};

struct fault { char name[48]; unsigned nth, seen; CUresult code; struct fault *next; };

struct picture {               /* an entry of the oracle */
    uint64_t hash;
    const unsigned char *planes;
    uint32_t width, height, format, depth;
    long index;                /* position in the file */
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

struct counts {
    unsigned long decoders_created, decoders_destroyed, reconfigured, decoded, garbage, unknown,
        maps, unmaps, max_decoders_open, max_concurrent_decodes, contexts_created,
        contexts_destroyed, errors;
};

struct settings {
    unsigned long gpus, memory, min_size, busy, decode_us, map_us, create_us;
    const char *no_codec, *oracle, *damaged, *report;
    bool quiet;
};

extern pthread_mutex_t lock;
extern _Thread_local CUcontext stack[STACK_DEPTH];
extern _Thread_local int depth;
extern bool initialized;
extern CUresult lost;
extern struct counts count;
extern struct settings set;
extern struct block *blocks;
extern size_t device_bytes, host_bytes;
extern struct decoder *decoders;

enum need { NOTHING = 0, INIT = 1, CONTEXT = 2, WHEN_LOST = 4 };

/* calls.c */
void __attribute__((format(printf, 1, 2))) complain(const char *format, ...);
CUresult lose(CUresult code);
CUcontext current(void);
CUresult enter(const char *name, unsigned need);
CUresult leave(CUresult code);
CUresult nap(unsigned long us);

/* memory.c */
struct block *take(enum kind kind, size_t size);
void drop(struct block *b);
struct block *find(unsigned kinds, const void *address);
CUresult release(unsigned kinds, const void *address);
bool fits_memory(size_t bytes);

/* streams.c */
bool is_stream(CUstream s);

/* oracle.c */
uint64_t hash_of(const unsigned char *data, size_t n);
unsigned sample_bytes(unsigned format);
uint32_t chroma_size(unsigned format, uint32_t n);
const struct picture *look_up(uint64_t hash, long last);
bool is_damaged(uint64_t hash);

/* decoders.c */
unsigned long larger(unsigned long a, unsigned long b);
struct decoder *decoder_of(const char *name, CUvideodecoder handle);
unsigned long mapped(const struct decoder *d);

/* decoding.c */
const struct surface *surface_of(const struct decoder *d, int index);

#pragma GCC visibility pop

/* For references only: a test that breaks streams on purpose expects them to be wrong. */
#define wrong(...) (set.quiet ? (void)0 : complain(__VA_ARGS__))

#define ENTER(name, need) \
    do { CUresult code_ = enter(name, need); if (code_ != CUDA_SUCCESS) return code_; } while (0)

#endif
