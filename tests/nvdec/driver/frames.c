/*
 * Mapped frames.
 */
#include "driver.h"

#include <string.h>

struct plane { unsigned char *to; size_t pitch; uint32_t width, height; unsigned step; };

/* Samples of 16 bit go to the top of their words, as NVDEC puts them. */
static void put_plane(struct plane t, const unsigned char *from, uint32_t width, uint32_t height,
                      const struct picture *p)
{
    for (uint32_t y = 0; y < height && y < t.height; y++) {
        const unsigned char *f = from + (size_t)y * width * sample_bytes(p->format);
        unsigned char *to = t.to + y * t.pitch;
        for (uint32_t x = 0; x < width && x < t.width; x++) {
            if (p->format & 1) {
                unsigned v = (unsigned)(f[2 * x] | f[2 * x + 1] << 8) << (16 - p->depth);
                to[2 * x * t.step] = (unsigned char)v;
                to[2 * x * t.step + 1] = (unsigned char)(v >> 8);
            } else {
                to[x * t.step] = f[x];
            }
        }
    }
}

static void put_picture(const struct decoder *d, const struct picture *p, unsigned char *frame,
                        size_t pitch)
{
    uint32_t w = (uint32_t)d->info.ulTargetWidth, h = (uint32_t)d->info.ulTargetHeight;
    uint32_t cw = chroma_size(p->format, p->width), ch = chroma_size(p->format, p->height);
    unsigned bytes = sample_bytes(p->format);
    unsigned char *chroma = frame + pitch * h;
    const unsigned char *u = p->planes + (size_t)p->width * p->height * bytes;
    bool full = p->format & 2;
    put_plane((struct plane){ frame, pitch, w, h, 1 }, p->planes, p->width, p->height, p);
    for (unsigned i = 0; i < 2; i++) {
        struct plane t = { full ? chroma + i * pitch * h : chroma + i * bytes, pitch,
                           chroma_size(p->format, w), chroma_size(p->format, h), full ? 1 : 2 };
        put_plane(t, u + (size_t)i * cw * ch * bytes, cw, ch, p);
    }
}

static void put_pattern(unsigned char *frame, size_t size, uint64_t hash)
{
    for (size_t i = 0; i < size; i++)
        frame[i] = (unsigned char)(hash >> (i & 7) * 8);
}

CUresult cuvidMapVideoFrame64(CUvideodecoder handle, int index, unsigned long long *pointer,
                              unsigned *pitch, CUVIDPROCPARAMS *how)
{
    ENTER("cuvidMapVideoFrame", CONTEXT);
    CUresult code = pointer && pitch && how ? nap(set.map_us) : INVALID_VALUE;
    struct decoder *d = code == CUDA_SUCCESS ? decoder_of("cuvidMapVideoFrame", handle) : NULL;
    if (!d)
        return leave(code == CUDA_SUCCESS ? INVALID_HANDLE : code);
    const struct surface *s = surface_of(d, index);
    if (!s) {
        complain("cuvidMapVideoFrame: surface %d of %lu", index, d->info.ulNumDecodeSurfaces);
        return leave(INVALID_VALUE);
    }
    if (mapped(d) >= d->info.ulNumOutputSurfaces) {
        complain("cuvidMapVideoFrame: all %lu output surfaces are mapped",
                 d->info.ulNumOutputSurfaces);
        return leave(MAP_FAILED_CODE);
    }
    if (s->content == EMPTY)
        complain("cuvidMapVideoFrame: nothing was decoded into surface %d", index);
    size_t rows = d->info.ulTargetHeight;
    size_t line = d->info.ulTargetWidth * sample_bytes(d->info.OutputFormat);
    line = ((line + 255) & ~(size_t)255) + 256;        /* a pitch that is not the width */
    struct block *b = take(FRAME, line * (d->info.OutputFormat & 2 ? rows * 3 : rows * 3 / 2));
    if (!b)
        return leave(OUT_OF_MEMORY);
    b->decoder = d;
    memset(b->start, 0x5a, b->size);
    if (s->content == GOOD)
        put_picture(d, s->picture, b->start, line);
    else if (s->content != EMPTY)
        put_pattern(b->start, b->size, s->hash);
    *pointer = (uintptr_t)b->start;
    *pitch = (unsigned)line;
    count.maps++;
    return leave(CUDA_SUCCESS);
}

CUresult cuvidUnmapVideoFrame64(CUvideodecoder handle, unsigned long long pointer)
{
    ENTER("cuvidUnmapVideoFrame", CONTEXT);
    struct decoder *d = decoder_of("cuvidUnmapVideoFrame", handle);
    struct block *b = find(FRAME, (void *)(uintptr_t)pointer);
    if (!d || !b || b->decoder != d || (uintptr_t)b->start != pointer) {
        if (d)
            complain("cuvidUnmapVideoFrame: %#llx is not mapped", pointer);
        return leave(d ? INVALID_VALUE : INVALID_HANDLE);
    }
    drop(b);
    count.unmaps++;
    return leave(CUDA_SUCCESS);
}
