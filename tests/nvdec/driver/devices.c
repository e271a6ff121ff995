/*
 * Devices, contexts, and the names of errors.
 */
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>

static CUcontext contexts;

CUresult cuInit(unsigned flags)
{
    ENTER("cuInit", NOTHING);
    if (flags || !set.gpus)
        return leave(flags ? INVALID_VALUE : NO_DEVICE);
    initialized = true;
    return leave(CUDA_SUCCESS);
}

CUresult cuDriverGetVersion(int *version)
{
    ENTER("cuDriverGetVersion", NOTHING);
    *version = 12040;
    return leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetCount(int *n)
{
    ENTER("cuDeviceGetCount", INIT);
    *n = (int)set.gpus;
    return leave(CUDA_SUCCESS);
}

static CUresult device_check(CUdevice device)
{
    return device >= 0 && (unsigned long)device < set.gpus ? CUDA_SUCCESS : INVALID_DEVICE;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    ENTER("cuDeviceGet", INIT);
    CUresult code = device_check(ordinal);
    if (code == CUDA_SUCCESS)
        *device = ordinal;
    return leave(code);
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    ENTER("cuDeviceGetName", INIT);
    CUresult code = length > 0 ? device_check(device) : INVALID_VALUE;
    if (code == CUDA_SUCCESS)
        snprintf(name, (size_t)length, "Fake GPU %d", device);
    return leave(code);
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
    ENTER("cuDeviceComputeCapability", INIT);
    *major = 9;
    *minor = 0;
    return leave(device_check(device));
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    static const int values[][2] = {
        { 11, INT32_MAX },                /* maximum pitch */
        { CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1500000 },
        { CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512 },
        { CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 64 },
        { CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1 },
        { CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1 },
        { CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 1 },
        { CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1500000 },
        { CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 256 },
        { CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2 },
        { CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1 },
        { CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32 },
        { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9 },
        { CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1 },
    };
    ENTER("cuDeviceGetAttribute", INIT);
    *value = 0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (values[i][0] == (int)attribute)
            *value = values[i][1];
    return leave(device_check(device));
}

/* A dead context's record stays: other threads may have it on their stacks. */
static CUcontext new_context(CUdevice device)
{
    CUcontext c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->device = device;
    c->alive = true;
    c->next = contexts;
    contexts = c;
    count.contexts_created++;
    return c;
}

static void end_context(CUcontext c)
{
    unsigned left = 0;
    for (struct decoder *d = decoders; d; d = d->next)
        left += d->context == c;
    if (left)
        complain("a context was destroyed that still has %u decoder(s)", left);
    for (struct block *b = blocks, *next; b; b = next) {
        next = b->next;
        if (b->context == c)
            drop(b);
    }
    c->alive = false;
    count.contexts_destroyed++;
}

static bool is_context(CUcontext c)
{
    CUcontext at = contexts;
    while (at && at != c)
        at = at->next;
    return at && at->alive;
}

static CUcontext primary(CUdevice device)
{
    CUcontext c = contexts;
    while (c && !(c->alive && c->retained && c->device == device))
        c = c->next;
    return c;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device)
{
    (void)flags;
    ENTER("cuCtxCreate", INIT);
    if (device_check(device) != CUDA_SUCCESS || !context)
        return leave(context ? INVALID_DEVICE : INVALID_VALUE);
    CUcontext c = depth < STACK_DEPTH ? new_context(device) : NULL;
    if (!c)
        return leave(OUT_OF_MEMORY);
    *context = stack[depth++] = c;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    ENTER("cuCtxDestroy", INIT | WHEN_LOST);
    if (!is_context(context) || context->retained)
        return leave(INVALID_CONTEXT);
    end_context(context);
    if (depth > 0 && stack[depth - 1] == context)
        depth--;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    ENTER("cuCtxPushCurrent", INIT);
    if (!is_context(context))
        return leave(INVALID_CONTEXT);
    if (depth == STACK_DEPTH) {
        complain("more than %d contexts on a thread's stack", STACK_DEPTH);
        return leave(INVALID_CONTEXT);
    }
    stack[depth++] = context;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    ENTER("cuCtxPopCurrent", INIT | WHEN_LOST);
    if (!depth)
        return leave(INVALID_CONTEXT);
    CUcontext c = stack[--depth];
    if (context)
        *context = c;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    ENTER("cuCtxGetCurrent", INIT);
    *context = current();
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    ENTER("cuCtxGetDevice", CONTEXT);
    *device = current()->device;
    return leave(CUDA_SUCCESS);
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
    (void)limit, (void)value;
    ENTER("cuCtxSetLimit", CONTEXT);
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    ENTER("cuDevicePrimaryCtxRetain", INIT);
    if (device_check(device) != CUDA_SUCCESS)
        return leave(INVALID_DEVICE);
    CUcontext c = primary(device);
    if (!c && !(c = new_context(device)))
        return leave(OUT_OF_MEMORY);
    c->retained++;
    *context = c;
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    ENTER("cuDevicePrimaryCtxRelease", INIT | WHEN_LOST);
    CUcontext c = primary(device);
    if (!c)
        return leave(INVALID_CONTEXT);
    if (!--c->retained)
        end_context(c);
    return leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    ENTER("cuDevicePrimaryCtxGetState", INIT);
    *flags = 0;
    *active = primary(device) != NULL;
    return leave(device_check(device));
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags)
{
    (void)flags;
    ENTER("cuDevicePrimaryCtxSetFlags", INIT);
    return leave(device_check(device));
}

/* ---- error names ---- */

static const struct { int code; const char *name, *text; } names[] = {
    { 0, "CUDA_SUCCESS", "no error" },
    { 1, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
    { 2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
    { 3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error" },
    { 4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down" },
    { 46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "device is busy or unavailable" },
    { 100, "CUDA_ERROR_NO_DEVICE", "no device is detected" },
    { 101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" },
    { 201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
    { 205, "CUDA_ERROR_MAP_FAILED", "mapping failed" },
    { 214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable memory error" },
    { 400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" },
    { 600, "CUDA_ERROR_NOT_READY", "device not ready" },
    { 700, "CUDA_ERROR_ILLEGAL_ADDRESS", "illegal memory access" },
    { 719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
    { 801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" },
    { 999, "CUDA_ERROR_UNKNOWN", "unknown error" },
};

static size_t name_index(CUresult code)
{
    size_t i = 0, last = sizeof names / sizeof *names - 1;
    while (i < last && names[i].code != (int)code)
        i++;
    return i;
}

CUresult cuGetErrorName(CUresult code, const char **text)
{
    *text = names[name_index(code)].name;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult code, const char **text)
{
    *text = names[name_index(code)].text;
    return CUDA_SUCCESS;
}
