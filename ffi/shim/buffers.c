/*
 * Memory for pictures. libavcodec's own pools keep every buffer that was ever used at the same time, one pool a decoder,
 * as long as one of them is in use anywhere: what an evicted checkpoint held would stay with the decoder that had
 * decoded it. Here all decoders share a short list of free blocks; what does not fit in is freed.
 *
 * A block holds the pixels of the picture that was in it last, and libavcodec leaves untouched what it could not decode.
 * So every block knows whose pixels it holds, and is cleared before it goes to another video; and a decoder whose damaged
 * pictures are let out gets cleared blocks only, so that holes look the same whatever was decoded before.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "libavcodec/avcodec.h"
#include "libavutil/buffer.h"
#include "libavutil/imgutils.h"
#include "libavutil/macros.h"
#include "libavutil/mem.h"

#include "gpu.h"
#include "inspect.h"

/* Bytes that may lie free. */
#define FREE_BYTES ((size_t)64 << 20)
/* Read past the end of a plane by some of the assembly, as in libavcodec's own allocation. */
#define MARGIN (16 + 64 - 1)
/* Free blocks of the right size that are looked at for one of the same video: of small pictures thousands lie free. */
#define MOST_LOOKED_AT 32

/* Lies behind the pixels, in the same allocation. */
typedef struct Block {
    struct Block *next;
    uint8_t *data;
    size_t size;       /* bytes for pixels */
    uint64_t owner;    /* the video whose pixels they are; 0 if that is not known */
    _Atomic int marks; /* BsMarks */
} Block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Block *blocks;
static size_t free_bytes;

/* Takes a free block off the list: one of the same owner, else any of that size. */
static Block *take_free(size_t size, uint64_t owner) {
    Block **found = NULL, *block = NULL;
    int count = 0;
    pthread_mutex_lock(&lock);
    for (Block **at = &blocks; *at; at = &(*at)->next) {
        if ((*at)->size != size)
            continue;
        found = found ? found : at;
        if ((*at)->owner == owner) {
            found = at;
            break;
        }
        if (++count == MOST_LOOKED_AT)
            break;
    }
    if (found) {
        block = *found;
        *found = block->next;
        free_bytes -= size;
    }
    pthread_mutex_unlock(&lock);
    return block;
}

static Block *make(size_t size) {
    size_t aligned = FFALIGN(size, _Alignof(Block));
    uint8_t *data = av_mallocz(aligned + sizeof(Block));
    Block *block = (Block *)(data + aligned);
    if (!data)
        return NULL;
    *block = (Block){ .data = data, .size = size };
    return block;
}

static Block *take(size_t size, uint64_t owner, int is_cleared) {
    Block *block = take_free(size, owner);
    if (!block)
        block = make(size);
    else if (is_cleared || !owner || block->owner != owner)
        memset(block->data, 0, size);
    if (block) {
        block->owner = owner;
        atomic_store_explicit(&block->marks, 0, memory_order_relaxed);
    }
    return block;
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
    Block *block = opaque, *rest = NULL;
    if (block->size > FREE_BYTES) {
        av_free(data);
        return;
    }
    pthread_mutex_lock(&lock);
    if (free_bytes + block->size > FREE_BYTES)
        rest = cut(block->size);
    block->next = blocks;
    blocks = block;
    free_bytes += block->size;
    pthread_mutex_unlock(&lock);
    while (rest) {
        Block *next = rest->next;
        av_free(rest->data);
        rest = next;
    }
}

void bs_mark(const AVFrame *f, int marks) {
    if (f && f->buf[0])
        atomic_fetch_or(&((Block *)av_buffer_get_opaque(f->buf[0]))->marks, marks);
}

int bs_marks(const AVFrame *f) {
    return f && f->buf[0] ? atomic_load(&((Block *)av_buffer_get_opaque(f->buf[0]))->marks) : 0;
}

/* Rows are `aligned` bytes apart or a multiple; `width` and `height` are those of the memory, not of what is shown. */
static int get_planes(AVFrame *f, int width, int height, const int *aligned, uint64_t owner, int is_cleared) {
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
        Block *block = take(size, owner, is_cleared);
        f->buf[i] = block ? av_buffer_create(block->data, size, give_back, block, 0) : NULL;
        if (!f->buf[i]) {
            if (block)
                av_free(block->data);
            for (int j = 0; j < i; j++)
                av_buffer_unref(&f->buf[j]);
            return AVERROR(ENOMEM);
        }
        f->data[i] = block->data;
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
    /* libavcodec compares what is left of the picture when it is cropped. */
    if (bs_is_too_large(c, f->width, f->height))
        return AVERROR(EINVAL);
    avcodec_align_dimensions2(c, &width, &height, align);
    const BsWatch *watch = bs_watch_of(c);
    if (!watch)
        return get_planes(f, width, height, align, 0, 1);
    if (watch->options.is_lenient)
        bs_clear_tables(c);
    return get_planes(f, width, height, align, watch->options.owner, watch->options.is_lenient);
}

int bs_get_planes(AVFrame *f) {
    static const int aligned[4] = { 64, 64, 64, 64 };
    return get_planes(f, f->width, f->height, aligned, 0, 1);
}
