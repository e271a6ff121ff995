/* Declarations for inspect.c, the codecs' inspect_*.c and buffers.c: see inspect.c. */
#ifndef BUCKET_STREAMER_INSPECT_H
#define BUCKET_STREAMER_INSPECT_H

#include <stdatomic.h>

#include "libavcodec/avcodec.h"
#include "libavcodec/codec_internal.h"

#include "shim.h"

/* Stored in AVCodecContext.opaque of a decoder and of its frame threads. */
typedef struct BsWatch {
    BsWatchOptions options;
    _Atomic int found; /* BsFound */
    /* VP9: the state that a picture hands on is damaged, until one resets it. Only for lenient decoders, which have
       one thread. */
    int is_adrift;
    BsGpu *gpu; /* the GPU that decodes, without checks here; else NULL */
    BsAccount *account;      /* of the decode run; NULL without a charge */
    int64_t shared;          /* bytes shared with the last checkpoint */
    _Atomic int64_t tables;  /* bytes of tables for pictures in work */
    _Atomic int64_t pixels;  /* of its largest picture */
    int contexts;            /* AV1: pictures that can be in work */
    uintptr_t last;          /* AV1: AVPacket.opaque of the sample that was sent last; 0 if that failed */
    struct BsDav1dRecent *recent; /* AV1 with several pictures in work; else NULL */
} BsWatch;

/* NULL for a decoder without a watch: on a GPU. */
BsWatch *bs_watch_of(const AVCodecContext *c);

/* Marks (BsMarks) of a picture's memory. Only for frames from bs_get_buffer() or bs_get_planes(). */
void bs_mark(const AVFrame *f, int marks);
int bs_marks(const AVFrame *f);

/* Ends the charge to the run for a picture that a checkpoint holds from now on. */
void bs_settle(const AVFrame *f);
/* Ends the charge for the tables of a decoder. */
void bs_watch_settle(BsWatch *watch);

/* Observations in this thread while a packet was decoded. */
typedef struct BsSeen {
    unsigned errors; /* logged by libavcodec */
    unsigned ends;   /* slices that came to their end */
    int has_failed;  /* a slice was rejected */
    int structure;   /* H.264: the field or frame of the last slice, */
    int is_full;     /* and whether all of it was decoded by then */
    int is_astray;   /* data end early or late in a slice or tile; in VP9, BsFound */
} BsSeen;
extern _Thread_local BsSeen bs_seen;

/* The result for the picture of a decoder's last packet. */
typedef struct BsVerdict {
    int found;      /* BsFound */
    int is_tainted; /* its only defect is a reference to a damaged picture */
} BsVerdict;

/* Nonzero if pictures of that size are not allowed (AVCodecContext.max_pixels): the decoder then reports that size
   as claimed. */
int bs_is_too_large(AVCodecContext *c, int width, int height);

struct CABACContext;
/* Nonzero if the last symbol was the end of a slice. */
int bs_cabac_is_over(const struct CABACContext *cabac);
/* Nonzero if, in addition, `bits` bits of `data` were read, the stop bit included, or up to `spare` less. */
int bs_cabac_ends_at(const struct CABACContext *cabac, const uint8_t *data, int64_t bits, int spare);

/* Clears tables that would show earlier pictures in the holes of a damaged one. */
void bs_clear_tables(AVCodecContext *c);
void bs_hevc_clear_tables(AVCodecContext *c);
/* New pools for tables of single pictures (fork_hevc.c), with entries of zero. */
void bs_hevc_renew_pools(AVCodecContext *c);

struct HEVCContext;
/* Nonzero if the data of the H.265 slice in `cabac` end with its last block. */
int bs_hevc_ends_in_time(const struct HEVCContext *s, const struct CABACContext *cabac);

/* For each codec: libavcodec's own decoder, with one call led through a shim (TAPPED in build.rs), and the check
 * that follows it. */
extern const FFCodec bs_tapped_hevc_decoder, bs_tapped_h264_decoder, bs_tapped_vp9_decoder, bs_tapped_dav1d_decoder;
int bs_inspect_hevc(AVCodecContext *c, AVFrame *frame);
void bs_flush_hevc(AVCodecContext *c);
int bs_inspect_h264(AVCodecContext *c, AVFrame *frame, int *got, AVPacket *packet);
int bs_inspect_vp9(AVCodecContext *c, AVFrame *frame, int *got, AVPacket *packet);

/* The result of a packet for which libavcodec returned `ret`. Strict decoders make damage an error; lenient ones go
 * on and mark `picture`, which may be NULL. */
int bs_judge(BsWatch *watch, const AVFrame *picture, BsVerdict verdict, int ret);

#endif
