/* What gpu.c, gpu_decoder.c and gpu_picture.c share: a GPU, its NVDEC sessions, and the pictures that they decode. */
#ifndef BUCKET_STREAMER_GPU_H
#define BUCKET_STREAMER_GPU_H

#include <pthread.h>
#include <stdatomic.h>

#include <ffnvcodec/dynlink_cuda.h>
#include <ffnvcodec/dynlink_nvcuvid.h>

#include "libavutil/pixfmt.h"

#include "shim.h"

struct CudaFunctions;
struct CuvidFunctions;

/* What a hardware decoder was made for. Another stream of the same shape can go on with it as it is. */
typedef struct BsShape {
    cudaVideoCodec codec;
    cudaVideoChromaFormat chroma;
    cudaVideoSurfaceFormat output;
    int depth, width, height, surfaces;
    uint64_t owner; /* the video that it is for: surfaces keep what was in them */
} BsShape;

/* A hardware decoder. To make one takes longer than to decode many pictures, so they are kept when nobody uses them. */
typedef struct BsSession {
    struct BsSession *next; /* in the list of idle ones */
    CUvideodecoder decoder;
    CUstream stream;
    BsShape shape;
    int max_width, max_height;
    int tells_nothing;  /* the driver gives no status for this codec */
    uint32_t unsettled; /* surfaces whose pictures were sent and not asked after yet */
    uint32_t stale;     /* those among them that an earlier walk has sent */
} BsSession;

/* Memory that is kept for the next picture: of the device, or of the host where the device can write to it. */
typedef struct BsBlock {
    struct BsBlock *next;
    size_t size;
    CUdeviceptr device;
    void *host;
} BsBlock;

struct BsGpu {
    const struct CudaFunctions *cu;
    const struct CuvidFunctions *cv;
    CUdevice device;
    CUcontext context;
    int ordinal, driver, engines;
    char name[96];
    atomic_int lost; /* the CUresult after which nothing works any more */
    atomic_int opened, reused;
    pthread_mutex_t lock; /* of the lists below */
    BsSession *idle;
    BsBlock *device_blocks, *host_blocks;
};

/* A session in use. Surfaces refer to it; when the last one has gone, the session is idle. */
typedef struct BsLoan {
    BsGpu *gpu;
    BsSession *session;
    enum AVPixelFormat planar; /* what software would decode to */
    atomic_int damaged;        /* something that was decoded since bs_gpu_begin() */
} BsLoan;

/* What a frame that comes out of such a decoder has in buf[0]: not pixels yet, but where they are in the session. */
typedef struct BsSurface {
    BsLoan *loan;
    unsigned *index_ref; /* keeps the index from being given to another picture */
    unsigned index;
    int fields; /* 1 the upper, 2 the lower one, 3 both, or a frame */
} BsSurface;

/* A picture that stays on the device: what buf[0] of its frame refers to. */
typedef struct BsKept {
    BsGpu *gpu;
    BsBlock *block;
    BsGpuPicture picture;
} BsKept;

/* NULL for frames that are something else. */
const BsKept *bs_gpu_kept_of(const struct AVFrame *f);

/* Notes why something failed, for bs_gpu_why(), and returns an AVERROR. */
int bs_gpu_fail(BsGpu *gpu, const char *what, CUresult result);
int bs_gpu_refuse(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* 0 if the context is this thread's now; bs_gpu_leave() gives it back. */
int bs_gpu_enter(BsGpu *gpu);
void bs_gpu_leave(BsGpu *gpu);

/* A session of this shape: an idle one, or a new one. */
int bs_gpu_borrow(BsGpu *gpu, const BsShape *shape, BsLoan **out);
/* Waits for the picture in a surface and notes whether it is damaged. The context is entered. */
int bs_gpu_settle(BsLoan *loan, unsigned index);

BsBlock *bs_gpu_take_block(BsGpu *gpu, int is_host, size_t size);
void bs_gpu_give_block(BsGpu *gpu, BsBlock *block);

/* AVCodecContext.get_buffer2 of decoders on a GPU. */
int bs_gpu_get_buffer(struct AVCodecContext *c, struct AVFrame *f);

#endif
