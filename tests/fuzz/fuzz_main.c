/* Drives a fuzz target without libFuzzer: the files named on the command line, or else inputs from
 * a fixed seed: words the target may know, each changed a little, and noise. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROUNDS = 20000, SIZE_MAX_BYTES = 512 };

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    struct buf b = BUF_EMPTY;
    size_t n;
    do {
        n = fread(buf_reserve(&b, 4096), 1, 4096, f);
        b.len += n;
    } while (n > 0);
    fclose(f);
    LLVMFuzzerTestOneInput(b.ptr, b.len);
    buf_close(&b);
    return 0;
}

static void make_input(struct buf *b, uint64_t *rng)
{
    static const char *const words[] = {"PUB foo 5\r\nhello\r\n",
                                        "SUB a.* q 1\r\n",
                                        "PING\r\n",
                                        "CONNECT {}\r\n",
                                        "UNSUB 1 2\r\n",
                                        "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
                                        "NATS/1.0\r\n",
                                        "Nats-Msg-Id: x\r\n",
                                        "\r\n",
                                        "NATS/1.0 503 x\r\n",
                                        "a.b.c",
                                        "*",
                                        ">",
                                        ".",
                                        " ",
                                        "\t",
                                        "a: 1\n",
                                        "port: -1\n",
                                        "listen: \"a:9\"\n",
                                        "ping_interval: \"1h.5s\"\n",
                                        "cluster { port: 5, routes: [nats://u:p@h:6] }\n",
                                        "authorization { users: [{user: a, pass: b}] }\n",
                                        "jetstream { max_mem: \"5G\", sync: always }\n",
                                        "-p 0x10 ",
                                        "--cluster=nats://u:p@:-1 ",
                                        "--routes nats://a:1,nats://b:2 ",
                                        "b {",
                                        "}",
                                        "[1, 2]",
                                        "$a",
                                        "include x\n",
                                        "\"q\\x41\"",
                                        "(\nx\n)\n",
                                        "2016-05-04T18:53:41Z",
                                        "10MiB",
                                        "# c\n",
                                        "-1.5",
                                        "\xff",
                                        "999999999",
                                        "'",
                                        "\n",
                                        ":",
                                        "="};
    size_t count = 1 + next_random(rng) % 12;
    for (size_t i = 0; i < count && b->len < SIZE_MAX_BYTES; i++) {
        uint64_t r = next_random(rng);
        if (r % 8 == 0) {
            buf_append_u64(b, next_random(rng));
        } else {
            buf_append_str(b, words[(r >> 8) % (sizeof words / sizeof words[0])]);
        }
        if (r % 5 == 0) {
            b->ptr[(r >> 16) % b->len] = (uint8_t)(r >> 40);
        }
    }
    b->len -= next_random(rng) % 4 == 0 ? next_random(rng) % b->len : 0;
}

int main(int argc, char **argv)
{
    int status = 0;
    for (int i = 1; i < argc; i++) {
        status |= run_file(argv[i]);
    }
    if (argc > 1) {
        return status;
    }
    uint64_t rng = 88172645463325252u;
    for (int i = 0; i < ROUNDS; i++) {
        struct buf b = BUF_EMPTY;
        make_input(&b, &rng);
        /* Of exactly its size, so that reading on is seen. */
        uint8_t *exact = xmalloc(b.len);
        memcpy(exact, b.ptr, b.len);
        LLVMFuzzerTestOneInput(exact, b.len);
        free(exact);
        buf_close(&b);
    }
    return 0;
}
