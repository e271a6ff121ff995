/* Declarations for fork.c and the codecs' fork_*.c. */
#ifndef BUCKET_STREAMER_FORK_H
#define BUCKET_STREAMER_FORK_H

#include "libavcodec/avcodec.h"
#include "libavcodec/codec_internal.h"
#include "libavutil/mem.h"
#include "libavutil/refstruct.h"

#include "shim.h"

#define COUNT(array) ((int)FF_ARRAY_ELEMS(array))

#define BS_MOST_REFERENCES 64
/* More pictures than any decoder holds. */
#define BS_MOST_PICTURES 72

struct BsCheckpoint {
    AVCodecContext *context; /* never opened */
    int droppable;           /* H.264: see bs_h264_save() */
};

/* The codec's part. `context` has the codec's priv_data: that of a checkpoint, a decoder, or a frame thread. */
typedef struct BsForkCodec {
    /* `tag` is that of the sample whose state it is. */
    int (*save)(BsCheckpoint *to, AVCodecContext *from, uint32_t tag);
    /* Called after a restore. */
    void (*restored)(const BsCheckpoint *from, AVCodecContext *to);
    void (*clear)(AVCodecContext *context);
    /* Frees what save() allocated and clear() keeps. */
    void (*free)(AVCodecContext *context);
    int (*pictures)(const AVCodecContext *context, BsPicture *out, int capacity);
    /* References a picture as the decoder would output it. */
    int (*take)(const AVCodecContext *context, uint32_t tag, AVFrame *out);
    /* Zero if a held picture was decoded with an error. May be NULL. */
    int (*is_clean)(const AVCodecContext *context);
    /* Frees unused memory for tables. May be NULL. */
    void (*trim)(AVCodecContext *context);
    /* The picture that was decoded last. */
    const AVFrame *(*last)(const AVCodecContext *context);
    /* The picture in decoding, or a field of it; NULL if it gets film grain, which only software applies. */
    const AVFrame *(*current)(const AVCodecContext *context);
    /* Writes the pictures that it may refer to, up to BS_MOST_REFERENCES, and returns their number. */
    int (*references)(const AVCodecContext *context, const AVFrame **out);
    /* Copies the state of `from` to `to`. NULL for FFCodec.update_thread_context(). */
    int (*update)(AVCodecContext *to, const AVCodecContext *from);
} BsForkCodec;

extern const BsForkCodec bs_fork_hevc, bs_fork_h264, bs_fork_vp9, bs_fork_dav1d;

/* Nonzero for an open decoder of dav1d. */
int bs_dav1d_can_fork(const AVCodecContext *c);
/* Nonzero if it has the state after the sample. */
int bs_dav1d_has_state(const AVCodecContext *c, uint32_t tag);

static inline int bs_has_frame_threads(const AVCodecContext *c) { return c->active_thread_type & FF_THREAD_FRAME; }

static inline int bs_has_tag(const AVFrame *f, uint32_t tag) {
    return f && f->buf[0] && (uintptr_t)f->opaque == (uintptr_t)tag + 1;
}

static inline int bs_update(AVCodecContext *to, const AVCodecContext *from) {
    return ffcodec(to->codec)->update_thread_context(to, from);
}

/* BsForkCodec.current and .references, for a decoder on a GPU (gpu_decoder.c). */
AVFrame *bs_fork_current(AVCodecContext *c);
int bs_fork_references(const AVCodecContext *c, const AVFrame **out);

/* The current decode_error_flags of a picture that an H.264 context holds. */
int bs_h264_error_flags(const AVCodecContext *context, uint32_t tag);

/* Fills in a picture's description; `more` are the bytes of its side tables. */
void bs_fork_describe(BsPicture *out, const AVFrame *f, size_t more, uint32_t flags);
/* References `pixels` with the properties of `properties`. */
int bs_fork_take(AVFrame *out, const AVFrame *properties, const AVFrame *pixels);

#endif
