// libcurl has one code for many failures, so the functions also look at what was sent and at libcurl's text.
#include "transfer_failure.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

// A timeout before anything was sent means that there was no connection: the endpoint has not seen the request.
enum outcome transfer_failure_judge(CURL *easy, CURLcode code)
{
    long sent_bytes = 0;

    assert(code != CURLE_OK);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return OUTCOME_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        (void)curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &sent_bytes);
        return sent_bytes > 0 ? OUTCOME_TIMEOUT : OUTCOME_CONNECT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return OUTCOME_TLS;
    default:
        return OUTCOME_BROKEN;
    }
}

static const char *tls_remedy(CURLcode code)
{
    switch (code) {
    case CURLE_SSL_CERTPROBLEM:
        return "; correct [deliver] client_certificate and client_key; the key must have no password";
    case CURLE_SSL_CACERT_BADFILE:
        return "; correct [deliver] ca_file, which needs certificates in PEM format";
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
        return "; correct the endpoint's certificate, or name its CA in [deliver] ca_file";
    default:
        return "; the endpoint must support TLS 1.2 or newer, and trust [deliver] client_certificate if it asks for a "
               "certificate";
    }
}

const char *transfer_failure_remedy(CURLcode code, enum outcome outcome, int status)
{
    switch (outcome) {
    case OUTCOME_CONNECT:
        return "; start the endpoint, open the firewall, or correct [deliver] url";
    case OUTCOME_TLS:
        return tls_remedy(code);
    case OUTCOME_TIMEOUT:
        return "; find out why the endpoint is slow, or set a longer [deliver] timeout";
    default:
        return status >= 300 && status < 400
                   ? "; redirects are not followed, so set [deliver] url to where the endpoint redirects"
                   : "; the log of the endpoint should say why";
    }
}

// Returns libcurl's text, except where that text is about something else:
//   - If a reused connection breaks, libcurl sends the request again on a new connection, but keeps the first text.
//   - A request that waits for the connection of an earlier request blames the resolver when its time is over.
static const char *failure_text(CURLcode code, const char *why)
{
    if (code == CURLE_OPERATION_TIMEDOUT && strncmp(why, "Failed to resolve host", 22) == 0)
        return "no connection was established in time";
    if (*why == '\0' || (code == CURLE_COULDNT_CONNECT && strncmp(why, "Failed to connect", 17) != 0))
        return curl_easy_strerror(code);
    return why;
}

int transfer_failure_explain(CURL *easy, CURLcode code, const char *why, int failure, struct error *error)
{
    const char *text = failure_text(code, why);
    size_t length = strlen(text);
    char reason[80] = "";
    long number = 0;

    while (length > 0 && text[length - 1] == ' ')
        length--;
    if (code == CURLE_COULDNT_CONNECT && curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number) == CURLE_OK && number > 0)
        (void)snprintf(reason, sizeof reason, " (%s)", strerror((int)number));
    return error_set(error, failure, "%.*s%s%s", (int)length, text, reason,
                     transfer_failure_remedy(code, transfer_failure_judge(easy, code), 0));
}
