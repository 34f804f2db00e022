/* load: drive a POP3 server on loopback and count what it did.
 *
 *     cc -O2 -Wall -o load load.c
 *     ./load MODE PORT [key=value ...]
 *
 * MODE   login     USER PASS QUIT, again and again
 *        session   USER PASS STAT UIDL LIST, `retr` times RETR, QUIT
 *        command   NOOP, STAT, LIST 1, UIDL 1 in turn over open sessions
 *        retr      RETR of every message over open sessions
 *        top       TOP n 0 of every message over open sessions
 *        idle      log `conns` sessions in, print a line, hold them until standard input ends
 *
 * keys   conns=16 count=1000 pipeline=1 users=1 retr=3 messages=1 seconds=60 password=secret
 *        user=u%04d   a printf form; each connection takes users of its own in turn
 *        sources=1    spread the connections over 127.0.0.1 ... 127.0.0.N
 *
 * count is sessions for login and session, commands for the others. Every run ends after
 * `seconds` in any case. One thread, epoll; the target is always 127.0.0.1. Every reply is checked:
 * +OK, the end of multi-line replies, and for RETR that the unstuffed octets are as many as announced.
 * The result is one JSON object on standard output; "busy" is the CPU that load itself used, as a
 * share of the time: near 1 means that load, not the server, was the limit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum step { USER, PASS, STAT, UIDL, LIST, RETR, TOP, NOOP, LIST1, UIDL1, QUIT };
enum phase { GREETING, WORK, ENDING };

static struct {
    const char *mode, *user, *password;
    int port, conns, pipeline, users, retr, messages, sources;
    long count;
    double seconds;
} opt = {.user = "u%04d", .password = "secret", .conns = 16, .pipeline = 1, .users = 1, .retr = 3,
         .messages = 1, .sources = 1, .count = 1000, .seconds = 60};

#define QUEUE 256
struct conn {
    int fd, user, at, next_message, logged_in, in_body, quits, doomed;
    enum phase phase;
    enum step queue[QUEUE];          /* commands sent and not answered yet */
    unsigned head, tail;
    long announced, body;            /* octets of the RETR being read */
    char line[1024];                 /* the beginning of the line being read */
    size_t line_length;
};

static struct conn *conns;
static int epoll_fd, live, holding;
static long started, done, sessions, commands, octets, faults;
static double began;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int is_mode(const char *name) { return strcmp(opt.mode, name) == 0; }
static int per_session(void) { return is_mode("login") || is_mode("session"); }

static void die(const char *why) { perror(why); exit(70); }

static void open_connection(struct conn *c, int index)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(opt.port)}, from = {.sin_family = AF_INET};
    /* each connection has users of its own: two sessions never want one maildrop */
    int own = opt.users > opt.conns ? opt.users / opt.conns : 1;
    int user = (index + opt.conns * (int)(started++ / opt.conns % own)) % opt.users;
    memset(c, 0, sizeof *c);
    c->user = user;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (opt.sources > 1) {
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + index % opt.sources);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    }
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
    live++;
}

static void close_connection(struct conn *c)
{
    close(c->fd);
    c->fd = -1;
    live--;
}

/* The command at place `at` of a session; 0 when the script is over. */
static int scripted(struct conn *c, enum step *what)
{
    static const enum step listing[] = {STAT, UIDL, LIST};
    int at = c->at++;
    if (at == 0) *what = USER;
    else if (at == 1) *what = PASS;
    else if (is_mode("session") && at < 5) *what = listing[at - 2];
    else if (is_mode("session") && at < 5 + opt.retr) *what = RETR;
    else if (per_session() && !c->quits++) *what = QUIT;
    else return 0;
    return 1;
}

static int next_step(struct conn *c, enum step *what)
{
    static const enum step mix[] = {NOOP, STAT, LIST1, UIDL1};
    if (c->at < 2 || per_session()) return scripted(c, what);
    if (!c->logged_in || is_mode("idle") || started >= opt.count) return 0;
    started++;
    *what = is_mode("command") ? mix[c->at++ % 4] : is_mode("top") ? TOP : RETR;
    return 1;
}

static void send_more(struct conn *c)
{
    char out[8192];
    size_t n = 0;
    enum step what;
    /* the script of a session waits for each reply, as clients do; open sessions pipeline */
    unsigned depth = c->logged_in && !per_session() ? opt.pipeline : 1;
    while (c->tail - c->head < depth && n < sizeof out - 300 && next_step(c, &what)) {
        char *at = out + n;
        size_t room = sizeof out - n;
        if (what == RETR || what == TOP) {
            if (++c->next_message > opt.messages) c->next_message = 1;
            n += snprintf(at, room, what == RETR ? "RETR %d\r\n" : "TOP %d 0\r\n", c->next_message);
        } else if (what == USER) {
            n += snprintf(at, room, "USER ");
            n += snprintf(out + n, sizeof out - n, opt.user, c->user);
            n += snprintf(out + n, sizeof out - n, "\r\n");
        } else if (what == PASS) {
            n += snprintf(at, room, "PASS %s\r\n", opt.password);
        } else {
            static const char *plain[] = {[STAT] = "STAT", [UIDL] = "UIDL", [LIST] = "LIST", [NOOP] = "NOOP",
                                          [LIST1] = "LIST 1", [UIDL1] = "UIDL 1", [QUIT] = "QUIT"};
            n += snprintf(at, room, "%s\r\n", plain[what]);
        }
        c->queue[c->tail++ % QUEUE] = what;
    }
    if (n && send(c->fd, out, n, MSG_NOSIGNAL) != (ssize_t)n) { faults++; c->doomed = 1; }
}

static int multi_line(enum step what) { return what == UIDL || what == LIST || what == RETR || what == TOP; }

static void answered(struct conn *c)
{
    enum step what = c->queue[c->head++ % QUEUE];
    commands++;
    if (what == RETR && c->body != c->announced) faults++;
    if (what == PASS) { c->logged_in = 1; if (!per_session()) sessions++; }
    if (what == QUIT) { sessions++; c->phase = ENDING; }
    if (!per_session() && c->logged_in && what != PASS) done++;
    if (is_mode("idle") && what == PASS && ++holding == opt.conns) { puts("holding"); fflush(stdout); }
}

/* One line, or its beginning when it is long; `whole` octets with its end. */
static void take_line(struct conn *c, size_t whole)
{
    if (c->phase == GREETING) {
        if (strncmp(c->line, "+OK", 3)) faults++;
        c->phase = WORK;
        return;
    }
    if (c->head == c->tail) { faults++; return; }
    enum step what = c->queue[c->head % QUEUE];
    if (c->in_body) {
        if (whole == 3 && !memcmp(c->line, ".\r\n", 3)) { c->in_body = 0; answered(c); }
        else c->body += whole - (c->line[0] == '.');
        return;
    }
    if (strncmp(c->line, "+OK", 3)) { faults++; if (what == PASS) { c->doomed = 1; return; } answered(c); return; }
    if (!multi_line(what)) { answered(c); return; }
    c->in_body = 1;
    c->body = 0;
    c->announced = what == RETR ? atol(c->line + 4) : 0;
}

static void take(struct conn *c, const char *data, size_t n)
{
    octets += n;
    while (n) {
        const char *end = memchr(data, '\n', n);
        size_t part = end ? (size_t)(end - data) + 1 : n;
        if (c->line_length < sizeof c->line - 1) {
            size_t keep = part < sizeof c->line - 1 - c->line_length ? part : sizeof c->line - 1 - c->line_length;
            memcpy(c->line + c->line_length, data, keep);
            c->line[c->line_length + keep] = 0;
        }
        c->line_length += part;
        data += part;
        n -= part;
        if (end) { take_line(c, c->line_length); c->line_length = 0; }
    }
}

static void ready(struct conn *c)
{
    static char buffer[1 << 18];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) take(c, buffer, n);
    if (n <= 0 || c->phase == ENDING || c->doomed) {
        if (c->phase != ENDING) faults++;
        int again = per_session() && started < opt.count;
        int index = (int)(c - conns);
        close_connection(c);
        if (again) open_connection(c, index);
        return;
    }
    send_more(c);
}

static void option(char *word)
{
    char *value = strchr(word, '=');
    if (!value) { fprintf(stderr, "load: %s is no key=value\n", word); exit(64); }
    *value++ = 0;
    struct { const char *key; int *into; } numbers[] = {
        {"conns", &opt.conns}, {"pipeline", &opt.pipeline}, {"users", &opt.users}, {"retr", &opt.retr},
        {"messages", &opt.messages}, {"sources", &opt.sources}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(word, numbers[i].key)) { *numbers[i].into = atoi(value); return; }
    if (!strcmp(word, "count")) opt.count = atol(value);
    else if (!strcmp(word, "seconds")) opt.seconds = atof(value);
    else if (!strcmp(word, "user")) opt.user = value;
    else if (!strcmp(word, "password")) opt.password = value;
    else { fprintf(stderr, "load: no key %s\n", word); exit(64); }
}

int main(int argc, char **argv)
{
    if (argc < 3) { fputs("usage: load MODE PORT [key=value ...]\n", stderr); return 64; }
    opt.mode = argv[1];
    opt.port = atoi(argv[2]);
    for (int i = 3; i < argc; i++) option(argv[i]);
    if (opt.pipeline >= QUEUE) opt.pipeline = QUEUE - 1;
    epoll_fd = epoll_create1(0);
    conns = calloc(opt.conns, sizeof *conns);
    began = now();
    for (int i = 0; i < opt.conns; i++) open_connection(conns + i, i);
    if (!per_session()) started = 0;
    if (is_mode("idle")) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
        fcntl(0, F_SETFL, O_NONBLOCK);
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &e);
    }
    double limit = began + opt.seconds;
    while (live && now() < limit) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, 256, 200);
        int stop = 0;
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) ready(events[i].data.ptr);
            else stop = 1;                           /* standard input ended */
        }
        if (stop || (!per_session() && !is_mode("idle") && done >= opt.count)) break;
    }
    double passed = now() - began;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"mode\": \"%s\", \"seconds\": %.6f, \"sessions\": %ld, \"commands\": %ld, \"octets\": %ld, "
           "\"faults\": %ld, \"busy\": %.3f}\n", opt.mode, passed, sessions, commands, octets, faults, cpu / passed);
    return faults ? 1 : 0;
}
