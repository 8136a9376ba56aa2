// Each request in flight has a slot with an easy handle. A slot keeps its handle for later requests, so that most
// options are set only once.
#include "endpoint.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "failure.h"
#include "imcallbackd/base/file.h"

// An interruption concerns the whole process and can arrive at any time, so these two outlive the endpoints.
static atomic_bool is_interrupted;
static int wake_fd = -1; // an eventfd

struct slot {
    CURL *easy;
    bool uses_tls;
    bool is_busy;
    int64_t id;
    struct delivery delivery;
    struct curl_slist *headers;
    struct buffer answer; // the first ANSWER_MAX_BYTES of the body
    bool head_is_complete;
    bool answer_is_cut;
    bool out_of_memory;
    char why[CURL_ERROR_SIZE];
};

struct endpoint {
    CURLM *multi;
    char *ca_file, *client_certificate, *client_key; // with $CREDENTIALS_DIRECTORY expanded
    size_t slot_count;
    int busy_count;
    bool speaks_http2; // as the last answer showed
    struct slot slots[];
};

const char *endpoint_host(const char *url, size_t *ret_length)
{
    const char *host = strstr(url, "://");

    host = host ? host + 3 : url;
    *ret_length = strcspn(host, "/?");
    return host;
}

void endpoint_interrupt(void)
{
    static const uint64_t one = 1;

    is_interrupted = true;
    (void)!write(wake_fd, &one, sizeof one);
}

bool endpoint_is_interrupted(void)
{
    return is_interrupted;
}

// Setting up

// libcurl reports success even if the connection ends within the head of an answer. Only the empty line shows that the
// head is complete. An interim answer, such as 100, has a head of its own.
static size_t on_header(char *line, size_t size, size_t count, void *context)
{
    struct slot *slot = context;
    size_t length = size * count;

    if (length >= 5 && memcmp(line, "HTTP/", 5) == 0)
        slot->head_is_complete = false;
    else if (length > 0 && (line[0] == '\r' || line[0] == '\n'))
        slot->head_is_complete = true;
    return length;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct slot *slot = context;
    size_t length = size * count, room = ANSWER_MAX_BYTES - slot->answer.length;

    slot->answer_is_cut = length > room;
    if (buffer_append(&slot->answer, data, length > room ? room : length) < 0)
        slot->out_of_memory = true;
    return slot->answer_is_cut || slot->out_of_memory ? 0 : length; // 0 ends the request
}

static int expand(const char *path, char **ret_path, const char *key, struct error *error)
{
    int r = path ? file_expand_path(path, ret_path, error) : 0;

    if (r < 0)
        error_wrap(error, "[deliver] %s", key);
    return r;
}

static int expand_paths(struct endpoint *endpoint, const struct deliver_settings *settings, struct error *error)
{
    int r = expand(settings->ca_file, &endpoint->ca_file, "ca_file", error);

    if (r == 0)
        r = expand(settings->client_certificate, &endpoint->client_certificate, "client_certificate", error);
    return r < 0 ? r : expand(settings->client_key, &endpoint->client_key, "client_key", error);
}

static bool uses_tls(const struct deliver_settings *settings)
{
    return strncasecmp(settings->url, "https:", 6) == 0;
}

// The buffers have 16 KiB, the smallest size that libcurl allows for uploads; by default, libcurl allocates 64 KiB for
// each request.
// CURLOPT_PROXY "" also disables the proxy of the environment. Without CURLOPT_QUICK_EXIT, libcurl would stop the whole
// sender until the resolver returns, however long that takes. Without CURLOPT_KEYPASSWD, OpenSSL would ask for the
// password of an encrypted key on the terminal. Returns NULL if libcurl fails.
static CURL *create_easy(const struct endpoint *endpoint, const struct deliver_settings *settings)
{
    CURL *easy = curl_easy_init();
    CURLcode code = CURLE_OK;

    if (!easy)
        return NULL;
#define SET(option, value) code = code != CURLE_OK ? code : curl_easy_setopt(easy, CURLOPT_##option, value)
    SET(PROTOCOLS_STR, "http,https");
    SET(FOLLOWLOCATION, 0L);
    SET(PROXY, "");
    SET(NETRC, (long)CURL_NETRC_IGNORED);
    SET(NOSIGNAL, 1L);
    SET(QUICK_EXIT, 1L);
    SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(SSL_VERIFYPEER, 1L);
    SET(SSL_VERIFYHOST, 2L);
    SET(KEYPASSWD, "");
    SET(TCP_KEEPALIVE, 1L);
    SET(UPLOAD_BUFFERSIZE, 16384L);
    SET(BUFFERSIZE, 16384L);
    SET(CONNECTTIMEOUT_MS, (long)settings->timeout_ms);
    SET(TIMEOUT_MS, (long)settings->timeout_ms);
    SET(USERAGENT, "imcallbackd/" IMCALLBACKD_VERSION);
    if (endpoint->ca_file) {
        SET(CAINFO, endpoint->ca_file);
        SET(CAPATH, NULL);
    }
    if (endpoint->client_certificate) {
        SET(SSLCERT, endpoint->client_certificate);
        SET(SSLKEY, endpoint->client_key ? endpoint->client_key : endpoint->client_certificate);
    }
#undef SET
    if (code == CURLE_OK)
        return easy;
    curl_easy_cleanup(easy);
    return NULL;
}

static bool init_slot(struct endpoint *endpoint, struct slot *slot, const struct deliver_settings *settings)
{
    slot->uses_tls = uses_tls(settings);
    slot->easy = create_easy(endpoint, settings);
    return slot->easy && curl_easy_setopt(slot->easy, CURLOPT_POST, 1L) == CURLE_OK &&
           curl_easy_setopt(slot->easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl_easy_setopt(slot->easy, CURLOPT_HEADERDATA, slot) == CURLE_OK &&
           curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(slot->easy, CURLOPT_WRITEDATA, slot) == CURLE_OK &&
           curl_easy_setopt(slot->easy, CURLOPT_ERRORBUFFER, slot->why) == CURLE_OK &&
           curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot) == CURLE_OK;
}

static int init(struct endpoint *endpoint, const struct deliver_settings *settings, struct error *error)
{
    long places = (long)settings->in_flight;
    int r = expand_paths(endpoint, settings, error);

    if (r < 0)
        return r;
    endpoint->multi = curl_multi_init();
    if (!endpoint->multi || curl_multi_setopt(endpoint->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, places) != CURLM_OK ||
        curl_multi_setopt(endpoint->multi, CURLMOPT_MAXCONNECTS, places) != CURLM_OK)
        return error_set(error, ENOMEM, "out of memory");
    for (size_t i = 0; i < endpoint->slot_count; i++) {
        if (!init_slot(endpoint, &endpoint->slots[i], settings))
            return error_set(error, ENOMEM, "libcurl cannot prepare a request: out of memory, or libcurl lacks TLS");
    }
    return 0;
}

// If SSLKEYLOGFILE were set, libcurl would write the keys of all TLS sessions into the file that the variable names.
static int init_library(struct error *error)
{
    (void)unsetenv("SSLKEYLOGFILE");
    if (wake_fd < 0)
        wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0)
        return error_set(error, errno, "cannot create an eventfd: %s", strerror(errno));
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : error_set(error, ENOMEM, "libcurl cannot start");
}

int endpoint_create(const struct deliver_settings *settings, struct endpoint **ret_endpoint, struct error *error)
{
    struct endpoint *endpoint = calloc(1, sizeof *endpoint + settings->in_flight * sizeof endpoint->slots[0]);
    int r;

    if (!endpoint)
        return error_set(error, ENOMEM, "out of memory");
    endpoint->slot_count = settings->in_flight;
    r = init_library(error);
    if (r == 0)
        r = init(endpoint, settings, error);
    if (r < 0)
        endpoint_destroy(endpoint);
    else
        *ret_endpoint = endpoint;
    return r;
}

static void release(struct endpoint *endpoint, struct slot *slot)
{
    if (slot->is_busy) {
        (void)curl_multi_remove_handle(endpoint->multi, slot->easy);
        endpoint->busy_count--;
    }
    slot->is_busy = false;
    curl_slist_free_all(slot->headers);
    slot->headers = NULL;
    slot->answer.length = 0;
}

void endpoint_destroy(struct endpoint *endpoint)
{
    if (!endpoint)
        return;
    for (size_t i = 0; i < endpoint->slot_count; i++) {
        struct slot *slot = &endpoint->slots[i];

        release(endpoint, slot);
        curl_easy_cleanup(slot->easy);
        delivery_finish(&slot->delivery);
        buffer_finish(&slot->answer);
    }
    (void)curl_multi_cleanup(endpoint->multi);
    free(endpoint->ca_file);
    free(endpoint->client_certificate);
    free(endpoint->client_key);
    free(endpoint);
}

// Sending

static bool add_header(struct slot *slot, const char *name, const struct buffer *value)
{
    struct buffer line = {0};
    struct curl_slist *longer = NULL;

    if (buffer_print(&line, value ? "%s: %s" : "%s", name, value ? buffer_text(value) : "") == 0)
        longer = curl_slist_append(slot->headers, line.data);
    buffer_finish(&line);
    if (longer)
        slot->headers = longer;
    return longer;
}

// Without the empty Expect, libcurl would wait for "100 Continue" before it sends a long body.
static bool add_headers(struct slot *slot)
{
    const struct delivery *delivery = &slot->delivery;

    return add_header(slot, "Content-Type: application/json", NULL) && add_header(slot, "Expect:", NULL) &&
           add_header(slot, "webhook-id", &delivery->id) &&
           add_header(slot, "webhook-timestamp", &delivery->timestamp) &&
           (delivery->signature.length == 0 || add_header(slot, "webhook-signature", &delivery->signature));
}

int endpoint_send(struct endpoint *endpoint, int64_t id, struct delivery *delivery, struct error *error)
{
    struct slot *slot = endpoint->slots;
    struct delivery unused;

    while (slot->is_busy)
        slot++;
    assert(slot < endpoint->slots + endpoint->slot_count);
    unused = slot->delivery;
    slot->delivery = *delivery;
    *delivery = unused;
    slot->id = id;
    slot->head_is_complete = slot->answer_is_cut = slot->out_of_memory = false;
    slot->why[0] = '\0';
    // With HTTP/2, a request can share a connection that is being established. With HTTP/1.1, it would have to wait for
    // the first answer on that connection.
    if (!add_headers(slot) ||
        curl_easy_setopt(slot->easy, CURLOPT_PIPEWAIT, endpoint->speaks_http2 ? 1L : 0L) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_URL, buffer_text(&slot->delivery.url)) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, buffer_text(&slot->delivery.body)) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)slot->delivery.body.length) != CURLE_OK ||
        curl_multi_add_handle(endpoint->multi, slot->easy) != CURLM_OK) {
        release(endpoint, slot);
        return error_set(error, ENOMEM, "out of memory");
    }
    slot->is_busy = true;
    endpoint->busy_count++;
    return 0;
}

// A request can end in the first call of curl_multi_perform. The function then does not poll, so that the caller gets
// the answer at once.
int endpoint_wait(struct endpoint *endpoint, int timeout_ms, int fd, struct error *error)
{
    struct curl_waitfd extra[] = {{.fd = wake_fd, .events = CURL_WAIT_POLLIN}, {.fd = fd, .events = CURL_WAIT_POLLIN}};
    uint64_t woken;
    int running;
    CURLMcode code = curl_multi_perform(endpoint->multi, &running);

    if (code == CURLM_OK && running == endpoint->busy_count) {
        code = curl_multi_poll(endpoint->multi, extra, fd >= 0 ? 2 : 1, timeout_ms, NULL);
        (void)!read(wake_fd, &woken, sizeof woken);
        if (code == CURLM_OK)
            code = curl_multi_perform(endpoint->multi, &running);
    }
    return code == CURLM_OK ? 0 : error_set(error, EIO, "libcurl: %s", curl_multi_strerror(code));
}

// Answers

static struct transfer transfer_of(const struct slot *slot, CURLcode code)
{
    long status = 0, cause = 0, sent_bytes = 0;

    (void)curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(slot->easy, CURLINFO_OS_ERRNO, &cause);
    (void)curl_easy_getinfo(slot->easy, CURLINFO_REQUEST_SIZE, &sent_bytes);
    return (struct transfer){.code = (int)(slot->out_of_memory ? CURLE_OUT_OF_MEMORY : code),
                             .text = slot->out_of_memory ? "" : slot->why,
                             .cause = (int)cause,
                             .status = (int)status,
                             .was_sent = sent_bytes > 0,
                             .uses_tls = slot->uses_tls};
}

// If the body is too long, on_body ends the request, and libcurl reports a failure. The answer is then judged by its
// status and the first ANSWER_MAX_BYTES of its body.
static void read_answer(const struct slot *slot, CURLcode code, struct endpoint_answer *answer)
{
    bool is_incomplete = code == CURLE_OK && !slot->head_is_complete;
    const struct transfer transfer = transfer_of(slot, is_incomplete ? CURLE_PARTIAL_FILE : code);
    curl_off_t retry_after_s = 0;
    size_t length;
    const char *host = endpoint_host(buffer_text(&slot->delivery.url), &length);

    (void)curl_easy_getinfo(slot->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    *answer = (struct endpoint_answer){.id = slot->id, .status = transfer.status, .retry_after_ms = -1};
    if (retry_after_s > 0)
        answer->retry_after_ms = retry_after_s < INT64_MAX / 1000 ? retry_after_s * 1000 : INT64_MAX / 2;
    if (transfer.code == CURLE_OK || (slot->answer_is_cut && !slot->out_of_memory)) {
        answer->outcome = acceptance_judge(answer->status, buffer_text(&slot->answer), slot->answer.length);
        if (answer->outcome != OUTCOME_ACCEPTED)
            failure_explain_answer(answer->status, answer->outcome, &answer->why);
    } else {
        answer->outcome = failure_judge(&transfer, &answer->why);
    }
    if (answer->outcome != OUTCOME_ACCEPTED)
        error_wrap(&answer->why, "%.*s", (int)length, host);
}

bool endpoint_next_answer(struct endpoint *endpoint, struct endpoint_answer *ret_answer)
{
    int left;
    const CURLMsg *message = curl_multi_info_read(endpoint->multi, &left);
    char *found = NULL;
    long version = CURL_HTTP_VERSION_NONE;
    struct slot *slot;

    if (!message)
        return false;
    assert(message->msg == CURLMSG_DONE);
    (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &found);
    slot = (struct slot *)(void *)found;
    assert(slot && slot->is_busy);
    read_answer(slot, message->data.result, ret_answer);
    if (curl_easy_getinfo(slot->easy, CURLINFO_HTTP_VERSION, &version) == CURLE_OK && version != CURL_HTTP_VERSION_NONE)
        endpoint->speaks_http2 = version == CURL_HTTP_VERSION_2_0;
    release(endpoint, slot);
    return true;
}

// Checking

int endpoint_check_url(const char *url, struct error *error)
{
    CURLU *parsed = curl_url();
    CURLUcode code = parsed ? curl_url_set(parsed, CURLUPART_URL, url, 0) : CURLUE_OUT_OF_MEMORY;

    curl_url_cleanup(parsed);
    if (code == CURLUE_OUT_OF_MEMORY)
        return error_set(error, ENOMEM, "out of memory");
    return code == CURLUE_OK ? 0 : error_set(error, EINVAL, "%s", curl_url_strerror(code));
}

static int describe(CURL *easy, const struct deliver_settings *settings, struct buffer *found)
{
    size_t length;
    const char *host = endpoint_host(settings->url, &length), *address = NULL, *expiry = NULL;
    struct curl_certinfo *certificates = NULL;
    long port = 0;

    (void)curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &address);
    (void)curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &port);
    (void)curl_easy_getinfo(easy, CURLINFO_CERTINFO, &certificates);
    for (struct curl_slist *line = certificates && certificates->num_of_certs > 0 ? certificates->certinfo[0] : NULL;
         line; line = line->next) {
        if (strncmp(line->data, "Expire date:", 12) == 0)
            expiry = line->data + 12;
    }
    return buffer_print(found, "%.*s: connected to %s, port %ld%s%s", (int)length, host, address ? address : "", port,
                        expiry ? "; the certificate is verified and expires on " : "", expiry ? expiry : "");
}

int endpoint_check(const struct deliver_settings *settings, struct buffer *found, struct error *error)
{
    struct endpoint *endpoint = NULL;
    struct slot *slot;
    struct transfer transfer;
    CURLcode code;
    int r = endpoint_create(settings, &endpoint, error);

    if (r < 0)
        return r;
    assert(endpoint);
    slot = &endpoint->slots[0];
    if (curl_easy_setopt(slot->easy, CURLOPT_URL, settings->url) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_CERTINFO, 1L) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_CONNECT_ONLY, 1L) != CURLE_OK)
        r = error_set(error, ENOMEM, "out of memory");
    if (r == 0) {
        code = curl_easy_perform(slot->easy);
        if (code != CURLE_OK) {
            transfer = transfer_of(slot, code);
            (void)failure_judge(&transfer, error);
            r = -EHOSTUNREACH;
        } else if (describe(slot->easy, settings, found) < 0) {
            r = error_set(error, ENOMEM, "out of memory");
        }
    }
    endpoint_destroy(endpoint);
    return r;
}

const char *endpoint_library_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}
