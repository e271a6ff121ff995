/* C shims: what needs FFmpeg's internal headers, a va_list, or a signal handler. */
#ifndef BUCKET_STREAMER_SHIM_H
#define BUCKET_STREAMER_SHIM_H

#include <stddef.h>
#include <stdint.h>

struct AVFormatContext;

enum BsMovFlags { BS_MOV_KEY = 1, BS_MOV_DISCARD = 2 };

/* One entry of the MP4/MOV demuxer's index, edit lists applied: what av_read_frame() would say of it. */
typedef struct BsMovSample {
    int64_t pos;
    int64_t dts;
    int64_t pts;
    int64_t duration;
    uint32_t size;
    uint32_t flags;       /* BsMovFlags */
    uint32_t description; /* index of the sample description (stsd entry) */
} BsMovSample;

/* Nonzero if the context was opened by the MP4/MOV demuxer. */
int bs_mov_is(const struct AVFormatContext *s);
/* Number of samples that are indexed so far. */
int bs_mov_sample_count(const struct AVFormatContext *s, unsigned stream);
/* Fills `out` with up to `capacity` samples in decode order and returns how many. */
int bs_mov_samples(const struct AVFormatContext *s, unsigned stream, BsMovSample *out, int capacity);
/* Number of sample descriptions. */
int bs_mov_description_count(const struct AVFormatContext *s, unsigned stream);
/* Decoder configuration of a sample description; *data stays the demuxer's. */
int bs_mov_description(const struct AVFormatContext *s, unsigned stream, int description, const uint8_t **data);
/* Nonzero if the track's samples are encrypted (CENC). */
int bs_mov_is_encrypted(const struct AVFormatContext *s, unsigned stream);

/* Gets one whole line of FFmpeg's log, without its line end. */
typedef void (*BsLogLine)(int level, const char *line);
/* Sends FFmpeg's log to `line`, for messages up to `level`. */
void bs_log_install(int level, BsLogLine line);

/* Maps that survive their file being truncated: see mapping.c. A slot number, or -1 if all are taken. */
int bs_guard_add(void *start, size_t length);
/* Nonzero once a page of the map was missing when it was read. */
int bs_guard_is_broken(int slot);
void bs_guard_remove(int slot);
/* Installs the SIGBUS handler; returns 0, or errno. Call once. */
int bs_guard_install(void);

#endif
