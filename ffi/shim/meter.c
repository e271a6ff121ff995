/*
 * Limits of memory and work for what libavformat does in one thread.
 *
 * A demuxer trusts the sizes in a file: twenty kilobytes of tables can request gigabytes of index. So libavutil's
 * allocator is linked with its calls of the C library led through here (ffi/build.rs). While a meter is installed in
 * the thread, allocated bytes are counted, and past the limit an allocation fails as if there were no memory. The meter
 * remembers that, since not every caller in libavformat passes the failure on.
 *
 * Work is counted where a file can make libavformat visit the same entries again and again; other work is bounded by
 * the processor time of the thread, checked every TICKS allocations and with each read. Without a meter this costs a
 * read of one thread-local pointer per allocation.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <time.h>

#include <libavformat/avformat.h>
#include <libavcodec/avcodec.h>
#include <libavcodec/h2645_parse.h>
#include <libavutil/dict.h>
#include <libavutil/mem.h>

#include "shim.h"

/* Allocations between checks of the clock: a check takes a third of a microsecond. */
#define TICKS 256
/* Steps of a comparison of two keys. */
#define COMPARISON 8
/* The most bytes of a list of Matroska elements; and the largest element that is not searched for others, a cue. */
#define LIST_BYTES (2 << 20)
#define CUE_BYTES 32
/* The most programs of a transport stream: each is compared with all others at every table. */
#define PROGRAMS 1024
/* The most bytes of an MP4 list that is searched for each of its entries. */
#define SEARCHED_BYTES (512 << 10)

/* Not "initial-exec": in a program the linker makes it a load anyway, and a shared library with such a variable needs
 * all of its thread-local memory in the static block, which other libraries may have used up by the time it is
 * loaded. */
static _Thread_local BsMeter *meter;

void bs_meter_install(BsMeter *installed)
{
    meter = installed;
}

static int64_t thread_time_ns(void)
{
    struct timespec now;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) ? 0 : now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void exceed(BsMeter *m, int what)
{
    if (!m->exceeded)
        m->exceeded = what;
}

int bs_meter_exceeded(void)
{
    return meter ? meter->exceeded : 0;
}

void bs_meter_look(void)
{
    BsMeter *m = meter;
    if (!m)
        return;
    const int64_t now = thread_time_ns();
    if (!m->started_ns)
        m->started_ns = now;
    else if (now - m->started_ns > m->time_limit_ns)
        exceed(m, BS_EXCEEDED_TIME);
}

static void tick(BsMeter *m)
{
    if (!(++m->ticks % TICKS))
        bs_meter_look();
}

void bs_meter_work(uint64_t steps)
{
    BsMeter *m = meter;
    if (!m)
        return;
    m->steps = m->steps > UINT64_MAX - steps ? UINT64_MAX : m->steps + steps;
    if (m->steps > m->step_limit)
        exceed(m, BS_EXCEEDED_WORK);
}

void bs_meter_cap(int64_t more)
{
    if (meter && more < INT64_MAX / 4)
        meter->cap = FFMIN(meter->cap, meter->used + more);
}

/* Nonzero if there is room for `bytes` more; never after a limit is exceeded: a loop with much work for each entry
   must end. */
static int has_room(BsMeter *m, int64_t bytes)
{
    if (m->in_decoder)
        return 1;
    if (m->exceeded)
        return 0;
    if (bytes < 0 || bytes > INT64_MAX / 4)
        bytes = INT64_MAX / 4;
    if (m->used + bytes > m->cap) {
        exceed(m, BS_EXCEEDED_WORK);
        return 0;
    }
    if (m->used + bytes <= m->limit)
        return 1;
    if (m->grow) {
        /* Allocations of the callback are not the file's. */
        meter = NULL;
        const int64_t limit = m->grow(m->opaque, m->used + bytes);
        meter = m;
        if (limit > m->limit)
            m->limit = limit;
        if (m->used + bytes <= m->limit)
            return 1;
        exceed(m, limit < 0 ? BS_EXCEEDED_BUSY : BS_EXCEEDED_MEMORY);
        return 0;
    }
    exceed(m, BS_EXCEEDED_MEMORY);
    return 0;
}

static void take(BsMeter *m, int64_t bytes)
{
    m->used += bytes;
    if (m->used > m->peak)
        m->peak = m->used;
}

int bs_meter_charge(int64_t bytes)
{
    BsMeter *m = meter;
    if (!m)
        return 1;
    if (bytes > 0 && !has_room(m, bytes))
        return 0;
    take(m, bytes);
    return !m->exceeded;
}

/* libavutil/mem.c's calls of the C library. */

int bs_posix_memalign(void **to, size_t alignment, size_t size)
{
    BsMeter *m = meter;
    int error;
    if (!m)
        return posix_memalign(to, alignment, size);
    tick(m);
    if (!has_room(m, size))
        return ENOMEM;
    error = posix_memalign(to, alignment, size);
    if (!error)
        take(m, malloc_usable_size(*to));
    return error;
}

void *bs_realloc(void *from, size_t size)
{
    BsMeter *m = meter;
    if (!m)
        return realloc(from, size);
    const int64_t before = from ? malloc_usable_size(from) : 0;
    tick(m);
    if ((int64_t)size > before && !has_room(m, (int64_t)size - before))
        return NULL;
    void *block = realloc(from, size);
    if (block)
        take(m, (int64_t)malloc_usable_size(block) - before);
    return block;
}

void bs_free(void *block)
{
    BsMeter *m = meter;
    if (m && block)
        take(m, -(int64_t)malloc_usable_size(block));
    free(block);
}

/* libavformat/demux.c decodes pictures to learn about streams. Decoders do not always survive an allocation that
 * fails (closing a VP9 decoder without tiles goes through them), and pictures have a limit of their own: so their
 * allocations are counted, and compared with the limit after the call. */

static void enter_decoder(void)
{
    if (meter)
        meter->in_decoder++;
}

static int leave_decoder(int result)
{
    if (meter && !--meter->in_decoder)
        has_room(meter, 0);
    return result;
}

int bs_metered_open(AVCodecContext *decoder, const AVCodec *codec, AVDictionary **options)
{
    enter_decoder();
    return leave_decoder(avcodec_open2(decoder, codec, options));
}

int bs_probe_send(AVCodecContext *decoder, const AVPacket *packet)
{
    enter_decoder();
    return leave_decoder(avcodec_send_packet(decoder, packet));
}

int bs_probe_receive(AVCodecContext *decoder, AVFrame *frame)
{
    enter_decoder();
    return leave_decoder(avcodec_receive_frame(decoder, frame));
}

/* libavutil/dict.c compares a key with all existing ones. */

int bs_dict_set_unmetered(AVDictionary **dictionary, const char *key, const char *value, int flags);

int av_dict_set(AVDictionary **dictionary, const char *key, const char *value, int flags)
{
    if (meter)
        bs_meter_work(COMPARISON * (uint64_t)av_dict_count(*dictionary));
    /* Callers go on with the next entry, and some visit all existing ones for each: so none are added. */
    if (meter && meter->exceeded && !meter->in_decoder) {
        if (flags & AV_DICT_DONT_STRDUP_KEY)
            av_free((void *)key);
        if (flags & AV_DICT_DONT_STRDUP_VAL)
            av_free((void *)value);
        return AVERROR(ENOMEM);
    }
    return bs_dict_set_unmetered(dictionary, key, value, flags);
}

/* libavformat/mov.c searches for the beginning of an edit, and then walks over the entries before it. After the
 * limit is exceeded nothing is found. */
int bs_mov_search_timestamp(AVStream *stream, int64_t timestamp, int flags)
{
    bs_meter_work(avformat_index_get_entries_count(stream));
    return bs_meter_exceeded() ? -1 : av_index_search_timestamp(stream, timestamp, flags);
}

/* libavformat/mov.c searches the items of a still picture for every property. */
void *bs_mov_realloc_array(void *array, size_t count, size_t size)
{
    if (meter && size && count > SEARCHED_BYTES / size) {
        exceed(meter, BS_EXCEEDED_WORK);
        return NULL;
    }
    return av_realloc_array(array, count, size);
}

/* libavformat/mpegts.c: the program of a table's entry. */
AVProgram *bs_new_program(AVFormatContext *s, int id)
{
    if (meter && s->nb_programs >= PROGRAMS) {
        exceed(meter, BS_EXCEEDED_WORK);
        return NULL;
    }
    return av_new_program(s, id);
}

/* libavformat/matroskadec.c makes a list of elements longer. Some lists are searched for each element of another:
 * tags for attachments and chapters, blocks for tracks. Cues are not, and a long video has many; their list grows by
 * one cue at a time. */
void *bs_list_realloc(void *list, unsigned *allocated, size_t size)
{
    BsMeter *m = meter;
    if (m && size > LIST_BYTES / 2) {
        const int is_cue = m->list == allocated && size - m->list_bytes <= CUE_BYTES;
        m->list = allocated;
        m->list_bytes = size;
        if (size > LIST_BYTES && !is_cue) {
            exceed(m, BS_EXCEEDED_WORK);
            return NULL;
        }
    }
    return av_fast_realloc(list, allocated, size);
}

/* The index that libavformat builds for seeking while it reads packets. No code here seeks by it, and entries in
 * descending order are each inserted before all others. */
int bs_no_index_entry(AVStream *stream, int64_t position, int64_t timestamp, int size, int distance, int flags)
{
    return 0;
}

/* libavcodec/h2645_parse.c makes a table of NAL units longer. Each unit takes up to 4 kB more, in parsers and
 * decoders, until these are closed: no picture has as many units. To the callers such a sample is damaged. */
void *bs_units_realloc(void *units, unsigned *allocated, size_t size)
{
    return size > BS_UNIT_LIMIT * sizeof(H2645NAL) ? NULL : av_fast_realloc(units, allocated, size);
}

int bs_packet_split_unlimited(H2645Packet *packet, const uint8_t *data, int length, void *logger, int length_size,
                              enum AVCodecID codec, int flags);

int ff_h2645_packet_split(H2645Packet *packet, const uint8_t *data, int length, void *logger, int length_size,
                          enum AVCodecID codec, int flags)
{
    const int result = bs_packet_split_unlimited(packet, data, length, logger, length_size, codec, flags);
    return result == AVERROR(ENOMEM) && packet->nb_nals >= BS_UNIT_LIMIT ? AVERROR_INVALIDDATA : result;
}
