// Implements the admin server. It does not use the adapter in mhd.c, because libmicrohttpd runs its own thread here.
#include "imcallbackd/http/admin.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "admin_host.h"
#include "imcallbackd/base/clock.h"

#include <microhttpd.h>

#define CONNECTIONS             16U
#define IDLE_TIMEOUT_S          10U
#define CONNECTION_MEMORY_BYTES ((size_t)32 << 10) // a browser may send many cookies of other sites on the same name
#define STRICT_POLICY           "default-src 'none'; frame-ancestors 'none'"

// The slot of one connection. libmicrohttpd's timeout starts again with each byte, so a client that sends a byte now
// and then would keep its slot forever. on_connection therefore shuts the oldest connection down when all slots are
// taken.
struct slot {
    uint64_t number; // counts up with each connection; 0: the slot is free
    int fd;
};

struct http_admin {
    struct MHD_Daemon *daemon;
    const struct http_admin_page *pages;
    void *context;
    bool checks_host; // false on a Unix socket, which no web page can reach
    pthread_mutex_t lock;
    char hosts[HTTP_ADMIN_HOSTS_BYTES]; // guarded by the lock
    struct slot slots[CONNECTIONS];     // only the server's thread uses this and the next two fields
    uint64_t started;                   // number of connections since the start
    int64_t answered_ms;                // monotonic time of the last answer
};

// The Host headers of a request.
struct host {
    const char *text; // of the last one
    size_t length;
    unsigned int count;
};

// `policy` is the Content-Security-Policy.
static struct MHD_Response *make_response(struct buffer *text, const char *content_type, const char *policy,
                                          bool not_allowed)
{
    const struct {
        const char *name, *value;
    } headers[] = {
        {"Content-Type", content_type},
        {"X-Content-Type-Options", "nosniff"},
        {"Content-Security-Policy", policy},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Referrer-Policy", "no-referrer"},
        {"Cache-Control", "no-store"},
        {"Allow", "GET, HEAD"},
    };
    size_t count = sizeof headers / sizeof headers[0] - (not_allowed ? 0 : 1);
    struct MHD_Response *response = MHD_create_response_from_buffer(text->length, text->data, MHD_RESPMEM_MUST_COPY);

    for (size_t i = 0; i < count && response; i++) {
        if (MHD_add_response_header(response, headers[i].name, headers[i].value) != MHD_YES) {
            MHD_destroy_response(response);
            return NULL;
        }
    }
    return response;
}

static enum MHD_Result on_header(void *context, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                 const char *value, size_t length)
{
    struct host *host = context;

    (void)kind;
    if (name_length == strlen("Host") && strncasecmp(name, "Host", name_length) == 0)
        *host = (struct host){value ? value : "", length, host->count + 1};
    return MHD_YES;
}

static bool is_allowed(struct http_admin *admin, const struct host *host)
{
    char machine[HOST_NAME_MAX + 1] = "", hosts[HTTP_ADMIN_HOSTS_BYTES];

    if (gethostname(machine, sizeof machine - 1) < 0)
        machine[0] = '\0';
    pthread_mutex_lock(&admin->lock);
    memcpy(hosts, admin->hosts, sizeof hosts);
    pthread_mutex_unlock(&admin->lock);
    return admin_host_is_allowed(host->text, host->length, machine, hosts);
}

// Checks the Host header. Returns 0 if the request may be answered. Otherwise appends the text of a refusal and sets
// its status, which is 0 if memory is exhausted, and returns -EPERM.
static int check_host(struct http_admin *admin, struct MHD_Connection *connection, const char *version,
                      struct buffer *text, unsigned int *ret_status)
{
    struct host host = {0};
    int r;

    if (!admin->checks_host)
        return 0;
    (void)MHD_get_connection_values_n(connection, MHD_HEADER_KIND, on_header, &host);
    if (host.count != 1) {
        // Health checks of load balancers use HTTP/1.0 without a Host header. A browser always sends one.
        if (host.count == 0 && strcmp(version, MHD_HTTP_VERSION_1_0) == 0)
            return 0;
        r = buffer_print(text, "Host: the request has %u Host headers: one is required; send one\n", host.count);
        *ret_status = r < 0 ? 0 : MHD_HTTP_BAD_REQUEST;
        return -EPERM;
    }
    if (is_allowed(admin, &host))
        return 0;
    r = buffer_print(text, "Host: \"");
    if (r == 0)
        r = buffer_append_json(text, host.text, host.length);
    if (r == 0)
        r = buffer_print(text,
                         "\" is not a name of this listener: a web page of another site could send this name to read "
                         "this page; use an IP address or localhost in the URL, or add the name to [admin] host\n");
    *ret_status = r < 0 ? 0 : MHD_HTTP_MISDIRECTED_REQUEST;
    return -EPERM;
}

static const struct http_admin_page *find_page(const struct http_admin *admin, const char *path)
{
    for (const struct http_admin_page *page = admin->pages; page->path; page++) {
        if (strcmp(page->path, path) == 0)
            return page;
    }
    return NULL;
}

// Appends the text of the response and returns its status. Returns 0 if memory is exhausted.
static unsigned int print_response(const struct http_admin *admin, const struct http_admin_page *page,
                                   const char *method, struct buffer *text)
{
    if (!page)
        return buffer_print(text, "no page has this path\n") < 0 ? 0 : MHD_HTTP_NOT_FOUND;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return buffer_print(text, "this page can only be read; use GET or HEAD\n") < 0 ? 0
                                                                                       : MHD_HTTP_METHOD_NOT_ALLOWED;
    return page->print(admin->context, text);
}

// Returns a free slot, or the slot of the oldest connection if all are taken.
static struct slot *find_slot(struct http_admin *admin)
{
    struct slot *found = admin->slots;

    for (struct slot *slot = found + 1; slot < admin->slots + CONNECTIONS; slot++) {
        if (slot->number < found->number)
            found = slot;
    }
    return found;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_admin *admin = context;
    struct slot *slot = *socket_context;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        assert(slot && slot->number > 0);
        slot->number = 0;
        return;
    }
    *socket_context = slot = find_slot(admin);
    assert(slot->number == 0);
    slot->number = ++admin->started;
    slot->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    // The library accepts no connection while all slots are taken. If this connection took the last slot, shut the
    // oldest one down; the library closes it and frees its slot in the next iteration of its event loop.
    slot = find_slot(admin);
    if (slot->number > 0)
        (void)shutdown(slot->fd, SHUT_RDWR);
}

// Makes the thread answer at most one request per millisecond. A flood of requests then leaves the processors to the
// callbacks, and every other client of the listener still waits for at most 16 milliseconds.
static void pace(struct http_admin *admin)
{
    const struct timespec pause = clock_timespec(1);

    if (clock_monotonic_ms() == admin->answered_ms)
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    admin->answered_ms = clock_monotonic_ms();
}

// The library first calls this when the head of a request is complete. This first call already queues the response, so
// the library discards the body.
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data, size_t *length,
                                  void **request)
{
    struct http_admin *admin = context;
    const struct http_admin_page *page = NULL;
    struct buffer text = {0};
    struct MHD_Response *response = NULL;
    enum MHD_Result queued = MHD_NO;
    unsigned int status;

    (void)data;
    (void)length;
    (void)request;
    pace(admin);
    if (check_host(admin, connection, version, &text, &status) == 0) {
        page = find_page(admin, path);
        status = print_response(admin, page, method, &text);
        if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
            page = NULL; // the text is not that of the page
    }
    if (status != 0)
        response = make_response(&text, page ? page->content_type : HTTP_PLAIN_TEXT,
                                 page && page->security_policy ? page->security_policy : STRICT_POLICY,
                                 status == MHD_HTTP_METHOD_NOT_ALLOWED);
    if (response) {
        queued = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
    }
    buffer_finish(&text);
    return queued;
}

// A failure counts as a TCP socket, because the check of the Host header is the safe choice.
static bool is_unix_socket(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;

    return getsockname(fd, (struct sockaddr *)&address, &length) == 0 && address.ss_family == AF_UNIX;
}

int http_admin_start(int listen_fd, const struct http_admin_page *pages, void *context, const char *hosts,
                     struct http_admin **ret_admin, struct error *error)
{
    struct http_admin *admin = calloc(1, sizeof *admin);

    if (!admin)
        return error_set(error, ENOMEM, "out of memory");
    admin->pages = pages;
    admin->context = context;
    admin->checks_host = !is_unix_socket(listen_fd);
    pthread_mutex_init(&admin->lock, NULL);
    http_admin_set_hosts(admin, hosts);
    admin->daemon =
        MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, on_request, admin,
                         MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
                         MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         CONNECTION_MEMORY_BYTES, MHD_OPTION_NOTIFY_CONNECTION, on_connection, admin, MHD_OPTION_END);
    if (!admin->daemon) {
        pthread_mutex_destroy(&admin->lock);
        free(admin);
        return error_set(error, EIO, "cannot start libmicrohttpd for the admin listener: %s", strerror(errno));
    }
    *ret_admin = admin;
    return 0;
}

void http_admin_set_hosts(struct http_admin *admin, const char *hosts)
{
    size_t length = hosts ? strlen(hosts) : 0;

    assert(length < sizeof admin->hosts);
    pthread_mutex_lock(&admin->lock);
    memcpy(admin->hosts, hosts ? hosts : "", length + 1);
    pthread_mutex_unlock(&admin->lock);
}

const char *http_library_version(void)
{
    return MHD_get_version();
}

void http_admin_stop(struct http_admin *admin)
{
    if (!admin)
        return;
    // Without MHD_quiesce_daemon, the library would shut down the listening socket, but a socket from systemd must keep
    // listening after the daemon has ended.
    (void)MHD_quiesce_daemon(admin->daemon);
    MHD_stop_daemon(admin->daemon);
    pthread_mutex_destroy(&admin->lock);
    free(admin);
}
