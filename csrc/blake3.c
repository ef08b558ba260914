/* BLAKE3-256 without a key, of many inputs with one call (https://github.com/BLAKE3-team/BLAKE3-specs, version
   20211102). Chunks of all inputs fill the lanes of the widest kernel, whichever input they are of; then the parents
   of all inputs, level by level: so short inputs keep the lanes as busy as long ones. */
#include "blake3.h"

/* Chaining values that are kept at a time, on the stack: 64 KiB. */
#define GROUP ((size_t)2048)
/* Inputs of a group; most have several chunks, and this many roots fill the lanes. */
#define GROUP_INPUTS ((size_t)256)
/* What a long input is cut into: subtrees of a power of two of chunks. */
#define SUBTREE ((size_t)1024)
/* Subtrees that wait for their right sibling: one a bit of their number. */
#define STACK 54

struct work {
    struct blake3_way ways[2];
    size_t way_count, lanes, jobs;
    struct blake3_jobs waiting;
};

/* One input of a group: its chaining values lie at `cv`, `count` of them. */
struct tree {
    uint8_t *cv;
    size_t count;
    uint8_t *out;
};

#define ADD(a, b) ((a) + (b))
#define XOR(a, b) ((a) ^ (b))
#define ROT16(x) aip_rotated32(x, 16)
#define ROT12(x) aip_rotated32(x, 12)
#define ROT8(x) aip_rotated32(x, 8)
#define ROT7(x) aip_rotated32(x, 7)

/* The compression function (2.2) with its output cut to the chaining value. */
static void compress(uint32_t cv[8], const uint8_t block[64], size_t length, uint64_t counter, uint32_t flags)
{
    uint32_t m[16], v[16];

    for (size_t i = 0; i < 16; ++i)
        m[i] = aip_load_le32(block + 4 * i);
    memcpy(v, cv, 8 * sizeof *v);
    memcpy(v + 8, blake3_iv, 4 * sizeof *v);
    v[12] = (uint32_t)counter;
    v[13] = (uint32_t)(counter >> 32);
    v[14] = (uint32_t)length;
    v[15] = flags;
    BLAKE3_ROUNDS(v, m);
    for (size_t i = 0; i < 8; ++i)
        cv[i] = v[i] ^ v[i + 8];
}

static void store_cv(uint8_t *out, const uint32_t cv[8])
{
    for (size_t i = 0; i < 8; ++i)
        aip_store_le32(out + 4 * i, cv[i]);
}

/* A chunk of at most 1024 bytes (2.4), also a short or an empty one; `end` is what its last block's flags have more. */
static void hash_chunk(const uint8_t *p, size_t length, uint64_t counter, uint32_t end, uint8_t *out)
{
    uint32_t cv[8], start = CHUNK_START;
    uint8_t block[64] = {0};

    memcpy(cv, blake3_iv, sizeof cv);
    for (; length > BLAKE3_BLOCK; p += BLAKE3_BLOCK, length -= BLAKE3_BLOCK, start = 0)
        compress(cv, p, BLAKE3_BLOCK, counter, start);
    if (length)
        memcpy(block, p, length);
    compress(cv, block, length, counter, start | CHUNK_END | end);
    store_cv(out, cv);
}

/* One job without a wide kernel. */
static void run_one(const struct blake3_jobs *jobs, size_t lane)
{
    uint32_t cv[8], start = jobs->first;

    memcpy(cv, blake3_iv, sizeof cv);
    for (size_t block = 0; block < jobs->blocks; ++block, start = 0)
        compress(cv, jobs->input[lane] + block * BLAKE3_BLOCK, BLAKE3_BLOCK, jobs->counter[lane],
                 jobs->flags | start | (block + 1 == jobs->blocks ? jobs->last[lane] : 0));
    store_cv(jobs->cv[lane], cv);
}

/* Move the jobs from `from` on to the front, and let what is left of the lanes repeat the first of them, to nowhere. */
static void shift_jobs(struct blake3_jobs *to, const struct blake3_jobs *jobs, size_t from, size_t count, size_t lanes,
                       uint8_t *nowhere)
{
    to->blocks = jobs->blocks;
    to->flags = jobs->flags;
    to->first = jobs->first;
    for (size_t lane = 0; lane < lanes; ++lane) {
        size_t source = from + (lane < count ? lane : 0);
        to->input[lane] = jobs->input[source];
        to->counter[lane] = jobs->counter[source];
        to->last[lane] = jobs->last[source];
        to->cv[lane] = lane < count ? jobs->cv[source] : nowhere;
    }
}

/* Hash what waits: with the narrowest way that takes all of it where it is less than a full one. */
static void flush(struct work *work)
{
    uint8_t nowhere[BLAKE3_CV];
    struct blake3_jobs some;
    size_t done = 0;

    if (work->jobs == work->lanes && work->way_count) {
        work->ways[0].kernel(&work->waiting);
        done = work->jobs;
    }
    while (done < work->jobs) {
        size_t left = work->jobs - done, way = 0;
        if (work->way_count == 0 || left == 1) {
            run_one(&work->waiting, done++);
            continue;
        }
        while (way + 1 < work->way_count && work->ways[way + 1].lanes >= left)
            ++way;
        if (left > work->ways[way].lanes)
            left = work->ways[way].lanes;
        shift_jobs(&some, &work->waiting, done, left, work->ways[way].lanes, nowhere);
        work->ways[way].kernel(&some);
        done += left;
    }
    work->jobs = 0;
}

static void add_job(struct work *work, const uint8_t *input, uint64_t counter, uint32_t last, uint8_t *cv)
{
    struct blake3_jobs *jobs = &work->waiting;

    jobs->input[work->jobs] = input;
    jobs->counter[work->jobs] = counter;
    jobs->last[work->jobs] = last;
    jobs->cv[work->jobs] = cv;
    if (++work->jobs == work->lanes)
        flush(work);
}

static void begin_chunks(struct work *work)
{
    flush(work);
    work->waiting.blocks = BLAKE3_CHUNK / BLAKE3_BLOCK;
    work->waiting.flags = 0;
    work->waiting.first = CHUNK_START;
}

static void begin_parents(struct work *work)
{
    flush(work);
    work->waiting.blocks = 1;
    work->waiting.flags = PARENT;
    work->waiting.first = 0;
}

static void begin(struct work *work)
{
    memset(work, 0, sizeof *work);
    work->way_count = aip_blake3_ways(work->ways);
    work->lanes = work->way_count ? work->ways[0].lanes : 1;
}

static size_t chunks_of(size_t length)
{
    return length ? (length - 1) / BLAKE3_CHUNK + 1 : 1;
}

/* Queue the chunks of an input; the short one at its end, if there is one, is hashed at once. `root` is ROOT where the
   input is one chunk. */
static void add_chunks(struct work *work, const uint8_t *p, size_t length, uint64_t counter, uint32_t root, uint8_t *cv)
{
    for (; length >= BLAKE3_CHUNK; p += BLAKE3_CHUNK, length -= BLAKE3_CHUNK, cv += BLAKE3_CV, ++counter, root = 0) {
        add_job(work, p, counter, CHUNK_END | (length == BLAKE3_CHUNK ? root : 0), cv);
        if (length == BLAKE3_CHUNK)
            return;
    }
    hash_chunk(p, length, counter, root, cv);
}

/* Join the chaining values of trees level by level, to the root of each at its `out`: ROOT there for `root`. A value
   without a sibling goes up as it is, which gives the tree of the specification (2.1). */
static void join(struct work *work, struct tree *trees, size_t count, uint32_t root)
{
    /* A level is written to a place of its own and copied afterwards: jobs wait until the lanes are full, so that a
       value written over the level below could replace one that is still to be read. */
    uint8_t level[GROUP / 2 * 32];
    int more = 1;

    while (more) {
        size_t at = 0;
        more = 0;
        begin_parents(work);
        for (size_t t = 0; t < count; ++t) {
            struct tree *tree = &trees[t];
            if (tree->count < 2)
                continue;
            for (size_t i = 0; i + 1 < tree->count; i += 2)
                add_job(work, tree->cv + i * BLAKE3_CV, 0, tree->count == 2 ? root : 0,
                        tree->count == 2 ? tree->out : level + (at + i / 2) * BLAKE3_CV);
            at += tree->count / 2;
        }
        flush(work);
        at = 0;
        for (size_t t = 0; t < count; ++t) {
            struct tree *tree = &trees[t];
            size_t pairs = tree->count / 2, odd = tree->count % 2;
            if (tree->count < 2)
                continue;
            if (tree->count > 2) {
                memcpy(tree->cv, level + at * BLAKE3_CV, pairs * BLAKE3_CV);
                if (odd)
                    memmove(tree->cv + pairs * BLAKE3_CV, tree->cv + (tree->count - 1) * BLAKE3_CV, BLAKE3_CV);
                more = 1;
            }
            at += pairs;
            tree->count = pairs + odd;
        }
    }
}

/* An input of more chunks than a group has room for: subtrees of SUBTREE chunks, joined as their numbers say. */
static void hash_long(struct work *work, const uint8_t *p, size_t length, uint8_t *out)
{
    uint8_t cv[SUBTREE * 32], stack[STACK * 32], pair[64];
    uint64_t counter = 0;
    size_t depth = 0;

    for (;;) {
        size_t part = length < SUBTREE * BLAKE3_CHUNK ? length : SUBTREE * BLAKE3_CHUNK;
        struct tree tree = {cv, chunks_of(part), stack + depth * BLAKE3_CV};
        begin_chunks(work);
        add_chunks(work, p, part, counter, 0, cv);
        flush(work);
        if (tree.count == 1)
            memcpy(tree.out, cv, BLAKE3_CV);
        else
            join(work, &tree, 1, 0);
        ++depth;
        p += part;
        length -= part;
        counter += SUBTREE;
        if (!length)
            break;
        /* Whole subtrees of equal size are joined at once, because more follows them. */
        for (uint64_t number = counter / SUBTREE; number % 2 == 0; number /= 2, --depth) {
            uint32_t value[8];
            memcpy(pair, stack + (depth - 2) * BLAKE3_CV, 64);
            memcpy(value, blake3_iv, sizeof value);
            compress(value, pair, 64, 0, PARENT);
            store_cv(stack + (depth - 2) * BLAKE3_CV, value);
        }
    }
    for (; depth > 1; --depth) {
        uint32_t value[8];
        memcpy(pair, stack + (depth - 2) * BLAKE3_CV, 64);
        memcpy(value, blake3_iv, sizeof value);
        compress(value, pair, 64, 0, PARENT | (depth == 2 ? ROOT : 0));
        store_cv(stack + (depth - 2) * BLAKE3_CV, value);
    }
    memcpy(out, stack, BLAKE3_CV);
}

int aip_blake3_many(const void *src, size_t src_len, const uint64_t *ranges, size_t count, uint8_t *digests,
                    size_t digests_len)
{
    uint8_t cv[GROUP * 32];
    struct tree trees[GROUP_INPUTS];
    const uint8_t *p = src;
    struct work work;
    size_t next = 0;

    if (!aip_fits(src, src_len, src_len) || !aip_valid_extents(ranges, count))
        return AIP_EINVAL;
    if (count > SIZE_MAX / BLAKE3_CV || !aip_fits(digests, digests_len, (uint64_t)count * BLAKE3_CV))
        return AIP_ESPACE;
    if (aip_overlaps(src, src_len, digests, count * BLAKE3_CV) ||
        aip_overlaps(ranges, count * 2 * sizeof *ranges, digests, count * BLAKE3_CV))
        return AIP_EOVERLAP;
    for (size_t i = 0; i < count; ++i)
        if (!aip_in_range(ranges[2 * i], ranges[2 * i + 1], src_len))
            return AIP_ERANGE;
    begin(&work);
    while (next < count) {
        size_t used = 0, members = 0;
        begin_chunks(&work);
        for (; next < count && members < GROUP_INPUTS; ++next) {
            uint64_t start = aip_read_once(ranges + 2 * next), length = aip_read_once(ranges + 2 * next + 1);
            if (!aip_in_range(start, length, src_len))
                return AIP_ERANGE;
            if (chunks_of((size_t)length) > GROUP) {
                if (used)
                    break;
                hash_long(&work, p + start, (size_t)length, digests + next * BLAKE3_CV);
                begin_chunks(&work);
                continue;
            }
            if (used + chunks_of((size_t)length) > GROUP)
                break;
            struct tree *tree = &trees[members++];
            tree->count = chunks_of((size_t)length);
            tree->out = digests + next * BLAKE3_CV;
            tree->cv = tree->count == 1 ? tree->out : cv + used * BLAKE3_CV;
            add_chunks(&work, length ? p + start : p, (size_t)length, 0, tree->count == 1 ? ROOT : 0, tree->cv);
            used += tree->count;
        }
        flush(&work);
        join(&work, trees, members, ROOT);
    }
    return AIP_OK;
}

void aip_blake3_padded(const uint8_t *p, size_t length, size_t total, uint8_t *digest)
{
    static const uint8_t zeros[1024];
    uint8_t cv[64 * 32], edge[1024] = {0};
    struct tree tree = {cv, chunks_of(total), digest};
    struct work work;

    begin(&work);
    begin_chunks(&work);
    for (size_t i = 0; i < tree.count; ++i) {
        size_t at = i * BLAKE3_CHUNK;
        const uint8_t *chunk = at + BLAKE3_CHUNK <= length ? p + at : zeros;
        if (at < length && length < at + BLAKE3_CHUNK) {
            memcpy(edge, p + at, length - at);
            chunk = edge;
        }
        add_chunks(&work, chunk, BLAKE3_CHUNK, i, tree.count == 1 ? ROOT : 0,
                   tree.count == 1 ? digest : cv + i * BLAKE3_CV);
    }
    flush(&work);
    join(&work, &tree, 1, ROOT);
}

int aip_blake3_chain(uint8_t *value, size_t value_len, const uint8_t *digests, size_t digests_len)
{
    uint8_t pair[64];

    if (value == NULL || value_len != BLAKE3_CV || digests_len % BLAKE3_CV || !aip_fits(digests, digests_len, digests_len))
        return AIP_EINVAL;
    if (aip_overlaps(value, value_len, digests, digests_len))
        return AIP_EOVERLAP;
    for (; digests_len; digests += BLAKE3_CV, digests_len -= BLAKE3_CV) {
        memcpy(pair, value, BLAKE3_CV);
        memcpy(pair + BLAKE3_CV, digests, BLAKE3_CV);
        hash_chunk(pair, sizeof pair, 0, ROOT, value);
    }
    return AIP_OK;
}
