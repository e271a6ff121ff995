/*
 * A fake NVIDIA driver for tests: one shared object that stands for both libcuda.so.1 and
 * libnvcuvid.so.1, so that a program's NVDEC path can run on a machine without a GPU.
 *
 * It does not decode. A picture's content comes from an oracle file, by a hash of its bitstream
 * bytes. It checks the use of the driver: every call has a context, every copy is within its extents,
 * a decoder keeps its limits, a picture's references are in the surfaces that it names, mapped frames
 * are unmapped, everything is released. It fails on demand, in chosen calls.
 *
 * It cannot check the codec parameters other than the references, speed, the behaviour of a real
 * device with a damaged stream, or whether the program waits for work that a real device does later
 * (streams, asynchronous copies): here all work is complete when a call returns.
 *
 * Environment: FAKE_GPUS, FAKE_MEMORY_MIB, FAKE_MIN_SIZE, FAKE_NO_CODEC, FAKE_ORACLE, FAKE_BUSY,
 * FAKE_DAMAGED, FAKE_FAIL, FAKE_DECODE_US, FAKE_MAP_US, FAKE_CREATE_US, FAKE_QUIET, FAKE_REPORT;
 * each is read when the library is loaded, and explained where it is used.
 *
 * Build: cc -shared -fPIC -O1 -I<nv-codec-headers>/include -Iffi/shim -o DIR/libcuda.so.1
 *        (the .c files of tests/nvdec/driver) tests/nvdec/kernel_host.c -lpthread
 *        ln -s libcuda.so.1 DIR/libnvcuvid.so.1     (a link: both names must share one state)
 * Use:   LD_LIBRARY_PATH=DIR program
 *
 * This file: how a call begins and ends, faults on demand, settings, and the report.
 */
#include "driver.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Symbols that a loader looks up, but that no caller should call. */
#define STUB(name) CUresult name(void); CUresult name(void) { return CUDA_ERROR_NOT_SUPPORTED; }
STUB(cuMemAllocManaged) STUB(cuMemcpy) STUB(cuMemcpyAsync) STUB(cuDevicePrimaryCtxReset)
STUB(cuStreamAddCallback) STUB(cuLinkCreate) STUB(cuLinkAddData)
STUB(cuLinkComplete) STUB(cuLinkDestroy) STUB(cuModuleGetGlobal) STUB(cuTexObjectCreate)
STUB(cuTexObjectDestroy) STUB(cuGLGetDevices_v2) STUB(cuGraphicsGLRegisterImage)
STUB(cuGraphicsUnregisterResource) STUB(cuGraphicsMapResources) STUB(cuGraphicsUnmapResources)
STUB(cuGraphicsSubResourceGetMappedArray) STUB(cuGraphicsResourceGetMappedPointer_v2)
STUB(cuArrayCreate_v2) STUB(cuArray3DCreate_v2) STUB(cuArrayDestroy)
STUB(cuvidCtxLockCreate) STUB(cuvidCtxLockDestroy) STUB(cuvidCtxLock) STUB(cuvidCtxUnlock)
STUB(cuvidCreateVideoSource) STUB(cuvidCreateVideoSourceW) STUB(cuvidDestroyVideoSource)
STUB(cuvidSetVideoSourceState) STUB(cuvidGetVideoSourceState) STUB(cuvidGetSourceVideoFormat)
STUB(cuvidGetSourceAudioFormat) STUB(cuvidCreateVideoParser) STUB(cuvidParseVideoData)
STUB(cuvidDestroyVideoParser)

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
_Thread_local CUcontext stack[STACK_DEPTH];
_Thread_local int depth;
bool initialized;
CUresult lost;
struct counts count;
struct settings set;
static struct fault *faults;

void complain(const char *format, ...)
{
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(stderr, "fake driver: %s\n", text);
    count.errors++;
}

CUresult lose(CUresult code)
{
    if (lost == CUDA_SUCCESS)
        lost = code;
    return code;
}

/* Codes after which a real device serves no more calls. */
static bool is_fatal(CUresult code)
{
    return code == 700 || code == 719 || code == 214 || code == 46 || code == 4;
}

CUcontext current(void)
{
    return depth > 0 && stack[depth - 1]->alive ? stack[depth - 1] : NULL;
}


/* Begins a call: holds the lock on success. WHEN_LOST: also serves on a lost device. */
CUresult enter(const char *name, unsigned need)
{
    CUresult code = CUDA_SUCCESS;
    pthread_mutex_lock(&lock);
    for (struct fault *f = faults; f; f = f->next)
        if (!strcmp(f->name, name) && ++f->seen == f->nth)
            code = f->code;
    if (code != CUDA_SUCCESS && is_fatal(code))
        lose(code);
    if (code == CUDA_SUCCESS && !(need & WHEN_LOST))
        code = lost;
    if (code == CUDA_SUCCESS && need & (INIT | CONTEXT) && !initialized)
        code = NOT_INITIALIZED;
    if (code == CUDA_SUCCESS && need & CONTEXT && !current())
        code = INVALID_CONTEXT;
    if (code != CUDA_SUCCESS)
        pthread_mutex_unlock(&lock);
    return code;
}

CUresult leave(CUresult code)
{
    pthread_mutex_unlock(&lock);
    return code;
}

/* Takes time as a device would, without the lock. Returns whether the device was lost meanwhile. */
CUresult nap(unsigned long us)
{
    if (!us)
        return CUDA_SUCCESS;
    struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
    pthread_mutex_unlock(&lock);
    nanosleep(&t, NULL);
    pthread_mutex_lock(&lock);
    return lost;
}

static unsigned long number(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 10) : otherwise;
}

/* FAKE_FAIL: "call:n[:code]" by commas; the n-th such call fails with the code (or 999). */
static void read_faults(const char *text)
{
    for (; text && *text; text += strspn(text, ",")) {
        struct fault f = { .code = CUDA_ERROR_UNKNOWN };
        int code = 999;
        if (sscanf(text, "%47[^:,]:%u:%d", f.name, &f.nth, &code) >= 2) {
            struct fault *kept = malloc(sizeof *kept);
            f.code = (CUresult)code;
            f.next = faults;
            if (kept) {
                *kept = f;
                faults = kept;
            }
        } else {
            complain("FAKE_FAIL: cannot read \"%s\"", text);
        }
        text += strcspn(text, ",");
    }
}

static void __attribute__((constructor)) start(void)
{
    /* The state must survive unloading and loading again. */
    Dl_info self;
    if (dladdr((void *)&lock, &self))
        (void)dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    set.gpus = number("FAKE_GPUS", 1);
    set.memory = number("FAKE_MEMORY_MIB", 0);
    set.min_size = number("FAKE_MIN_SIZE", 0);
    set.busy = number("FAKE_BUSY", 0);
    set.decode_us = number("FAKE_DECODE_US", 0);
    set.map_us = number("FAKE_MAP_US", 0);
    set.create_us = number("FAKE_CREATE_US", 0);
    set.quiet = getenv("FAKE_QUIET") != NULL;
    set.no_codec = getenv("FAKE_NO_CODEC");
    set.oracle = getenv("FAKE_ORACLE");
    set.damaged = getenv("FAKE_DAMAGED");
    set.report = getenv("FAKE_REPORT");
    read_faults(getenv("FAKE_FAIL"));
}

/* FAKE_REPORT: a file that gets one line of JSON. Other threads may still be running. */
static void __attribute__((destructor)) finish(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    bool held = !pthread_mutex_timedlock(&lock, &until);
    FILE *f = set.report && *set.report ? fopen(set.report, "w") : NULL;
    if (f) {
        fprintf(f, "{\"decoders_created\": %lu, \"decoders_destroyed\": %lu, "
                "\"reconfigured\": %lu, \"pictures_decoded\": %lu, \"pictures_garbage\": %lu, "
                "\"pictures_unknown\": %lu, \"maps\": %lu, \"unmaps\": %lu, "
                "\"max_decoders_open\": %lu, \"bytes_allocated_now\": %zu, "
                "\"host_bytes_now\": %zu, \"max_concurrent_decodes\": %lu, "
                "\"contexts_created\": %lu, \"contexts_destroyed\": %lu, \"errors\": %lu, "
                "\"lost\": %s}\n", count.decoders_created, count.decoders_destroyed,
                count.reconfigured, count.decoded, count.garbage, count.unknown, count.maps,
                count.unmaps, count.max_decoders_open, device_bytes, host_bytes,
                count.max_concurrent_decodes, count.contexts_created, count.contexts_destroyed,
                count.errors, lost != CUDA_SUCCESS ? "true" : "false");
        fclose(f);
    }
    if (held)
        pthread_mutex_unlock(&lock);
}
