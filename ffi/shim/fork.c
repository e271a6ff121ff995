/*
 * Checkpoints: the reference state of a decoder, kept outside of it, and put into another one.
 *
 * Frame threading copies a decoder's whole state from one context to the next, by reference counts:
 * FFCodec.update_thread_context(). A checkpoint is a context of the same codec that was never opened; the same function
 * copies the state into it and out of it again. The steps that the function leaves to its caller in pthread_frame.c, or
 * omits because its callers are opened contexts, are done here.
 */
#include <stdatomic.h>

#include "libavcodec/internal.h"
#include "libavcodec/thread.h"

#include "fork.h"
#include "inspect.h"

/*
 * The frame threads of a context, as pthread_frame.c of the pinned FFmpeg lays them out: the fields that are read here,
 * and those before and after them that give the size. threads_of() verifies the layout.
 */
typedef struct Thread {
    struct Threads *parent;
    pthread_t thread;
    int thread_init;
    unsigned pthread_init_cnt;
    pthread_cond_t input_cond, progress_cond, output_cond;
    pthread_mutex_t mutex, progress_mutex;
    AVCodecContext *avctx;
    AVPacket *avpkt;
    struct {
        AVFrame **f;
        size_t nb_f, nb_f_allocated;
    } df;
    int result;
    atomic_int state; /* 0: waits for a packet */
    int die, hwaccel_serializing, async_serializing, hwaccel_threadsafe;
    atomic_int debug_threads;
} Thread;

typedef struct Threads {
    Thread *threads;
    Thread *prev_thread;
} Threads;

static const BsForkCodec *codec_of(const AVCodecContext *c) {
    switch (c->codec_id) {
    case AV_CODEC_ID_HEVC: return &bs_fork_hevc;
    case AV_CODEC_ID_H264: return &bs_fork_h264;
    case AV_CODEC_ID_VP9: return &bs_fork_vp9;
    case AV_CODEC_ID_AV1: return &bs_fork_dav1d;
    default: return NULL;
    }
}

/* The frame threads of an open context; NULL if their layout differs from Thread. */
static Thread *threads_of(const AVCodecContext *c) {
    Threads *all = c->internal ? c->internal->thread_ctx : NULL;
    if (!all || !all->threads)
        return NULL;
    for (int i = 0; i < c->thread_count; i++) {
        const Thread *thread = &all->threads[i];
        if (thread->parent != all || !thread->avctx || thread->avctx->codec != c->codec)
            return NULL;
        if (!thread->avctx->internal || thread->avctx->internal->thread_ctx != thread)
            return NULL;
    }
    return all->threads;
}

/* Nonzero if the state is accessible. */
static int is_known(const AVCodecContext *c) {
    if (!c->codec || !codec_of(c) || !c->priv_data)
        return 0;
    if (c->codec_id == AV_CODEC_ID_AV1)
        return bs_dav1d_can_fork(c);
    if (!ffcodec(c->codec)->update_thread_context)
        return 0;
    return !bs_has_frame_threads(c) || threads_of(c);
}

/* On a GPU a picture is a surface of one session, and surfaces are few: checkpoints are not supported. */
int bs_fork_is_supported(const AVCodecContext *c) { return is_known(c) && !bs_gpu_is_attached(c); }

int bs_decoder_lag(const AVCodecContext *c) {
    if (!bs_fork_is_supported(c))
        return 0;
    if (c->codec_id != AV_CODEC_ID_AV1)
        return bs_has_frame_threads(c) ? c->thread_count - 1 : 0;
    /* dav1d waits for a frame when it begins the next one in the same context. */
    const BsWatch *watch = bs_watch_of(c);
    return watch && watch->contexts > 1 ? watch->contexts : 0;
}

AVFrame *bs_fork_current(AVCodecContext *c) { return (AVFrame *)codec_of(c)->current(c); }

int bs_fork_references(const AVCodecContext *c, const AVFrame **out) { return codec_of(c)->references(c, out); }

/* Nonzero if the picture of the tag's packet was decoded last. The second field of a picture has a packet of its
 * own, but the picture has the first packet's tag: in H.264 the packet decides. */
static int is_behind(const BsForkCodec *codec, const AVCodecContext *c, uint32_t tag) {
    if (c->codec_id == AV_CODEC_ID_AV1)
        return bs_dav1d_has_state(c, tag);
    const AVPacket *packet = c->internal->last_pkt_props;
    if (c->codec_id == AV_CODEC_ID_H264)
        return packet && (uintptr_t)packet->opaque == (uintptr_t)tag + 1 && codec->last(c);
    return bs_has_tag(codec->last(c), tag);
}

/* The context with the state after the tag's picture: the decoder's own, or one of its threads'. */
static AVCodecContext *context_behind(AVCodecContext *c, uint32_t tag) {
    const BsForkCodec *codec = codec_of(c);
    if (!bs_has_frame_threads(c))
        return is_behind(codec, c, tag) ? c : NULL;
    Thread *threads = threads_of(c), *latest = threads ? ((Threads *)c->internal->thread_ctx)->prev_thread : NULL;
    if (!latest)
        return NULL;
    /* The latest first: a sample may be several packets, and its state is that after the last of them. */
    for (int i = 0, at = latest - threads; i < c->thread_count; i++, at = (at ? at : c->thread_count) - 1)
        if (atomic_load(&threads[at].state) == 0 && is_behind(codec, threads[at].avctx, tag))
            return threads[at].avctx;
    return NULL;
}

/* The fields that update_context_from_thread() copies, for software decoding of video. */
static void copy_fields(AVCodecContext *to, const AVCodecContext *from) {
    to->width = from->width;
    to->height = from->height;
    to->coded_width = from->coded_width;
    to->coded_height = from->coded_height;
    to->pix_fmt = from->pix_fmt;
    to->sw_pix_fmt = from->sw_pix_fmt;
    to->has_b_frames = from->has_b_frames;
    to->refs = from->refs;
    to->profile = from->profile;
    to->level = from->level;
    to->bits_per_coded_sample = from->bits_per_coded_sample;
    to->bits_per_raw_sample = from->bits_per_raw_sample;
    to->sample_aspect_ratio = from->sample_aspect_ratio;
    to->framerate = from->framerate;
    to->color_primaries = from->color_primaries;
    to->color_trc = from->color_trc;
    to->colorspace = from->colorspace;
    to->color_range = from->color_range;
    to->chroma_sample_location = from->chroma_sample_location;
    to->alpha_mode = from->alpha_mode;
}

BsCheckpoint *bs_checkpoint_alloc(const AVCodecContext *like) {
    BsCheckpoint *c = av_mallocz(sizeof(*c));
    if (c && !(c->context = avcodec_alloc_context3(like->codec)))
        av_freep(&c);
    return c;
}

void bs_checkpoint_clear(BsCheckpoint *c) { codec_of(c->context)->clear(c->context); }

void bs_checkpoint_free(BsCheckpoint *c) {
    if (!c)
        return;
    bs_checkpoint_clear(c);
    codec_of(c->context)->free(c->context);
    avcodec_free_context(&c->context);
    av_free(c);
}

int bs_checkpoint_save(BsCheckpoint *to, AVCodecContext *decoder, uint32_t tag) {
    AVCodecContext *from = context_behind(decoder, tag);
    if (!from)
        return AVERROR(EAGAIN);
    copy_fields(to->context, from);
    int ret = codec_of(from)->save(to, from, tag);
    if (ret < 0)
        bs_checkpoint_clear(to);
    return ret;
}

int bs_checkpoint_restore(const BsCheckpoint *from, AVCodecContext *decoder) {
    AVCodecContext *to = decoder;
    if (bs_has_frame_threads(decoder)) {
        /* After a flush all threads wait, and the first one gets the next packet. */
        Thread *threads = threads_of(decoder);
        if (!threads || ((Threads *)decoder->internal->thread_ctx)->prev_thread || atomic_load(&threads[0].state))
            return AVERROR(EINVAL);
        copy_fields(decoder, from->context);
        to = threads[0].avctx;
    }
    copy_fields(to, from->context);
    const BsForkCodec *codec = codec_of(to);
    int ret = codec->update ? codec->update(to, from->context) : bs_update(to, from->context);
    codec->restored(from, to);
    return ret;
}

void bs_fork_describe(BsPicture *out, const AVFrame *f, size_t more, uint32_t flags) {
    *out = (BsPicture){ .identity = (uintptr_t)f->buf[0]->data, .bytes = more, .flags = flags, .frame = f };
    out->tag = f->opaque ? (int64_t)(uintptr_t)f->opaque - 1 : -1;
    for (int i = 0; i < COUNT(f->buf) && f->buf[i]; i++)
        out->bytes += f->buf[i]->size;
}

int bs_fork_take(AVFrame *out, const AVFrame *properties, const AVFrame *pixels) {
    int ret = av_frame_ref(out, pixels);
    if (ret >= 0 && pixels != properties)
        ret = av_frame_copy_props(out, properties);
    av_refstruct_unref(&out->private_ref);
    return ret;
}

int bs_checkpoint_pictures(const BsCheckpoint *c, BsPicture *out, int capacity) {
    return codec_of(c->context)->pictures(c->context, out, capacity);
}

void bs_checkpoint_share(const BsCheckpoint *c, AVCodecContext *decoder) {
    BsPicture pictures[BS_MOST_PICTURES];
    int count = bs_checkpoint_pictures(c, pictures, BS_MOST_PICTURES);
    int64_t bytes = 0;
    for (int i = 0; i < count; i++) {
        bs_settle(pictures[i].frame);
        bytes += pictures[i].bytes;
    }
    bs_account_share(decoder, bytes);
}

int bs_checkpoint_picture(const BsCheckpoint *c, uint32_t tag, AVFrame *out) {
    return codec_of(c->context)->take(c->context, tag, out);
}

int bs_decoder_picture(AVCodecContext *decoder, uint32_t tag, AVFrame *out) {
    const AVCodecContext *c = is_known(decoder) ? context_behind(decoder, tag) : NULL;
    return c ? codec_of(c)->take(c, tag, out) : AVERROR(EAGAIN);
}

void bs_decoder_trim(AVCodecContext *decoder) {
    const BsForkCodec *codec = codec_of(decoder);
    if (!codec || !codec->trim || !is_known(decoder))
        return;
    Thread *threads = bs_has_frame_threads(decoder) ? threads_of(decoder) : NULL;
    if (!threads)
        codec->trim(decoder);
    for (int i = 0; threads && i < decoder->thread_count; i++)
        codec->trim(threads[i].avctx);
}

int bs_decoder_error_flags(AVCodecContext *decoder, uint32_t tag) {
    Thread *threads = decoder->codec_id == AV_CODEC_ID_H264 && bs_has_frame_threads(decoder) ? threads_of(decoder) : NULL;
    int flags = 0;
    for (int i = 0; threads && i < decoder->thread_count; i++)
        if (atomic_load(&threads[i].state) == 0)
            flags |= bs_h264_error_flags(threads[i].avctx, tag);
    return flags;
}

int bs_decoder_is_clean(AVCodecContext *decoder, uint32_t tag) {
    const AVCodecContext *c = is_known(decoder) ? context_behind(decoder, tag) : NULL;
    return !c || !codec_of(c)->is_clean || codec_of(c)->is_clean(c);
}
