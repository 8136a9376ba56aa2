// Implements the admin server. It does not use the adapter in mhd.c, because libmicrohttpd runs its own thread here.
#include "imcallbackd/http/admin.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <microhttpd.h>

#define CONNECTIONS             16U
#define IDLE_TIMEOUT_S          10U
#define CONNECTION_MEMORY_BYTES ((size_t)8 << 10)

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
    struct slot slots[CONNECTIONS]; // only the server's thread uses this and the next field
    uint64_t started;               // number of connections since the start
};

static struct MHD_Response *make_response(struct buffer *text, const char *content_type, bool not_allowed)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(text->length, text->data, MHD_RESPMEM_MUST_COPY);

    if (!response)
        return NULL;
    if (MHD_add_response_header(response, "Content-Type", content_type) == MHD_YES &&
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES &&
        (!not_allowed || MHD_add_response_header(response, "Allow", "GET, HEAD") == MHD_YES))
        return response;
    MHD_destroy_response(response);
    return NULL;
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

// The library first calls this when the head of a request is complete. This first call already queues the response, so
// the library discards the body.
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data, size_t *length,
                                  void **request)
{
    const struct http_admin *admin = context;
    const struct http_admin_page *page = find_page(admin, path);
    struct buffer text = {0};
    unsigned int status = print_response(admin, page, method, &text);
    struct MHD_Response *response = NULL;
    enum MHD_Result queued = MHD_NO;

    (void)version;
    (void)data;
    (void)length;
    (void)request;
    if (status != 0)
        response =
            make_response(&text, page ? page->content_type : HTTP_PLAIN_TEXT, status == MHD_HTTP_METHOD_NOT_ALLOWED);
    if (response) {
        queued = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
    }
    buffer_finish(&text);
    return queued;
}

int http_admin_start(int listen_fd, const struct http_admin_page *pages, void *context, struct http_admin **ret_admin,
                     struct error *error)
{
    struct http_admin *admin = calloc(1, sizeof *admin);

    if (!admin)
        return error_set(error, ENOMEM, "out of memory");
    admin->pages = pages;
    admin->context = context;
    admin->daemon =
        MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, on_request, admin,
                         MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
                         MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         CONNECTION_MEMORY_BYTES, MHD_OPTION_NOTIFY_CONNECTION, on_connection, admin, MHD_OPTION_END);
    if (!admin->daemon) {
        free(admin);
        return error_set(error, EIO, "cannot start libmicrohttpd for the admin listener: %s", strerror(errno));
    }
    *ret_admin = admin;
    return 0;
}

void http_admin_stop(struct http_admin *admin)
{
    if (!admin)
        return;
    // Without MHD_quiesce_daemon, the library would shut down the listening socket, but a socket from systemd must keep
    // listening after the daemon has ended.
    (void)MHD_quiesce_daemon(admin->daemon);
    MHD_stop_daemon(admin->daemon);
    free(admin);
}
