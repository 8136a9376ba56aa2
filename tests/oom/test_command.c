// Each allocation fails in turn while the receiver is created and, outside the TLS libraries, while the settings are
// read. Either the function reports that it is out of memory, or its result is complete.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/files.h"
#include "../unit/unit.h"
#include "command/receiver.h"
#include "command/settings.h"
#include "heap_fault.h"
#include "imcallbackd/command/command.h"

// Each %s is the directory.
static const char configuration[] = "[listen]\naddress = ::1\nport = 8443\npath = /im\nthreads = 2\n"
                                    "[tls]\ncertificate = %s/certificate.pem\nprivate_key = %s/key.pem\n"
                                    "client_ca = %s/certificate.pem\n"
                                    "[app 1400000001]\ntoken_file = %s/token\nrequest_time_window = 90s\n"
                                    "[app 1400000002]\n"
                                    "[callback]\nother_commands = acknowledge\nallow_from = 192.0.2.0/24\n"
                                    "allow_from = 2001:db8::/32, 198.51.100.7\n"
                                    "[store]\ndatabase = %s/callbacks.db\nkeep_body = yes\n"
                                    "[limits]\nbody = 1M\nconnections = 10\nconnections_per_address = 5\n"
                                    "idle_timeout = 30s\nrequest_timeout = 5s\n"
                                    "[log]\nlevel = warning\nformat = json\n";

struct reading {
    char directory[64];
    char path[128];
    int result;
    struct settings *settings;
    struct receiver *receiver;
    struct error error;
    char *expected; // the settings as text, from the run without a fault
};

static void write_named(const struct reading *reading, const char *name, const char *text)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", reading->directory, name);
    write_text(path, text);
}

static int setup(void **state)
{
    static struct reading reading;
    char *arguments[] = {"certificate", "--host", "localhost", "--out", reading.directory, NULL};
    char *text;

    make_directory(reading.directory, sizeof reading.directory);
    assert_int_equal(command_certificate(5, arguments), 0);
    write_named(&reading, "token", "the-old-one\nxxxxyyyy\n");
    assert_true(asprintf(&text, configuration, reading.directory, reading.directory, reading.directory,
                         reading.directory, reading.directory) > 0);
    write_named(&reading, "imcallbackd.conf", text);
    free(text);
    (void)snprintf(reading.path, sizeof reading.path, "%s/imcallbackd.conf", reading.directory);
    *state = &reading;
    return 0;
}

static int teardown(void **state)
{
    struct reading *reading = *state;

    remove_directory(reading->directory);
    free(reading->expected);
    return 0;
}

static void reset(void *context)
{
    struct reading *reading = context;

    reading->settings = NULL;
    reading->receiver = NULL;
    reading->error.text[0] = '\0';
}

static void read_settings(void *context)
{
    struct reading *reading = context;

    reading->result = settings_read(reading->path, NULL, &reading->settings, &reading->error);
}

static char *describe(const struct settings *settings)
{
    struct buffer text = {0};
    int r = config_print(&settings->config, &text);

    for (size_t i = 0; i < settings->rules.app_count; i++) {
        const struct callback_app *app = &settings->rules.apps[i];

        r |= buffer_print(&text, "%lld %lld", (long long)app->sdk_appid, (long long)app->request_time_window_s);
        for (size_t token = 0; token < app->token_count; token++)
            r |= buffer_print(&text, " %s", app->tokens[token]);
    }
    r |= buffer_print(&text, " %zu %zu", settings->limits.allow_from_count, settings->limits.body_bytes);
    assert_int_equal(r, 0);
    assert_true(http_credentials_expires_ms(settings->credentials) > 0);
    return text.data;
}

static void check_settings(void *context, bool met)
{
    struct reading *reading = context;
    char *text;

    if (reading->result < 0) {
        assert_true(met);
        assert_null(reading->settings);
        if (!strstr(reading->error.text, "memory"))
            fail_msg("%s", reading->error.text);
        return;
    }
    text = describe(reading->settings);
    settings_unref(reading->settings);
    if (!reading->expected) {
        reading->expected = text;
        return;
    }
    assert_string_equal(text, reading->expected);
    free(text);
}

TEST(settings_are_complete_or_refused)
{
    const struct fault_scenario scenario = {"settings", reset, read_settings, check_settings, true};

    fault_run(&scenario, *state);
}

static void read_apps(void *context)
{
    struct reading *reading = context;

    reset(context);
    assert_int_equal(settings_read_apps(reading->path, &reading->settings, &reading->error), 0);
}

static void create_receiver(void *context)
{
    struct reading *reading = context;

    reading->result = receiver_create(reading->settings, &reading->receiver, &reading->error);
}

static void check_receiver(void *context, bool met)
{
    struct reading *reading = context;

    assert_true(reading->result == 0 || (met && strstr(reading->error.text, "memory") && !reading->receiver));
    receiver_destroy(reading->receiver);
    settings_unref(reading->settings);
}

TEST(receiver_is_complete_or_refused)
{
    const struct fault_scenario scenario = {"receiver", read_apps, create_receiver, check_receiver, false};

    fault_run(&scenario, *state);
}

TEST_MAIN(setup, teardown)
