/*
 * What is used of nvJPEG's interface, in declarations of our own: the library is loaded where it is installed, and NVIDIA's
 * header need not be there to build. Functions and numbers are the same in versions 12 and 13. A handle of the driver's
 * stream is one of the runtime's too.
 */
#ifndef BUCKET_STREAMER_GPU_NVJPEG_H
#define BUCKET_STREAMER_GPU_NVJPEG_H

#include <stddef.h>

/* Names a library to be loaded instead of those that are looked for. */
#define BS_NVJPEG_VARIABLE "BUCKET_STREAMER_NVJPEG"

/* nvjpegStatus_t, as far as a difference is made. */
enum { BS_NVJPEG_SUCCESS = 0, BS_NVJPEG_INVALID_PARAMETER = 2, BS_NVJPEG_ALLOCATOR_FAILURE = 5 };
/* nvjpegChromaSubsampling_t; the others are not made here. */
enum { BS_NVJPEG_CSS_420 = 2 };

#define BS_NVJPEG_CHANNELS 4

/* nvjpegImage_t: addresses in device memory. */
typedef struct BsNvjpegImage {
    unsigned char *channel[BS_NVJPEG_CHANNELS];
    size_t pitch[BS_NVJPEG_CHANNELS];
} BsNvjpegImage;

typedef struct nvjpegHandle *BsNvjpegHandle;
typedef struct nvjpegEncoderState *BsNvjpegState;
typedef struct nvjpegEncoderParams *BsNvjpegParams;
typedef struct CUstream_st *BsNvjpegStream;

/* All return a nvjpegStatus_t. */
typedef int BsNvjpegCreateSimple(BsNvjpegHandle *handle);
typedef int BsNvjpegDestroy(BsNvjpegHandle handle);
typedef int BsNvjpegEncoderStateCreate(BsNvjpegHandle handle, BsNvjpegState *state, BsNvjpegStream stream);
typedef int BsNvjpegEncoderStateDestroy(BsNvjpegState state);
typedef int BsNvjpegEncoderParamsCreate(BsNvjpegHandle handle, BsNvjpegParams *params, BsNvjpegStream stream);
typedef int BsNvjpegEncoderParamsDestroy(BsNvjpegParams params);
/* Quality 1 to 100; Huffman tables made for the picture or not; BS_NVJPEG_CSS_*. */
typedef int BsNvjpegEncoderParamsSet(BsNvjpegParams params, int value, BsNvjpegStream stream);
typedef int BsNvjpegEncodeYUV(BsNvjpegHandle handle, BsNvjpegState state, BsNvjpegParams params,
                              const BsNvjpegImage *source, int subsampling, int width, int height,
                              BsNvjpegStream stream);
/* Without `data` only says how long the bytes are. */
typedef int BsNvjpegEncodeRetrieveBitstream(BsNvjpegHandle handle, BsNvjpegState state, unsigned char *data,
                                            size_t *length, BsNvjpegStream stream);

#endif
