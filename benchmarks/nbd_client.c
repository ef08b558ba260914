/* Random 4 KiB reads from an NBD server over a Unix socket, `depth` requests in flight.
 *
 *   nbd_client SOCKET DEPTH OFFSETS
 *
 * OFFSETS is a file of native 64-bit byte offsets, each read once, in order. Prints one JSON object:
 * reads, seconds, p50 and p99 latency in microseconds, and the 64-bit sum of the first words read, so
 * that two servers of the same disk can be compared. Handshake: fixed newstyle, export name "".
 */
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MAX_DEPTH = 1024 };

struct request {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
} __attribute__((packed));

struct reply {
    uint32_t magic, error;
    uint64_t cookie;
} __attribute__((packed));

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void send_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t done = send(fd, at, size, MSG_NOSIGNAL);
        if (done <= 0)
            fail("send");
        at += done;
        size -= (size_t)done;
    }
}

static void receive_all(int fd, void *data, size_t size)
{
    char *at = data;
    while (size) {
        ssize_t done = recv(fd, at, size, MSG_WAITALL);
        if (done <= 0)
            fail("recv");
        at += done;
        size -= (size_t)done;
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The socket's file may exist a moment before the server listens: try again for five seconds. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        fprintf(stderr, "%s: too long for a socket\n", path);
        exit(1);
    }
    strcpy(address.sun_path, path);
    for (int attempt = 0;; attempt++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fd < 0)
            fail("socket");
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        close(fd);
        if (attempt == 500)
            fail(path);
        usleep(10000);
    }
}

static void handshake(int fd)
{
    struct {
        uint64_t magic, option_magic;
        uint16_t flags;
    } __attribute__((packed)) hello;
    struct {
        uint32_t flags;
        uint64_t magic;
        uint32_t option, length;
    } __attribute__((packed)) choice = {
        htobe32(3), htobe64(0x49484156454f5054), htobe32(1), 0, /* fixed newstyle, no zeroes */
    };
    char export_info[10];

    receive_all(fd, &hello, sizeof hello);
    if (be64toh(hello.magic) != 0x4e42444d41474943 || (be16toh(hello.flags) & 3) != 3) {
        fprintf(stderr, "not a fixed newstyle NBD server\n");
        exit(1);
    }
    send_all(fd, &choice, sizeof choice);
    receive_all(fd, export_info, sizeof export_info);
}

static void ask(int fd, uint64_t cookie, uint64_t offset)
{
    struct request request = {
        htobe32(0x25609513), 0, 0, cookie, htobe64(offset), htobe32(BLOCK),
    };
    send_all(fd, &request, sizeof request);
}

static uint64_t *load(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        fail(path);
    *count = (size_t)ftell(file) / 8;
    uint64_t *words = malloc(*count * 8 + 8);
    rewind(file);
    if (!words || fread(words, 8, *count, file) != *count)
        fail(path);
    fclose(file);
    return words;
}

static int by_value(const void *one, const void *two)
{
    double a = *(const double *)one, b = *(const double *)two;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    size_t count, asked = 0, depth = argc == 4 ? (size_t)atoi(argv[2]) : 0;
    if (depth < 1 || depth > MAX_DEPTH) {
        fprintf(stderr, "usage: nbd_client SOCKET DEPTH OFFSETS\n");
        return 2;
    }
    uint64_t *offsets = load(argv[3], &count), sum = 0, word;
    double *latency = malloc(count * sizeof *latency + 8), *started = malloc(count * sizeof *started + 8);
    char block[BLOCK];
    if (!count || !latency || !started)
        fail(argv[3]);
    int fd = connect_to(argv[1]);
    handshake(fd);

    double start = now();
    for (; asked < depth && asked < count; asked++) {
        started[asked] = now();
        ask(fd, asked, offsets[asked]);
    }
    for (size_t done = 0; done < count; done++) {
        struct reply reply;
        receive_all(fd, &reply, sizeof reply);
        if (be32toh(reply.magic) != 0x67446698 || reply.error || reply.cookie >= count) {
            fprintf(stderr, "the server answered a read with an error\n");
            return 1;
        }
        receive_all(fd, block, sizeof block);
        latency[done] = now() - started[reply.cookie];
        memcpy(&word, block, 8);
        sum += word;
        if (asked < count) {
            started[asked] = now();
            ask(fd, asked, offsets[asked]);
            asked++;
        }
    }
    double seconds = now() - start;
    qsort(latency, count, sizeof *latency, by_value);
    printf("{\"reads\": %zu, \"seconds\": %.6f, \"p50\": %.1f, \"p99\": %.1f, \"sum\": %llu}\n", count,
           seconds, latency[count / 2] * 1e6, latency[count * 99 / 100] * 1e6, (unsigned long long)sum);
    struct request goodbye = {htobe32(0x25609513), 0, htobe16(2), 0, 0, 0};
    send_all(fd, &goodbye, sizeof goodbye);
    close(fd);
    return 0;
}
