// Tests the syntax of the configuration file, the places that errors name, and the printed configuration.
#include <errno.h>

#include "command_fixture.h"

#define LINE_BYTES 198 // of the longest line that is accepted, without its newline

TEST(uses_defaults_for_absent_keys)
{
    assert_int_equal(read_config(MINIMAL), 0);
    for (const struct config_option *option = config_options; option->section; option++) {
        const void *base = config_option_is_per_app(option) ? (const void *)config.apps : &config;
        const struct config_value *value = config_option_value(option, base);

        if (option->required)
            assert_true(value->line > 0);
        else if (option->default_text)
            assert_string_equal(value->text, option->default_text);
        else
            assert_null(value->text);
        assert_true(option->required || value->line == 0);
    }
    assert_int_equal(config.app_count, 1);
    assert_int_equal(config.apps[0].sdk_appid, 1400000001);
    assert_int_equal(config.apps[0].line, 4);
}

TEST(reads_comments_spaces_and_both_line_ends)
{
    assert_int_equal(read_config("# comment\r\n"
                                 "; [comment]\n"
                                 "\n"
                                 "  [tls] ; comment\r\n"
                                 "\tcertificate=c;c\r\n"
                                 "private_key   =   k #k   ; comment\n"
                                 "[app 1]# comment\n"
                                 "\r\n"
                                 "token_file = a = b"),
                     0);
    assert_string_equal(config.tls_certificate.text, "c;c");
    assert_int_equal(config.tls_certificate.line, 5);
    assert_string_equal(config.tls_private_key.text, "k #k");
    assert_int_equal(config.tls_private_key.line, 6);
    assert_int_equal(config.apps[0].line, 7);
    assert_string_equal(config.apps[0].token_file.text, "a = b");
    assert_int_equal(config.apps[0].token_file.line, 9);
}

// Every section except [app SDKAPPID] may appear more than once, as [log] does here.
TEST(reads_the_keys_of_each_app)
{
    assert_int_equal(read_config(MINIMAL "request_time_window = 90s\n"
                                         "[app 9223372036854775807]\n"
                                         "token_file = t\n"
                                         "[log]\nlevel = error\n[listen]\nport = 1\n[log]\nformat = json\n"),
                     0);
    assert_int_equal(config.app_count, 2);
    assert_int_equal(config.apps[0].request_time_window.number, 90000);
    assert_null(config.apps[0].token_file.text);
    assert_int_equal(config.apps[1].sdk_appid, INT64_MAX);
    assert_int_equal(config.apps[1].request_time_window.number, 60000);
    assert_string_equal(config.apps[1].token_file.text, "t");
    assert_string_equal(config.log_level.text, "error");
    assert_string_equal(config.log_format.text, "json");
}

static const struct {
    const char *text;
    const char *place; // start of the error after the name of the file
    const char *part;  // another part of the error
    int code;
} errors[] = {
    {"port = 1\n" MINIMAL, ":1: ", "port", EINVAL},
    {MINIMAL "[server]\n", ":5: ", "[server]", EINVAL},
    {MINIMAL "[]\n", ":5: ", "section", EINVAL},
    {MINIMAL "[Listen]\n", ":5: ", "[Listen]", EINVAL},
    {MINIMAL "[listen]\naddresses = ::\n", ":6: ", "addresses", EINVAL},
    {MINIMAL "[listen]\nlevel = info\n", ":6: ", "level", EINVAL},
    {MINIMAL "[listen]\nport = 1\nport = 1\n", ":7: ", "port", EINVAL},
    {MINIMAL "[listen]\nport = 1\n[log]\n[listen]\nport = 2\n", ":9: ", "port", EINVAL},
    {MINIMAL "token_file = a\ntoken_file = b\n", ":6: ", "token_file", EINVAL},
    {MINIMAL "[app]\n", ":5: ", "[app", EINVAL},
    {MINIMAL "[app 0]\n", ":5: ", "[app 0]", EINVAL},
    {MINIMAL "[app 01]\n", ":5: ", "[app 01]", EINVAL},
    {MINIMAL "[app x]\n", ":5: ", "[app x]", EINVAL},
    {MINIMAL "[app  1]\n", ":5: ", "[app  1]", EINVAL},
    {MINIMAL "[app -1]\n", ":5: ", "[app -1]", EINVAL},
    {MINIMAL "[app 9223372036854775808]\n", ":5: ", "[app 9223372036854775808]", EINVAL},
    {MINIMAL "[app 1400000001]\n", ":5: ", "[app 1400000001]", EINVAL},
    {MINIMAL "[listen\n", ":5: ", "[section]", EINVAL},
    {MINIMAL "[listen] port = 1\n", ":5: ", "[section]", EINVAL},
    {MINIMAL "token_file\n", ":5: ", "key = value", EINVAL},
    {MINIMAL "token_file: t\n", ":5: ", "key = value", EINVAL},
    {MINIMAL "= t\n", ":5: ", "key = value", EINVAL},
    {MINIMAL "token_file ; = t\n", ":5: ", "key = value", EINVAL},
    {"\xef\xbb\xbf" MINIMAL, ":1: ", "[section]", EINVAL},
    {MINIMAL "token_file =\n", ":5: [app 1400000001] token_file: ", "empty", EINVAL},
    {MINIMAL "token_file = ; t\n", ":5: [app 1400000001] token_file: ", "empty", EINVAL},
    {MINIMAL "[listen]\nport = x\n", ":6: [listen] port: ", "'x'", EINVAL},
    {MINIMAL "[listen]\nport = 65536\n", ":6: [listen] port: ", "65535", ERANGE},
    {MINIMAL "request_time_window = 999ms\n", ":5: [app 1400000001] request_time_window: ", "1s", ERANGE},
    {MINIMAL "[callback]\nallow_from = ::1\n\nallow_from = x\n", ":8: [callback] allow_from: ", "'x'", EINVAL},
    {MINIMAL "[callback]\nallow_from = ::1\nallow_from =\n", ":7: [callback] allow_from: ", "empty", EINVAL},
    {"[tls]\nprivate_key = k\n[app 1]\n", ": [tls] certificate: ", "", EINVAL},
    {"[tls]\ncertificate = c\n[app 1]\n", ": [tls] private_key: ", "", EINVAL},
    {"[tls]\ncertificate = c\nprivate_key = k\n", ": ", "[app SDKAPPID]", EINVAL},
    {"", ": [tls] certificate: ", "", EINVAL},
    {MINIMAL "[log]\nlevel = x\n[server]\n", ":6: [log] level: ", "'x'", EINVAL}, // only the first error is reported
};

TEST(names_the_place_of_each_error)
{
    for (size_t i = 0; i < COUNT(errors); i++) {
        char place[128];

        if (read_config(errors[i].text) != -errors[i].code)
            fail_msg("%s\n%s", errors[i].text, error.text);
        (void)snprintf(place, sizeof place, CONFIG_PATH "%s", errors[i].place);
        assert_starts_with(error.text, place);
        assert_contains(error.text, errors[i].part);
    }
}

TEST(rejects_lines_above_the_limit)
{
    for (size_t length = LINE_BYTES - 1; length <= LINE_BYTES + 1; length++) {
        char text[sizeof MINIMAL + LINE_BYTES + 2];
        int used = snprintf(text, sizeof text, "%stoken_file = ", MINIMAL);
        size_t end = strlen(MINIMAL) + length;

        memset(text + used, 'x', end - (size_t)used);
        memcpy(text + end, "\n", 2);
        assert_int_equal(read_config(text), length <= LINE_BYTES ? 0 : -EINVAL);
        if (length <= LINE_BYTES)
            assert_int_equal(strlen(config.apps[0].token_file.text), length - strlen("token_file = "));
        else
            assert_starts_with(error.text, CONFIG_PATH ":5: ");
    }
}

TEST(limits_the_number_of_apps)
{
    struct buffer text = {0};

    assert_int_equal(buffer_print(&text, "%s", MINIMAL), 0);
    for (size_t count = 2; count <= 1001; count++) {
        assert_int_equal(buffer_print(&text, "[app %zu]\n", count), 0);
        if (count < 999)
            continue;
        assert_int_equal(read_config(text.data), count <= 1000 ? 0 : -EINVAL);
        if (count > 1000)
            assert_starts_with(error.text, CONFIG_PATH ":1004: ");
    }
    buffer_finish(&text);
}

TEST(joins_repeated_lists)
{
    assert_int_equal(read_config(MINIMAL "[callback]\nallow_from = ::1\n[log]\n[callback]\n"
                                         "allow_from = 192.0.2.0/24, 192.0.2.1\nallow_from = ::2\n"),
                     0);
    assert_string_equal(config.callback_allow_from.text, "::1, 192.0.2.0/24, 192.0.2.1, ::2");
    assert_int_equal(config.callback_allow_from.line, 10);
}

TEST(names_a_file_that_it_cannot_read)
{
    config_finish(&config);
    assert_int_equal(config_read("absent.conf", &config, &error), -ENOENT);
    assert_starts_with(error.text, "absent.conf: ");
    config_finish(&config);
    assert_int_equal(config_read("/", &config, &error), -EIO);
    assert_starts_with(error.text, "/: ");
}

TEST(wraps_errors_with_the_place_of_the_value)
{
    assert_int_equal(read_config(MINIMAL "[app 2]\ntoken_file = t\n"), 0);
    const struct {
        const struct config_value *value;
        const char *text;
    } rows[] = {
        {&config.tls_private_key, CONFIG_PATH ":3: [tls] private_key: cause"},
        {&config.log_level, CONFIG_PATH ": [log] level: cause"},                            // a default has no line
        {&config.apps[0].token_file, CONFIG_PATH ":4: [app 1400000001] token_file: cause"}, // the line of the section
        {&config.apps[1].token_file, CONFIG_PATH ":6: [app 2] token_file: cause"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        error_set(&error, 0, "cause");
        config_wrap_error(&config, rows[i].value, &error);
        assert_string_equal(error.text, rows[i].text);
    }
}

TEST(prints_what_it_can_read_again)
{
    struct buffer first = {0}, second = {0};

    assert_int_equal(read_config(MINIMAL "[app 2]\ntoken_file = t\n[callback]\nallow_from = ::1\nallow_from = ::2\n"
                                         "[log]\nformat = json\n[store]\nretention = 30d\n"),
                     0);
    assert_int_equal(config_print(&config, &first), 0);
    assert_contains(first.data, "\n[app 2]\ntoken_file = t\nrequest_time_window = 60s\n");
    assert_contains(first.data, "\nallow_from = ::1, ::2\n");
    assert_int_equal(read_config(first.data), 0);
    assert_int_equal(config_print(&config, &second), 0);
    assert_string_equal(first.data, second.data);
    buffer_finish(&first);
    buffer_finish(&second);
}

// Returns a valid value that is not the default.
static const char *other_value(const struct config_option *option)
{
    switch (option->type) {
    case CONFIG_ADDRESS:
        return "::1";
    case CONFIG_URL_PATH:
    case CONFIG_FILE:
    case CONFIG_SERVICE_FILE:
        return "/other";
    case CONFIG_DURATION:
    case CONFIG_RETENTION:
    case CONFIG_PATIENCE:
        return option->max >= 86400000 ? "1d" : "1h";
    case CONFIG_SIZE:
    case CONFIG_NUMBER:
        return option->min > 7 ? "8K" : "7";
    case CONFIG_BOOLEAN:
        return "yes";
    case CONFIG_CHOICE:
        return option->choices[1];
    case CONFIG_ADDRESS_BLOCKS:
        return "::1";
    case CONFIG_DESTINATION:
        return "postgresql://host/";
    case CONFIG_ENDPOINT:
        return "https://host/";
    case CONFIG_HOSTS:
    case CONFIG_NAME:
        return "name";
    }
    return "";
}

static char reported[1024];
static size_t reports;

static void count_report(const char *sentence)
{
    (void)snprintf(reported, sizeof reported, "%s", sentence);
    reports++;
}

TEST(reports_the_keys_that_a_reload_does_not_apply)
{
    struct config running;

    assert_int_equal(read_config(MINIMAL), 0);
    running = config;
    config = (struct config){0};
    for (const struct config_option *option = config_options; option->section; option++) {
        char text[256], place[128];

        if (config_option_is_per_app(option) || option->required)
            continue;
        (void)snprintf(text, sizeof text, "%s[%s]\n%s = %s\n", MINIMAL, option->section, option->key,
                       other_value(option));
        if (read_config(text) < 0)
            fail_msg("%s", error.text);
        reports = 0;
        config_report_unapplied(&running, &config, count_report);
        assert_int_equal(reports, option->needs_restart);
        (void)snprintf(place, sizeof place, CONFIG_PATH ":6: [%s] %s: ", option->section, option->key);
        if (option->needs_restart)
            assert_starts_with(reported, place);
    }
    config_finish(&running);
}

TEST_MAIN(enter_directory, leave_directory)
