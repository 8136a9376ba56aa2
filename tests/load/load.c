// Generates load: one thread drives many TLS connections, and every request carries a different event. The report is
// one line of JSON on standard output. The exit status is 0 only if every request was answered OK and every idle
// connection is still open. With --gated, the program pauses before the work and after the report: it prints the number
// of connections and waits for a byte on standard input.
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "imcallbackd/base/parse.h"

#include <openssl/x509v3.h>

#define EVENTS_PER_WAIT    256
#define HANDSHAKES_AT_ONCE 128 // fits into a listen queue of 128 connections, a common default

void die(const char *what, const char *why)
{
    fprintf(stderr, "imcallbackd-load: %s: %s\n", what, why);
    exit(2);
}

void *checked(void *memory)
{
    if (!memory)
        die("memory", strerror(ENOMEM));
    return memory;
}

int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

uint32_t us_since(int64_t start_us)
{
    int64_t us = now_us() - start_us;

    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

// Drives the clients whose sockets are ready. Returns false if no client made progress within the timeout.
static bool load_turn(struct load *load)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    int count = epoll_wait(load->epoll_fd, events, EVENTS_PER_WAIT, (int)load->options.timeout_s * 1000);

    if (count < 0 && errno != EINTR)
        die("epoll_wait", strerror(errno));
    for (int i = 0; i < count; i++)
        client_drive(events[i].data.ptr);
    return count != 0;
}

// Drives clients until at most `busy` of them are busy. Returns false if no client made progress within the timeout.
static bool load_run(struct load *load, uint64_t busy)
{
    while (load->busy > busy) {
        if (!load_turn(load))
            return false;
    }
    return true;
}

// Opens the idle connections and sends one request on each. Nothing of this appears in the report, except the number of
// idle connections that are still open at its end.
static bool load_open_idle(struct load *load)
{
    uint64_t first = load->options.connections, end = first + load->options.idle;
    bool complete = true;

    load->opens_idle = true;
    for (uint64_t i = first; i < end && complete; i++) {
        client_start_request(&load->clients[i]);
        complete = load_run(load, HANDSHAKES_AT_ONCE - 1);
    }
    complete = complete && load_run(load, 0) && load->ok == load->options.idle;
    load->opens_idle = false;
    if (!complete)
        return false;
    load->started = load->answered = load->ok = load->resumed = 0;
    memset(load->by_status, 0, sizeof load->by_status);
    return true;
}

static uint64_t load_count_idle(const struct load *load)
{
    const struct client *idle = load->clients + load->options.connections;
    uint64_t count = 0;
    char byte;

    for (uint64_t i = 0; i < load->options.idle; i++)
        count += idle[i].state == READY && recv(idle[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
    return count;
}

static bool load_open_all(struct load *load)
{
    for (uint64_t i = 0; i < load->options.connections; i++) {
        client_open(&load->clients[i]);
        if (!load_run(load, HANDSHAKES_AT_ONCE - 1))
            return false;
    }
    return load_run(load, 0);
}

// Builds a request for every client, sends all of them at once, and waits for all answers. Returns false after a
// timeout.
static bool load_round(struct load *load)
{
    int64_t start_us;

    for (uint64_t i = 0; i < load->options.connections; i++)
        client_start_request(&load->clients[i]);
    start_us = now_us();
    for (uint64_t i = 0; i < load->options.connections; i++) {
        load->clients[i].started_at_us = start_us;
        client_drive(&load->clients[i]);
    }
    if (!load_run(load, 0))
        return false;
    load->rounds_us[load->rounds_done++] = us_since(start_us);
    return true;
}

// Sends all requests and reads the answers. After a timeout, the requests in flight count as unanswered.
static void load_work(struct load *load)
{
    bool going = true;

    if (load->options.rounds == 0) {
        for (uint64_t i = 0; i < load->options.connections && load->started < load->planned && going; i++) {
            client_start_request(&load->clients[i]);
            client_drive(&load->clients[i]);
            while (load->options.connect_late && load->shaking >= HANDSHAKES_AT_ONCE && going)
                going = load_turn(load);
        }
        going = going && load_run(load, 0);
    }
    for (uint64_t i = 0; i < load->options.rounds && going && load->failed_connections == 0; i++)
        going = load_round(load);
    for (uint64_t i = 0; i < load->options.connections && !going; i++) {
        if (load->clients[i].state != READY && load->clients[i].state != CLOSED)
            client_fail(&load->clients[i]);
    }
}

static int compare_us(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

// Returns the least value that `per_mille` thousandths of the sorted values do not exceed, or 0 if there are no values.
static uint32_t percentile(const uint32_t *sorted, uint64_t count, uint64_t per_mille)
{
    return count > 0 ? sorted[(count * per_mille + 999) / 1000 - 1] : 0;
}

static void load_print(const struct load *load, int64_t us)
{
    const uint32_t *latencies = load->latencies_us;
    double seconds = (double)us / 1e6;
    const char *comma = "";

    qsort(load->latencies_us, load->answered, sizeof *load->latencies_us, compare_us);
    qsort(load->rounds_us, load->rounds_done, sizeof *load->rounds_us, compare_us);
    printf("{\"seconds\":%.3f,\"requests\":%" PRIu64 ",\"ok\":%" PRIu64 ",\"by_status\":{", seconds, load->started,
           load->ok);
    for (unsigned int status = 0; status < STATUS_END; status++) {
        if (load->by_status[status] == 0)
            continue;
        printf("%s\"%u\":%" PRIu64, comma, status, load->by_status[status]);
        comma = ",";
    }
    printf("},\"failed_connections\":%" PRIu64 ",\"unanswered\":%" PRIu64 ",\"rate_per_second\":%.0f",
           load->failed_connections, load->unanswered, (double)load->answered / seconds);
    printf(",\"resumed\":%" PRIu64 ",\"idle\":%" PRIu64, load->resumed, load_count_idle(load));
    printf(",\"p50_us\":%u,\"p99_us\":%u,\"p999_us\":%u,\"max_us\":%u", percentile(latencies, load->answered, 500),
           percentile(latencies, load->answered, 990), percentile(latencies, load->answered, 999),
           percentile(latencies, load->answered, 1000));
    printf(",\"median_round_ms\":%.3f,\"longest_round_ms\":%.3f}\n",
           percentile(load->rounds_us, load->rounds_done, 500) / 1e3,
           percentile(load->rounds_us, load->rounds_done, 1000) / 1e3);
}

static void read_number(const char *text, uint64_t max, uint64_t *ret_number)
{
    if (parse_decimal(text, strlen(text), max, ret_number) < 0)
        die(text, "is not a number or too large");
}

static void read_option(int option, const char *text, struct options *options)
{
    // clang-format off
    switch (option) {
    case 'p': read_number(text, 65535, &options->port); break;
    case 'a': read_number(text, INT64_MAX, &options->app); break;
    case 't': options->token = text; break;
    case 'c': read_number(text, 1000000, &options->connections); break;
    case 'i': read_number(text, 100000, &options->idle); break;
    case 'n': read_number(text, 1000000000, &options->total); break;
    case 'r': read_number(text, 1000000, &options->rounds); break;
    case 'm': read_number(text, 1000000, &options->members); break;
    case 'g': read_number(text, 1000000000, &options->groups); break;
    case 'N': options->new_connection = true; break;
    case 'R': options->resume = true; break;
    case 'L': options->connect_late = true; break;
    case 'G': options->gated = true; break;
    case 's': read_number(text, 999999999, &options->seed); break;
    case 'T': read_number(text, 3600, &options->timeout_s); break;
    case 'A': options->acknowledged = text; break;
    case 'C': options->ca = text; break;
    default: exit(2);
    }
    // clang-format on
}

static void read_options(int argc, char **argv, struct options *options)
{
    // clang-format off
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},
        {"app", required_argument, NULL, 'a'},
        {"token", required_argument, NULL, 't'},
        {"connections", required_argument, NULL, 'c'},
        {"idle", required_argument, NULL, 'i'},
        {"total", required_argument, NULL, 'n'},
        {"rounds", required_argument, NULL, 'r'},
        {"members", required_argument, NULL, 'm'},
        {"groups", required_argument, NULL, 'g'},
        {"new-connection", no_argument, NULL, 'N'},
        {"resume", no_argument, NULL, 'R'},
        {"connect-late", no_argument, NULL, 'L'},
        {"gated", no_argument, NULL, 'G'},
        {"seed", required_argument, NULL, 's'},
        {"timeout", required_argument, NULL, 'T'},
        {"acknowledged", required_argument, NULL, 'A'},
        {"ca", required_argument, NULL, 'C'},
        {NULL, 0, NULL, 0},
    };
    // clang-format on
    int option;

    *options = (struct options){.members = 3, .seed = 1, .timeout_s = 30};
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        read_option(option, optarg, options);
    if (optind == argc && options->port > 0 && options->app > 0 && options->connections > 0 &&
        (options->total > 0) != (options->rounds > 0) && !(options->connect_late && options->rounds > 0))
        return;
    fprintf(stderr, "usage: imcallbackd-load --port P --app SDKAPPID [--token T] --connections C\n"
                    "       [--idle I] (--total N [--connect-late] | --rounds R) [--members M] [--groups G]\n"
                    "       [--new-connection [--resume]]\n"
                    "       [--seed S] [--gated] [--timeout SECONDS] [--acknowledged FILE] [--ca FILE]\n");
    exit(2);
}

static void load_init_tls(struct load *load)
{
    load->tls = checked(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_mode(load->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
    // The client offers only one cipher suite and one key exchange, so that all servers in a comparison do the same
    // work.
    if (SSL_CTX_set_ciphersuites(load->tls, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(load->tls, "X25519") != 1)
        die("TLS", "AES-128-GCM or X25519 is missing");
    SSL_CTX_set_session_cache_mode(load->tls, load->options.resume ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL
                                                                   : SSL_SESS_CACHE_OFF);
    SSL_CTX_sess_set_new_cb(load->tls, client_keep_session);
    if (!load->options.ca)
        return;
    if (SSL_CTX_load_verify_locations(load->tls, load->options.ca, NULL) != 1 ||
        X509_VERIFY_PARAM_set1_ip_asc(SSL_CTX_get0_param(load->tls), "127.0.0.1") != 1)
        die(load->options.ca, "contains no certificate");
    SSL_CTX_set_verify(load->tls, SSL_VERIFY_PEER, NULL);
}

static void load_init(struct load *load)
{
    const struct options *options = &load->options;
    uint64_t clients = options->connections + options->idle;
    struct rlimit files;

    // A connection that the server closes counts as failed and must not end the program.
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        die("signal", strerror(errno));
    // Each connection needs a descriptor. Every process may raise its soft limit to the hard limit.
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        die("getrlimit", strerror(errno));
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        die("setrlimit", strerror(errno));
    load->planned = options->rounds > 0 ? options->rounds * options->connections : options->total;
    load->clients = checked(calloc(clients, sizeof *load->clients));
    load->latencies_us =
        checked(calloc(load->planned > options->idle ? load->planned : options->idle, sizeof *load->latencies_us));
    load->rounds_us = checked(calloc(options->rounds + 1, sizeof *load->rounds_us));
    for (uint64_t i = 0; i < clients; i++)
        load->clients[i] = (struct client){.load = load, .fd = -1};
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll_fd < 0)
        die("epoll_create1", strerror(errno));
    load->acknowledged = options->acknowledged ? fopen(options->acknowledged, "we") : NULL;
    if (options->acknowledged && !load->acknowledged)
        die(options->acknowledged, strerror(errno));
    load_init_tls(load);
}

static void load_finish(struct load *load)
{
    for (uint64_t i = 0; i < load->options.connections + load->options.idle; i++) {
        client_close(&load->clients[i]);
        SSL_SESSION_free(load->clients[i].session);
        buffer_finish(&load->clients[i].request);
    }
    if (load->acknowledged && fclose(load->acknowledged) != 0)
        die(load->options.acknowledged, strerror(errno));
    SSL_CTX_free(load->tls);
    close(load->epoll_fd);
    buffer_finish(&load->body);
    free(load->rounds_us);
    free(load->latencies_us);
    free(load->clients);
}

static bool connects_first(const struct options *options)
{
    return !options->new_connection && !options->connect_late;
}

// The parent process inspects the server while the program waits for a byte or the end of standard input.
static void load_gate(const struct load *load)
{
    if (!load->options.gated)
        return;
    if (printf("%" PRIu64 " connections\n",
               load->options.idle + (connects_first(&load->options) ? load->options.connections : 0)) < 0 ||
        fflush(stdout) != 0)
        die("standard output", strerror(errno));
    (void)getchar();
}

int main(int argc, char **argv)
{
    struct load load = {0};
    bool complete;
    int64_t start_us;

    read_options(argc, argv, &load.options);
    load_init(&load);
    start_us = now_us();
    if (load_open_idle(&load) && (!connects_first(&load.options) || load_open_all(&load))) {
        load_gate(&load);
        start_us = now_us();
        load_work(&load);
    }
    load_print(&load, now_us() - start_us);
    load_gate(&load);
    complete = load.ok > 0 && load.ok == load.planned && load_count_idle(&load) == load.options.idle;
    load_finish(&load);
    return complete ? 0 : 1;
}
