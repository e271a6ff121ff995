/*
 * Memory for pictures. libavcodec's own pools, one for each decoder, keep every buffer that was ever used at the same
 * time, as long as one of them is in use: the memory of an evicted checkpoint would stay with the decoder that had
 * decoded it. Here all decoders share a short list of free blocks; blocks beyond its limit are freed.
 *
 * A block keeps the pixels of its last picture, and libavcodec leaves the parts that it could not decode untouched. So
 * every block records the video of its pixels, and is cleared before another video gets it. A decoder that outputs
 * damaged pictures gets only cleared blocks, so that holes look the same whatever was decoded before.
 *
 * Decoders refer to a block through one AVBuffer, and frames of callers through another. So the block detects when the
 * last decoder releases it, and leaves the account of its decode run (account.c) although a caller keeps it.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "libavcodec/avcodec.h"
#include "libavutil/buffer.h"
#include "libavutil/buffer_internal.h"
#include "libavutil/imgutils.h"
#include "libavutil/macros.h"
#include "libavutil/mem.h"
#include "libavutil/pixdesc.h"

#include "account.h"
#include "fork.h"
#include "gpu.h"
#include "inspect.h"
#include "shim.h"

/* The most bytes of free blocks. */
#define FREE_BYTES ((size_t)64 << 20)
/* Some of the assembly reads past the end of a plane, as in libavcodec's own allocation. */
#define MARGIN (16 + 64 - 1)
/* Free blocks of the right size that are checked for one of the same video: there may be thousands for small
   pictures. */
#define MOST_LOOKED_AT 32

/* Blocks of at least this size are mapped: the kernel clears them, and provides their pages in one call. An allocator's
   block has to be cleared after it, page fault by page fault. */
#define MAPPED_BYTES ((size_t)128 << 10)
/* A quarter of the maps that the system allows a process by default (vm.max_map_count): threads and files need maps
   too. */
#define MOST_MAPPED 16384
static _Atomic int mapped_blocks;

/* Placed after the pixels, in the same allocation. */
typedef struct Block {
    struct Block *next;
    uint8_t *data;
    size_t size;       /* bytes for pixels */
    int is_mapped;     /* else the allocator's */
    uint64_t owner;    /* the video of the pixels; 0 if unknown */
    _Atomic int marks; /* BsMarks */
    _Atomic int holds; /* AVBuffers that refer to it */
    _Atomic(BsAccount *) account; /* the run that is charged for it, */
    int64_t charged;              /* and how much */
} Block;

/* Free blocks of a process. */
typedef struct List {
    uint64_t process;
    pthread_mutex_t lock;
    Block *blocks;
    size_t free_bytes;
} List;

/* The list of this process or of a parent process; in a parent's a thread that does not exist here may hold the
   lock. */
static _Atomic(List *) current;

/* The list of this process, locked; NULL without memory for one. */
static List *lock_list(void) {
    List *list = atomic_load(&current);
    uint64_t process = bs_process();
    if (!list || list->process != process) {
        List *made = av_mallocz(sizeof(*made));
        if (!made)
            return NULL;
        made->process = process;
        pthread_mutex_init(&made->lock, NULL);
        if (atomic_compare_exchange_strong(&current, &list, made)) {
            list = made;
        } else {
            pthread_mutex_destroy(&made->lock);
            av_free(made);
        }
    }
    pthread_mutex_lock(&list->lock);
    return list;
}

/* Removes a free block from the list: one of the same owner, else any of that size. */
static Block *take_free(size_t size, uint64_t owner) {
    Block **found = NULL, *block = NULL;
    int count = 0;
    List *list = lock_list();
    if (!list)
        return NULL;
    for (Block **at = &list->blocks; *at; at = &(*at)->next) {
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
        list->free_bytes -= size;
    }
    pthread_mutex_unlock(&list->lock);
    return block;
}

static void *map(size_t size) {
    void *data = MAP_FAILED;
    if (atomic_fetch_add(&mapped_blocks, 1) < MOST_MAPPED)
        data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (data != MAP_FAILED)
        return data;
    atomic_fetch_sub(&mapped_blocks, 1);
    return NULL;
}

static void unmap(void *data, size_t size) {
    munmap(data, size);
    atomic_fetch_sub(&mapped_blocks, 1);
}

static size_t allocated_bytes(size_t size) { return FFALIGN(size, _Alignof(Block)) + sizeof(Block); }

/* A block that is all zeros. */
static Block *make(size_t size) {
    size_t bytes = allocated_bytes(size);
    uint8_t *mapped = bytes >= MAPPED_BYTES ? map(bytes) : NULL;
    uint8_t *data = mapped ? mapped : av_mallocz(bytes);
    if (!data)
        return NULL;
    Block *block = (Block *)(data + FFALIGN(size, _Alignof(Block)));
    *block = (Block){ .data = data, .size = size, .is_mapped = !!mapped };
    return block;
}

static void discard(Block *block) {
    if (block->is_mapped)
        unmap(block->data, allocated_bytes(block->size));
    else
        av_free(block->data);
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
        atomic_store_explicit(&block->holds, 1, memory_order_relaxed);
        atomic_store_explicit(&block->account, NULL, memory_order_relaxed);
        block->charged = 0;
    }
    return block;
}

/* Cuts off the blocks that are free longest, at the end of the list, to make room. */
static Block *cut(List *list, size_t wanted) {
    Block **at = &list->blocks;
    size_t kept = 0;
    while (*at && kept + (*at)->size + wanted <= FREE_BYTES) {
        kept += (*at)->size;
        at = &(*at)->next;
    }
    Block *rest = *at;
    *at = NULL;
    list->free_bytes = kept;
    return rest;
}

static void give_back(Block *block) {
    Block *rest = NULL;
    List *list = block->size > FREE_BYTES ? NULL : lock_list();
    if (!list) {
        discard(block);
        return;
    }
    if (list->free_bytes + block->size > FREE_BYTES)
        rest = cut(list, block->size);
    block->next = list->blocks;
    list->blocks = block;
    list->free_bytes += block->size;
    pthread_mutex_unlock(&list->lock);
    while (rest) {
        Block *next = rest->next;
        discard(rest);
        rest = next;
    }
}

/* Ends the charge to the run. */
static void settle(Block *block) {
    BsAccount *account = atomic_exchange(&block->account, NULL);
    bs_account_settle(account, block->charged);
    bs_account_unref(account);
}

/* The last caller has released it. */
static void release(void *opaque, uint8_t *data) {
    Block *block = opaque;
    if (atomic_fetch_sub(&block->holds, 1) == 1)
        give_back(block);
}

/* The last decoder has released it. */
static void leave(void *opaque, uint8_t *data) {
    settle(opaque);
    release(opaque, data);
}

/* The block of a buffer; NULL for a buffer of another allocator, such as those of a decoder that was opened without
   a watch. */
static Block *block_of(const AVBufferRef *buf) {
    int is_ours = buf->buffer->free == leave || buf->buffer->free == release;
    return is_ours ? av_buffer_get_opaque(buf) : NULL;
}

void bs_settle(const AVFrame *f) {
    for (int i = 0; i < AV_NUM_DATA_POINTERS && f->buf[i]; i++) {
        Block *block = block_of(f->buf[i]);
        if (block)
            settle(block);
    }
}

int bs_let_out(AVFrame *f) {
    for (int i = 0; i < AV_NUM_DATA_POINTERS && f->buf[i]; i++) {
        Block *block = block_of(f->buf[i]);
        if (!block)
            continue;
        AVBufferRef *out = av_buffer_create(f->buf[i]->data, f->buf[i]->size, release, block, 0);
        if (!out)
            return AVERROR(ENOMEM);
        atomic_fetch_add(&block->holds, 1);
        av_buffer_unref(&f->buf[i]);
        f->buf[i] = out;
    }
    return 0;
}

/* A block, of which `bytes` bytes are charged to an account. */
static AVBufferRef *get_block(size_t size, uint64_t owner, int is_cleared, BsAccount *account, int64_t bytes) {
    Block *block = take(size, owner, is_cleared);
    AVBufferRef *buf = block ? av_buffer_create(block->data, size, leave, block, 0) : NULL;
    if (!buf) {
        if (block)
            discard(block);
        bs_account_settle(account, bytes);
        return NULL;
    }
    block->charged = bytes;
    atomic_store(&block->account, bs_account_ref(account));
    return buf;
}

AVBufferRef *bs_get_memory(BsWatch *watch, enum AVCodecID id, size_t size, int64_t pixels) {
    BsAccount *account = watch ? watch->account : bs_probe_account;
    int64_t bytes = size + bs_picture_table_bytes(id, pixels);
    if (!bs_account_charge(account, bytes, !watch || watch->options.is_lenient))
        return NULL;
    return get_block(size, watch ? watch->options.owner : 0, !watch || watch->options.is_lenient, account, bytes);
}

void bs_mark(const AVFrame *f, int marks) {
    Block *block = f && f->buf[0] ? block_of(f->buf[0]) : NULL;
    if (block)
        atomic_fetch_or(&block->marks, marks);
}

int bs_marks(const AVFrame *f) {
    Block *block = f && f->buf[0] ? block_of(f->buf[0]) : NULL;
    return block ? atomic_load(&block->marks) : 0;
}

/* The owner of the memory, and the account that is charged. */
typedef struct Order {
    uint64_t owner;
    int is_cleared;
    BsAccount *account;
    int64_t tables; /* bytes that the decoder keeps beside the picture */
} Order;

/* Rows are a multiple of `aligned` bytes apart; `width` and `height` are those of the memory, not of the visible
   picture. */
static int get_planes(AVFrame *f, int width, int height, const int *aligned, const Order *order) {
    int strides[4], unaligned;
    ptrdiff_t linesizes[4];
    size_t sizes[4];
    do {
        /* As in libavcodec: the width grows until all planes' rows are aligned. */
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
    int64_t bytes = order->tables;
    for (int i = 0; i < 4 && sizes[i]; i++)
        bytes += sizes[i] + MARGIN;
    if (!bs_account_charge(order->account, bytes, order->is_cleared))
        return AVERROR(ENOMEM);
    for (int i = 0; i < 4 && sizes[i]; i++) {
        size_t size = sizes[i] + MARGIN;
        int64_t own = size + (i ? 0 : order->tables);
        bytes -= own;
        f->buf[i] = get_block(size, order->owner, order->is_cleared, order->account, own);
        if (!f->buf[i]) {
            bs_account_settle(order->account, bytes);
            for (int j = 0; j < i; j++)
                av_buffer_unref(&f->buf[j]);
            return AVERROR(ENOMEM);
        }
        f->data[i] = f->buf[i]->data;
        f->linesize[i] = strides[i];
    }
    f->extended_data = f->data;
    return 0;
}

/* With frame threads each thread decodes a picture. */
static int contexts_of(const AVCodecContext *c) { return bs_has_frame_threads(c) ? FFMAX(c->thread_count, 1) : 1; }

int bs_get_buffer(AVCodecContext *c, AVFrame *f, int flags) {
    int width = f->width, height = f->height, align[AV_NUM_DATA_POINTERS];
    if (c->codec_type == AVMEDIA_TYPE_VIDEO && c->hwaccel && bs_gpu_is_attached(c))
        return bs_gpu_get_buffer(c, f);
    if (c->codec_type != AVMEDIA_TYPE_VIDEO || c->hwaccel)
        return avcodec_default_get_buffer2(c, f, flags);
    /* libavcodec compares the cropped size. */
    if (bs_is_too_large(c, f->width, f->height))
        return AVERROR(EINVAL);
    int64_t pixels = (int64_t)f->width * f->height;
    avcodec_align_dimensions2(c, &width, &height, align);
    BsWatch *watch = bs_watch_of(c);
    Order order = { .is_cleared = 1, .account = bs_probe_account, .tables = bs_picture_table_bytes(c->codec_id, pixels) };
    if (watch) {
        const AVPixFmtDescriptor *format = av_pix_fmt_desc_get(f->format);
        int sample_bytes = format && format->comp[0].depth > 8 ? 2 : 1;
        if (!bs_charge_contexts(watch, c->codec_id, contexts_of(c), pixels, sample_bytes))
            return AVERROR(ENOMEM);
        order.owner = watch->options.owner;
        order.is_cleared = watch->options.is_lenient;
        order.account = watch->account;
        if (watch->options.is_lenient)
            bs_clear_tables(c);
    }
    return get_planes(f, width, height, align, &order);
}

int bs_get_planes(AVFrame *f) {
    static const int aligned[4] = { 64, 64, 64, 64 };
    return get_planes(f, f->width, f->height, aligned, &(Order){ .is_cleared = 1 });
}
