/* lmtp: deliver messages to a server on loopback over several connections, and count them.
 *
 *     cc -O2 -Wall -o lmtp lmtp.c
 *     ./lmtp PORT [key=value ...]
 *
 * keys   conns=1 count=1000 octets=4096 users=1 seconds=60 user=u%04d@bench.example
 *
 * Each connection delivers one message after the other to one recipient, waiting for each reply; the
 * recipients take turns. After `seconds` nothing more is begun. Every reply is checked, and that of the
 * content is what counts. Below a field `X-Check: CRC OCTETS` all have the same body of seeded chance.
 * The result is one JSON object on standard output: how many were accepted, in how many seconds, how
 * long one took from MAIL to its last reply, and the share of the time that this used a core itself.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE 512
#define BODY_LINE 78                /* octets, the end counted */
#define GRACE_SECONDS 30            /* for what was begun to be answered */

enum step { GREETING, LHLO, MAIL, RCPT, DATA, CONTENT, QUIT, OVER };

struct conn {
    int fd;
    enum step step;                  /* whose reply is awaited */
    long number;                     /* of the message under way */
    double since;                    /* time of its MAIL */
    char *out;                       /* what is being sent, and how much of it is */
    size_t size, sent, length;
    char line[LINE];                 /* the reply line being read, and its length */
};

static struct {
    const char *user;
    int port, conns, users;
    long count, octets;
    double seconds;
} opt = {.user = "u%04d@bench.example", .conns = 1, .users = 1, .count = 1000, .octets = 4096, .seconds = 60};

static int epoll_fd, live;
static long begun, accepted, faults;
static double *took;
static char *body;
static size_t body_octets;
static uint32_t body_crc;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *why) { perror(why); exit(70); }

static uint32_t crc_of(const char *at, size_t n)
{
    uint32_t crc = ~0u;
    while (n--) {
        crc ^= (unsigned char)*at++;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static void make_body(void)
{
    uint64_t chance = 1939;
    body_octets = opt.octets - opt.octets % BODY_LINE + BODY_LINE;
    body = malloc(body_octets + 1);
    for (size_t i = 0; i < body_octets; i++) {
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        body[i] = 'a' + (chance >> 33) % 26;
        if (i % BODY_LINE >= BODY_LINE - 2) body[i] = "\r\n"[i % BODY_LINE - (BODY_LINE - 2)];
    }
    body[body_octets] = 0;
    body_crc = crc_of(body, body_octets);
}

static void send_rest(struct conn *c)
{
    while (c->sent < c->size) {
        ssize_t n = send(c->fd, c->out + c->sent, c->size - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) die("send");
        c->sent += n;
    }
    struct epoll_event e = {.events = c->sent < c->size ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* Send the command or the content that is answered in `step`. */
static void say(struct conn *c, enum step step)
{
    char user[200];
    size_t room = body_octets + 600;
    c->step = step;
    c->sent = 0;
    snprintf(user, sizeof user, opt.user, (int)(c->number % opt.users));
    switch (step) {
    case LHLO: c->size = snprintf(c->out, room, "LHLO bench.example\r\n"); break;
    case MAIL: c->size = snprintf(c->out, room, "MAIL FROM:<sender@bench.example>\r\n"); break;
    case RCPT: c->size = snprintf(c->out, room, "RCPT TO:<%s>\r\n", user); break;
    case DATA: c->size = snprintf(c->out, room, "DATA\r\n"); break;
    case CONTENT:
        c->size = snprintf(c->out, room, "Message-ID: <%ld@bench.example>\r\nFrom: sender@bench.example\r\n"
                           "Subject: a message to be stored\r\nX-Check: %08x %zu\r\n\r\n%s.\r\n",
                           c->number, body_crc, body_octets, body);
        break;
    default: c->size = snprintf(c->out, room, "QUIT\r\n"); break;
    }
    send_rest(c);
}

static void next_message(struct conn *c)
{
    if (begun >= opt.count) { say(c, QUIT); return; }
    c->number = begun++;
    c->since = now();
    say(c, MAIL);
}

static void answered(struct conn *c)
{
    static const char *wanted[] = {"220", "250", "250", "250", "354", "250", "221"};
    if (strncmp(c->line, wanted[c->step], 3)) {
        if (faults++ < 5) fprintf(stderr, "lmtp: step %d: %s", c->step, c->line);
        say(c, QUIT);
    } else if (c->step == CONTENT) {
        took[accepted++] = now() - c->since;
        next_message(c);
    } else if (c->step == LHLO) {
        next_message(c);
    } else if (c->step == QUIT) {
        c->step = OVER;
        close(c->fd);
        live--;
    } else {
        say(c, c->step + 1);
    }
}

static void ready(struct conn *c, uint32_t events)
{
    char buffer[4096];
    if (events & EPOLLOUT) send_rest(c);
    if (!(events & ~EPOLLOUT)) return;
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { faults++; c->step = OVER; close(c->fd); live--; return; }
    for (ssize_t i = 0; i < n && c->step != OVER; i++) {
        if (c->length < LINE - 1) c->line[c->length++] = buffer[i];
        if (buffer[i] != '\n') continue;
        c->line[c->length] = 0;
        c->length = 0;
        if (c->line[3] != '-') answered(c);          /* the last line of a reply */
    }
}

static void open_connection(struct conn *c)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(opt.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->out = malloc(body_octets + 600);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
    live++;
}

static void option(char *word)
{
    char *value = strchr(word, '=');
    if (value) *value++ = 0;
    if (value && !strcmp(word, "conns")) opt.conns = atoi(value);
    else if (value && !strcmp(word, "count")) opt.count = atol(value);
    else if (value && !strcmp(word, "octets")) opt.octets = atol(value);
    else if (value && !strcmp(word, "users")) opt.users = atoi(value);
    else if (value && !strcmp(word, "seconds")) opt.seconds = atof(value);
    else if (value && !strcmp(word, "user")) opt.user = value;
    else { fprintf(stderr, "lmtp: no key %s\n", word); exit(64); }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(double passed)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    qsort(took, accepted, sizeof *took, by_size);
    printf("{\"seconds\": %.6f, \"accepted\": %ld, \"octets\": %ld, \"faults\": %ld, \"busy\": %.3f, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", passed, accepted, accepted * (long)body_octets, faults,
           cpu / passed, accepted ? took[accepted / 2] * 1e3 : 0, accepted ? took[accepted * 99 / 100] * 1e3 : 0);
}

int main(int argc, char **argv)
{
    if (argc < 2) { fputs("usage: lmtp PORT [key=value ...]\n", stderr); return 64; }
    opt.port = atoi(argv[1]);
    for (int i = 2; i < argc; i++) option(argv[i]);
    make_body();
    took = calloc(opt.count + 1, sizeof *took);
    epoll_fd = epoll_create1(0);
    struct conn *conns = calloc(opt.conns, sizeof *conns);
    for (int i = 0; i < opt.conns; i++) open_connection(conns + i);
    double began = now();
    while (live && now() < began + opt.seconds + GRACE_SECONDS) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll_fd, events, 64, 100);
        for (int i = 0; i < n; i++) ready(events[i].data.ptr, events[i].events);
        if (now() > began + opt.seconds && begun < opt.count) opt.count = begun;
    }
    tell(now() - began);
    return faults || live ? 1 : 0;
}
