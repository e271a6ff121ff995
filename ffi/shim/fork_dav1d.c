/*
 * Checkpoints of AV1 decoders: see fork.c. libavcodec leaves the state of AV1 to dav1d: dav1d_state.c accesses it. A
 * checkpoint's context has the private data of libavcodec's wrapper without a decoder in them; in place of the decoder
 * they have its state.
 */
#include <string.h>

#include "libavcodec/avcodec.h"
#include "libavcodec/dovi_rpu.h"
#include "libavutil/frame.h"

#include "dav1d_state.h"
#include "fork.h"
#include "inspect.h"

/* The private data of libavcodec's wrapper, as libdav1d.c of the pinned FFmpeg has them, up to the data in work. */
typedef struct Wrapper {
    AVClass *class;
    Dav1dContext *decoder;
    AVBufferPool *pool;
    DOVIContext dovi;
    int pool_size;
    Dav1dData data;
} Wrapper;

/* In a checkpoint's context, in place of the decoder. */
typedef struct Saved {
    BsDav1dState *state;
    AVFrame *frames[BS_DAV1D_SLOTS]; /* with the memory and the tag of a picture each; without planes */
    size_t side_bytes[BS_DAV1D_SLOTS];
    int count;
} Saved;

static Dav1dContext *decoder_of(const AVCodecContext *c) { return ((Wrapper *)c->priv_data)->decoder; }

static Saved *saved_of(const AVCodecContext *c) { return (Saved *)((Wrapper *)c->priv_data)->decoder; }

int bs_dav1d_can_fork(const AVCodecContext *c) {
    return c->codec->wrapper_name && !strcmp(c->codec->wrapper_name, "libdav1d") && avcodec_is_open((AVCodecContext *)c) &&
           decoder_of(c);
}

static void clear(AVCodecContext *context) {
    Saved *saved = saved_of(context);
    if (!saved)
        return;
    bs_dav1d_state_clear(saved->state);
    for (int i = 0; i < saved->count; i++)
        av_frame_unref(saved->frames[i]);
    saved->count = 0;
}

static void free_saved(AVCodecContext *context) {
    Saved *saved = saved_of(context);
    if (!saved)
        return;
    bs_dav1d_state_free(saved->state);
    for (int i = 0; i < BS_DAV1D_SLOTS; i++)
        av_frame_free(&saved->frames[i]);
    av_free(saved);
    ((Wrapper *)context->priv_data)->decoder = NULL;
}

static Saved *saved_in(AVCodecContext *context) {
    Saved *saved = saved_of(context);
    if (saved)
        return saved;
    if (!(saved = av_mallocz(sizeof(*saved))))
        return NULL;
    ((Wrapper *)context->priv_data)->decoder = (Dav1dContext *)saved;
    int is_whole = !!(saved->state = bs_dav1d_state_alloc());
    for (int i = 0; i < BS_DAV1D_SLOTS; i++)
        is_whole &= !!(saved->frames[i] = av_frame_alloc());
    if (!is_whole)
        free_saved(context);
    return is_whole ? saved : NULL;
}

static int is_listed(const Saved *saved, const AVBufferRef *memory) {
    for (int i = 0; i < saved->count; i++)
        if (saved->frames[i]->buf[0]->data == memory->data)
            return 1;
    return 0;
}

/* Lists the pictures of the slots, each once. */
static int list(Saved *saved) {
    BsDav1dSlot slots[BS_DAV1D_SLOTS];
    bs_dav1d_state_slots(saved->state, slots);
    for (int i = 0; i < BS_DAV1D_SLOTS; i++) {
        AVBufferRef *memory = slots[i].allocator_data;
        if (!memory || is_listed(saved, memory))
            continue;
        const AVPacket *packet = slots[i].user_data;
        AVFrame *frame = saved->frames[saved->count];
        if (!(frame->buf[0] = av_buffer_ref(memory)))
            return AVERROR(ENOMEM);
        frame->opaque = packet ? packet->opaque : NULL;
        saved->side_bytes[saved->count++] = slots[i].side_bytes;
    }
    return 0;
}

int bs_dav1d_has_state(const AVCodecContext *c, uint32_t tag) {
    const BsWatch *watch = bs_watch_of(c);
    return watch && (watch->last == (uintptr_t)tag + 1 || bs_dav1d_recent_find(watch->recent, (uintptr_t)tag + 1));
}

static int save(BsCheckpoint *checkpoint, AVCodecContext *from, uint32_t tag) {
    Saved *saved = saved_in(checkpoint->context);
    BsWatch *watch = bs_watch_of(from);
    if (!saved || !watch)
        return AVERROR(ENOMEM);
    const BsDav1dState *recent = bs_dav1d_recent_find(watch->recent, (uintptr_t)tag + 1);
    if (recent) {
        bs_dav1d_state_copy(saved->state, recent);
    } else {
        if (((Wrapper *)from->priv_data)->data.sz || bs_dav1d_state_save(saved->state, decoder_of(from)) < 0)
            return AVERROR(EAGAIN);
        bs_dav1d_wait(decoder_of(from));
    }
    return bs_dav1d_state_is_complete(saved->state) ? list(saved) : AVERROR(EAGAIN);
}

static int restore(AVCodecContext *to, const AVCodecContext *from) {
    const Saved *saved = saved_of(from);
    if (!saved || !bs_dav1d_can_fork(to))
        return AVERROR(EINVAL);
    bs_dav1d_state_restore(saved->state, decoder_of(to));
    return 0;
}

static void restored(const BsCheckpoint *from, AVCodecContext *to) {
    BsWatch *watch = bs_watch_of(to);
    if (watch)
        watch->last = 0;
}

static int pictures(const AVCodecContext *context, BsPicture *out, int capacity) {
    const Saved *saved = saved_of(context);
    int count = saved ? FFMIN(saved->count, capacity) : 0;
    /* A slot has the picture before film grain, and may have one that is not shown: none can be returned. */
    for (int i = 0; i < count; i++)
        bs_fork_describe(&out[i], saved->frames[i], saved->side_bytes[i], BS_PICTURE_NOT_WHOLE);
    return count;
}

/* A picture comes out of dav1d as soon as it is decoded or drained. */
static int take(const AVCodecContext *context, uint32_t tag, AVFrame *out) { return AVERROR(EAGAIN); }

/* The picture that was decoded last need not be in a slot: see bs_dav1d_send(). */
static const AVFrame *none(const AVCodecContext *context) { return NULL; }

static int no_references(const AVCodecContext *context, const AVFrame **out) { return 0; }

const BsForkCodec bs_fork_dav1d = {
    .save = save,
    .update = restore,
    .restored = restored,
    .clear = clear,
    .free = free_saved,
    .pictures = pictures,
    .take = take,
    .last = none,
    .current = none,
    .references = no_references,
};
