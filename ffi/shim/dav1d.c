/*
 * Pictures of dav1d in the memory of buffers.c. libavcodec's wrapper keeps a pool for each decoder, which only grows;
 * here its object is linked a second time (TAPPED in build.rs), with the call that opens dav1d led through a shim that
 * sets other callbacks.
 */
#include <errno.h>

#include <dav1d/dav1d.h>

#include "libavcodec/avcodec.h"
#include "libavutil/buffer.h"
#include "libavutil/macros.h"

#include "account.h"
#include "dav1d_state.h"
#include "inspect.h"

/* The decoder that this thread runs. dav1d asks the allocator of a picture for its copy with film grain: for a picture of a
 * checkpoint that is the allocator of the decoder that made it, which may be closed by now. */
static _Thread_local AVCodecContext *running;

static int get_picture(Dav1dPicture *p, void *cookie) {
    AVCodecContext *c = running;
    if (!c)
        return DAV1D_ERR(EINVAL);
    BsWatch *watch = bs_watch_of(c);
    int has_chroma = p->p.layout != DAV1D_PIXEL_LAYOUT_I400;
    int ss_ver = p->p.layout == DAV1D_PIXEL_LAYOUT_I420;
    int ss_hor = p->p.layout != DAV1D_PIXEL_LAYOUT_I444;
    int sample_bytes = p->p.bpc > 8 ? 2 : 1;
    ptrdiff_t width = FFALIGN((ptrdiff_t)p->p.w, 128), height = FFALIGN((ptrdiff_t)p->p.h, 128);
    ptrdiff_t stride = width * sample_bytes, chroma_stride = has_chroma ? stride >> ss_hor : 0;
    size_t size = stride * height, chroma_size = chroma_stride * (height >> ss_ver);
    int64_t pixels = (int64_t)width * height;
    if (watch && !bs_charge_contexts(watch, c->codec_id, FFMAX(watch->contexts, 1), pixels, sample_bytes))
        return DAV1D_ERR(ENOMEM);
    /* Once for the alignment, once for reads past the end. */
    AVBufferRef *buf = bs_get_memory(watch, c->codec_id, size + 2 * chroma_size + 2 * DAV1D_PICTURE_ALIGNMENT, pixels);
    if (!buf)
        return DAV1D_ERR(ENOMEM);
    uint8_t *data = (uint8_t *)FFALIGN((uintptr_t)buf->data, DAV1D_PICTURE_ALIGNMENT);
    p->data[0] = data;
    p->data[1] = has_chroma ? data + size : NULL;
    p->data[2] = has_chroma ? data + size + chroma_size : NULL;
    p->stride[0] = stride;
    p->stride[1] = chroma_stride;
    p->allocator_data = buf;
    return 0;
}

static void release_picture(Dav1dPicture *p, void *cookie) {
    AVBufferRef *buf = p->allocator_data;
    av_buffer_unref(&buf);
}

/* libavcodec calls this and the next three (TAPPED in build.rs). Its log callback has the codec context. */
int bs_dav1d_open(Dav1dContext **out, const Dav1dSettings *settings) {
    Dav1dSettings own = *settings;
    AVCodecContext *c = settings->logger.cookie;
    BsWatch *watch = bs_watch_of(c);
    own.allocator.cookie = c;
    own.allocator.alloc_picture_callback = get_picture;
    own.allocator.release_picture_callback = release_picture;
    if (watch) {
        watch->contexts = dav1d_get_frame_delay(&own);
        if (watch->contexts > 1 && !(watch->recent = bs_dav1d_recent_alloc(watch->contexts)))
            return DAV1D_ERR(ENOMEM);
    }
    return dav1d_open(out, &own);
}

/* Remembers which sample was sent last, and the state after the one before, to be saved once its frames are decoded. */
int bs_dav1d_send(Dav1dContext *decoder, Dav1dData *in) {
    BsWatch *watch = bs_watch_of(bs_dav1d_cookie(decoder));
    const AVPacket *packet = in->sz ? (const AVPacket *)in->m.user_data.data : NULL;
    uintptr_t tag = packet ? (uintptr_t)packet->opaque : 0;
    if (watch && packet && watch->recent && watch->last)
        bs_dav1d_recent_add(watch->recent, watch->last, decoder);
    running = bs_dav1d_cookie(decoder);
    int ret = dav1d_send_data(decoder, in);
    running = NULL;
    if (watch && packet && ret != DAV1D_ERR(EAGAIN))
        watch->last = ret < 0 ? 0 : tag;
    return ret;
}

int bs_dav1d_receive(Dav1dContext *decoder, Dav1dPicture *out) {
    running = bs_dav1d_cookie(decoder);
    int ret = dav1d_get_picture(decoder, out);
    running = NULL;
    return ret;
}

void bs_dav1d_flush(Dav1dContext *decoder) {
    BsWatch *watch = bs_watch_of(bs_dav1d_cookie(decoder));
    dav1d_flush(decoder);
    if (watch) {
        watch->last = 0;
        bs_dav1d_recent_clear(watch->recent);
    }
}
