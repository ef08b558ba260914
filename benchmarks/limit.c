/* The limit: what the work of the library takes on threads of C alone, without Python, over the same bytes, with the
   same zstd parameters, frame size, digests and kernels. benchmarks/climit.py builds and runs it.

     limit create  SOURCE EXTENTS STORE  FRAME THREADS WLOG HLOG CLOG SLOG MINMATCH TARGET STRATEGY
     limit restore STORE  TARGET THREADS
     limit verify  STORE  THREADS
     limit keyless STORE  THREADS
     limit compare SOURCE STORE THREADS

   EXTENTS is a file of (offset, length) in bytes, native 64-bit words, both at multiples of a block; the end of the
   source may cut the last. STORE is frames one after the other; STORE.index says where each is and what it must be.
   Frames are written where their turn finds the end of the file: ordering them would cost more than nothing, and this
   is a bound. Prints one JSON object: seconds of the whole, and for each stage seconds and processor seconds of all
   threads together. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "../csrc/aip.h"

#define PIECE ((size_t)4 << 20)
#define BLOCK ((size_t)64 << 10)
#define CLUSTER ((size_t)4096)
#define BLOCKS (PIECE / BLOCK)
#define RUNS (PIECE / CLUSTER)
#define THREADS_MAX 64

enum stage { READ, ZERO, BLOCK_DIGESTS, PACK, CODEC, RECORD_DIGESTS, COMPARE, WRITE, STAGES };
static const char *const names[STAGES] = {"read", "zero", "block_digests", "pack", "codec", "record_digests", "compare",
                                          "write"};

/* A frame: where it is, what it must be, and which of the extents of its piece hold it. */
struct frame {
    uint64_t offset, stored, plain, piece, inside;
    uint8_t digest[32];
};

/* A piece of the source: its runs of data and the digests of its blocks. */
struct piece {
    uint64_t offset, length, runs, first_frame, frames;
    uint64_t extents[RUNS][2];
    uint8_t digests[BLOCKS][32], has_data[BLOCKS];
};

struct index {
    uint64_t size, frame, pieces, frames, packed;
};

struct job {
    int source, store, target;
    size_t frame;
    int threads, parameters[7];
    struct index index;
    struct piece *pieces;
    struct frame *table;
    atomic_size_t next, frames, differing, bad;
    _Atomic uint64_t end, packed, written;
};

struct worker {
    struct job *job;
    pthread_t thread;
    int64_t wall[STAGES], cpu[STAGES], wall_since, cpu_since;
    uint8_t *plain, *packed, *stored;
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
};

static void fail(const char *what)
{
    fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *allocated(size_t size)
{
    void *memory = calloc(size ? size : 1, 1);
    if (memory == NULL)
        fail("memory");
    return memory;
}

static int64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void begin(struct worker *worker)
{
    worker->wall_since = now(CLOCK_MONOTONIC);
    worker->cpu_since = now(CLOCK_THREAD_CPUTIME_ID);
}

/* What passed since the last call or `begin` belongs to a stage. */
static void spent(struct worker *worker, enum stage stage)
{
    int64_t wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    worker->wall[stage] += wall - worker->wall_since;
    worker->cpu[stage] += cpu - worker->cpu_since;
    worker->wall_since = wall;
    worker->cpu_since = cpu;
}

static void read_at(int file, void *buffer, size_t length, uint64_t offset)
{
    while (length) {
        ssize_t count = pread(file, buffer, length, (off_t)offset);
        if (count <= 0)
            fail("read");
        buffer = (uint8_t *)buffer + count;
        length -= (size_t)count;
        offset += (uint64_t)count;
    }
}

static void write_at(int file, const void *buffer, size_t length, uint64_t offset)
{
    while (length) {
        ssize_t count = pwrite(file, buffer, length, (off_t)offset);
        if (count <= 0)
            fail("write");
        buffer = (const uint8_t *)buffer + count;
        length -= (size_t)count;
        offset += (uint64_t)count;
    }
}

/* The digests of the blocks of a piece that have data; the end of the source is padded, for which there is room. */
static void digest_blocks(const uint8_t *plain, size_t length, const uint8_t *has_data, uint8_t digests[BLOCKS][32])
{
    uint64_t ranges[BLOCKS][2] = {{0}};
    uint8_t found[BLOCKS][32];
    size_t count = 0, done = 0;

    for (size_t block = 0; block * BLOCK < length; ++block)
        if (has_data[block]) {
            ranges[count][0] = block * BLOCK;
            ranges[count++][1] = BLOCK;
        }
    if (aip_blake3_many(plain, PIECE, &ranges[0][0], count, &found[0][0], sizeof found) != AIP_OK)
        fail("digests");
    for (size_t block = 0; block * BLOCK < length; ++block)
        if (has_data[block])
            memcpy(digests[block], found[done++], 32);
}

/* Runs of clusters that are not zeros, in bytes; which blocks they touch. */
static size_t scan(const uint8_t *plain, size_t length, uint64_t extents[RUNS][2], uint8_t *has_data)
{
    int64_t count = aip_nonzero_extents(plain, length, CLUSTER, &extents[0][0], RUNS);

    memset(has_data, 0, BLOCKS);
    for (int64_t i = 0; i < count; ++i) {
        uint64_t start = extents[i][0] *= CLUSTER, end = start + (extents[i][1] *= CLUSTER);
        if (end > length)
            end = length;
        extents[i][1] = end - start;
        memset(has_data + start / BLOCK, 1, (end - 1) / BLOCK - start / BLOCK + 1);
    }
    return (size_t)count;
}

static void load(struct worker *worker, const struct piece *piece)
{
    read_at(worker->job->source, worker->plain, (size_t)piece->length, piece->offset);
    memset(worker->plain + piece->length, 0, PIECE - (size_t)piece->length);
    spent(worker, READ);
}

/* Frames of `total` packed bytes to `worker->stored`, one after the other; rows of them. */
static size_t compress(struct worker *worker, const uint8_t *packed, size_t total, struct frame *rows)
{
    struct job *job = worker->job;
    uint8_t is_random[PIECE / 512 / 8 + 1];
    size_t at = 0, count = 0;

    aip_random_bitmap(packed, total, job->frame, is_random, sizeof is_random);
    for (size_t done = 0; done < total; ++count) {
        size_t length = total - done < job->frame ? total - done : job->frame, made = length;
        if (!(is_random[count / 8] >> count % 8 & 1))
            made = ZSTD_compress2(worker->compressor, worker->stored + at, 2 * PIECE - at, packed + done, length);
        if (ZSTD_isError(made) || made >= length)
            memcpy(worker->stored + at, packed + done, made = length);
        rows[count].offset = at;
        rows[count].stored = made;
        rows[count].plain = length;
        rows[count].inside = done;
        at += made;
        done += length;
    }
    spent(worker, CODEC);
    return at;
}

/* The digests of `count` frames that lie in `data`. */
static void digest_frames(const uint8_t *data, size_t length, uint64_t base, const struct frame *rows, size_t count,
                          uint8_t (*digests)[32])
{
    uint64_t(*ranges)[2] = allocated(count * sizeof *ranges);

    for (size_t i = 0; i < count; ++i) {
        ranges[i][0] = rows[i].offset - base;
        ranges[i][1] = rows[i].stored;
    }
    if (aip_blake3_many(data, length, &ranges[0][0], count, &digests[0][0], count * 32) != AIP_OK)
        fail("digests");
    free(ranges);
}

static void create(struct worker *worker, struct piece *piece)
{
    struct job *job = worker->job;
    const uint8_t *packed = worker->plain;
    size_t total = 0, most = PIECE / job->frame + 1, used;
    struct frame *rows = allocated(most * sizeof *rows);
    uint8_t(*digests)[32] = allocated(most * 32);

    load(worker, piece);
    piece->runs = scan(worker->plain, (size_t)piece->length, piece->extents, piece->has_data);
    spent(worker, ZERO);
    digest_blocks(worker->plain, (size_t)piece->length, piece->has_data, piece->digests);
    spent(worker, BLOCK_DIGESTS);
    for (size_t i = 0; i < piece->runs; ++i)
        total += (size_t)piece->extents[i][1];
    if (piece->runs > 1) {
        aip_pack(worker->plain, PIECE, &piece->extents[0][0], (size_t)piece->runs, worker->packed, PIECE);
        packed = worker->packed;
    } else if (piece->runs == 1) {
        packed += piece->extents[0][0];
    }
    spent(worker, PACK);
    used = compress(worker, packed, total, rows);
    piece->frames = (total + job->frame - 1) / job->frame;
    digest_frames(worker->stored, used, 0, rows, (size_t)piece->frames, digests);
    spent(worker, RECORD_DIGESTS);
    uint64_t base = atomic_fetch_add(&job->end, used);
    piece->first_frame = atomic_fetch_add(&job->frames, (size_t)piece->frames);
    atomic_fetch_add(&job->packed, total);
    for (size_t i = 0; i < piece->frames; ++i) {
        rows[i].offset += base;
        rows[i].piece = (uint64_t)(piece - job->pieces);
        memcpy(rows[i].digest, digests[i], 32);
        job->table[piece->first_frame + i] = rows[i];
    }
    write_at(job->store, worker->stored, used, base);
    spent(worker, WRITE);
    free(rows);
    free(digests);
}

/* Read the frames of a piece, compare their digests and, where `target` is a buffer, decompress them into it. */
static void open_frames(struct worker *worker, const struct piece *piece, uint8_t *target)
{
    struct job *job = worker->job;
    const struct frame *rows = job->table + piece->first_frame;
    size_t count = (size_t)piece->frames;
    uint8_t(*digests)[32] = allocated(count * 32);
    uint64_t base = count ? rows[0].offset : 0, length = count ? rows[count - 1].offset + rows[count - 1].stored - base : 0;

    read_at(job->store, worker->stored, (size_t)length, base);
    spent(worker, READ);
    digest_frames(worker->stored, (size_t)length, base, rows, count, digests);
    for (size_t i = 0; i < count; ++i)
        job->bad += memcmp(digests[i], rows[i].digest, 32) != 0;
    spent(worker, RECORD_DIGESTS);
    for (size_t i = 0; target != NULL && i < count; ++i) {
        const uint8_t *from = worker->stored + (rows[i].offset - base);
        if (rows[i].stored == rows[i].plain)
            memcpy(target + rows[i].inside, from, (size_t)rows[i].plain);
        else
            job->bad += ZSTD_decompressDCtx(worker->decompressor, target + rows[i].inside, (size_t)rows[i].plain, from,
                                            (size_t)rows[i].stored) != rows[i].plain;
    }
    spent(worker, CODEC);
    free(digests);
}

/* The frames of a piece, as they lie on the disk, in `plain`; one run of data needs no copy. */
static void unpack(struct worker *worker, const struct piece *piece)
{
    if (piece->runs == 1) {
        open_frames(worker, piece, worker->plain + piece->extents[0][0]);
        return;
    }
    open_frames(worker, piece, worker->packed);
    aip_unpack(worker->packed, PIECE, &piece->extents[0][0], (size_t)piece->runs, worker->plain, PIECE);
    spent(worker, PACK);
}

static void restore(struct worker *worker, struct piece *piece)
{
    unpack(worker, piece);
    for (size_t i = 0; i < piece->runs; ++i) {
        write_at(worker->job->target, worker->plain + piece->extents[i][0], (size_t)piece->extents[i][1],
                 piece->offset + piece->extents[i][0]);
        worker->job->written += piece->extents[i][1];
    }
    spent(worker, WRITE);
}

static void verify(struct worker *worker, struct piece *piece)
{
    uint8_t digests[BLOCKS][32] = {{0}};

    /* Between the runs are zeros. */
    for (size_t i = 0, at = 0; i <= piece->runs; ++i) {
        size_t start = i < piece->runs ? (size_t)piece->extents[i][0] : PIECE;
        memset(worker->plain + at, 0, start - at);
        at = i < piece->runs ? start + (size_t)piece->extents[i][1] : 0;
    }
    spent(worker, ZERO);
    unpack(worker, piece);
    digest_blocks(worker->plain, (size_t)piece->length, piece->has_data, digests);
    for (size_t block = 0; block < BLOCKS; ++block)
        worker->job->differing += memcmp(digests[block], piece->digests[block], 32) != 0;
    spent(worker, BLOCK_DIGESTS);
}

static void keyless(struct worker *worker, struct piece *piece)
{
    open_frames(worker, piece, NULL);
}

static void compare(struct worker *worker, struct piece *piece)
{
    uint64_t extents[RUNS][2];
    uint8_t digests[BLOCKS][32] = {{0}}, has_data[BLOCKS];

    load(worker, piece);
    scan(worker->plain, (size_t)piece->length, extents, has_data);
    spent(worker, ZERO);
    digest_blocks(worker->plain, (size_t)piece->length, has_data, digests);
    spent(worker, BLOCK_DIGESTS);
    for (size_t block = 0; block < BLOCKS; ++block)
        worker->job->differing += memcmp(digests[block], piece->digests[block], 32) != 0;
    spent(worker, COMPARE);
}

static void (*work)(struct worker *worker, struct piece *piece);

static void *run(void *argument)
{
    struct worker *worker = argument;
    struct job *job = worker->job;
    size_t piece;

    while ((piece = atomic_fetch_add(&job->next, 1)) < job->index.pieces) {
        begin(worker);
        work(worker, &job->pieces[piece]);
    }
    return NULL;
}

static void prepare(struct worker *worker, struct job *job)
{
    static const ZSTD_cParameter order[7] = {ZSTD_c_windowLog, ZSTD_c_hashLog,      ZSTD_c_chainLog, ZSTD_c_searchLog,
                                             ZSTD_c_minMatch,  ZSTD_c_targetLength, ZSTD_c_strategy};

    worker->job = job;
    worker->plain = allocated(PIECE);
    worker->packed = allocated(PIECE);
    worker->stored = allocated(2 * PIECE);
    worker->compressor = ZSTD_createCCtx();
    worker->decompressor = ZSTD_createDCtx();
    if (worker->compressor == NULL || worker->decompressor == NULL)
        fail("zstd");
    for (size_t i = 0; i < 7; ++i)
        if (job->parameters[i] && ZSTD_isError(ZSTD_CCtx_setParameter(worker->compressor, order[i], job->parameters[i])))
            fail("a parameter of zstd");
}

static void on_threads(struct job *job)
{
    static struct worker workers[THREADS_MAX];
    int64_t started;

    for (int i = 0; i < job->threads; ++i)
        prepare(&workers[i], job);
    started = now(CLOCK_MONOTONIC);
    for (int i = 0; i < job->threads; ++i)
        if (pthread_create(&workers[i].thread, NULL, run, &workers[i]))
            fail("threads");
    for (int i = 0; i < job->threads; ++i)
        pthread_join(workers[i].thread, NULL);
    printf("{\"seconds\": %.6f, \"zstd\": \"%s\"", (double)(now(CLOCK_MONOTONIC) - started) / 1e9, ZSTD_versionString());
    for (int stage = 0; stage < STAGES; ++stage) {
        int64_t wall = 0, cpu = 0;
        for (int i = 0; i < job->threads; ++i) {
            wall += workers[i].wall[stage];
            cpu += workers[i].cpu[stage];
        }
        printf(", \"%s\": [%.6f, %.6f]", names[stage], (double)wall / 1e9, (double)cpu / 1e9);
    }
    printf(", \"pieces\": %" PRIu64 ", \"frames\": %" PRIu64 ", \"packed\": %" PRIu64 ", \"stored\": %" PRIu64
           ", \"written\": %" PRIu64 ", \"differing\": %zu, \"bad\": %zu}\n",
           job->index.pieces, job->index.frames ? job->index.frames : (uint64_t)job->frames,
           job->index.packed ? job->index.packed : (uint64_t)job->packed, (uint64_t)job->end, (uint64_t)job->written,
           (size_t)job->differing, (size_t)job->bad);
}

static int opened(const char *path, int flags)
{
    int file = open(path, flags, 0666);
    if (file < 0)
        fail(path);
    return file;
}

static uint64_t size_of(int file)
{
    struct stat facts;
    if (fstat(file, &facts))
        fail("size");
    return (uint64_t)facts.st_size;
}

/* Cut the extents into pieces. */
static void plan(struct job *job, const char *path)
{
    int file = opened(path, O_RDONLY);
    size_t count = (size_t)(size_of(file) / 16), pieces = 0;
    uint64_t(*extents)[2] = allocated(count * 16), end = size_of(job->source);

    read_at(file, extents, count * 16, 0);
    close(file);
    for (size_t i = 0; i < count; ++i)
        pieces += (size_t)((extents[i][1] + PIECE - 1) / PIECE);
    job->pieces = allocated(pieces * sizeof *job->pieces);
    pieces = 0;
    for (size_t i = 0; i < count; ++i)
        for (uint64_t at = extents[i][0], stop = at + extents[i][1]; at < stop && at < end; at += PIECE) {
            uint64_t last = stop < end ? stop : end;
            job->pieces[pieces].offset = at;
            job->pieces[pieces++].length = last - at < PIECE ? last - at : PIECE;
        }
    free(extents);
    job->index.pieces = pieces;
    job->index.size = end;
    job->index.frame = job->frame;
}

static char *index_name(const char *store)
{
    char *name = allocated(strlen(store) + 7);
    return strcat(strcpy(name, store), ".index");
}

static void save(struct job *job, const char *store)
{
    int file = opened(index_name(store), O_WRONLY | O_CREAT | O_TRUNC);
    uint64_t at = sizeof job->index;

    job->index.frames = job->frames;
    job->index.packed = job->packed;
    write_at(file, &job->index, sizeof job->index, 0);
    write_at(file, job->pieces, (size_t)job->index.pieces * sizeof *job->pieces, at);
    at += job->index.pieces * sizeof *job->pieces;
    write_at(file, job->table, (size_t)job->index.frames * sizeof *job->table, at);
    close(file);
}

static void recall(struct job *job, const char *store)
{
    int file = opened(index_name(store), O_RDONLY);
    uint64_t at = sizeof job->index;

    read_at(file, &job->index, sizeof job->index, 0);
    job->frame = (size_t)job->index.frame;
    job->pieces = allocated((size_t)job->index.pieces * sizeof *job->pieces);
    job->table = allocated((size_t)job->index.frames * sizeof *job->table);
    read_at(file, job->pieces, (size_t)job->index.pieces * sizeof *job->pieces, at);
    at += job->index.pieces * sizeof *job->pieces;
    read_at(file, job->table, (size_t)job->index.frames * sizeof *job->table, at);
    job->store = opened(store, O_RDONLY);
    close(file);
}

static int number(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

int main(int argc, char **argv)
{
    static struct job job;
    const char *what = argc > 1 ? argv[1] : "";

    job.threads = number(argv[argc - 1]);
    if (!strcmp(what, "create") && argc == 14) {
        work = create;
        job.source = opened(argv[2], O_RDONLY);
        job.store = opened(argv[4], O_RDWR | O_CREAT | O_TRUNC);
        job.frame = (size_t)number(argv[5]);
        job.threads = number(argv[6]);
        for (int i = 0; i < 7; ++i)
            job.parameters[i] = number(argv[7 + i]);
        if (job.frame < CLUSTER || job.frame > PIECE)
            return 2;
        plan(&job, argv[3]);
        job.table = allocated((size_t)job.index.pieces * (PIECE / job.frame + 1) * sizeof *job.table);
    } else if (!strcmp(what, "restore") && argc == 5) {
        work = restore;
        recall(&job, argv[2]);
        job.target = opened(argv[3], O_WRONLY | O_CREAT | O_TRUNC);
        if (ftruncate(job.target, (off_t)job.index.size))
            fail(argv[3]);
    } else if (!strcmp(what, "verify") && argc == 4) {
        work = verify;
        recall(&job, argv[2]);
    } else if (!strcmp(what, "keyless") && argc == 4) {
        work = keyless;
        recall(&job, argv[2]);
    } else if (!strcmp(what, "compare") && argc == 5) {
        work = compare;
        recall(&job, argv[3]);
        job.source = opened(argv[2], O_RDONLY);
    } else {
        fprintf(stderr, "limit: the comment at the start of limit.c says how to call this\n");
        return 2;
    }
    if (job.threads < 1 || job.threads > THREADS_MAX)
        return 2;
    on_threads(&job);
    if (work == create)
        save(&job, argv[4]);
    return 0;
}
