/*
 * Copies, and the extents of both of their sides.
 */
#include "driver.h"

#include <string.h>

struct side { uintptr_t address; bool device; size_t pitch; };

/* A device side must lie within one block; a host side must not be a device address: here that
 * would work, on a device it would not. */
static CUresult check_side(const char *name, const char *which, struct side s, size_t extent)
{
    const struct block *b = find(DEVICE | FRAME, (void *)s.address);
    if (s.device && (!b || extent > b->size - (s.address - (uintptr_t)b->start))) {
        complain("%s: %s %#lx + %zu bytes is not in one live allocation (%s)", name, which,
                 (unsigned long)s.address, extent, b ? "it passes the end" : "it is in none");
        return lose(ILLEGAL_ADDRESS);
    }
    if (!s.device && (b || !s.address)) {
        complain("%s: host %s %#lx is not host memory", name, which, (unsigned long)s.address);
        return INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

static CUresult copy(const char *name, struct side to, struct side from, size_t width,
                     size_t height, CUstream stream)
{
    if (!is_stream(stream))
        return INVALID_HANDLE;
    if (!width || !height)
        return CUDA_SUCCESS;
    CUresult code = check_side(name, "source", from, (height - 1) * from.pitch + width);
    if (code == CUDA_SUCCESS)
        code = check_side(name, "destination", to, (height - 1) * to.pitch + width);
    for (size_t y = 0; code == CUDA_SUCCESS && y < height; y++)
        memmove((void *)(to.address + y * to.pitch), (void *)(from.address + y * from.pitch),
                width);
    return code;
}

static struct side side_of(CUmemorytype type, const void *host, CUdeviceptr device, size_t x,
                           size_t y, size_t pitch)
{
    bool unified = (int)type == 4;    /* the address decides; it is in the device field */
    struct side s = { .device = type == CU_MEMORYTYPE_DEVICE, .pitch = pitch };
    uintptr_t base = s.device || unified ? (uintptr_t)device : (uintptr_t)host;
    if (unified)
        s.device = find(DEVICE | FRAME, (void *)base) != NULL;
    s.address = base ? base + y * pitch + x : 0;
    return s;
}

static CUresult copy_2d(const char *name, const CUDA_MEMCPY2D *c, CUstream stream)
{
    ENTER(name, CONTEXT);
    if (!c)
        return leave(INVALID_VALUE);
    if (c->srcMemoryType == CU_MEMORYTYPE_ARRAY || c->dstMemoryType == CU_MEMORYTYPE_ARRAY)
        return leave(NOT_SUPPORTED);
    if (c->Height > 1 && (c->srcPitch < c->srcXInBytes + c->WidthInBytes ||
                          c->dstPitch < c->dstXInBytes + c->WidthInBytes)) {
        complain("%s: rows of %zu bytes do not fit the pitches %zu and %zu", name,
                 c->WidthInBytes, c->srcPitch, c->dstPitch);
        return leave(INVALID_VALUE);
    }
    struct side from = side_of(c->srcMemoryType, c->srcHost, c->srcDevice, c->srcXInBytes,
                               c->srcY, c->srcPitch);
    struct side to = side_of(c->dstMemoryType, c->dstHost, c->dstDevice, c->dstXInBytes,
                             c->dstY, c->dstPitch);
    return leave(copy(name, to, from, c->WidthInBytes, c->Height, stream));
}

static CUresult copy_1d(const char *name, struct side to, struct side from, size_t bytes,
                        CUstream stream)
{
    ENTER(name, CONTEXT);
    return leave(copy(name, to, from, bytes, 1, stream));
}

static struct side on_host(const void *p) { return (struct side){ (uintptr_t)p, false, 0 }; }
static struct side on_device(CUdeviceptr p) { return (struct side){ (uintptr_t)p, true, 0 }; }

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *c) { return copy_2d("cuMemcpy2D", c, NULL); }

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *c, CUstream s)
{
    return copy_2d("cuMemcpy2DAsync", c, s);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t n)
{
    return copy_1d("cuMemcpyHtoD", on_device(to), on_host(from), n, NULL);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, CUstream s)
{
    return copy_1d("cuMemcpyHtoDAsync", on_device(to), on_host(from), n, s);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t n)
{
    return copy_1d("cuMemcpyDtoH", on_host(to), on_device(from), n, NULL);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, CUstream s)
{
    return copy_1d("cuMemcpyDtoHAsync", on_host(to), on_device(from), n, s);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n)
{
    return copy_1d("cuMemcpyDtoD", on_device(to), on_device(from), n, NULL);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s)
{
    return copy_1d("cuMemcpyDtoDAsync", on_device(to), on_device(from), n, s);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, CUstream s)
{
    ENTER("cuMemsetD8Async", CONTEXT);
    CUresult code = is_stream(s) ? CUDA_SUCCESS : INVALID_HANDLE;
    if (code == CUDA_SUCCESS && n)
        code = check_side("cuMemsetD8Async", "destination", on_device(to), n);
    if (code == CUDA_SUCCESS && n)
        memset((void *)(uintptr_t)to, value, n);
    return leave(code);
}
