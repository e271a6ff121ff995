/*
 * The content of pictures: looked up in a file, by a hash of the bitstream.
 */
#include "driver.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct picture *oracle;
static long oracle_count;
static bool oracle_tried;

/* FNV-1a, without the zeros that a stream may have between a unit and the next start code: a caller may pass them or
 * not. */
uint64_t hash_of(const unsigned char *data, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        size_t end = i;
        while (end < n && !data[end])
            end++;
        if (end == n)
            break;
        if (end - i > 2 && data[end] == 1)
            i = end - 2;
        h = (h ^ data[i]) * 0x100000001b3u;
    }
    return h;
}

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    while (bytes--)
        v = v << 8 | p[bytes];
    return v;
}

static int by_hash(const void *a, const void *b)
{
    const struct picture *x = a, *y = b;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

/* Format bit 0: 16-bit samples; bit 1: 4:4:4. The same holds for cudaVideoSurfaceFormat. */
unsigned sample_bytes(unsigned format) { return format & 1 ? 2 : 1; }
uint32_t chroma_size(unsigned format, uint32_t n) { return format & 2 ? n : (n + 1) / 2; }

static uint64_t picture_bytes(const struct picture *p)
{
    uint64_t chroma = (uint64_t)chroma_size(p->format, p->width) *
                      chroma_size(p->format, p->height);
    return ((uint64_t)p->width * p->height + 2 * chroma) * sample_bytes(p->format);
}

/* "FAKEORA1", u32 count, then entries { u64 hash, u64 offset, u32 width, height, format, depth },
 * little-endian; the offsets lead to tightly packed planes. */
static void load_oracle(void)
{
    struct stat st;
    int fd = set.oracle ? open(set.oracle, O_RDONLY | O_CLOEXEC) : -1;
    const unsigned char *file = MAP_FAILED;
    oracle_tried = true;
    if (fd >= 0 && !fstat(fd, &st) && st.st_size >= 12)
        file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0)
        close(fd);
    if (file == MAP_FAILED || memcmp(file, "FAKEORA1", 8)) {
        if (set.oracle)
            complain("%s is not an oracle", set.oracle);
        return;
    }
    uint64_t size = (uint64_t)st.st_size, n = little(file + 8, 4);
    oracle = n && n <= (size - 12) / 32 ? calloc(n, sizeof *oracle) : NULL;
    for (uint64_t i = 0; oracle && i < n; i++) {
        const unsigned char *e = file + 12 + 32 * i;
        struct picture p = {
            .hash = little(e, 8), .width = (uint32_t)little(e + 16, 4),
            .height = (uint32_t)little(e + 20, 4), .format = (uint32_t)little(e + 24, 4),
            .depth = (uint32_t)little(e + 28, 4), .index = (long)i,
        };
        uint64_t offset = little(e + 8, 8);
        p.planes = file + offset;
        if (p.format > 3 || p.width > 16384 || p.height > 16384 || p.depth < 8 || p.depth > 16 ||
            offset > size || picture_bytes(&p) > size - offset)
            complain("oracle: entry %lu makes no sense", (unsigned long)i);
        else
            oracle[oracle_count++] = p;
    }
    if (n && !oracle)
        complain("%s is too short for %lu entries", set.oracle, (unsigned long)n);
    if (oracle)
        qsort(oracle, (size_t)oracle_count, sizeof *oracle, by_hash);
}

/* Two pictures may have the same bytes and different content (both repeat the picture before). The
 * result is the entry nearest in the file to that of the picture that was decoded last. */
const struct picture *look_up(uint64_t hash, long last)
{
    const struct picture *best = NULL;
    long low = 0, high, nearest = 0;
    if (!oracle_tried)
        load_oracle();
    for (high = oracle_count; low < high;) {
        long middle = low + (high - low) / 2;
        if (oracle[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < oracle_count && oracle[low].hash == hash; low++) {
        long far = labs(oracle[low].index - last) * 2 - (oracle[low].index > last);
        if (!best || (far < nearest && far) || !nearest) {
            best = &oracle[low];
            nearest = far;
        }
    }
    return best;
}

bool is_damaged(uint64_t hash)      /* FAKE_DAMAGED: hex hashes, by commas */
{
    for (const char *at = set.damaged; at && *at;) {
        char *end;
        if (strtoull(at, &end, 16) == hash && end != at)
            return true;
        if ((at = strchr(end, ',')))
            at++;
    }
    return false;
}
