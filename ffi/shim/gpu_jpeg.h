/* JPEGs of pictures in a GPU's memory, encoded there: gpu_jpeg.c. */
#ifndef BUCKET_STREAMER_GPU_JPEG_H
#define BUCKET_STREAMER_GPU_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include <ffnvcodec/dynlink_cuda.h>
#include <ffnvcodec/dynlink_nvcuvid.h>

#include <ffnvcodec/dynlink_loader.h>

#include "shim.h"

/* An encoder for one thread at a time. It keeps its memory for the next picture. */
typedef struct BsGpuJpeg BsGpuJpeg;

/* A picture in device memory: NV12, or with more than 8 bits P016, with samples in the upper bits of 16. */
typedef struct BsGpuPlanes {
    uint64_t luma, chroma;             /* addresses */
    size_t luma_pitch, chroma_pitch;   /* bytes from row to row */
    int width, height;                 /* of the visible part, in pixels */
    int bit_depth;                     /* 8 to 16 */
    int left, top;                     /* of the visible part: even, and 0 without a crop */
} BsGpuPlanes;

/* Loads nvJPEG and the kernel. Returns 0, or an AVERROR with the reason in `why`: ENOSYS without nvJPEG. Functions
 * and context must outlive the encoder. */
int bs_gpu_jpeg_open(CudaFunctions *cu, CUcontext context, BsGpuJpeg **out, char *why, size_t why_size);
/* NULL is allowed, and so is a pointer to NULL. */
void bs_gpu_jpeg_close(BsGpuJpeg **encoder);
/* Makes a JPEG of BT.601, full range, 4:2:0, in the picture's size. Pushes the context; works in order with other
 * work on `stream`, and returns when the bytes, which are av_malloc()ed, are complete. After an error no work on the
 * stream reads the picture, and the encoder may be used again. Quality is 1 to 100. */
int bs_gpu_jpeg_encode(BsGpuJpeg *encoder, const BsGpuPlanes *planes, const BsGpuColour *colour, int quality,
                       CUstream stream, uint8_t **bytes, size_t *size);
/* The reason why the last of these calls in this thread failed. */
const char *bs_gpu_jpeg_why(void);

#endif
