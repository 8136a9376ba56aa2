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
#define FREE                    0

// One connection. MHD counts only how long it was silent, so one that drips would keep its place for ever.
struct place {
    uint64_t number; // a larger one began later; or FREE
    int fd;
};

struct http_admin {
    struct MHD_Daemon *daemon;
    const struct http_admin_page *pages;
    void *context;
    struct place places[CONNECTIONS]; // this and what follows is the server's thread's alone
    uint64_t begun;
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

// Appends the text of the answer and returns its status; 0 when there is no memory.
static unsigned int print_answer(const struct http_admin *admin, const struct http_admin_page *page, const char *method,
                                 struct buffer *text)
{
    if (!page)
        return buffer_print(text, "no page has this path\n") < 0 ? 0 : MHD_HTTP_NOT_FOUND;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return buffer_print(text, "this page can only be read; use GET or HEAD\n") < 0 ? 0
                                                                                       : MHD_HTTP_METHOD_NOT_ALLOWED;
    return page->print(admin->context, text);
}

// A free one; else that of the oldest connection.
static struct place *first_place(struct http_admin *admin)
{
    struct place *first = admin->places;

    for (struct place *place = first + 1; place < admin->places + CONNECTIONS; place++) {
        if (place->number < first->number)
            first = place;
    }
    return first;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_admin *admin = context;
    struct place *place = *socket_context;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        place->number = FREE;
        return;
    }
    *socket_context = place = first_place(admin);
    assert(place->number == FREE);
    place->number = ++admin->begun;
    place->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    // MHD accepts nobody while all places are taken, so the last one is never kept: the oldest connection makes room.
    // MHD sees its end in the next turn.
    place = first_place(admin);
    if (place->number != FREE)
        (void)shutdown(place->fd, SHUT_RDWR);
}

// Answers in the first call, when the head is there: what else a request may bring is not read.
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data, size_t *length,
                                  void **request)
{
    const struct http_admin *admin = context;
    const struct http_admin_page *page = find_page(admin, path);
    struct buffer text = {0};
    unsigned int status = print_answer(admin, page, method, &text);
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
    // Gives the listening socket back, which libmicrohttpd would shut down: one from systemd outlives the daemon.
    (void)MHD_quiesce_daemon(admin->daemon);
    MHD_stop_daemon(admin->daemon);
    free(admin);
}
