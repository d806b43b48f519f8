/* Runs a target without libFuzzer: first the files given, and those in the directories given, as
 * they are; then inputs made out of them from a fixed seed. So every build tries every target on
 * what a longer search has found, and on its neighbourhood.
 *
 *   fuzz_x [-rounds=N] [-max_len=N] [-dict=FILE] [PATH ...]
 *   fuzz_x -allocs=N [PATH ...]
 *   fuzz_x -alloc=K FILE
 *
 * With -allocs each file runs again and again, each time with another allocation failing, all of
 * them or N evenly spread: the target must come to its end with all its promises kept, or stop
 * with the message that memory is out. With -alloc one of them fails in this process, for a
 * debugger. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_allocs.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

#define ROUNDS_DEFAULT 20000u
#define MAX_LEN_DEFAULT 4096u

/* Byte strings: inputs, words. */
struct list {
    struct slice *ptr;
    size_t n;
};

struct run {
    struct list seeds;
    struct list words;
    uint64_t rng;
    size_t max_len;
};

static void push(struct list *l, struct buf *b)
{
    l->ptr = xrealloc(l->ptr, (l->n + 1) * sizeof *l->ptr);
    l->ptr[l->n++] = buf_slice(b);
}

static void list_close(struct list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free((uint8_t *)(uintptr_t)l->ptr[i].ptr);
    }
    free(l->ptr);
}

static uint64_t roll(struct run *run, uint64_t below)
{
    run->rng ^= run->rng << 13;
    run->rng ^= run->rng >> 7;
    run->rng ^= run->rng << 17;
    return (run->rng >> 11) % below;
}

/* ---- Files ---- */

static int read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    size_t n;
    do {
        n = fread(buf_reserve(out, 4096), 1, 4096, f);
        out->len += n;
    } while (n > 0);
    fclose(f);
    return 0;
}

/* In a piece of memory of exactly its size, so that reading on is seen. */
static void run_input(struct slice in)
{
    uint8_t *exact = xmalloc(in.len);
    if (in.len > 0) {
        memcpy(exact, in.ptr, in.len);
    }
    LLVMFuzzerTestOneInput(exact, in.len);
    free(exact);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int take_path(struct run *run, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        return 1;
    }
    if (S_ISDIR(st.st_mode)) {
        struct dirent **names;
        int rv = 0;
        int n = scandir(path, &names, NULL, by_name);
        for (int i = 0; i < n; i++) {
            if (names[i]->d_name[0] != '.') {
                struct buf p = BUF_EMPTY;
                buf_printf(&p, "%s/%s%c", path, names[i]->d_name, 0);
                rv |= take_path(run, (const char *)p.ptr);
                buf_close(&p);
            }
            free(names[i]);
        }
        if (n >= 0) {
            free(names);
        }
        return rv;
    }
    struct buf b = BUF_EMPTY;
    if (read_file(path, &b) != 0) {
        return 1;
    }
    push(&run->seeds, &b);
    return 0;
}

/* libFuzzer's form: NAME="text with \xNN, \\ and \"", one a line; # begins a comment. */
static int take_words(struct run *run, const char *path)
{
    struct buf file = BUF_EMPTY;
    if (read_file(path, &file) != 0) {
        return 1;
    }
    const char *p = (const char *)file.ptr;
    const char *end = p + file.len;
    while (p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        line_end = line_end == NULL ? end : line_end;
        const char *at = p[0] == '#' ? NULL : memchr(p, '"', (size_t)(line_end - p));
        struct buf word = BUF_EMPTY;
        for (at = at == NULL ? line_end : at + 1; at < line_end && *at != '"'; at++) {
            unsigned hex;
            if (*at != '\\') {
                buf_append_u8(&word, (uint8_t)*at);
            } else if (at + 3 < line_end && at[1] == 'x' && sscanf(at + 2, "%2x", &hex) == 1) {
                buf_append_u8(&word, (uint8_t)hex);
                at += 3;
            } else {
                buf_append_u8(&word, (uint8_t) * ++at);
            }
        }
        if (word.len > 0) {
            push(&run->words, &word);
        }
        p = line_end + 1;
    }
    buf_close(&file);
    return 0;
}

/* ---- Inputs out of others ---- */

static void insert(struct buf *b, size_t at, struct slice s)
{
    buf_reserve(b, s.len);
    memmove(b->ptr + at + s.len, b->ptr + at, b->len - at);
    if (s.len > 0) {
        memcpy(b->ptr + at, s.ptr, s.len);
    }
    b->len += s.len;
}

static struct slice piece_of(struct run *run, struct slice s)
{
    if (s.len == 0) {
        return s;
    }
    size_t from = roll(run, s.len);
    return slice_of(s.ptr + from, 1 + roll(run, s.len - from));
}

static void mutate(struct run *run, struct buf *b)
{
    static const uint64_t numbers[] = {0,          1,          127,      128,        255,
                                       256,        65535,      1u << 31, UINT32_MAX, 1ull << 62,
                                       1ull << 63, UINT64_MAX, INT64_MAX};
    uint8_t bytes[8];
    size_t at = roll(run, b->len + 1);
    size_t left = b->len - at;
    switch (roll(run, 8)) {
    case 0:
        if (left > 0) {
            b->ptr[at] ^= (uint8_t)(1u << roll(run, 8));
        }
        break;
    case 1:
        if (left > 0) {
            b->ptr[at] = (uint8_t)roll(run, 256);
        }
        break;
    case 2: { /* A number over what is there. */
        uint64_t v = numbers[roll(run, sizeof numbers / sizeof numbers[0])];
        size_t width = (size_t)1 << roll(run, 4);
        memcpy(bytes, &v, sizeof bytes);
        memcpy(b->ptr == NULL ? bytes : b->ptr + at, bytes, width < left ? width : left);
        break;
    }
    case 3:
        if (run->words.n > 0) {
            insert(b, at, run->words.ptr[roll(run, run->words.n)]);
        }
        break;
    case 4:
        if (run->seeds.n > 0) {
            insert(b, at, piece_of(run, run->seeds.ptr[roll(run, run->seeds.n)]));
        }
        break;
    case 5: /* Less. */
        if (left > 0) {
            size_t n = 1 + roll(run, left);
            memmove(b->ptr + at, b->ptr + at + n, left - n);
            b->len -= n;
        }
        break;
    case 6: { /* Some of it twice. */
        struct buf copy = BUF_EMPTY;
        buf_append_slice(&copy, piece_of(run, buf_slice(b)));
        insert(b, at, buf_slice(&copy));
        buf_close(&copy);
        break;
    }
    default: {
        uint64_t noise = roll(run, UINT64_MAX);
        memcpy(bytes, &noise, sizeof bytes);
        insert(b, at, slice_of(bytes, 1 + roll(run, sizeof bytes)));
        break;
    }
    }
}

static void run_rounds(struct run *run, unsigned long rounds)
{
    struct buf b = BUF_EMPTY;
    for (unsigned long i = 0; i < rounds; i++) {
        buf_clear(&b);
        buf_reserve(&b, 1);
        if (run->seeds.n > 0) {
            buf_append_slice(&b, run->seeds.ptr[roll(run, run->seeds.n)]);
        }
        for (uint64_t n = 1 + roll(run, 6); n > 0; n--) {
            mutate(run, &b);
            b.len = b.len < run->max_len ? b.len : run->max_len;
        }
        run_input(buf_slice(&b));
    }
    buf_close(&b);
}

int main(int argc, char **argv)
{
    struct run run = {.rng = 88172645463325252u, .max_len = MAX_LEN_DEFAULT};
    unsigned long rounds = ROUNDS_DEFAULT;
    unsigned long allocs = 0;
    unsigned long alloc = 0;
    int status = LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-rounds=", 8) == 0) {
            rounds = strtoul(argv[i] + 8, NULL, 10);
        } else if (strncmp(argv[i], "-max_len=", 9) == 0) {
            run.max_len = strtoul(argv[i] + 9, NULL, 10);
        } else if (strncmp(argv[i], "-allocs=", 8) == 0) {
            allocs = strtoul(argv[i] + 8, NULL, 10);
        } else if (strncmp(argv[i], "-alloc=", 7) == 0) {
            alloc = strtoul(argv[i] + 7, NULL, 10);
        } else if (strncmp(argv[i], "-dict=", 6) == 0) {
            status |= take_words(&run, argv[i] + 6);
        } else {
            status |= take_path(&run, argv[i]);
        }
    }
    if (allocs > 0) {
        status |= fuzz_allocs(run.seeds.ptr, run.seeds.n, allocs, run_input);
    } else if (alloc > 0 && run.seeds.n > 0) {
        fuzz_alloc_one(run.seeds.ptr[0], alloc, run_input);
    } else {
        for (size_t i = 0; i < run.seeds.n; i++) {
            run_input(run.seeds.ptr[i]);
        }
        run_rounds(&run, rounds);
        printf("%zu files, %lu inputs made of them\n", run.seeds.n, rounds);
    }
    list_close(&run.seeds);
    list_close(&run.words);
    return status;
}
