/*
 * Damage in H.265 pictures with rows that several threads decode. On one thread, libavcodec begins each row where the
 * one above ended. With threads it begins where the slice header says, whatever happened in the row above, and may omit
 * rows without an error: damage then gives other pictures than in every other decoder, unnoticed. So each row is
 * checked when it is done: it must end where the next one begins, and only the last one with the slice. Then the
 * picture is the one that a single thread decodes; every other case is an error.
 */
#include <stdatomic.h>

#include "libavcodec/avcodec.h"
#include "libavcodec/cabac_functions.h"
#include "libavcodec/hevc/hevcdec.h"

#include "inspect.h"
#include "shim.h"

typedef int Row(AVCodecContext *c, void *arg, int job, int thread);
typedef int Execute(AVCodecContext *c, Row *row, void *arg, int *ret, int count);

typedef struct Rows {
    Row *row;
    HEVCLocalContext *contexts;
    int count;
} Rows;

/* libavcodec's own function, the same for all decoders with slice threads. */
static Execute *_Atomic own_execute;

static int has_ended(const CABACContext *cc) { return cc->low >= cc->range << (CABAC_BITS + 1); }

static int checked_row(AVCodecContext *c, void *arg, int job, int thread) {
    const Rows *rows = arg;
    HEVCContext *s = c->priv_data;
    CABACContext *cc = &rows->contexts[thread].cc;
    int ret = rows->row(c, rows->contexts, job, thread);
    if (ret < 0)
        return ret;
    if (atomic_load(&s->wpp_err))
        return AVERROR_INVALIDDATA;
    /* The flag after the row's last block says whether the slice ends there. */
    if (has_ended(cc) != (job == rows->count - 1))
        return AVERROR_INVALIDDATA;
    const BsWatch *watch = bs_watch_of(c);
    if (job == rows->count - 1 && watch && watch->options.checks_ends && !bs_hevc_ends_in_time(s, cc))
        return AVERROR_INVALIDDATA;
    if (job < rows->count - 1 &&
        (!get_cabac_terminate(cc) || skip_bytes(cc, 0) != s->data + s->sh.offset[job + 1]))
        return AVERROR_INVALIDDATA;
    return ret;
}

static int execute_rows(AVCodecContext *c, Row *row, void *arg, int *ret, int count) {
    HEVCContext *s = c->priv_data;
    Rows rows = { row, arg, count };
    int last = count - 1, error = 0;
    if (s->sh.slice_ctb_addr_rs % s->pps->sps->ctb_width)
        error = AVERROR_INVALIDDATA;
    /* One thread reads to the end of the slice: so no row may stop at the end of its data if they are too short. */
    int end = s->sh.offset[last] + s->sh.size[last];
    while (end > s->sh.offset[last] && !s->data[end - 1])
        end--;
    for (int i = 0; i < count; i++)
        s->sh.size[i] = end - s->sh.offset[i];
    /* Rows are not slices: observations of this thread while it decodes some do not count. */
    BsSeen seen = bs_seen;
    if (!error)
        atomic_load(&own_execute)(c, checked_row, &rows, ret, count);
    seen.errors = bs_seen.errors;
    bs_seen = seen;
    /* libavcodec adds up the results: two errors may cancel out. */
    for (int i = 0; i < count; i++) {
        error = error ? error : FFMIN(ret[i], 0);
        ret[i] = 0;
    }
    ret[0] = error;
    return 0;
}

void bs_check_rows(AVCodecContext *decoder) {
    if (decoder->codec_id != AV_CODEC_ID_HEVC || !(decoder->active_thread_type & FF_THREAD_SLICE))
        return;
    atomic_store(&own_execute, decoder->execute2);
    decoder->execute2 = execute_rows;
}
