/*
 * Memory for pictures. libavcodec's own pools keep every buffer that was ever used at the same time, one pool a decoder,
 * as long as one of them is in use anywhere: what an evicted checkpoint held would stay with the decoder that had
 * decoded it. Here all decoders share a short list of free blocks; what does not fit in is freed.
 */
#include <pthread.h>

#include "libavcodec/avcodec.h"
#include "libavutil/buffer.h"
#include "libavutil/imgutils.h"
#include "libavutil/mem.h"

#include "gpu.h"

/* Bytes that may lie free. */
#define FREE_BYTES ((size_t)64 << 20)
/* Read past the end of a plane by some of the assembly, as in libavcodec's own allocation. */
#define MARGIN (16 + 64 - 1)

typedef struct Block {
    struct Block *next;
    size_t size;
} Block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Block *blocks;
static size_t free_bytes;

static uint8_t *take(size_t size) {
    pthread_mutex_lock(&lock);
    for (Block **at = &blocks; *at; at = &(*at)->next) {
        Block *block = *at;
        if (block->size != size)
            continue;
        *at = block->next;
        free_bytes -= size;
        pthread_mutex_unlock(&lock);
        return (uint8_t *)block;
    }
    pthread_mutex_unlock(&lock);
    return av_mallocz(size);
}

/* Blocks that have lain longest are at the end; they make room. */
static Block *cut(size_t wanted) {
    Block **at = &blocks;
    size_t kept = 0;
    while (*at && kept + (*at)->size + wanted <= FREE_BYTES) {
        kept += (*at)->size;
        at = &(*at)->next;
    }
    Block *rest = *at;
    *at = NULL;
    free_bytes = kept;
    return rest;
}

static void give_back(void *opaque, uint8_t *data) {
    size_t size = (size_t)opaque;
    Block *rest = NULL;
    if (size < sizeof(Block) || size > FREE_BYTES) {
        av_free(data);
        return;
    }
    pthread_mutex_lock(&lock);
    if (free_bytes + size > FREE_BYTES)
        rest = cut(size);
    Block *block = (Block *)data;
    *block = (Block){ .next = blocks, .size = size };
    blocks = block;
    free_bytes += size;
    pthread_mutex_unlock(&lock);
    while (rest) {
        Block *next = rest->next;
        av_free(rest);
        rest = next;
    }
}

/* Rows are `aligned` bytes apart or a multiple; `width` and `height` are those of the memory, not of what is shown. */
static int get_planes(AVFrame *f, int width, int height, const int *aligned) {
    int strides[4], unaligned;
    ptrdiff_t linesizes[4];
    size_t sizes[4];
    do {
        /* As libavcodec does: the width grows until all planes' rows are aligned. */
        int ret = av_image_fill_linesizes(strides, f->format, width);
        if (ret < 0)
            return ret;
        width += width & ~(width - 1);
        unaligned = 0;
        for (int i = 0; i < 4; i++)
            unaligned |= strides[i] % aligned[i];
    } while (unaligned);
    for (int i = 0; i < 4; i++)
        linesizes[i] = strides[i];
    int ret = av_image_fill_plane_sizes(sizes, f->format, height, linesizes);
    if (ret < 0)
        return ret;
    for (int i = 0; i < 4 && sizes[i]; i++) {
        size_t size = sizes[i] + MARGIN;
        uint8_t *data = take(size);
        f->buf[i] = data ? av_buffer_create(data, size, give_back, (void *)size, 0) : NULL;
        if (!f->buf[i]) {
            av_free(data);
            for (int j = 0; j < i; j++)
                av_buffer_unref(&f->buf[j]);
            return AVERROR(ENOMEM);
        }
        f->data[i] = data;
        f->linesize[i] = strides[i];
    }
    f->extended_data = f->data;
    return 0;
}

int bs_get_buffer(AVCodecContext *c, AVFrame *f, int flags) {
    int width = f->width, height = f->height, align[AV_NUM_DATA_POINTERS];
    if (c->codec_type == AVMEDIA_TYPE_VIDEO && c->hwaccel && bs_gpu_is_attached(c))
        return bs_gpu_get_buffer(c, f);
    if (c->codec_type != AVMEDIA_TYPE_VIDEO || c->hwaccel)
        return avcodec_default_get_buffer2(c, f, flags);
    avcodec_align_dimensions2(c, &width, &height, align);
    return get_planes(f, width, height, align);
}

int bs_get_planes(AVFrame *f) {
    static const int aligned[4] = { 64, 64, 64, 64 };
    return get_planes(f, f->width, f->height, aligned);
}
