/*
 * Streams, events and kernels: their handles are checked; all work is complete at once.
 */
#include "driver.h"

#include <string.h>

bool is_stream(CUstream s)
{
    return (uintptr_t)s <= 2 || find(STREAM, s);     /* 0 to 2: the default streams */
}

static CUresult take_handle(enum kind kind, void **handle)
{
    struct block *b = handle ? take(kind, 16) : NULL;
    if (!b)
        return handle ? OUT_OF_MEMORY : INVALID_VALUE;
    *handle = b->start;
    return CUDA_SUCCESS;
}

static CUresult with_stream(const char *name, CUstream s)
{
    ENTER(name, CONTEXT);
    return leave(is_stream(s) ? CUDA_SUCCESS : INVALID_HANDLE);
}

static CUresult with_event(const char *name, CUevent e, CUstream s)
{
    ENTER(name, CONTEXT);
    return leave(find(EVENT, e) && is_stream(s) ? CUDA_SUCCESS : INVALID_HANDLE);
}

static CUresult end_handle(const char *name, enum kind kind, void *handle)
{
    ENTER(name, CONTEXT | WHEN_LOST);
    return leave(release(kind, handle) == CUDA_SUCCESS ? CUDA_SUCCESS : INVALID_HANDLE);
}

/* Kernels: a module is any text that is PTX, a function is its name. */

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    ENTER("cuModuleLoadData", CONTEXT);
    if (!module || !image || !strstr(image, ".version"))
        return leave(INVALID_VALUE);
    *module = (CUmodule)image;
    return leave(CUDA_SUCCESS);
}

CUresult cuModuleUnload(CUmodule module)
{
    ENTER("cuModuleUnload", CONTEXT);
    return leave(module ? CUDA_SUCCESS : INVALID_HANDLE);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    ENTER("cuModuleGetFunction", CONTEXT);
    if (!function || !module || !name || !strstr((const char *)module, name))
        return leave(INVALID_VALUE);
    /* The name that the caller has is a constant of its own. */
    *function = (CUfunction)(uintptr_t)name;
    return leave(CUDA_SUCCESS);
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void **params, void **extra)
{
    (void)shared;
    (void)stream;
    ENTER("cuLaunchKernel", CONTEXT);
    int is_flat = gz == 1 && bz == 1 && bx * by <= 1024 && params && !extra;
    if (!function || !is_flat || fake_launch((const char *)function, gx, gy, bx, by, params))
        return leave(INVALID_VALUE);
    return leave(CUDA_SUCCESS);
}

CUresult cuStreamCreate(CUstream *s, unsigned flags)
{
    (void)flags;
    ENTER("cuStreamCreate", CONTEXT);
    return leave(take_handle(STREAM, (void **)s));
}

CUresult cuEventCreate(CUevent *e, unsigned flags)
{
    (void)flags;
    ENTER("cuEventCreate", CONTEXT);
    return leave(take_handle(EVENT, (void **)e));
}

CUresult cuStreamQuery(CUstream s) { return with_stream("cuStreamQuery", s); }
CUresult cuStreamSynchronize(CUstream s) { return with_stream("cuStreamSynchronize", s); }
CUresult cuStreamDestroy_v2(CUstream s) { return end_handle("cuStreamDestroy", STREAM, s); }
CUresult cuEventQuery(CUevent e) { return with_event("cuEventQuery", e, NULL); }
CUresult cuEventSynchronize(CUevent e) { return with_event("cuEventSynchronize", e, NULL); }
CUresult cuEventRecord(CUevent e, CUstream s) { return with_event("cuEventRecord", e, s); }
CUresult cuEventDestroy_v2(CUevent e) { return end_handle("cuEventDestroy", EVENT, e); }

CUresult cuStreamWaitEvent(CUstream s, CUevent e, unsigned flags)
{
    (void)flags;
    return with_event("cuStreamWaitEvent", e, s);
}
