/*
 * Memory of the device and of the host.
 */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

#define QUARANTINE_BYTES ((size_t)64 << 20)

struct block *blocks;
size_t device_bytes, host_bytes;
static struct block *quarantine, **quarantine_end = &quarantine;
static size_t quarantined;

struct block *take(enum kind kind, size_t size)
{
    struct block *b = calloc(1, sizeof *b);
    if (!b || !(b->start = aligned_alloc(512, (size + 511) & ~(size_t)511))) {
        free(b);
        return NULL;
    }
    b->kind = kind;
    b->size = size;
    b->context = current();
    b->next = blocks;
    blocks = b;
    if (kind == DEVICE)
        device_bytes += size;
    if (kind == HOST)
        host_bytes += size;
    memset(b->start, 0xcd, size);     /* fresh memory is not zero */
    return b;
}

/* Freed addresses are not reused for a while: otherwise the next frame would get the address of the
 * last one, and a copy from a frame after its unmapping would look right. */
void drop(struct block *b)
{
    struct block **at = &blocks;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    if (b->kind == DEVICE)
        device_bytes -= b->size;
    if (b->kind == HOST)
        host_bytes -= b->size;
    b->next = NULL;
    *quarantine_end = b;
    quarantine_end = &b->next;
    quarantined += b->size;
    while (quarantined > QUARANTINE_BYTES) {
        b = quarantine;
        quarantined -= b->size;
        if (!(quarantine = b->next))
            quarantine_end = &quarantine;
        free(b->start);
        free(b);
    }
}

struct block *find(unsigned kinds, const void *address)
{
    for (struct block *b = blocks; b; b = b->next)
        if (b->kind & kinds && (uintptr_t)address - (uintptr_t)b->start < b->size)
            return b;
    return NULL;
}

CUresult release(unsigned kinds, const void *address)
{
    struct block *b = find(kinds, address);
    if (!b || b->start != address) {
        complain("released %p, which is not allocated", address);
        return INVALID_VALUE;
    }
    drop(b);
    return CUDA_SUCCESS;
}

bool fits_memory(size_t bytes)
{
    return !set.memory || device_bytes + bytes <= set.memory << 20;
}

static CUresult take_device(CUdeviceptr *p, size_t bytes)
{
    if (!p || !bytes)
        return INVALID_VALUE;
    struct block *b = fits_memory(bytes) ? take(DEVICE, bytes) : NULL;
    if (!b)
        return OUT_OF_MEMORY;
    *p = (uintptr_t)b->start;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t bytes)
{
    ENTER("cuMemAlloc", CONTEXT);
    return leave(take_device(p, bytes));
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *p, size_t *pitch, size_t width, size_t height,
                            unsigned element)
{
    ENTER("cuMemAllocPitch", CONTEXT);
    if (!pitch || (element != 4 && element != 8 && element != 16))
        return leave(INVALID_VALUE);
    *pitch = (width + 511) & ~(size_t)511;
    return leave(take_device(p, *pitch * height));
}

CUresult cuMemFree_v2(CUdeviceptr p)
{
    ENTER("cuMemFree", CONTEXT | WHEN_LOST);
    return leave(p ? release(DEVICE, (void *)(uintptr_t)p) : CUDA_SUCCESS);
}

CUresult cuMemHostAlloc(void **pp, size_t bytes, unsigned flags)
{
    (void)flags;
    ENTER("cuMemHostAlloc", CONTEXT);
    struct block *b = pp && bytes ? take(HOST, bytes) : NULL;
    if (!b)
        return leave(pp && bytes ? OUT_OF_MEMORY : INVALID_VALUE);
    *pp = b->start;
    return leave(CUDA_SUCCESS);
}

CUresult cuMemFreeHost(void *p)
{
    ENTER("cuMemFreeHost", CONTEXT | WHEN_LOST);
    return leave(release(HOST, p));
}
