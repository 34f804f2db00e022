/* pop3: drive a POP3 server on loopback, check every reply, and count what it did.
 *
 *     cc -O2 -Wall -o pop3 pop3.c
 *     ./pop3 MODE PORT [key=value ...]
 *
 * MODE   session   connect, USER PASS, the script, QUIT; again and again
 *        open      the script in a circle over open sessions
 *        idle      nothing over open sessions
 *        pace      a NOOP of each open session every `interval` ms: round trips
 *
 *        Where sessions stay open the line "holding" is printed once all are logged in; the work begins
 *        with an octet on standard input, and its end, QUIT and all, comes with the end of that.
 *
 * keys   script=     a letter a command: N NOOP, S STAT, L LIST, U UIDL, l LIST n, u UIDL n, R RETR n, T TOP n 0;
 *                    n goes from 1 to `messages` in a circle
 *        conns=16 count=1000 pipeline=1 users=1 messages=1 seconds=60 interval=100 password=secret
 *        user=u%04d   a printf form; each connection takes users of its own in turn, from number `first` on
 *        sources=1    spread the connections over 127.0.0.1 ... 127.0.0.N
 *
 * count is sessions for `session`, commands for `open`. After `seconds` nothing more is begun.
 * One thread, epoll; the target is always 127.0.0.1. What is checked: +OK; the end of multi-line
 * replies; that LIST and UIDL have as many lines as STAT said; that a RETR has as many octets,
 * unstuffed, as were announced; and where a message has a field `X-Check: CRC OCTETS` (in hexadecimal
 * and decimal), that its body has this CRC-32 and this length. Pipelined commands go out together.
 *
 * The result is one JSON object on standard output; "busy" is the CPU that it used itself, as a
 * share of the time: near 1 means that this, not the server, was the limit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum mode { SESSION, OPEN, IDLE, PACE };
enum phase { GREETING, WORK, ENDING };

static struct {
    enum mode mode;
    const char *name, *user, *password, *script;
    int port, conns, pipeline, users, first, messages, sources;
    long count;
    double seconds, interval;
} opt = {.user = "u%04d", .password = "secret", .script = "", .conns = 16, .pipeline = 1, .users = 1,
         .messages = 1, .sources = 1, .count = 1000, .seconds = 60, .interval = 100};

#define QUEUE 256
#define LINE 1024
#define GRACE_SECONDS 30     /* for what was begun to be answered */
#define LOGIN_SECONDS 600
#define AT_ONCE 128
struct conn {
    int fd, user, at, script_at, message, logged_in, doomed;
    enum phase phase;
    char queue[QUEUE];               /* commands sent and not answered yet; A USER, P PASS, Q QUIT */
    unsigned head, tail;
    int in_body, in_header, digested;
    long announced, body, lines, stat;           /* of the reply being read; stat -1: not asked */
    long check_octets, text;                     /* of the message's own body: as said, and as read */
    uint32_t check_crc, crc;
    double sent;                     /* time of the NOOP that is under way */
    char line[LINE];                 /* the beginning of a line that came in pieces */
    size_t line_length;
};

static struct conn *conns;
static int epoll_fd, live, holding, working, leaving;
static long started, done, sessions, commands, octets, faults, digests;
static double began, began_cpu, *trips;
static size_t trip_count, trip_room;

/* Octets checked ------------------------------------------------------------------------------- */

static uint32_t crc_table[8][256];

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        crc_table[0][i] = c;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++)
            crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 255];
}

/* CRC-32 as zlib has it, eight octets at a time; `crc` is inverted before and after all. */
static uint32_t crc_of(uint32_t crc, const unsigned char *at, size_t n)
{
    for (; n >= 8; n -= 8, at += 8) {
        uint32_t low, high;
        memcpy(&low, at, 4);
        memcpy(&high, at + 4, 4);
        low ^= crc;                              /* little-endian machines only */
        crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255]
            ^ crc_table[4][low >> 24] ^ crc_table[3][high & 255] ^ crc_table[2][high >> 8 & 255]
            ^ crc_table[1][high >> 16 & 255] ^ crc_table[0][high >> 24];
    }
    while (n--) crc = crc >> 8 ^ crc_table[0][(crc ^ *at++) & 255];
    return crc;
}

static void fault(struct conn *c, const char *what)
{
    if (faults++ < 5) fprintf(stderr, "pop3: user %d: %s\n", c->user, what);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *why) { perror(why); exit(70); }

/* Connections ---------------------------------------------------------------------------------- */

static void open_connection(struct conn *c, int index)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(opt.port)}, from = {.sin_family = AF_INET};
    /* each connection has users of its own: two sessions never want one maildrop */
    int own = opt.users > opt.conns ? opt.users / opt.conns : 1;
    int user = (index + opt.conns * (int)(started++ / opt.conns % own)) % opt.users;
    memset(c, 0, offsetof(struct conn, line));
    c->line_length = 0;
    c->stat = -1;
    c->user = opt.first + user;
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

/* The next command to send; 0: none now. */
static char next_command(struct conn *c)
{
    int at = c->at;
    if (at < 2) { c->at++; return at ? 'P' : 'A'; }
    if (!c->logged_in) return 0;
    if (opt.mode != SESSION) {
        if (leaving) return c->at++ == 2 ? 'Q' : 0;
        if (opt.mode != OPEN || !working || started >= opt.count) return 0;
        started++;
        if (!opt.script[c->script_at]) c->script_at = 0;
        return opt.script[c->script_at++];
    }
    if (opt.script[c->script_at]) return opt.script[c->script_at++];
    if (at == 2) { c->at++; return 'Q'; }
    return 0;
}

static size_t spell(struct conn *c, char what, char *out, size_t room)
{
    char user[200];
    if (strchr("RTlu", what) && ++c->message > opt.messages) c->message = 1;
    switch (what) {
    case 'A':
        snprintf(user, sizeof user, opt.user, c->user);
        return snprintf(out, room, "USER %s\r\n", user);
    case 'P': return snprintf(out, room, "PASS %s\r\n", opt.password);
    case 'Q': return snprintf(out, room, "QUIT\r\n");
    case 'N': return snprintf(out, room, "NOOP\r\n");
    case 'S': return snprintf(out, room, "STAT\r\n");
    case 'L': return snprintf(out, room, "LIST\r\n");
    case 'U': return snprintf(out, room, "UIDL\r\n");
    case 'l': return snprintf(out, room, "LIST %d\r\n", c->message);
    case 'u': return snprintf(out, room, "UIDL %d\r\n", c->message);
    case 'R': return snprintf(out, room, "RETR %d\r\n", c->message);
    case 'T': return snprintf(out, room, "TOP %d 0\r\n", c->message);
    }
    fprintf(stderr, "pop3: no command %c\n", what);
    exit(64);
}

static void send_commands(struct conn *c, const char *out, size_t n)
{
    if (n && send(c->fd, out, n, MSG_NOSIGNAL) != (ssize_t)n) { fault(c, "not sent"); c->doomed = 1; }
}

static void send_more(struct conn *c)
{
    char out[8192], what;
    size_t n = 0;
    /* a session waits for each reply, as clients do; open sessions pipeline */
    unsigned depth = c->logged_in && opt.mode == OPEN ? opt.pipeline : 1;
    while (c->tail - c->head < depth && n < sizeof out - 300 && (what = next_command(c))) {
        n += spell(c, what, out + n, sizeof out - n);
        c->queue[c->tail++ % QUEUE] = what;
    }
    send_commands(c, out, n);
}

/* Replies -------------------------------------------------------------------------------------- */

static void note_trip(double seconds)
{
    for (; seconds > 0; seconds -= opt.interval / 1000) {   /* those that would have been sent meanwhile */
        if (trip_count == trip_room) {
            trip_room = trip_room ? trip_room * 2 : 4096;
            if (!(trips = realloc(trips, trip_room * sizeof *trips))) die("realloc");
        }
        trips[trip_count++] = seconds;
    }
}

static void answered(struct conn *c)
{
    char what = c->queue[c->head++ % QUEUE];
    commands++;
    if (what == 'R') {
        if (c->announced >= 0 && c->body != c->announced) fault(c, "RETR: octets");
        if (c->digested && (c->text != c->check_octets || ~c->crc != c->check_crc)) fault(c, "RETR: digest");
        digests += c->digested;
    }
    if ((what == 'L' || what == 'U') && c->stat >= 0 && c->lines != c->stat) fault(c, "listing: lines");
    if (what == 'N' && opt.mode == PACE) { note_trip(now() - c->sent); c->sent = 0; }
    if (what == 'P') {
        c->logged_in = 1;
        if (opt.mode != SESSION) sessions++;
        holding++;
    }
    if (what == 'Q') { sessions++; c->phase = ENDING; }
    if (opt.mode != SESSION && c->logged_in && what != 'P') done++;
}

static void take_body_line(struct conn *c, const char *line, size_t n)
{
    if (n == 3 && !memcmp(line, ".\r\n", 3)) { c->in_body = 0; answered(c); return; }
    if (*line == '.') { line++; n--; }
    c->body += n;
    c->lines++;
    if (!c->in_header) {
        if (!c->digested) return;
        c->text += n;
        c->crc = crc_of(c->crc, (const unsigned char *)line, n);
    } else if (n == 2) {
        c->in_header = 0;
    } else if (n > 9 && !strncmp(line, "X-Check: ", 9)) {
        c->digested = sscanf(line + 9, "%x %ld", &c->check_crc, &c->check_octets) == 2;
    }
}

/* One line of `n` octets, its end counted; `line` holds no more than LINE - 1 of them if `cut`. */
static void take_line(struct conn *c, const char *line, size_t n, int cut)
{
    if (c->phase == GREETING) {
        if (strncmp(line, "+OK", 3)) fault(c, "greeting");
        c->phase = WORK;
        return;
    }
    if (c->head == c->tail) { fault(c, "not asked for"); return; }
    char what = c->queue[c->head % QUEUE];
    if (c->in_body) {
        if (cut) { fault(c, "a line too long to be checked"); return; }
        take_body_line(c, line, n);
        return;
    }
    if (strncmp(line, "+OK", 3)) {
        fault(c, "refused");
        if (faults < 5) fprintf(stderr, "pop3: command %c: %.*s", what, cut ? LINE - 1 : (int)n, line);
        if (what == 'P') c->doomed = 1;
        else answered(c);
        return;
    }
    if (what == 'S') c->stat = atol(line + 4);
    if (!strchr("LURT", what)) { answered(c); return; }
    c->in_body = c->in_header = 1;
    if (what == 'L' || what == 'U') c->in_header = 0;
    c->body = c->lines = c->text = c->digested = 0;
    c->crc = ~0u;
    c->announced = what == 'R' && line[3] == ' ' && line[4] >= '0' && line[4] <= '9' ? atol(line + 4) : -1;
}

static void take(struct conn *c, const char *data, size_t n)
{
    octets += n;
    while (n) {
        const char *end = memchr(data, '\n', n);
        size_t part = end ? (size_t)(end - data) + 1 : n;
        if (end && !c->line_length && part >= 4) {      /* whole, and not to be copied */
            take_line(c, data, part, 0);
        } else {
            if (c->line_length < LINE - 1) {
                size_t keep = part < LINE - 1 - c->line_length ? part : LINE - 1 - c->line_length;
                memcpy(c->line + c->line_length, data, keep);
                c->line[c->line_length + keep] = 0;
            }
            c->line_length += part;
            if (end) {
                size_t whole = c->line_length;
                c->line_length = 0;
                take_line(c, c->line, whole, whole > LINE - 1);
            }
        }
        data += part;
        n -= part;
    }
}

static void ready(struct conn *c)
{
    static char buffer[(1 << 18) + 1];
    ssize_t n = recv(c->fd, buffer, sizeof buffer - 1, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) { buffer[n] = 0; take(c, buffer, n); }
    if (n <= 0 || c->phase == ENDING || c->doomed) {
        if (c->phase != ENDING) fault(c, "closed");
        int again = opt.mode == SESSION && started < opt.count;
        close_connection(c);
        if (again) open_connection(c, (int)(c - conns));
        return;
    }
    send_more(c);
}

/* A NOOP of the sessions whose turn has come, unless the last is still unanswered. */
static void keep_pace(int timer)
{
    static int next;
    uint64_t times;
    if (read(timer, &times, sizeof times) != sizeof times) return;
    for (; times; times--, next = (next + 1) % opt.conns) {
        struct conn *c = conns + next;
        if (c->fd < 0 || c->sent) continue;
        c->sent = now();
        c->queue[c->tail++ % QUEUE] = 'N';
        send_commands(c, "NOOP\r\n", 6);
    }
}

static int set_pace(void)
{
    double step = opt.interval / 1000 / opt.conns;
    struct timespec t = {.tv_sec = (time_t)step, .tv_nsec = (long)((step - (time_t)step) * 1e9)};
    struct itimerspec every = {.it_interval = t, .it_value = t};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &opt};
    if (timer < 0 || timerfd_settime(timer, 0, &every, NULL)) die("timerfd");
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &e)) die("epoll_ctl");
    return timer;
}

/* Begin and end -------------------------------------------------------------------------------- */

static void option(char *word)
{
    char *value = strchr(word, '=');
    if (!value) { fprintf(stderr, "pop3: %s is no key=value\n", word); exit(64); }
    *value++ = 0;
    struct { const char *key; int *into; } numbers[] = {
        {"conns", &opt.conns}, {"pipeline", &opt.pipeline}, {"users", &opt.users}, {"first", &opt.first},
        {"messages", &opt.messages}, {"sources", &opt.sources}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(word, numbers[i].key)) { *numbers[i].into = atoi(value); return; }
    if (!strcmp(word, "count")) opt.count = atol(value);
    else if (!strcmp(word, "seconds")) opt.seconds = atof(value);
    else if (!strcmp(word, "interval")) opt.interval = atof(value);
    else if (!strcmp(word, "user")) opt.user = value;
    else if (!strcmp(word, "script")) opt.script = value;
    else if (!strcmp(word, "password")) opt.password = value;
    else { fprintf(stderr, "pop3: no key %s\n", word); exit(64); }
}

static enum mode mode_of(const char *name)
{
    static const char *names[] = {"session", "open", "idle", "pace"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) return (enum mode)i;
    fprintf(stderr, "pop3: no mode %s\n", name);
    exit(64);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void tell(int complete)
{
    double passed = now() - began, cpu = cpu_seconds() - began_cpu;
    printf("{\"mode\": \"%s\", \"seconds\": %.6f, \"sessions\": %ld, \"commands\": %ld, \"octets\": %ld, "
           "\"digests\": %ld, \"faults\": %ld, \"complete\": %s, \"busy\": %.3f", opt.name, passed, sessions,
           commands, octets, digests, faults, complete ? "true" : "false", cpu / passed);
    if (opt.mode == PACE && trip_count) {
        qsort(trips, trip_count, sizeof *trips, by_size);
        printf(", \"trips\": %zu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"worst_ms\": %.3f",
               trip_count, trips[trip_count / 2] * 1e3, trips[trip_count * 99 / 100] * 1e3,
               trips[trip_count * 999 / 1000] * 1e3, trips[trip_count - 1] * 1e3);
    }
    puts("}");
    fflush(stdout);
}

/* Serve what comes until `over` says so or the time is up; return whether it was over. */
static int serve(int (*over)(void), double limit, int timer)
{
    int complete;
    while (!(complete = over()) && live) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, 256, 100);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &opt) keep_pace(timer);
            else ready(events[i].data.ptr);
        }
        double late = now() - limit;
        if (late > 0 && opt.count > started) opt.count = started;       /* finish what was begun */
        if (late > (opt.mode == PACE && working && !leaving ? 0 : GRACE_SECONDS)) break;
    }
    return complete;
}

static int queue_taken(void) { return holding >= live - AT_ONCE / 2; }
static int all_held(void) { return holding == opt.conns; }
static int all_done(void) { return opt.mode == OPEN && done >= opt.count; }
static int all_gone(void) { return !live; }

static void begin(void)
{
    began = now();
    began_cpu = cpu_seconds();
    started = sessions = commands = octets = digests = 0;
}

/* Until standard input has an octet, or with `to_end` until it has ended. */
static void wait_for_word(int to_end)
{
    char word;
    while (read(0, &word, 1) > 0 && to_end) continue;
}

static void work_on_open_sessions(void)
{
    int timer = -1, complete;
    if (!serve(all_held, now() + LOGIN_SECONDS, -1)) { tell(0); exit(1); }
    puts("holding");
    fflush(stdout);
    wait_for_word(0);
    working = 1;
    begin();
    if (opt.mode == PACE) timer = set_pace();
    for (int i = 0; opt.mode == OPEN && i < opt.conns; i++) send_more(conns + i);
    complete = opt.mode == IDLE || serve(all_done, began + opt.seconds, timer) || opt.mode == PACE;
    if (timer >= 0) close(timer);
    tell(complete);
    wait_for_word(1);
    leaving = 1;
    for (int i = 0; i < opt.conns; i++)
        if (conns[i].fd >= 0) send_more(conns + i);
    serve(all_gone, now(), -1);
}

int main(int argc, char **argv)
{
    if (argc < 3) { fputs("usage: pop3 MODE PORT [key=value ...]\n", stderr); return 64; }
    opt.mode = mode_of(opt.name = argv[1]);
    opt.port = atoi(argv[2]);
    for (int i = 3; i < argc; i++) option(argv[i]);
    if (opt.pipeline >= QUEUE) opt.pipeline = QUEUE - 1;
    if (opt.mode == OPEN && !*opt.script) { fputs("pop3: open needs a script\n", stderr); return 64; }
    make_crc_table();
    epoll_fd = epoll_create1(0);
    conns = calloc(opt.conns, sizeof *conns);
    if (opt.mode == SESSION) begin();
    for (int i = 0; i < opt.conns; i++) {
        open_connection(conns + i, i);
        /* not more at once than a listener's queue holds: a lost SYN comes again only after a second */
        if (i % AT_ONCE == AT_ONCE - 1) serve(queue_taken, now() + LOGIN_SECONDS, -1);
    }
    if (opt.mode == SESSION) tell(serve(all_gone, began + opt.seconds, -1));
    else work_on_open_sessions();
    return faults ? 1 : 0;
}
