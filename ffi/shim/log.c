/* FFmpeg's log, line by line: its callback takes a va_list, which Rust cannot read. */
#include <stdarg.h>
#include <string.h>

#include <libavutil/log.h>

#include "libavcodec/avcodec.h"

#include "inspect.h"
#include "shim.h"

/* Set while decoder threads may log. */
static _Atomic(BsLogLine) log_line;
static _Atomic int log_level;

static void on_log(void *context, int level, const char *format, va_list arguments)
{
    /* A line may come in pieces; the pieces of a thread follow each other. */
    static _Thread_local char line[1024];
    static _Thread_local size_t length;
    static _Thread_local int print_prefix = 1;
    char piece[512];

    const BsLogLine sink = log_line;
    if (level >= 0 && (level & 0xff) <= AV_LOG_ERROR)
        bs_seen.errors++;
    if (!sink || level < 0 || (level & 0xff) > log_level)
        return;
    av_log_format_line2(context, level & 0xff, format, arguments, piece, sizeof(piece), &print_prefix);
    for (const char *c = piece; *c; c++) {
        if (*c == '\n') {
            line[length] = 0;
            sink(level & 0xff, line);
            length = 0;
        } else if (length + 1 < sizeof(line)) {
            line[length++] = *c;
        }
    }
}

void bs_log_install(int level, BsLogLine line)
{
    log_level = level;
    log_line  = line;
    av_log_set_level(level);
    av_log_set_callback(line ? on_log : av_log_default_callback);
}
