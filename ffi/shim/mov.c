/*
 * The MP4/MOV demuxer's finished index.
 *
 * libavformat builds it from the tables alone and applies edit lists to it; only pts, duration and sample description
 * are worked out later, sample by sample, when av_read_frame() reads the payload. This does that last step (what
 * mov_finalize_packet() does in mov.c of the vendored version) without reading any payload.
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

/* Where a walk over the index stands in the tables that belong to it. */
typedef struct Walk {
    unsigned tts_index;
    unsigned tts_sample;
    const MOVIndexRange *range; /* which samples of the media the edit list kept; NULL without an edit list */
    int64_t media_sample;       /* number of the sample in the media, before edits: what stsc counts */
} Walk;

/* The first sample of each run of chunks (stsc entry), in media samples; to be freed. */
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

/* Sample description of a sample, by its number in the media. FFmpeg counts stsc in edited samples; that is the same
 * thing unless an edit leaves samples out before a change of description, and there FFmpeg changes too late. */
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

static void step(const MOVStreamContext *sc, Walk *walk)
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

int bs_mov_samples(const AVFormatContext *s, unsigned stream, BsMovSample *out, int capacity)
{
    const AVStream *st = mov_stream(s, stream);
    const MOVStreamContext *sc = st ? st->priv_data : NULL;
    const int count = st ? FFMIN(avformat_index_get_entries_count(st), capacity) : 0;
    const int has_runs = sc && sc->stsd_count > 1 && sc->stsc_data && sc->stsc_count;
    int64_t *runs = NULL;
    Walk walk = { 0 };

    if (!sc || (has_runs && !(runs = runs_of(sc))))
        return 0;
    walk.range = sc->index_ranges;
    walk.media_sample = walk.range ? walk.range->start : 0;
    for (int i = 0; i < count; i++) {
        const AVIndexEntry *entry = avformat_index_get_entry((AVStream *)st, i);
        const MOVTimeToSample *tts = walk.tts_index < sc->tts_count ? &sc->tts_data[walk.tts_index] : NULL;
        BsMovSample *sample = &out[i];

        sample->pos = entry->pos;
        sample->size = entry->size;
        sample->dts = entry->timestamp;
        sample->duration = sc->stts_count && tts ? tts->duration : 0;
        if (sc->ctts_count && tts) {
            sample->pts = av_sat_add64(sample->dts, av_sat_add64(sc->dts_shift, tts->offset));
        } else {
            if (!sample->duration) {
                const int64_t next = i + 1 < avformat_index_get_entries_count(st)
                                         ? avformat_index_get_entry((AVStream *)st, i + 1)->timestamp
                                         : st->duration;
                if (next >= sample->dts)
                    sample->duration = av_sat_sub64(next, sample->dts);
            }
            sample->pts = sample->dts;
        }
        sample->flags = (entry->flags & AVINDEX_KEYFRAME ? BS_MOV_KEY : 0) |
                        (entry->flags & AVINDEX_DISCARD_FRAME ? BS_MOV_DISCARD : 0);
        sample->description = runs ? description_of(sc, runs, walk.media_sample) : 0;
        step(sc, &walk);
    }
    av_free(runs);
    return count;
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
