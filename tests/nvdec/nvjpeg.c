/*
 * A libnvjpeg for tests without a GPU: the functions that gpu_jpeg.c uses, for "device memory" that is ordinary memory.
 * Its output is not a JPEG: a line with quality, width and height, then the planes of the input, which a test compares.
 * FAKE_NVJPEG_FAIL=nvjpegEncodeYUV:6 in the environment makes that function return that status.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu_nvjpeg.h"

struct nvjpegHandle { int is_alive; };
struct nvjpegEncoderState { unsigned char *bytes; size_t size; };
struct nvjpegEncoderParams { int quality, sampling; };

BsNvjpegCreateSimple nvjpegCreateSimple;
BsNvjpegDestroy nvjpegDestroy;
BsNvjpegEncoderStateCreate nvjpegEncoderStateCreate;
BsNvjpegEncoderStateDestroy nvjpegEncoderStateDestroy;
BsNvjpegEncoderParamsCreate nvjpegEncoderParamsCreate;
BsNvjpegEncoderParamsDestroy nvjpegEncoderParamsDestroy;
BsNvjpegEncoderParamsSet nvjpegEncoderParamsSetQuality, nvjpegEncoderParamsSetSamplingFactors;
BsNvjpegEncoderParamsSet nvjpegEncoderParamsSetOptimizedHuffman;
BsNvjpegEncodeYUV nvjpegEncodeYUV;
BsNvjpegEncodeRetrieveBitstream nvjpegEncodeRetrieveBitstream;

/* The status that the environment sets for a function, else 0. */
static int wanted(const char *function) {
    const char *fail = getenv("FAKE_NVJPEG_FAIL");
    size_t length = strlen(function);
    return fail && !strncmp(fail, function, length) && fail[length] == ':' ? atoi(fail + length + 1) : 0;
}

/* The beginning of every function: returns the status that the environment sets, or an error for invalid arguments. */
#define CHECK(is_valid) \
    do { \
        int status = wanted(__func__); \
        if (status) \
            return status; \
        if (!(is_valid)) \
            return BS_NVJPEG_INVALID_PARAMETER; \
    } while (0)

#define MAKE(place) ((*(place) = calloc(1, sizeof(**(place)))) ? BS_NVJPEG_SUCCESS : BS_NVJPEG_ALLOCATOR_FAILURE)

int nvjpegCreateSimple(BsNvjpegHandle *handle) {
    CHECK(handle);
    return MAKE(handle);
}

int nvjpegDestroy(BsNvjpegHandle handle) {
    CHECK(handle);
    free(handle);
    return BS_NVJPEG_SUCCESS;
}

int nvjpegEncoderStateCreate(BsNvjpegHandle handle, BsNvjpegState *state, BsNvjpegStream stream) {
    (void)stream;
    CHECK(handle && state);
    return MAKE(state);
}

int nvjpegEncoderStateDestroy(BsNvjpegState state) {
    CHECK(state);
    free(state->bytes);
    free(state);
    return BS_NVJPEG_SUCCESS;
}

int nvjpegEncoderParamsCreate(BsNvjpegHandle handle, BsNvjpegParams *params, BsNvjpegStream stream) {
    (void)stream;
    CHECK(handle && params);
    return MAKE(params);
}

int nvjpegEncoderParamsDestroy(BsNvjpegParams params) {
    CHECK(params);
    free(params);
    return BS_NVJPEG_SUCCESS;
}

int nvjpegEncoderParamsSetQuality(BsNvjpegParams params, int quality, BsNvjpegStream stream) {
    (void)stream;
    CHECK(params && quality >= 1 && quality <= 100);
    params->quality = quality;
    return BS_NVJPEG_SUCCESS;
}

int nvjpegEncoderParamsSetSamplingFactors(BsNvjpegParams params, int sampling, BsNvjpegStream stream) {
    (void)stream;
    CHECK(params);
    params->sampling = sampling;
    return BS_NVJPEG_SUCCESS;
}

int nvjpegEncoderParamsSetOptimizedHuffman(BsNvjpegParams params, int is_optimized, BsNvjpegStream stream) {
    (void)stream;
    (void)is_optimized;
    CHECK(params);
    return BS_NVJPEG_SUCCESS;
}

static unsigned char *put_plane(unsigned char *to, const BsNvjpegImage *image, int plane, int width, int height) {
    for (int y = 0; y < height; y++, to += width)
        memcpy(to, image->channel[plane] + (size_t)y * image->pitch[plane], (size_t)width);
    return to;
}

int nvjpegEncodeYUV(BsNvjpegHandle handle, BsNvjpegState state, BsNvjpegParams params, const BsNvjpegImage *image,
                    int subsampling, int width, int height, BsNvjpegStream stream) {
    (void)stream;
    /* The real library would resample if these two differed. */
    CHECK(handle && state && params && image && subsampling == BS_NVJPEG_CSS_420 && params->sampling == subsampling);
    int columns = (width + 1) / 2, rows = (height + 1) / 2;
    char head[64];
    int length = snprintf(head, sizeof(head), "FAKE %d %d %d\n", params->quality, width, height);
    free(state->bytes);
    state->size = (size_t)length + (size_t)width * (size_t)height + 2 * (size_t)columns * (size_t)rows;
    state->bytes = malloc(state->size);
    if (!state->bytes)
        return BS_NVJPEG_ALLOCATOR_FAILURE;
    memcpy(state->bytes, head, (size_t)length);
    unsigned char *to = put_plane(state->bytes + length, image, 0, width, height);
    put_plane(put_plane(to, image, 1, columns, rows), image, 2, columns, rows);
    return BS_NVJPEG_SUCCESS;
}

int nvjpegEncodeRetrieveBitstream(BsNvjpegHandle handle, BsNvjpegState state, unsigned char *data, size_t *length,
                                  BsNvjpegStream stream) {
    (void)stream;
    CHECK(handle && state && state->bytes && length && (!data || *length >= state->size));
    if (data)
        memcpy(data, state->bytes, state->size);
    *length = state->size;
    return BS_NVJPEG_SUCCESS;
}
