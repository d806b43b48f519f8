/* Load client of the benchmark. See load.h; scripts/bench runs it. */
#include "tests/bench/load.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: weir_load COMMAND --server HOST:PORT [options]; prints one line of JSON\n"
    "  request --subject S [--body TEXT]\n"
    "  publish --subject S --messages N --size BYTES --window N [--seconds S]\n"
    "  pull    --stream S --consumer C --messages N --batch N\n"
    "  core    --subject S --messages N --size BYTES --subscribers N\n"
    "  gap     --subject S --size BYTES --kill PID --seconds S\n"
    "  steady  --subject S --size BYTES --rate N --seconds S; prints a line for each publish\n";

static const struct {
    const char *name;
    int (*run)(const struct load_options *o);
} commands[] = {
    {"request", load_request}, {"publish", load_publish}, {"pull", load_pull},
    {"core", load_core},       {"gap", load_gap},         {"steady", load_steady},
};

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < min || value > max) {
        fprintf(stderr, "load: %s is not a number from %llu to %llu\n", text,
                (unsigned long long)min, (unsigned long long)max);
        exit(2);
    }
    return value;
}

static bool parse(struct load_options *o, int argc, char **argv)
{
    static const struct option known[] = {
        {"server", required_argument, NULL, 's'},   {"subject", required_argument, NULL, 't'},
        {"body", required_argument, NULL, 'b'},     {"stream", required_argument, NULL, 'S'},
        {"consumer", required_argument, NULL, 'C'}, {"messages", required_argument, NULL, 'n'},
        {"size", required_argument, NULL, 'z'},     {"window", required_argument, NULL, 'w'},
        {"seconds", required_argument, NULL, 'T'},  {"subscribers", required_argument, NULL, 'u'},
        {"batch", required_argument, NULL, 'B'},    {"kill", required_argument, NULL, 'k'},
        {"rate", required_argument, NULL, 'r'},     {NULL, 0, NULL, 0},
    };
    int c = 0;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 's':
            o->server = optarg;
            break;
        case 't':
            o->subject = optarg;
            break;
        case 'b':
            o->body = optarg;
            break;
        case 'S':
            o->stream = optarg;
            break;
        case 'C':
            o->consumer = optarg;
            break;
        case 'n':
            o->messages_count = number(optarg, 1, 100000000);
            break;
        case 'z':
            o->payload_bytes = number(optarg, 0, 65536);
            break;
        case 'w':
            o->window = number(optarg, 1, 1000000);
            break;
        case 'T':
            o->seconds = (int64_t)number(optarg, 1, 3600);
            break;
        case 'u':
            o->subscribers_count = (int)number(optarg, 1, LOAD_SUBSCRIBERS_MAX);
            break;
        case 'B':
            o->batch = number(optarg, 1, 100000);
            break;
        case 'k':
            o->victim = (pid_t)number(optarg, 2, 4194304);
            break;
        case 'r':
            o->per_s = number(optarg, 1, 1000000);
            break;
        default:
            return false;
        }
    }
    return optind == argc && o->server != NULL;
}

int main(int argc, char **argv)
{
    struct load_options o = {
        .subject = "load",
        .body = "",
        .stream = "",
        .consumer = "",
        .messages_count = 100000,
        .payload_bytes = 128,
        .window = 1000,
        .subscribers_count = 1,
        .batch = 500,
        .per_s = 1000,
    };
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) == 0 && parse(&o, argc - 1, argv + 1)) {
            return commands[i].run(&o);
        }
    }
    fputs(usage, stderr);
    return 2;
}
