// The man page imcallbackd-deliver(8) lists the same remedies. The first row of a table that matches decides, and the
// last row matches everything. Of libcurl, this file uses only the codes and their texts.
#include "failure.h"

#include <curl/curl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define ANY_CODE        CURL_LAST
#define SEE_LOG         "the log of the endpoint should say why"
#define CHECK_TLS       "check that the endpoint speaks TLS 1.2 or newer on this port"
#define CORRECT_CA      "correct the endpoint's certificate, or name its CA in [deliver] ca_file"
#define COMPARE_SECRETS "compare [deliver] secret_file or the token with those of the endpoint"

struct cause {
    CURLcode code;
    enum outcome outcome;
    const char *remedy;
};

static const struct cause causes[] = {
    {CURLE_COULDNT_RESOLVE_HOST, OUTCOME_CONNECT, "correct the host in [deliver] url, or the name servers"},
    {CURLE_COULDNT_CONNECT, OUTCOME_CONNECT, "start the endpoint, open the firewall, or correct [deliver] url"},
    {CURLE_SSL_CONNECT_ERROR, OUTCOME_TLS, CHECK_TLS},
    {CURLE_SSL_CIPHER, OUTCOME_TLS, CHECK_TLS},
    {CURLE_PEER_FAILED_VERIFICATION, OUTCOME_TLS, CORRECT_CA},
    {CURLE_SSL_ISSUER_ERROR, OUTCOME_TLS, CORRECT_CA},
    {CURLE_SSL_CACERT_BADFILE, OUTCOME_TLS, "write CA certificates in PEM format into [deliver] ca_file"},
    {CURLE_SSL_CERTPROBLEM, OUTCOME_TLS,
     "correct [deliver] client_certificate and client_key; the key must have no password"},
    {CURLE_OPERATION_TIMEDOUT, OUTCOME_TIMEOUT, "find out why the endpoint is slow, or set a longer [deliver] timeout"},
    {CURLE_OUT_OF_MEMORY, OUTCOME_BROKEN, "allow the service more memory"},
    {ANY_CODE, OUTCOME_BROKEN, SEE_LOG},
};

static const struct {
    int first, last; // range of the HTTP status
    const char *remedy;
} statuses[] = {
    {300, 399, "redirects are not followed; set [deliver] url to the final address"},
    {401, 401, COMPARE_SECRETS},
    {403, 403, COMPARE_SECRETS},
    {404, 405, "correct the path in [deliver] url"},
    {429, 429, "decrease [deliver] in_flight"},
    {0, INT_MAX, SEE_LOG},
};

// Until a part of the request was sent, a timeout is a failure to connect: the endpoint has not seen the request.
static const struct cause *find_cause(const struct transfer *transfer)
{
    bool never_connected = transfer->code == CURLE_OPERATION_TIMEDOUT && !transfer->was_sent;
    int code = never_connected ? CURLE_COULDNT_CONNECT : transfer->code;
    const struct cause *cause = causes;

    while (cause->code != ANY_CODE && (int)cause->code != code)
        cause++;
    return cause;
}

static const char *find_remedy(int status)
{
    size_t i = 0;

    while (status < statuses[i].first || status > statuses[i].last)
        i++;
    return statuses[i].remedy;
}

// Returns libcurl's text, except where that text is about something else:
//   - If a reused connection breaks, libcurl sends the request again on a new connection, but keeps the first text.
//   - A request that waits for the connection of an earlier request blames the resolver when its time is over.
static const char *find_text(const struct transfer *transfer)
{
    bool is_from_before =
        transfer->code == CURLE_COULDNT_CONNECT && strncmp(transfer->text, "Failed to connect", 17) != 0;

    if (transfer->code == CURLE_OPERATION_TIMEDOUT && strncmp(transfer->text, "Failed to resolve host", 22) == 0)
        return "no connection was established in time";
    return *transfer->text == '\0' || is_from_before ? curl_easy_strerror((CURLcode)transfer->code) : transfer->text;
}

// For a failed connection attempt, libcurl's text lacks the reason of the kernel. libcurl's text may end with a space.
enum outcome failure_judge(const struct transfer *transfer, struct error *why)
{
    const struct cause *cause = find_cause(transfer);
    bool may_need_tls = cause->code == ANY_CODE && !transfer->uses_tls && transfer->status == 0;
    const char *text = find_text(transfer);
    size_t length = strlen(text);
    char reason[80] = "";

    while (length > 0 && text[length - 1] == ' ')
        length--;
    if (transfer->code == CURLE_COULDNT_CONNECT && transfer->cause > 0)
        (void)snprintf(reason, sizeof reason, " (%s)", strerror(transfer->cause));
    (void)error_set(why, 0, "%.*s%s; %s%s", (int)length, text, reason, cause->remedy,
                    may_need_tls ? "; if the endpoint speaks TLS, write https in [deliver] url" : "");
    if (transfer->status > 0)
        error_wrap(why, "the answer with status %d is incomplete", transfer->status);
    return cause->outcome;
}

void failure_explain_answer(int status, enum outcome outcome, struct error *why)
{
    (void)error_set(why, 0, "the endpoint answered with status %d%s; %s", status,
                    outcome == OUTCOME_FAIL ? " and ActionStatus FAIL" : "", find_remedy(status));
}
