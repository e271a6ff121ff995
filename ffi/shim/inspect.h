/* What inspect.c, its codecs and buffers.c share: see inspect.c. */
#ifndef BUCKET_STREAMER_INSPECT_H
#define BUCKET_STREAMER_INSPECT_H

#include <stdatomic.h>

#include "libavcodec/avcodec.h"
#include "libavcodec/codec_internal.h"

#include "shim.h"

/* Hangs on AVCodecContext.opaque of a decoder and of its frame threads. */
typedef struct BsWatch {
    BsWatchOptions options;
    _Atomic int found; /* BsFound */
    /* VP9: what one picture leaves to the next is damaged, until one sets it anew. Lenient decoders, on one thread, only. */
    int is_adrift;
    BsGpu *gpu; /* where the decoder decodes; then nothing is looked at here */
    BsAccount *account;      /* of the decode run that uses the decoder; NULL if none is charged */
    int64_t shared;          /* bytes that it shares with the last checkpoint */
    _Atomic int64_t tables;  /* bytes that the decoder keeps for pictures in work, whether or not there are any */
    _Atomic int64_t pixels;  /* of its largest picture */
    int contexts;            /* AV1: pictures that can be in work */
} BsWatch;

/* NULL if the decoder has none: a GPU's. */
BsWatch *bs_watch_of(const AVCodecContext *c);

/* Marks (BsMarks) of the memory that a picture is in. Only for frames out of bs_get_buffer() or bs_get_planes(). */
void bs_mark(const AVFrame *f, int marks);
int bs_marks(const AVFrame *f);

/* The run is no longer charged for the picture, which a checkpoint holds from now on. */
void bs_settle(const AVFrame *f);
/* Settles what a decoder keeps beside its pictures. */
void bs_watch_settle(BsWatch *watch);

/* What was seen in this thread while a packet was decoded. */
typedef struct BsSeen {
    unsigned errors; /* that libavcodec has logged */
    unsigned ends;   /* slices that came to their end */
    int has_failed;  /* a slice was rejected */
    int structure;   /* H.264: the field or frame of the last slice, */
    int is_full;     /* and whether all of it was decoded by then */
    int is_astray;   /* the data of a slice or tile did not end where it did; in VP9, BsFound */
} BsSeen;
extern _Thread_local BsSeen bs_seen;

/* The picture that a decoder's last packet was decoded to. */
typedef struct BsVerdict {
    int found;      /* BsFound */
    int is_tainted; /* nothing is wrong with it but that it refers to a damaged picture */
} BsVerdict;

/* Nonzero if pictures of that size are not allowed (AVCodecContext.max_pixels): the decoder then says that it was claimed. */
int bs_is_too_large(AVCodecContext *c, int width, int height);

struct CABACContext;
/* Nonzero if the last symbol was the end of a slice. */
int bs_cabac_is_over(const struct CABACContext *cabac);
/* Nonzero if, besides, `bits` bits of `data` were read, the stop bit included, or up to `spare` less. */
int bs_cabac_ends_at(const struct CABACContext *cabac, const uint8_t *data, int64_t bits, int spare);

/* Tables in which a picture's holes would show what was decoded before. */
void bs_clear_tables(AVCodecContext *c);
void bs_hevc_clear_tables(AVCodecContext *c);
/* New pools for what belongs to one picture (fork_hevc.c): their entries are zero. */
void bs_hevc_renew_pools(AVCodecContext *c);

struct HEVCContext;
/* Nonzero if the data of the H.265 slice in `cabac` end where its last block does. */
int bs_hevc_ends_in_time(const struct HEVCContext *s, const struct CABACContext *cabac);

/* By codec: libavcodec's own decoders, one call of which goes through a shim (TAPPED in build.rs), and what is looked at behind
 * them. */
extern const FFCodec bs_tapped_hevc_decoder, bs_tapped_h264_decoder, bs_tapped_vp9_decoder, bs_tapped_dav1d_decoder;
int bs_inspect_hevc(AVCodecContext *c, AVFrame *frame);
void bs_flush_hevc(AVCodecContext *c);
int bs_inspect_h264(AVCodecContext *c, AVFrame *frame, int *got, AVPacket *packet);
int bs_inspect_vp9(AVCodecContext *c, AVFrame *frame, int *got, AVPacket *packet);

/* What becomes of a packet for which libavcodec returned `ret`. Strict decoders make damage an error; lenient ones go on
 * and mark `picture`, which may be NULL. */
int bs_judge(BsWatch *watch, const AVFrame *picture, BsVerdict verdict, int ret);

#endif
