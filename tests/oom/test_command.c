// Each allocation fails in turn while the receiver is created, while events are exported, while the facts of the status
// page are collected and, outside the TLS libraries, while the settings are read. Either the function reports that it
// is out of memory, or its result is complete.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "../unit/store/store_fixture.h"
#include "command/receiver.h"
#include "command/settings.h"
#include "command/status_facts.h"
#include "heap_fault.h"
#include "imcallbackd/command/command.h"

// Always fails, which the store's reader tolerates. The kernel needs 10 ms to release an inotify instance, and this
// test would create thousands.
int inotify_init1(int flags)
{
    (void)flags;
    return -1;
}

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

static void write_configuration(const struct reading *reading, const char *name, const char *database_directory)
{
    const char *directory = reading->directory;
    char *text;

    assert_true(asprintf(&text, configuration, directory, directory, directory, directory, database_directory) > 0);
    write_named(reading, name, text);
    free(text);
}

static int setup(void **state)
{
    static struct reading reading;
    char *arguments[] = {"certificate", "--host", "localhost", "--out", reading.directory, NULL};

    make_directory(reading.directory, sizeof reading.directory);
    assert_int_equal(command_certificate(5, arguments), 0);
    write_named(&reading, "token", "the-old-one\nxxxxyyyy\n");
    write_configuration(&reading, "imcallbackd.conf", reading.directory);
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

// The status page

struct collecting {
    int result;
    struct settings *settings;
    struct status_sources sources;
    struct status status;
    struct status_memory memory;
};

static void collect(void *context)
{
    static const struct disk_usage usage = {0};
    struct collecting *collecting = context;

    collecting->result = status_facts_collect(&collecting->sources, collecting->settings, &usage, &collecting->memory,
                                              &collecting->status);
}

static void check_facts(void *context, bool met)
{
    struct collecting *collecting = context;

    if (collecting->result < 0) {
        assert_true(met);
    } else {
        assert_int_equal(collecting->status.endpoint.app_count, 2);
        assert_int_equal(collecting->status.endpoint.apps[1].sdk_appid, 1400000002);
    }
    status_memory_finish(&collecting->memory);
}

TEST(status_facts_are_complete_or_refused)
{
    const struct fault_scenario scenario = {"status facts", NULL, collect, check_facts, false};
    static struct collecting collecting; // too large for a stack
    const struct reading *reading = *state;
    struct error error;
    void *opened;

    (void)fixture_setup_open(&opened);
    assert_int_equal(settings_read(reading->path, NULL, &collecting.settings, &error), 0);
    assert_int_equal(receiver_create(collecting.settings, &collecting.sources.receiver, &error), 0);
    collecting.sources.store = ((struct fixture *)opened)->store;
    status_sources_init(&collecting.sources);
    fault_run(&scenario, &collecting);
    status_sources_finish(&collecting.sources);
    receiver_destroy(collecting.sources.receiver);
    settings_unref(collecting.settings);
    (void)fixture_teardown(&opened);
}

// Exporting

struct exporting {
    char path[128], output[128]; // the configuration, and the file that gets what the command prints
    int standard_output, status;
    char *expected; // the output without a fault
};

static void redirect(void *context)
{
    struct exporting *exporting = context;
    int fd = open(exporting->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    (void)fflush(stdout);
    exporting->standard_output = dup(STDOUT_FILENO);
    assert_true(fd >= 0 && exporting->standard_output >= 0);
    assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
    assert_int_equal(close(fd), 0);
}

static void export_events(void *context)
{
    struct exporting *exporting = context;
    char *arguments[] = {"export", "-c", exporting->path, NULL};

    exporting->status = command_export(3, arguments);
}

// A failed export may have printed the first lines, but no part of a line.
static void check_export(void *context, bool met)
{
    struct exporting *exporting = context;
    size_t length;
    char *text;

    assert_int_equal(dup2(exporting->standard_output, STDOUT_FILENO), STDOUT_FILENO);
    assert_int_equal(close(exporting->standard_output), 0);
    text = read_file(exporting->output, &length);
    if (!exporting->expected) {
        assert_int_equal(exporting->status, 0);
        exporting->expected = text;
        return;
    }
    assert_true(exporting->status == 0 || met);
    if (exporting->status == 0)
        assert_string_equal(text, exporting->expected);
    else
        assert_true(strncmp(text, exporting->expected, length) == 0 && (length == 0 || text[length - 1] == '\n'));
    free(text);
}

TEST(export_prints_whole_events_or_fails)
{
    const struct fault_scenario scenario = {"export", redirect, export_events, check_export, false};
    const struct reading *reading = *state;
    struct exporting exporting = {.expected = NULL};
    struct fixture *fixture;
    void *opened;

    (void)fixture_setup_open(&opened);
    fixture = opened;
    fixture_record_times(fixture, 1, 3);
    fixture_close(fixture);
    write_configuration(reading, "export.conf", fixture->directory);
    (void)snprintf(exporting.path, sizeof exporting.path, "%s/export.conf", reading->directory);
    (void)snprintf(exporting.output, sizeof exporting.output, "%s/output", reading->directory);
    fault_run(&scenario, &exporting);
    free(exporting.expected);
    (void)fixture_teardown(&opened);
}

TEST_MAIN(setup, teardown)
