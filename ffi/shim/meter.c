/*
 * Limits of memory and work for what libavformat does in one thread.
 *
 * A demuxer believes what a file says of itself: twenty kilobytes of tables can ask for gigabytes of index. So libavutil's
 * allocator is linked with its calls of the C library's led through here (ffi/build.rs). While a meter is installed in the
 * thread, allocated bytes are counted, and past the limit an allocation fails as if there were no memory. The meter
 * remembers that, since not every caller in libavformat passes the failure on.
 *
 * Work is counted where a file can make libavformat go over the same entries again and again; all else is bounded by the
 * processor time of the thread, looked at every so many allocations and reads. Outside of a meter all this costs the look
 * at one thread-local pointer per allocation.
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

/* Allocations from one look at the clock to the next: it takes a third of a microsecond. */
#define TICKS 256
/* Steps that a comparison of two keys counts as. */
#define COMPARISON 8
/* Bytes that a list of Matroska's elements may have; and the largest element that is not searched for others, a cue. */
#define LIST_BYTES (2 << 20)
#define CUE_BYTES 32
/* Programs that a transport stream may have: every one is compared with all others at every table. */
#define PROGRAMS 1024
/* Bytes that a list of MP4's which is searched for each of its entries may have. */
#define SEARCHED_BYTES (512 << 10)

/* Not "initial-exec": in a program the linker makes it a load all the same, and a shared library with such a variable needs all of
 * its thread-local memory in the static block, which others may have used up by the time that it is loaded. */
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

/* Room for `bytes` more? Never again once a limit is passed: a loop that goes over much for each entry must end. */
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
        /* What the callback allocates is not the file's. */
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

/* libavformat/demux.c decodes pictures to learn of streams. Decoders do not always survive an allocation that fails (a VP9
 * decoder without tiles is closed by way of them), and what a picture takes has a limit of its own: what they allocate is
 * counted, and looked at when they are done. */

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

/* libavutil/dict.c: a key is compared with all that are there. */

int bs_dict_set_unmetered(AVDictionary **dictionary, const char *key, const char *value, int flags);

int av_dict_set(AVDictionary **dictionary, const char *key, const char *value, int flags)
{
    if (meter)
        bs_meter_work(COMPARISON * (uint64_t)av_dict_count(*dictionary));
    /* Callers go on with the next entry, and some go over all that are there for each: then there are none. */
    if (meter && meter->exceeded && !meter->in_decoder) {
        if (flags & AV_DICT_DONT_STRDUP_KEY)
            av_free((void *)key);
        if (flags & AV_DICT_DONT_STRDUP_VAL)
            av_free((void *)value);
        return AVERROR(ENOMEM);
    }
    return bs_dict_set_unmetered(dictionary, key, value, flags);
}

/* libavformat/mov.c looks for where an edit begins: it goes on to walk over the entries in front of that. Once the limit is
 * passed nothing is found. */
int bs_mov_search_timestamp(AVStream *stream, int64_t timestamp, int flags)
{
    bs_meter_work(avformat_index_get_entries_count(stream));
    return bs_meter_exceeded() ? -1 : av_index_search_timestamp(stream, timestamp, flags);
}

/* libavformat/mov.c: items of a still picture are searched for every property. */
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

/* libavformat/matroskadec.c: a list of elements is made longer. Some are searched for each element of another: tags for
 * attachments and chapters, blocks for tracks. Cues are not, and a long video has many; their list grows by a cue at a
 * time. */
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

/* The index that libavformat makes for seeking while it reads packets. Nothing seeks by it here, and entries that come in
 * descending order are each put in front of all others. */
int bs_no_index_entry(AVStream *stream, int64_t position, int64_t timestamp, int size, int distance, int flags)
{
    return 0;
}

/* libavcodec/h2645_parse.c: a table of NAL units is made longer. Each unit takes up to 4 kB beside it, in parsers and
 * decoders, until these are closed: no picture has as many units. To their callers such a sample is damaged. */
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
