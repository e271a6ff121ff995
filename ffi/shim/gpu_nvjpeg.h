/*
 * The part of nvJPEG's interface that gpu_jpeg.c uses, in declarations of our own: the library is loaded where it is
 * installed, and the build does not need NVIDIA's header. Functions and numbers are equal in versions 12 and 13. A
 * handle of the driver's stream is also one of the runtime's.
 */
#ifndef BUCKET_STREAMER_GPU_NVJPEG_H
#define BUCKET_STREAMER_GPU_NVJPEG_H

#include <stddef.h>

/* Names a library to load instead of the default ones. */
#define BS_NVJPEG_VARIABLE "BUCKET_STREAMER_NVJPEG"

/* nvjpegStatus_t, as far as statuses are distinguished. */
enum { BS_NVJPEG_SUCCESS = 0, BS_NVJPEG_INVALID_PARAMETER = 2, BS_NVJPEG_ALLOCATOR_FAILURE = 5 };
/* nvjpegChromaSubsampling_t; the others are not used here. */
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
/* Without `data` it only returns the number of bytes. */
typedef int BsNvjpegEncodeRetrieveBitstream(BsNvjpegHandle handle, BsNvjpegState state, unsigned char *data,
                                            size_t *length, BsNvjpegStream stream);

#endif
