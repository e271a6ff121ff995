/*
 * Decoders: validation, creation and destruction.
 */
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct decoder *decoders;
static unsigned decoders_open;

static struct { cudaVideoCodec codec; const char *name; unsigned short width, height, most; }
    const codecs[] = {
        { cudaVideoCodec_H264, "h264", 48, 16, 4096 },
        { cudaVideoCodec_HEVC, "hevc", 144, 144, 8192 },
        { cudaVideoCodec_VP9, "vp9", 128, 128, 8192 },
    };

static bool switched_off(const char *name)      /* FAKE_NO_CODEC: names, by commas */
{
    for (const char *at = set.no_codec; at && *at; at += strspn(at, ",")) {
        size_t n = strcspn(at, ",");
        if (n == strlen(name) && !strncasecmp(at, name, n))
            return true;
        at += n;
    }
    return false;
}

static void fill_caps(CUVIDDECODECAPS *c)
{
    unsigned bits = c->nBitDepthMinus8;
    bool full = c->eChromaFormat == cudaVideoChromaFormat_444;
    memset(&c->bIsSupported, 0, sizeof *c - offsetof(CUVIDDECODECAPS, bIsSupported));
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        if (codecs[i].codec != c->eCodecType || switched_off(codecs[i].name))
            continue;
        if (!full && c->eChromaFormat != cudaVideoChromaFormat_420)
            continue;
        if ((full && c->eCodecType != cudaVideoCodec_HEVC) || (bits && bits != 2 && bits != 4) ||
            (bits && c->eCodecType == cudaVideoCodec_H264))
            continue;
        c->bIsSupported = 1;
        c->nNumNVDECs = 7;
        c->nOutputFormatMask = (unsigned short)((bits ? 3 : 1) << (full ? 2 : 0));
        c->nMaxWidth = c->nMaxHeight = codecs[i].most;
        c->nMaxMBCount = 262144;
        c->nMinWidth = set.min_size ? (unsigned short)set.min_size : codecs[i].width;
        c->nMinHeight = set.min_size ? (unsigned short)set.min_size : codecs[i].height;
    }
}

CUresult cuvidGetDecoderCaps(CUVIDDECODECAPS *c)
{
    ENTER("cuvidGetDecoderCaps", CONTEXT);
    if (c)
        fill_caps(c);
    return leave(c ? CUDA_SUCCESS : INVALID_VALUE);
}

/* The reason why a decoder of this kind is not valid, or NULL. */
static const char *info_fault(const CUVIDDECODECREATEINFO *i)
{
    CUVIDDECODECAPS c = { .eCodecType = i->CodecType, .eChromaFormat = i->ChromaFormat,
                          .nBitDepthMinus8 = (unsigned)i->bitDepthMinus8 };
    fill_caps(&c);
    if (!c.bIsSupported)
        return "the codec, chroma format or depth is not supported";
    if (i->ulWidth < c.nMinWidth || i->ulHeight < c.nMinHeight || i->ulWidth > c.nMaxWidth ||
        i->ulHeight > c.nMaxHeight || i->ulWidth * i->ulHeight / 256 > c.nMaxMBCount)
        return "the size is outside the limits";
    if ((i->ulMaxWidth && i->ulWidth > i->ulMaxWidth) || i->ulMaxWidth > c.nMaxWidth ||
        (i->ulMaxHeight && i->ulHeight > i->ulMaxHeight) || i->ulMaxHeight > c.nMaxHeight)
        return "the size and the maximum size do not go together";
    if (i->ulNumDecodeSurfaces < 1 || i->ulNumDecodeSurfaces > MAX_SURFACES)
        return "the number of surfaces is not 1 to 32";
    if (i->ulTargetWidth != i->ulWidth || i->ulTargetHeight != i->ulHeight)
        return "the target size is not the coded size";
    if (i->ulTargetWidth & 1 || i->ulTargetHeight & 1)
        return "the target size is odd";
    if ((i->display_area.right || i->display_area.bottom) &&
        (i->display_area.left || i->display_area.top ||
         (unsigned long)i->display_area.right != i->ulTargetWidth ||
         (unsigned long)i->display_area.bottom != i->ulTargetHeight))
        return "the display area is not the target: a device would scale";
    if ((unsigned)i->OutputFormat != (i->ChromaFormat == cudaVideoChromaFormat_444 ? 2u : 0u) +
                                         (i->bitDepthMinus8 ? 1u : 0u))
        return "the output format does not fit the chroma format and the depth";
    if (i->DeinterlaceMode != cudaVideoDeinterlaceMode_Weave)
        return "it asks for deinterlacing";
    return i->ulNumOutputSurfaces < 1 ? "it has no output surfaces" : NULL;
}

unsigned long larger(unsigned long a, unsigned long b) { return a > b ? a : b; }

static size_t decoder_bytes(const struct decoder *d)
{
    size_t row = d->max_width * sample_bytes(d->info.OutputFormat);
    size_t luma = ((row + 255) & ~(size_t)255) * d->max_height * d->info.ulNumDecodeSurfaces;
    return d->info.OutputFormat & 2 ? luma * 3 : luma + luma / 2;
}

CUresult cuvidCreateDecoder(CUvideodecoder *out, CUVIDDECODECREATEINFO *info)
{
    ENTER("cuvidCreateDecoder", CONTEXT);
    CUresult code = out && info ? nap(set.create_us) : INVALID_VALUE;
    if (code != CUDA_SUCCESS)
        return leave(code);
    const char *fault = info_fault(info);
    if (fault) {
        complain("cuvidCreateDecoder: %s (codec %d, chroma %d, %lu bit, %lux%lu, target %lux%lu, "
                 "%lu surfaces, output %d)", fault, info->CodecType, info->ChromaFormat,
                 info->bitDepthMinus8 + 8, info->ulWidth, info->ulHeight, info->ulTargetWidth,
                 info->ulTargetHeight, info->ulNumDecodeSurfaces, info->OutputFormat);
        return leave(INVALID_VALUE);
    }
    struct decoder *d = calloc(1, sizeof *d);
    if (!d)
        return leave(OUT_OF_MEMORY);
    d->info = *info;
    d->context = current();
    d->max_width = larger(info->ulWidth, info->ulMaxWidth);
    d->max_height = larger(info->ulHeight, info->ulMaxHeight);
    d->bytes = decoder_bytes(d);
    d->last_index = -1;
    if (!fits_memory(d->bytes)) {
        free(d);
        return leave(OUT_OF_MEMORY);
    }
    device_bytes += d->bytes;
    d->next = decoders;
    decoders = d;
    count.decoders_created++;
    count.max_decoders_open = larger(count.max_decoders_open, ++decoders_open);
    *out = d;
    return leave(CUDA_SUCCESS);
}

/* The decoder of a handle. Searched for, since it may have been destroyed. */
struct decoder *decoder_of(const char *name, CUvideodecoder handle)
{
    struct decoder *d = decoders;
    while (d && d != handle)
        d = d->next;
    if (!d)
        complain("%s: there is no decoder %p", name, handle);
    return d;
}

unsigned long mapped(const struct decoder *d)
{
    unsigned long n = 0;
    for (struct block *b = blocks; b; b = b->next)
        n += b->kind == FRAME && b->decoder == d;
    return n;
}

CUresult cuvidDestroyDecoder(CUvideodecoder handle)
{
    ENTER("cuvidDestroyDecoder", CONTEXT | WHEN_LOST);
    struct decoder *d = decoder_of("cuvidDestroyDecoder", handle), **at = &decoders;
    if (!d)
        return leave(INVALID_HANDLE);
    if (mapped(d) && lost == CUDA_SUCCESS)     /* on a lost device nothing can be unmapped */
        complain("cuvidDestroyDecoder: %lu frame(s) still mapped", mapped(d));
    for (struct block *b = blocks, *next; b; b = next) {
        next = b->next;
        if (b->kind == FRAME && b->decoder == d)
            drop(b);
    }
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    device_bytes -= d->bytes;
    decoders_open--;
    count.decoders_destroyed++;
    free(d);
    return leave(CUDA_SUCCESS);
}

CUresult cuvidReconfigureDecoder(CUvideodecoder handle, CUVIDRECONFIGUREDECODERINFO *r)
{
    ENTER("cuvidReconfigureDecoder", CONTEXT);
    struct decoder *d = decoder_of("cuvidReconfigureDecoder", handle);
    if (!d || !r)
        return leave(d ? INVALID_VALUE : INVALID_HANDLE);
    CUVIDDECODECREATEINFO info = d->info;
    info.ulWidth = r->ulWidth;
    info.ulHeight = r->ulHeight;
    info.ulMaxWidth = d->max_width;
    info.ulMaxHeight = d->max_height;
    info.ulTargetWidth = r->ulTargetWidth;
    info.ulTargetHeight = r->ulTargetHeight;
    info.ulNumDecodeSurfaces = r->ulNumDecodeSurfaces;
    info.display_area.left = r->display_area.left;
    info.display_area.top = r->display_area.top;
    info.display_area.right = r->display_area.right;
    info.display_area.bottom = r->display_area.bottom;
    const char *fault = info_fault(&info);
    if (fault) {
        complain("cuvidReconfigureDecoder: %s (%ux%u, target %ux%u, %u surfaces, at most %lux%lu)",
                 fault, r->ulWidth, r->ulHeight, r->ulTargetWidth, r->ulTargetHeight,
                 r->ulNumDecodeSurfaces, d->max_width, d->max_height);
        return leave(INVALID_VALUE);
    }
    d->info = info;
    d->era = 0;
    memset(d->surface, 0, sizeof d->surface);
    count.reconfigured++;
    return leave(CUDA_SUCCESS);
}
