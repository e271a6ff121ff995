/*
 * The complete index of the MP4/MOV demuxer.
 *
 * libavformat builds it from the tables alone and applies edit lists to it; only pts, duration and sample description
 * are computed later, sample by sample, when av_read_frame() reads the payload. This file does that last step (as
 * mov_finalize_packet() in mov.c of the vendored version) without reading any payload.
 */
#include <libavformat/avformat.h>
#include <libavformat/demux.h>
#include <libavformat/internal.h>
#include <libavformat/isom.h>
#include <libavutil/mem.h>

#include "shim.h"

extern const FFInputFormat ff_mov_demuxer;

int bs_mov_is(const AVFormatContext *s)
{
    return s->iformat == &ff_mov_demuxer.p;
}

static const AVStream *mov_stream(const AVFormatContext *s, unsigned stream)
{
    return bs_mov_is(s) && stream < s->nb_streams ? s->streams[stream] : NULL;
}

int bs_mov_sample_count(const AVFormatContext *s, unsigned stream)
{
    const AVStream *st = mov_stream(s, stream);
    return st ? avformat_index_get_entries_count(st) : 0;
}

/* The position of a walk over the index in the tables that belong to it. */
struct BsMovWalk {
    const AVStream *st;
    int next;
    int64_t *runs;              /* see runs_of(); NULL with one sample description */
    unsigned tts_index;
    unsigned tts_sample;
    const MOVIndexRange *range; /* the media samples that the edit list keeps; NULL without one */
    int64_t media_sample;       /* number of the sample in the media, before edits, as in stsc */
};

/* The first sample of each run of chunks (stsc entry), in media samples; the caller frees it. */
static int64_t *runs_of(const MOVStreamContext *sc)
{
    int64_t *runs = av_malloc_array(sc->stsc_count, sizeof(*runs));
    int64_t first = 0;
    for (unsigned i = 0; runs && i < sc->stsc_count; i++) {
        const int64_t last_chunk = i + 1 < sc->stsc_count ? sc->stsc_data[i + 1].first : (int64_t)sc->chunk_count + 1;
        runs[i] = first;
        first   = av_sat_add64(first, FFMAX(last_chunk - sc->stsc_data[i].first, 0) * (int64_t)FFMIN(sc->stsc_data[i].count, INT_MAX));
    }
    return runs;
}

/* Sample description of a sample, by its number in the media. FFmpeg counts stsc in edited samples; that is equal
 * unless an edit omits samples before a change of description: there FFmpeg changes too late. */
static uint32_t description_of(const MOVStreamContext *sc, const int64_t *runs, int64_t sample)
{
    unsigned low = 0, high = sc->stsc_count;
    int id;
    while (high - low > 1) {
        const unsigned middle = low + (high - low) / 2;
        if (runs[middle] <= sample)
            low = middle;
        else
            high = middle;
    }
    id = sc->stsc_data[low].id;
    return id > 0 && id <= sc->stsd_count ? id - 1 : 0;
}

static void step(const MOVStreamContext *sc, BsMovWalk *walk)
{
    if (sc->tts_data && walk->tts_index < sc->tts_count && sc->tts_data[walk->tts_index].count == ++walk->tts_sample) {
        walk->tts_index++;
        walk->tts_sample = 0;
    }
    walk->media_sample++;
    if (walk->range && walk->range->end && walk->media_sample >= walk->range->end) {
        walk->range++;
        walk->media_sample = walk->range->start;
    }
}

BsMovWalk *bs_mov_walk_open(const AVFormatContext *s, unsigned stream)
{
    const AVStream *st = mov_stream(s, stream);
    const MOVStreamContext *sc = st ? st->priv_data : NULL;
    BsMovWalk *walk = sc ? av_mallocz(sizeof(*walk)) : NULL;

    if (!walk)
        return NULL;
    walk->st = st;
    walk->range = sc->index_ranges;
    walk->media_sample = walk->range ? walk->range->start : 0;
    if (sc->stsd_count > 1 && sc->stsc_data && sc->stsc_count && !(walk->runs = runs_of(sc)))
        av_freep(&walk);
    return walk;
}

void bs_mov_walk_close(BsMovWalk **walk)
{
    if (*walk)
        av_freep(&(*walk)->runs);
    av_freep(walk);
}

int bs_mov_walk_next(BsMovWalk *walk, BsMovSample *out, int capacity)
{
    AVStream *st = (AVStream *)walk->st;
    const MOVStreamContext *sc = st->priv_data;
    const int total = avformat_index_get_entries_count(st);
    const int count = FFMIN(total - walk->next, capacity);

    for (int i = 0; i < count; i++, walk->next++) {
        const AVIndexEntry *entry = avformat_index_get_entry(st, walk->next);
        const MOVTimeToSample *tts = walk->tts_index < sc->tts_count ? &sc->tts_data[walk->tts_index] : NULL;
        BsMovSample *sample = &out[i];

        sample->pos = entry->pos;
        sample->size = entry->size;
        sample->dts = entry->timestamp;
        sample->duration = sc->stts_count && tts ? tts->duration : 0;
        if (sc->ctts_count && tts) {
            sample->pts = av_sat_add64(sample->dts, av_sat_add64(sc->dts_shift, tts->offset));
        } else {
            if (!sample->duration) {
                const int64_t next = walk->next + 1 < total
                                         ? avformat_index_get_entry(st, walk->next + 1)->timestamp
                                         : st->duration;
                if (next >= sample->dts)
                    sample->duration = av_sat_sub64(next, sample->dts);
            }
            sample->pts = sample->dts;
        }
        sample->flags = (entry->flags & AVINDEX_KEYFRAME ? BS_MOV_KEY : 0) |
                        (entry->flags & AVINDEX_DISCARD_FRAME ? BS_MOV_DISCARD : 0);
        sample->description = walk->runs ? description_of(sc, walk->runs, walk->media_sample) : 0;
        step(sc, walk);
    }
    return count;
}

void bs_mov_drop_others(AVFormatContext *s, unsigned stream)
{
    for (unsigned i = 0; bs_mov_is(s) && i < s->nb_streams; i++) {
        FFStream *const sti = ffstream(s->streams[i]);
        MOVStreamContext *const sc = s->streams[i]->priv_data;
        if (i == stream || !sc)
            continue;
        av_freep(&sti->index_entries);
        sti->nb_index_entries = 0;
        sti->index_entries_allocated_size = 0;
        av_freep(&sc->tts_data);
        sc->tts_count = 0;
        sc->tts_allocated_size = 0;
    }
}

/* The most steps of a walk over all samples: it visits every stream at each sample. */
#define WALK_STEPS (INT64_C(1) << 30)

int bs_mov_begin_fragments(const AVFormatContext *s)
{
    const MOVContext *mov = s->priv_data;
    int64_t entries = 0;
    if (!bs_mov_is(s) || !mov->next_root_atom)
        return 0;
    for (unsigned i = 0; i < s->nb_streams; i++)
        entries += avformat_index_get_entries_count(s->streams[i]);
    const int64_t most = WALK_STEPS / FFMAX(s->nb_streams, 1);
    if (entries > most)
        bs_meter_work(UINT64_MAX);
    bs_meter_cap(FFMAX(most - entries, 0) * (int64_t)(sizeof(AVIndexEntry) + sizeof(MOVTimeToSample)));
    return 1;
}

int bs_mov_description_count(const AVFormatContext *s, unsigned stream)
{
    const AVStream *st = mov_stream(s, stream);
    const MOVStreamContext *sc = st ? st->priv_data : NULL;
    return sc && sc->extradata ? sc->stsd_count : 0;
}

int bs_mov_description(const AVFormatContext *s, unsigned stream, int description, const uint8_t **data)
{
    const MOVStreamContext *sc;
    *data = NULL;
    if (description < 0 || description >= bs_mov_description_count(s, stream))
        return 0;
    sc = s->streams[stream]->priv_data;
    *data = sc->extradata[description];
    return *data ? sc->extradata_size[description] : 0;
}

int bs_mov_is_encrypted(const AVFormatContext *s, unsigned stream)
{
    const AVStream *st = mov_stream(s, stream);
    const MOVStreamContext *sc = st ? st->priv_data : NULL;
    return sc && (sc->cenc.default_encrypted_sample || sc->cenc.encryption_index);
}
