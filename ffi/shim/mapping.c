/*
 * Maps that survive the truncation of their file.
 *
 * A read of a mapped page that the file no longer has raises SIGBUS, which kills the process: one `truncate` by another
 * process would take a server down. The handler here puts a page of zeros where a guarded map has lost one and marks
 * the map as broken. The reader goes on, and the map's owner calls bs_guard_is_broken() before it returns any result
 * from the bytes. Any other SIGBUS goes to the handler that was installed before.
 *
 * All calls are async-signal-safe in practice: mmap is a bare system call; slots are atomics.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim.h"

/* Twice as many as source/open_files.rs keeps open: packets may hold maps longer. */
#define SLOTS 16384

enum { FREE, TAKEN, LIVE };

typedef struct Slot {
    _Atomic int state;
    _Atomic int broken;
    _Atomic uintptr_t start;
    _Atomic uintptr_t end;
} Slot;

static Slot slots[SLOTS];
/* One past the highest slot ever used: the handler checks no further. */
static _Atomic int slots_used;
/* The first slot to try: the one that was freed last, or the one after that taken last. */
static _Atomic int next_slot;
static struct sigaction previous;
static uintptr_t page_size;

static int repair(uintptr_t address)
{
    const int used = atomic_load(&slots_used);
    for (int i = 0; i < used; i++) {
        Slot *slot = &slots[i];
        void *page = (void *)(address & ~(page_size - 1));
        if (atomic_load(&slot->state) != LIVE || address < atomic_load(&slot->start) || address >= atomic_load(&slot->end))
            continue;
        /* Broken first: a reader of the zeros must see the mark. */
        atomic_store(&slot->broken, 1);
        return mmap(page, page_size, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == page;
    }
    return 0;
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    const int saved = errno;
    const int repaired = info->si_code == BUS_ADRERR && repair((uintptr_t)info->si_addr);
    errno = saved;
    if (repaired)
        return;
    if (info->si_code <= 0 && !(previous.sa_flags & SA_SIGINFO) && previous.sa_handler == SIG_IGN)
        return; /* sent by a process, and ignored before */
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        /* With the default the process dies as it would have: at the faulting instruction, which runs again, or of a
         * signal from a process. */
        signal(SIGBUS, SIG_DFL);
        if (info->si_code <= 0)
            raise(SIGBUS);
    }
}

int bs_guard_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    action.sa_sigaction = on_sigbus;
    /* On the alternate stack if the thread has one (Rust's threads do). */
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    /* The previous handler is known before the new one, which calls it, can run. */
    return sigaction(SIGBUS, NULL, &previous) || sigaction(SIGBUS, &action, NULL) ? errno : 0;
}

int bs_guard_add(void *start, size_t length)
{
    const int first = atomic_load(&next_slot);
    for (int n = 0; n < SLOTS; n++) {
        const int i = (first + n) % SLOTS;
        Slot *slot = &slots[i];
        int expected = FREE;
        int used = atomic_load(&slots_used);
        if (atomic_load(&slot->state) != FREE || !atomic_compare_exchange_strong(&slot->state, &expected, TAKEN))
            continue;
        atomic_store(&next_slot, (i + 1) % SLOTS);
        atomic_store(&slot->broken, 0);
        atomic_store(&slot->start, (uintptr_t)start);
        /* Up to the end of the last page: the mapped bytes, not the file's. */
        atomic_store(&slot->end, ((uintptr_t)start + length + page_size - 1) & ~(page_size - 1));
        while (used < i + 1 && !atomic_compare_exchange_weak(&slots_used, &used, i + 1))
            ;
        atomic_store(&slot->state, LIVE);
        return i;
    }
    return -1;
}

int bs_guard_is_broken(int slot)
{
    return atomic_load(&slots[slot].broken);
}

void bs_guard_remove(int slot)
{
    atomic_store(&slots[slot].state, FREE);
    atomic_store(&next_slot, slot);
}
