/* Declarations for gpu.c, gpu_decoder.c and gpu_picture.c: a GPU, its NVDEC sessions, and the pictures that they
   decode. */
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

/* The parameters that a hardware decoder was made for. Another stream of the same shape can use it unchanged. */
typedef struct BsShape {
    cudaVideoCodec codec;
    cudaVideoChromaFormat chroma;
    cudaVideoSurfaceFormat output;
    int depth, width, height, surfaces;
    uint64_t owner; /* the video: surfaces keep their old contents */
} BsShape;

/* A hardware decoder. To make one takes longer than to decode many pictures, so idle ones are kept. */
typedef struct BsSession {
    struct BsSession *next; /* in the list of idle ones */
    CUvideodecoder decoder;
    CUstream stream;
    BsShape shape;
    int max_width, max_height;
    int tells_nothing;  /* the driver reports no status of pictures for this codec */
    uint32_t unsettled; /* surfaces with pictures in decoding, of unknown status */
    uint32_t stale;     /* those among them that an earlier decode run sent */
} BsSession;

/* Memory that is kept for the next picture: on the device, or on the host where the device can write to it. */
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
    atomic_int lost; /* the CUresult that made all further calls fail */
    atomic_int opened, reused;
    pthread_mutex_t lock; /* of the lists below */
    BsSession *idle;
    BsBlock *device_blocks, *host_blocks;
};

/* A session in use. Surfaces refer to it; when the last one is freed, the session is idle. */
typedef struct BsLoan {
    BsGpu *gpu;
    BsSession *session;
    enum AVPixelFormat planar; /* the format that a software decoder would output */
    atomic_int damaged;        /* a picture since bs_gpu_begin() is damaged */
} BsLoan;

/* The contents of buf[0] of a frame from such a decoder: not pixels, but their location in the session. */
typedef struct BsSurface {
    BsLoan *loan;
    unsigned *index_ref; /* reserves the index for this picture */
    unsigned index;
    int fields; /* 1 the upper, 2 the lower one, 3 both, or a frame */
} BsSurface;

/* A picture that stays on the device: buf[0] of its frame refers to it. */
typedef struct BsKept {
    BsGpu *gpu;
    BsBlock *block;
    BsGpuPicture picture;
} BsKept;

/* NULL for other frames. */
const BsKept *bs_gpu_kept_of(const struct AVFrame *f);

/* Records the reason of a failure for bs_gpu_why(), and returns an AVERROR. */
int bs_gpu_fail(BsGpu *gpu, const char *what, CUresult result);
int bs_gpu_refuse(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* 0 if the context is now this thread's; bs_gpu_leave() gives it back. */
int bs_gpu_enter(BsGpu *gpu);
void bs_gpu_leave(BsGpu *gpu);

/* A session of this shape: an idle one, or a new one. */
int bs_gpu_borrow(BsGpu *gpu, const BsShape *shape, BsLoan **out);
/* Waits for the picture in a surface and records whether it is damaged. The context is entered. */
int bs_gpu_settle(BsLoan *loan, unsigned index);

BsBlock *bs_gpu_take_block(BsGpu *gpu, int is_host, size_t size);
void bs_gpu_give_block(BsGpu *gpu, BsBlock *block);

/* AVCodecContext.get_buffer2 of decoders on a GPU. */
int bs_gpu_get_buffer(struct AVCodecContext *c, struct AVFrame *f);

#endif
