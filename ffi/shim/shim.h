/* C shims: what needs FFmpeg's internal headers, a va_list, or a signal handler. */
#ifndef BUCKET_STREAMER_SHIM_H
#define BUCKET_STREAMER_SHIM_H

#include <stddef.h>
#include <stdint.h>

struct AVFormatContext;

enum BsMovFlags { BS_MOV_KEY = 1, BS_MOV_DISCARD = 2 };

/* One entry of the MP4/MOV demuxer's index, edit lists applied: what av_read_frame() would say of it. */
typedef struct BsMovSample {
    int64_t pos;
    int64_t dts;
    int64_t pts;
    int64_t duration;
    uint32_t size;
    uint32_t flags;       /* BsMovFlags */
    uint32_t description; /* index of the sample description (stsd entry) */
} BsMovSample;

/* Nonzero if the context was opened by the MP4/MOV demuxer. */
int bs_mov_is(const struct AVFormatContext *s);
/* Number of samples that are indexed so far. */
int bs_mov_sample_count(const struct AVFormatContext *s, unsigned stream);
/* Lets go of the index of all other streams. */
void bs_mov_drop_others(struct AVFormatContext *s, unsigned stream);
/* Nonzero if there are fragments still to be read; then av_read_frame() walks over all samples, and its work is metered. */
int bs_mov_begin_fragments(const struct AVFormatContext *s);
/* Reads the samples of a stream in decode order: NULL if there is no such stream, or no memory. */
typedef struct BsMovWalk BsMovWalk;
BsMovWalk *bs_mov_walk_open(const struct AVFormatContext *s, unsigned stream);
void bs_mov_walk_close(BsMovWalk **walk);
/* Fills `out` with up to `capacity` more samples and returns how many. */
int bs_mov_walk_next(BsMovWalk *walk, BsMovSample *out, int capacity);
/* Number of sample descriptions. */
int bs_mov_description_count(const struct AVFormatContext *s, unsigned stream);
/* Decoder configuration of a sample description; *data stays the demuxer's. */
int bs_mov_description(const struct AVFormatContext *s, unsigned stream, int description, const uint8_t **data);
/* Nonzero if the track's samples are encrypted (CENC). */
int bs_mov_is_encrypted(const struct AVFormatContext *s, unsigned stream);

struct AVCodecContext;
struct AVFrame;
/* The state of a decoder just behind a picture: fork.c. */
typedef struct BsCheckpoint BsCheckpoint;

/* BS_PICTURE_NOT_WHOLE: not to be shown as it is. */
enum BsPictureFlags { BS_PICTURE_OTHER_LAYER = 1, BS_PICTURE_NOT_WHOLE = 2 };

/* A picture that a checkpoint holds. */
typedef struct BsPicture {
    uint64_t identity; /* the same for the same picture in different checkpoints */
    uint64_t bytes;    /* memory that it takes, side tables too */
    int64_t tag;       /* -1 if it has none */
    uint32_t flags;    /* BsPictureFlags */
    const struct AVFrame *frame; /* the checkpoint's own */
} BsPicture;

/* Nonzero if checkpoints of this open decoder can be taken. */
int bs_fork_is_supported(const struct AVCodecContext *decoder);
/* An empty checkpoint for decoders of the same codec. */
BsCheckpoint *bs_checkpoint_alloc(const struct AVCodecContext *like);
/* Lets go of all pictures; it can be used again. */
void bs_checkpoint_clear(BsCheckpoint *checkpoint);
void bs_checkpoint_free(BsCheckpoint *checkpoint);
/* Keeps the state just behind the picture with the tag. AVERROR(EAGAIN) if the decoder no longer, or not yet, has it. */
int bs_checkpoint_save(BsCheckpoint *to, struct AVCodecContext *decoder, uint32_t tag);
/* Puts the state into a decoder that was flushed. The checkpoint may be in use elsewhere at the same time. */
int bs_checkpoint_restore(const BsCheckpoint *from, struct AVCodecContext *decoder);
/* The checkpoint's pictures are no longer charged to the decoder's run, but for those that the decoder still shares with it.
 * Behind a save, and behind a restore. */
void bs_checkpoint_share(const BsCheckpoint *checkpoint, struct AVCodecContext *decoder);
/* Lists up to `capacity` pictures, and returns how many. */
int bs_checkpoint_pictures(const BsCheckpoint *checkpoint, BsPicture *out, int capacity);
/* References a held picture. AVERROR(EAGAIN) if it is not there, or not fit to be shown. */
int bs_checkpoint_picture(const BsCheckpoint *checkpoint, uint32_t tag, struct AVFrame *out);
/* The same for the picture that the decoder has just decoded. */
int bs_decoder_picture(struct AVCodecContext *decoder, uint32_t tag, struct AVFrame *out);

/* Zero if the picture that the decoder has just decoded, or one that it holds with it, is known to be damaged: with frame
 * threads, pictures may be put out before they are flagged. */
int bs_decoder_is_clean(struct AVCodecContext *decoder, uint32_t tag);

/* Lets go of memory that an open decoder keeps for tables of pictures. Nothing may be in work. */
void bs_decoder_trim(struct AVCodecContext *decoder);

/* AVFrame.decode_error_flags of a picture that was just put out. With frame threads, H.264 pictures are put out with the
 * flags that they have while another thread still decodes them. */
int bs_decoder_error_flags(struct AVCodecContext *decoder, uint32_t tag);

/* For an open H.265 decoder with slice threads: damaged rows are errors. */
void bs_check_rows(struct AVCodecContext *decoder);

/* What a decoder does about damage. */
typedef struct BsWatchOptions {
    uint64_t owner;    /* a number of the video that no other has: memory with its pictures stays its own */
    int is_lenient;    /* damaged pictures come out, marked; else damage is an error of the packet */
    int checks_hashes; /* picture hash SEI messages of H.265 are compared */
    int checks_ends;   /* where a slice's or tile's data end counts too */
} BsWatchOptions;

/* BS_MARK_DAMAGED: damage may have touched the picture. BS_MARK_SUSPECT: what refers to it may be damaged, it is not. */
enum BsMarks { BS_MARK_DAMAGED = 1, BS_MARK_SUSPECT = 2 };
/* What spoke against pictures: BS_FOUND_END, only where their data ended; BS_FOUND_DAMAGE, all else. */
enum BsFound { BS_FOUND_DAMAGE = 1, BS_FOUND_END = 2 };

/* The decoder for a codec id that looks at every picture that it has decoded: inspect.c. NULL if there is none. */
const struct AVCodec *bs_inspecting_codec(int codec_id);
/* Before such a decoder is opened; AVERROR(ENOMEM). */
int bs_watch_attach(struct AVCodecContext *decoder, const BsWatchOptions *options);
/* Frees a decoder, and what was attached to it. */
void bs_decoder_free(struct AVCodecContext **decoder);
/* A new run begins: what was found in the last one is forgotten. */
void bs_watch_begin(struct AVCodecContext *decoder);
/* BsFound since bs_watch_begin(). */
int bs_watch_found(const struct AVCodecContext *decoder);
/* Changes whether ends count. Nothing may be in work. */
void bs_watch_set_ends(struct AVCodecContext *decoder, int checks_ends);
/* Nonzero if damage may have touched a picture that the decoder gave out. */
int bs_is_damaged(const struct AVCodecContext *decoder, const struct AVFrame *f);

/* What the pictures of one decode run take, decoders' tables included: account.c. Counted references. */
typedef struct BsAccount BsAccount;
/* What those of an engine take together. */
typedef struct BsLedger BsLedger;

/* A budget that lends memory to accounts. */
typedef struct BsLender {
    void *opaque;
    /* An account of a `kind` with `granted` bytes needs `used` in all: what it has from now on. Never waits. */
    int64_t (*grow)(void *opaque, int kind, int64_t granted, int64_t used);
    /* The account is gone. */
    void (*release)(void *opaque);
} BsLender;

/* NULL without memory. */
BsLedger *bs_ledger_alloc(void);
void bs_ledger_unref(BsLedger *ledger);
/* Bytes that decoders hold now, and the most that they have ever held at the same time. */
int64_t bs_ledger_live(const BsLedger *ledger);
int64_t bs_ledger_peak(const BsLedger *ledger);

/* NULL without memory, and the lender is not released then. Pictures that may be made up out of damage get `most` bytes at most. */
BsAccount *bs_account_alloc(BsLedger *ledger, const BsLender *lender, int kind, int64_t granted, int64_t most);
void bs_account_unref(BsAccount *account);
int64_t bs_account_granted(const BsAccount *account);
/* Lets go of what is granted and not in use; returns what is granted now. No decoder may be at work. */
int64_t bs_account_shrink(BsAccount *account);
/* The most that was used at the same time. */
int64_t bs_account_peak(const BsAccount *account);
/* Bytes that were refused, with all that was in use then; 0 if none were. */
int64_t bs_account_wanted(const BsAccount *account);
/* Nonzero if more would not be granted to any account. */
int bs_account_is_final(const BsAccount *account);

/* From now on the decoder's pictures are charged to the account, or to none (NULL). Nothing may be in work. */
void bs_account_attach(struct AVCodecContext *decoder, BsAccount *account);
/* Nonzero if a picture was refused: what comes out of the decoder is worth nothing. */
int bs_decoder_lacks_room(const struct AVCodecContext *decoder);
/* Bytes that the decoder keeps for pictures in work, whether or not there are any. */
int64_t bs_decoder_table_bytes(const struct AVCodecContext *decoder);
/* The decoder shares so many bytes with a checkpoint, which has its own budget. */
void bs_account_share(struct AVCodecContext *decoder, int64_t bytes);
/* A frame out of a decoder is handed to a caller: its memory leaves the account when the decoder lets go of it. */
int bs_let_out(struct AVFrame *f);

struct AVDictionary;
/* avformat_find_stream_info() whose pictures are charged to the account, which may be NULL. */
int bs_find_stream_info(struct AVFormatContext *s, int64_t max_pixels, BsAccount *account);

/* AVCodecContext.get_buffer2: memory for pictures that is given back when nobody uses it. */
int bs_get_buffer(struct AVCodecContext *c, struct AVFrame *f, int flags);
/* The same memory for a frame whose format, width and height are set. */
int bs_get_planes(struct AVFrame *f);

/* A GPU of NVIDIA's with its driver: gpu.c. Counted references; what is made by it keeps it. */
typedef struct BsGpu BsGpu;

typedef struct BsGpuInfo {
    char name[96];
    int ordinal;
    int driver;          /* CUDA version that the driver speaks: 1000 * major + 10 * minor */
    int engines;         /* NVDECs that decode H.265, 0 if the driver does not say */
    int sessions_opened; /* hardware decoders so far */
    int sessions_reused; /* times that one of them went on with another stream */
} BsGpuInfo;

/* What the card decodes of a codec in a chroma format and bit depth. */
typedef struct BsGpuCaps {
    int is_supported;
    int engines;
    unsigned output_formats;
    int min_width, min_height, max_width, max_height, max_blocks; /* blocks of 16x16 */
} BsGpuCaps;

/* A picture in the device's memory: NV12, or P016 with the value in the upper bits; or the same with three planes. */
typedef struct BsGpuPicture {
    uint64_t planes[3]; /* CUdeviceptr of the first visible sample */
    uint64_t context;   /* CUcontext, the primary one of the GPU */
    size_t pitch;
    int plane_count, width, height, bytes_per_sample, bit_depth, ordinal;
    int planar; /* AVPixelFormat that software would have decoded to */
} BsGpuPicture;

/* What samples mean to an encoder on the GPU. */
typedef struct BsGpuColour {
    float kr, kb;        /* weights of R' and B' in Y', by H.273 table 4 */
    int is_full_range;
    int chroma_location; /* AVChromaLocation; what is unspecified (0) lies left */
} BsGpuColour;

/* Makes JPEGs on one GPU, for one thread at a time. */
typedef struct BsGpuEncoder BsGpuEncoder;

/* Opens GPU `ordinal`: 0 or an AVERROR, and bs_gpu_why() says more. */
int bs_gpu_open(int ordinal, BsGpu **out);
void bs_gpu_close(BsGpu **gpu);
/* What this thread's last failure was, in words and as an AVERROR (0: there was none), until it is forgotten. */
const char *bs_gpu_why(void);
int bs_gpu_error(void);
void bs_gpu_forget(void);
/* Nonzero once nothing works any more. */
int bs_gpu_is_lost(const BsGpu *gpu);
void bs_gpu_info(BsGpu *gpu, BsGpuInfo *out);
/* `codec` and `chroma` as in cuviddec.h. */
int bs_gpu_caps(BsGpu *gpu, int codec, int chroma, int depth, BsGpuCaps *out);

/* The decoder for a codec id that decodes on a GPU; NULL if there is none. */
const struct AVCodec *bs_gpu_codec(int codec_id);
/* Before such a decoder is opened, and after bs_watch_attach(). It must not outlive the GPU. */
void bs_gpu_attach(struct AVCodecContext *decoder, BsGpu *gpu);
/* Nonzero if the decoder was attached to a GPU. */
int bs_gpu_is_attached(const struct AVCodecContext *decoder);
/* A new walk begins: damage of the last one is forgotten. */
void bs_gpu_begin(struct AVCodecContext *decoder);
/* Waits for a frame that such a decoder gave out, and copies it to planes as software would have decoded it, not cropped;
 * or copies one that was kept on the device. AVERROR_INVALIDDATA if anything since bs_gpu_begin() was damaged. */
int bs_gpu_download(const struct AVFrame *from, struct AVFrame *to);
/* The same into memory of the device, cropped; bs_gpu_kept() tells where. */
int bs_gpu_keep(const struct AVFrame *from, struct AVFrame *to);
int bs_gpu_kept(const struct AVFrame *frame, BsGpuPicture *out);

/* An encoder on the GPU where a kept frame is. AVERROR(ENOSYS) without nvJPEG. */
int bs_gpu_encoder_open(const struct AVFrame *kept, BsGpuEncoder **out);
void bs_gpu_encoder_close(BsGpuEncoder **encoder);
/* Nonzero if it is on the GPU where the frame is. */
int bs_gpu_encoder_fits(const BsGpuEncoder *encoder, const struct AVFrame *kept);
/* A JPEG of a kept 4:2:0 frame: BT.601, full range. The bytes are av_malloc()ed. */
int bs_gpu_encode_jpeg(BsGpuEncoder *encoder, const struct AVFrame *kept, const BsGpuColour *colour, int quality,
                       uint8_t **bytes, size_t *size);

/* What a meter found: BsMeter.exceeded. */
enum BsExceeded { BS_EXCEEDED_MEMORY = 1, BS_EXCEEDED_WORK = 2, BS_EXCEEDED_TIME = 3, BS_EXCEEDED_BUSY = 4 };
/* NAL units that a sample may have. */
enum BsLimits { BS_UNIT_LIMIT = 8192 };

/* Limits for what FFmpeg does in one thread: meter.c. */
typedef struct BsMeter {
    int64_t used, peak, limit, cap; /* bytes */
    uint64_t steps, step_limit;
    int64_t started_ns, time_limit_ns; /* processor time of the thread */
    uint32_t ticks;
    int exceeded;   /* BsExceeded; 0 if nothing */
    int in_decoder; /* no allocation fails */
    const void *list; /* a long list of a demuxer, and its bytes */
    size_t list_bytes;
    /* Asks for a higher limit: the limit from now on, or -1 if others have all that there is. */
    int64_t (*grow)(void *opaque, int64_t wanted);
    void *opaque;
} BsMeter;

/* From now on this thread's meter; NULL for none. */
void bs_meter_install(BsMeter *meter);
/* BsExceeded of this thread's meter, 0 without one. */
int bs_meter_exceeded(void);
/* Counts bytes that are not libavutil's, negative when they are freed. Nonzero if that is within the limits. */
int bs_meter_charge(int64_t bytes);
/* Counts work. */
void bs_meter_work(uint64_t steps);
/* Looks at the clock. */
void bs_meter_look(void);
/* From now on no more than `more` bytes are to come, whatever the limit: what goes over them again would be too much work. */
void bs_meter_cap(int64_t more);

/* Gets one whole line of FFmpeg's log, without its line end. */
typedef void (*BsLogLine)(int level, const char *line);
/* Sends FFmpeg's log to `line`, for messages up to `level`. */
void bs_log_install(int level, BsLogLine line);

/* Maps that survive their file being truncated: see mapping.c. A slot number, or -1 if all are taken. */
int bs_guard_add(void *start, size_t length);
/* Nonzero once a page of the map was missing when it was read. */
int bs_guard_is_broken(int slot);
void bs_guard_remove(int slot);
/* Installs the SIGBUS handler; returns 0, or errno. Call once. */
int bs_guard_install(void);

/* The number of this process: another one in a child after fork(). Never 0. */
uint64_t bs_process(void);

#endif
