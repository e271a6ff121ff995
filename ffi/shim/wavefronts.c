/*
 * Damage in H.265 pictures whose rows several threads decode. Alone, libavcodec begins each row where the one above ended.
 * With threads it begins where the slice header says, whatever became of the row above, and it may leave rows out and say
 * nothing: damage then gives other pictures than in every other decoder, and nobody is told. So here each row is looked at
 * when it is done: it must have ended where the next one began, and only the last one with the slice. Then what was
 * decoded is what one thread decodes; all else is an error.
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

/* libavcodec's own, the same for all decoders with slice threads. */
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
    /* The flag behind the row's last block said whether the slice ends there. */
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
    /* One thread reads on to the end of the slice, so that here too nobody stops at the end of a row that is too short. */
    int end = s->sh.offset[last] + s->sh.size[last];
    while (end > s->sh.offset[last] && !s->data[end - 1])
        end--;
    for (int i = 0; i < count; i++)
        s->sh.size[i] = end - s->sh.offset[i];
    /* Rows are not slices: what this thread sees while it decodes some does not count. */
    BsSeen seen = bs_seen;
    if (!error)
        atomic_load(&own_execute)(c, checked_row, &rows, ret, count);
    seen.errors = bs_seen.errors;
    bs_seen = seen;
    /* libavcodec adds all of them up: two errors may make none. */
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
