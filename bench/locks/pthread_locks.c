/*
 * Counts the mutexes of C code (libavcodec, dav1d, our shims) in a program that is started with this library in
 * LD_PRELOAD: how often each place takes one, waits for it, and how long it is held. Rust's mutexes are not among them.
 * At the end it prints a line for each place to stderr: the offset of the call in the program (for addr2line), the time
 * of holding as a share of the processor time of all threads, and the counts. Times of holding are processor time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PLACES 1024
#define NESTED 16

typedef struct Place {
    _Atomic(uintptr_t) call;
    _Atomic uint64_t taken, waited, wait_ns, hold_ns, wakeups;
} Place;

typedef struct Held {
    pthread_mutex_t *mutex;
    Place *place;
    uint64_t since;
} Held;

static Place places[PLACES];
static __thread Held held[NESTED];
static __thread int depth;
static int (*real_lock)(pthread_mutex_t *), (*real_trylock)(pthread_mutex_t *), (*real_unlock)(pthread_mutex_t *);
static int (*real_wait)(pthread_cond_t *, pthread_mutex_t *);
static _Atomic uint64_t began;

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static Place *place_of(void *call) {
    uintptr_t address = (uintptr_t)call;
    for (unsigned i = 0; i < PLACES; i++) {
        Place *place = &places[(address / 4 + i) % PLACES];
        uintptr_t other = atomic_load_explicit(&place->call, memory_order_relaxed);
        if (!other)
            atomic_compare_exchange_strong(&place->call, &other, address);
        if (!other || other == address)
            return place;
    }
    return places;
}

static void find(void) {
    real_trylock = dlsym(RTLD_NEXT, "pthread_mutex_trylock");
    real_unlock = dlsym(RTLD_NEXT, "pthread_mutex_unlock");
    real_wait = dlvsym(RTLD_NEXT, "pthread_cond_wait", "GLIBC_2.3.2");
    real_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
}

static void begin(pthread_mutex_t *mutex, Place *place) {
    atomic_fetch_add_explicit(&place->taken, 1, memory_order_relaxed);
    if (depth < NESTED)
        held[depth] = (Held){ mutex, place, now(CLOCK_THREAD_CPUTIME_ID) };
    depth++;
}

static Place *end(pthread_mutex_t *mutex) {
    for (int i = (depth < NESTED ? depth : NESTED) - 1; i >= 0; i--) {
        if (held[i].mutex != mutex)
            continue;
        Place *place = held[i].place;
        atomic_fetch_add_explicit(&place->hold_ns, now(CLOCK_THREAD_CPUTIME_ID) - held[i].since, memory_order_relaxed);
        for (int j = i; j + 1 < depth && j + 1 < NESTED; j++)
            held[j] = held[j + 1];
        depth--;
        return place;
    }
    return NULL;
}

int pthread_mutex_lock(pthread_mutex_t *mutex) {
    Place *place = place_of(__builtin_return_address(0));
    if (!real_lock)
        find();
    int ret = real_trylock(mutex);
    if (ret) {
        uint64_t since = now(CLOCK_MONOTONIC);
        ret = real_lock(mutex);
        atomic_fetch_add_explicit(&place->waited, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&place->wait_ns, now(CLOCK_MONOTONIC) - since, memory_order_relaxed);
    }
    begin(mutex, place);
    return ret;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex) {
    if (!real_unlock)
        find();
    end(mutex);
    return real_unlock(mutex);
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) {
    if (!real_wait)
        find();
    Place *place = end(mutex);
    int ret = real_wait(cond, mutex);
    if (place) {
        atomic_fetch_add_explicit(&place->wakeups, 1, memory_order_relaxed);
        begin(mutex, place);
        atomic_fetch_sub_explicit(&place->taken, 1, memory_order_relaxed);
    }
    return ret;
}

__attribute__((constructor)) static void start(void) { atomic_store(&began, now(CLOCK_PROCESS_CPUTIME_ID)); }

__attribute__((destructor)) static void report(void) {
    uint64_t work = now(CLOCK_PROCESS_CPUTIME_ID) - began, hold_ns = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t since = now(CLOCK_THREAD_CPUTIME_ID);
        hold_ns += now(CLOCK_THREAD_CPUTIME_ID) - since;
    }
    double own = hold_ns / 1000.0;
    for (unsigned i = 0; i < PLACES; i++) {
        Place *place = &places[i];
        Dl_info info;
        if (!place->taken || !dladdr((void *)place->call, &info))
            continue;
        double hold = place->hold_ns - own * place->taken;
        fprintf(stderr, "%s %#lx %.5f%% taken %lu waited %lu wait_ms %.2f hold_ns %.0f wakeups %lu\n", info.dli_fname,
                (unsigned long)(place->call - (uintptr_t)info.dli_fbase - 1), 100 * (hold > 0 ? hold : 0) / work,
                place->taken, place->waited, place->wait_ns / 1e6, hold / place->taken, place->wakeups);
    }
}
