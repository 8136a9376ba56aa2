// Checks the settings of the forwarder, and whether the destination can be reached. A URL may contain a password, so no
// message may repeat the URL or the reason why libpq cannot parse the URL.
#include <errno.h>
#include <string.h>

#include "destination.h"
#include "destination_schema.h"
#include "imcallbackd/forward/forward.h"
#include "password.h"

// Returns NULL if the URL does not set the keyword.
static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword; options++) {
        if (strcmp(options->keyword, keyword) == 0)
            return options->val;
    }
    return NULL;
}

// Returns true for a Unix socket, which an empty host also selects, for localhost, for ::1, and for a host that starts
// with "127.".
static bool is_local(const char *host, size_t length)
{
    return length == 0 || *host == '/' || *host == '@' || strncmp(host, "127.", 4) == 0 ||
           (length == 9 && strncmp(host, "localhost", 9) == 0) || (length == 3 && strncmp(host, "::1", 3) == 0);
}

// Returns true if every host in a comma-separated list is local. NULL is an empty list.
static bool are_local(const char *hosts)
{
    while (hosts && *hosts) {
        size_t length = strcspn(hosts, ",");

        if (!is_local(hosts, length))
            return false;
        hosts += length + (hosts[length] == ',');
    }
    return true;
}

static void report_insecure_tls(const PQconninfoOption *options, forward_report *report)
{
    const char *mode = value_of(options, "sslmode");
    struct error sentence;

    if ((mode && strcmp(mode, "verify-full") == 0) ||
        (are_local(value_of(options, "host")) && are_local(value_of(options, "hostaddr"))))
        return;
    (void)error_set(
        &sentence, 0,
        "[forward] url: sslmode=%s does not verify the destination's identity: an attacker on the network can "
        "read the events or impersonate the destination; use sslmode=verify-full and sslrootcert",
        mode ? mode : "prefer");
    report(sentence.text);
}

int forward_check_url(const char *url, forward_report *report, struct error *error)
{
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    int r = 0;

    if (!options)
        return error_set(error, EINVAL,
                         "libpq cannot parse the URI; write it like "
                         "postgresql://user@host:5432/database?sslmode=verify-full");
    if (value_of(options, "password") || value_of(options, "sslpassword"))
        r = error_set(error, EINVAL,
                      "the URI contains a password; store the password in a file and name that file in password_file");
    else
        report_insecure_tls(options, report);
    PQconninfoFree(options);
    return r;
}

int forward_check_password(const char *file, forward_report *report, struct error *error)
{
    char *password = NULL;
    bool readable_by_all;
    struct error sentence;
    int r = password_read(file, &password, &readable_by_all, error);

    password_forget(password);
    if (r == 0 && readable_by_all) {
        (void)error_set(&sentence, 0,
                        "[forward] password_file: every user of this machine can read %s; run chmod o-r on it", file);
        report(sentence.text);
    }
    return r;
}

int forward_check_destination(const struct forward_settings *settings, struct error *error)
{
    struct destination destination = {0};
    int r = destination_open(&destination, settings, ANSWER_TIMEOUT_MIN_MS, error);

    if (r == 0)
        r = schema_check(&destination, error);
    destination_close(&destination);
    return r;
}

int forward_libpq_version(void)
{
    return PQlibVersion();
}
