/*
 * Distinguishes this process from those that it was forked from: fork() copies memory, but not the threads that hold
 * its locks.
 *
 * A number lies on a page that the kernel clears in a child, so that a check costs one load, whatever code has called
 * fork or clone. A child never has the number of a parent, while it may have the process id of one that has ended.
 * `last` is copied, so numbers only grow from parent to child.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim.h"

typedef _Atomic uint64_t Mark;

static _Atomic(Mark *) page;
static Mark last;
/* Replaces the page if none can be mapped. */
static Mark none;

static Mark *make_page(void)
{
    const size_t size = sizeof(Mark);
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Mark *mark = made == MAP_FAILED || madvise(made, size, MADV_WIPEONFORK) ? &none : made;
    Mark *before = NULL;
    if (atomic_compare_exchange_strong(&page, &before, mark))
        return mark;
    if (made != MAP_FAILED)
        munmap(made, size);
    return before;
}

uint64_t bs_process(void)
{
    Mark *mark = atomic_load_explicit(&page, memory_order_acquire);
    if (!mark)
        mark = make_page();
    if (mark == &none)
        return (uint64_t)getpid();
    uint64_t number = atomic_load_explicit(mark, memory_order_relaxed);
    if (!number) {
        const uint64_t next = atomic_fetch_add(&last, 1) + 1;
        if (atomic_compare_exchange_strong(mark, &number, next))
            number = next;
    }
    return number;
}
