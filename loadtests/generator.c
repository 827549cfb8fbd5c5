/* Requests at a speed that Python has not: one thread, one epoll, keep-alive connections to 127.0.0.1.

   generator pairs      lock and then redeem single-use codes: each connection begins the next pair when it has one
                        behind it. The codes are PREFIX0 to PREFIX<codes-1>, taken in a mixed order.
   generator redeem     the same without the locks: a pair is one redemption.
   generator opening    buyers who arrive evenly within a time, one request each, whatever became of those before them.
                        Who finds no connection free waits for one; latencies count from the arrival.
   generator histogram  the histogram of latencies that standard input has, in whole µs, one a line.

   Each response's status and code is checked. `cc` compiles this at first use (docs/internals/decisions/0131).

   One JSON object goes to standard output. Exit status: 0 where every request had an answer and each was one of those
   that should come, 1 where not, 2 where the options make no sense. The credential is in SCRIP_LOAD_TOKEN. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    ANSWER_BYTES = 16384,
    REQUEST_BYTES = 2048,
    WORD_BYTES = 64,
    KINDS = 64,            /* answers that are told apart; any more count as the last */
    SPARE_S = 30,          /* how long answers are waited for after the time is over */
    SUB = 64,              /* buckets for each power of two: a latency is told to 1.6 % */
    BUCKETS = 26 * SUB + SUB,
    STRIDE = 7919,         /* a prime: codes are taken in this step, so that neighbours are far apart */
};

enum step { LOCK, REDEEM, ASSIGN, ALL, STEPS };
static const char *const STEP_NAMES[] = {"lock", "redeem", "assign", "all"};

struct histogram {
    uint64_t number, max_us, buckets[BUCKETS];
};

struct kind { /* of answer */
    enum step step;
    int status;
    char reason[WORD_BYTES]; /* a refusal's code */
    uint64_t number;
};

struct connection {
    int fd, have;
    bool busy; /* an answer is to come */
    enum step step;
    uint64_t unit, began_ns; /* a unit is a pair or a buyer */
    char token[WORD_BYTES], answer[ANSWER_BYTES + 1];
};

static bool opening, full;
static enum step first_step; /* of a unit */
static uint64_t rate, port, width = 64, seconds = 60, within_ms = 1000, codes, first, count = UINT64_MAX;
static char *prefix = "", *run = "r", *code, *book, *refusal = "", *bearer;

static const struct {
    const char *name;
    uint64_t *number, least, most;
    char **text;
} OPTIONS[] = {
    {"port", &port, 1, 65535, 0},
    {"connections", &width, 1, 10000, 0},
    {"seconds", &seconds, 1, 3600, 0},           /* no more is begun after them */
    {"count", &count, 1, 1000000000, 0},         /* pairs at most, or buyers */
    {"rate", &rate, 1, 1000000, 0},              /* pairs: at most so many are begun a second */
    {"codes", &codes, 1, 1000000000, 0},         /* pairs: there are so many codes, */
    {"first", &first, 0, 1000000000, 0},         /* and so many of them were taken before */
    {"prefix", 0, 0, 0, &prefix},
    {"within-ms", &within_ms, 1, 3600000, 0},    /* opening: all buyers have come then */
    {"code", 0, 0, 0, &code},                    /* they redeem this one, */
    {"book", 0, 0, 0, &book},                    /* or have a code of this book assigned */
    {"refusal", 0, 0, 0, &refusal},              /* what those hear who get nothing */
    {"run", 0, 0, 0, &run},                      /* in the names of users, orders and keys */
};
enum { KNOWN = sizeof OPTIONS / sizeof *OPTIONS };

static struct connection **idle;
static int epoll_fd;
static uint64_t idle_count, busy_count;
static uint64_t start_ns, last_ns, units, next_unit, finished, asked, answered, unexpected, gone;
static struct kind kinds[KINDS];
static int kind_count;
static struct histogram by_step[STEPS];

static _Noreturn void fail(int status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("generator: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    exit(status);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- the histogram ----------------------------------------------------------------------------------------------- */

static int bucket_of(uint64_t us) {
    if (us < 2 * SUB) return (int)us;
    int shift = 57 - __builtin_clzll(us); /* brings it to SUB .. 2 SUB - 1 */
    return SUB * shift + (int)(us >> shift);
}

static uint64_t highest_of(int bucket) {
    if (bucket < 2 * SUB) return (uint64_t)bucket;
    int shift = bucket / SUB - 1;
    return ((uint64_t)(bucket - SUB * shift + 1) << shift) - 1;
}

static void record(struct histogram *to, uint64_t us) {
    if (us > UINT32_MAX) us = UINT32_MAX;
    to->buckets[bucket_of(us)]++;
    to->number++;
    if (us > to->max_us) to->max_us = us;
}

/* [the most µs that it stands for, how many] for each bucket that has any. */
static void print_histogram(enum step step) {
    const struct histogram *of = &by_step[step];
    const char *comma = "";
    printf("\"%s\": {\"count\": %lu, \"max\": %lu, \"buckets\": [", STEP_NAMES[step], of->number, of->max_us);
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        if (!of->buckets[bucket]) continue;
        printf("%s[%lu, %lu]", comma, highest_of(bucket), of->buckets[bucket]);
        comma = ", ";
    }
    printf("]}");
}

static int judge_latencies(void) {
    unsigned long us;
    int read;
    while ((read = scanf("%lu", &us)) == 1) record(&by_step[ALL], us);
    if (read == 0) fail(2, "what is no number is no latency");
    printf("{");
    print_histogram(ALL);
    printf("}\n");
    return 0;
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static void name_code(const struct connection *c, char *into) {
    if (code)
        snprintf(into, WORD_BYTES, "%s", code);
    else
        snprintf(into, WORD_BYTES, "%s%lu", prefix, (first + c->unit) * STRIDE % codes);
}

static int write_body(const struct connection *c, char *into, size_t room) {
    char order[2 * WORD_BYTES] = "", more[2 * WORD_BYTES] = "";
    if (full && c->step != ASSIGN)
        snprintf(order, sizeof order, ",\"orderId\":\"o-%s-%lu\"%s", run, c->unit,
                 c->step == REDEEM ? ",\"orderValue\":59.9" : "");
    if (c->step == ASSIGN)
        snprintf(more, sizeof more, ",\"bookId\":\"%s\"", book);
    else if (c->token[0])
        snprintf(more, sizeof more, ",\"lockToken\":\"%s\"", c->token);
    return snprintf(into, room, "{\"userId\":\"u-%s-%lu\"%s%s}", run, c->unit, order, more);
}

static void lose(struct connection *c) {
    gone++;
    busy_count -= c->busy;
    c->busy = false;
    close(c->fd);
    c->fd = -1;
}

static void ask(struct connection *c) {
    char code[WORD_BYTES] = "", key[2 * WORD_BYTES] = "", body[512], request[REQUEST_BYTES];
    if (c->step != ASSIGN) name_code(c, code);
    if (full)
        snprintf(key, sizeof key, "Idempotency-Key: %s-%lu-%s\r\n", run, c->unit, STEP_NAMES[c->step]);
    int length = write_body(c, body, sizeof body);
    int size = snprintf(request, sizeof request,
                        "POST /v1/coupons/%s%s%s HTTP/1.1\r\nHost: 127.0.0.1:%lu\r\nAuthorization: Bearer %s\r\n%s"
                        "Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: %d\r\n\r\n%s",
                        STEP_NAMES[c->step], code[0] ? "/" : "", code, port, bearer, key, length, body);
    if (size >= REQUEST_BYTES) fail(2, "a request would have %d bytes", size);
    c->have = 0;
    c->busy = true;
    busy_count++;
    asked++;
    if (send(c->fd, request, (size_t)size, MSG_NOSIGNAL) != size) lose(c);
}

/* When a buyer arrives, in steps of a millisecond; pairs are due at once, or at their rate. */
static uint64_t due_ns(uint64_t unit) {
    if (!opening) return rate ? start_ns + unit * 1000000000u / rate : 0;
    return start_ns + unit * (uint64_t)within_ms / units * 1000000u;
}

/* Give free connections what is due; the ns until more is, or 0 where that depends on answers. */
static uint64_t begin_units(void) {
    uint64_t now = now_ns();
    while (idle_count && next_unit < units) {
        uint64_t due = due_ns(next_unit);
        if (due > now) return due - now;
        struct connection *c = idle[--idle_count];
        if (c->fd < 0) continue;
        c->unit = next_unit++;
        c->step = first_step;
        c->began_ns = due ? due : now;
        c->token[0] = 0;
        ask(c);
    }
    return 0;
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

/* The text of a field of a flat JSON object; empty where there is none. */
static void read_field(const char *body, const char *mark, char *into) {
    const char *from = strstr(body, mark);
    size_t length = from ? strcspn(from + strlen(mark), "\"") : 0;
    if (length >= WORD_BYTES) length = 0;
    if (length) memcpy(into, from + strlen(mark), length);
    into[length] = 0;
}

/* The bytes of an answer's body; -1 where its head doesn't say. */
static long body_bytes(const char *head, const char *end) {
    for (const char *line = head; line && line < end; line = strstr(line, "\r\n")) {
        line += line == head ? 0 : 2;
        if (strncasecmp(line, "content-length:", 15) == 0) return strtol(line + 15, NULL, 10);
    }
    return -1;
}

static void count_answer(enum step step, int status, const char *reason) {
    int at = 0;
    while (at < kind_count
           && (kinds[at].step != step || kinds[at].status != status || strcmp(kinds[at].reason, reason)))
        at++;
    if (at == KINDS) at--;
    if (at == kind_count) {
        kinds[kind_count] = (struct kind){.step = step, .status = status};
        strcpy(kinds[kind_count++].reason, reason);
    }
    kinds[at].number++;
}

/* Judge a whole answer, and go on: to the redemption that follows a lock, or to the next pair or buyer. */
static void take_answer(struct connection *c, int status, const char *body) {
    uint64_t now = now_ns(), us = (now - c->began_ns) / 1000;
    char reason[WORD_BYTES] = "", wanted[WORD_BYTES] = "";
    bool good = status == 201;
    read_field(body, "\"code\":\"", reason);
    if (good && c->step != ASSIGN) {
        name_code(c, wanted);
        good = strcmp(reason, wanted) == 0;
    }
    reason[strspn(reason, "abcdefghijklmnopqrstuvwxyz_")] = 0; /* a refusal's, as JSON can have it */
    count_answer(c->step, status, status >= 400 ? reason : status == 201 && !good ? "of_another" : "");
    unexpected += !good && !(opening && status == 409 && strcmp(reason, refusal) == 0);
    record(&by_step[c->step], us);
    record(&by_step[ALL], us);
    answered++;
    last_ns = now;
    c->busy = false;
    busy_count--;
    if (!good || c->step != LOCK) {
        finished += good;
        idle[idle_count++] = c;
        return;
    }
    read_field(body, "\"lockToken\":\"", c->token);
    c->step = REDEEM;
    c->began_ns = now;
    ask(c);
}

static void read_answer(struct connection *c) {
    ssize_t got = recv(c->fd, c->answer + c->have, (size_t)(ANSWER_BYTES - c->have), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || !c->busy) return lose(c);
    c->have += (int)got;
    c->answer[c->have] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    long length = end ? body_bytes(c->answer, end) : 0;
    if (strncmp(c->answer, "HTTP/1.1 ", c->have < 9 ? (size_t)c->have : 9) != 0 || length < 0 || length > ANSWER_BYTES)
        lose(c);
    else if (end && c->have >= end + 4 - c->answer + length)
        take_answer(c, atoi(c->answer + 9), end + 4);
}

/* --- the run ----------------------------------------------------------------------------------------------------- */

static void connect_all(void) {
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct connection *connections = calloc(width, sizeof *connections);
    idle = calloc(width, sizeof *idle);
    epoll_fd = epoll_create1(0);
    if (!connections || !idle || epoll_fd < 0) fail(1, "no memory, or no epoll: %s", strerror(errno));
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (uint64_t number = 0; number < width; number++) {
        struct connection *c = idle[idle_count++] = &connections[number];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&where, sizeof where) < 0)
            fail(1, "127.0.0.1:%lu takes no connection: %s", port, strerror(errno));
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0) fail(1, "epoll: %s", strerror(errno));
    }
}

static void drive(void) {
    struct epoll_event events[256];
    start_ns = last_ns = now_ns();
    uint64_t over_ns = start_ns + (uint64_t)seconds * 1000000000u, ended_ns = over_ns + SPARE_S * 1000000000ull;
    for (;;) {
        uint64_t now = now_ns();
        if (now >= over_ns) units = next_unit;
        uint64_t wait_ns = begin_units();
        if (now >= ended_ns || gone == width || (next_unit >= units && !busy_count)) return;
        int wait_ms = wait_ns ? (int)((wait_ns + 999999) / 1000000) : 100;
        int ready = epoll_wait(epoll_fd, events, 256, wait_ms);
        for (int at = 0; at < ready; at++)
            if (((struct connection *)events[at].data.ptr)->fd >= 0) read_answer(events[at].data.ptr);
    }
}

static int report(void) {
    double cpu_s = (double)clock() / CLOCKS_PER_SEC;
    uint64_t unanswered = asked - answered, unasked = opening ? count - next_unit : 0;
    bool good = answered && !unexpected && !unanswered && !unasked;
    printf("{\"good\": %s, \"seconds\": %.6f, \"cpuSeconds\": %.6f, \"finished\": %lu, \"asked\": %lu, ",
           good ? "true" : "false", (double)(last_ns - start_ns) / 1e9, cpu_s, finished, asked);
    printf("\"answered\": %lu, \"unanswered\": %lu, \"unasked\": %lu, \"unexpected\": %lu, \"connectionsLost\": %lu, "
           "\"answers\": {", answered, unanswered, unasked, unexpected, gone);
    for (int at = 0; at < kind_count; at++)
        printf("%s\"%s %d%s%s\": %lu", at ? ", " : "", STEP_NAMES[kinds[at].step], kinds[at].status,
               kinds[at].reason[0] ? " " : "", kinds[at].reason, kinds[at].number);
    printf("}, \"latencyUs\": {");
    for (enum step step = 0; step < STEPS; step++) {
        if (step != ALL && !by_step[step].number) continue;
        print_histogram(step);
        if (step != ALL) printf(", ");
    }
    printf("}}\n");
    return !good;
}

static void read_options(int words, char **word) {
    struct option known[KNOWN + 2] = {[KNOWN] = {"full", 0, 0, KNOWN}};
    for (int at = 0; at < KNOWN; at++) known[at] = (struct option){OPTIONS[at].name, required_argument, 0, at};
    for (int at; (at = getopt_long(words, word, "", known, 0)) != -1;) {
        char *end = "";
        errno = 0;
        if (at == '?') exit(2);
        if (at == KNOWN)
            full = true;
        else if (OPTIONS[at].text)
            *OPTIONS[at].text = optarg;
        else if (*OPTIONS[at].number = strtoull(optarg, &end, 10), errno || *end || *optarg < '0' || *optarg > '9' ||
                 *OPTIONS[at].number < OPTIONS[at].least || *OPTIONS[at].number > OPTIONS[at].most)
            fail(2, "--%s is %lu to %lu, and not %s", OPTIONS[at].name, OPTIONS[at].least, OPTIONS[at].most, optarg);
    }
    const char *mode = optind + 1 == words ? word[optind] : "";
    if (strcmp(mode, "histogram") == 0) exit(judge_latencies());
    opening = strcmp(mode, "opening") == 0;
    bearer = getenv("SCRIP_LOAD_TOKEN");
    if (opening)
        first_step = code ? REDEEM : ASSIGN;
    else if (strcmp(mode, "redeem") == 0)
        first_step = REDEEM;
    else if (strcmp(mode, "pairs") == 0)
        first_step = LOCK;
    else
        fail(2, "say pairs, redeem, opening or histogram");
    if (!port || !bearer) fail(2, "--port and SCRIP_LOAD_TOKEN are needed");
    if (opening && (!code == !book || count > 1000000)) fail(2, "an opening has --count, and --code or --book");
    if (!opening && first >= codes) fail(2, "--codes is above --first");
    if (codes && codes % STRIDE == 0) fail(2, "--codes is no multiple of %d", STRIDE);
}

int main(int words, char **word) {
    read_options(words, word);
    units = opening || count < codes - first ? count : codes - first;
    connect_all();
    drive();
    return report();
}
