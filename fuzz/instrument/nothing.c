void bucket_streamer_fuzz_edge(void) __attribute__((weak)); void bucket_streamer_fuzz_edge(void) {}
