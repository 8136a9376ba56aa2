// Tests what settings take from the configuration and its files, which place an error names, and which protections a
// reload keeps.
#include <errno.h>

#include "command/settings.h"
#include "command_fixture.h"
#include "imcallbackd/command/command.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

#define TLS "[tls]\ncertificate = certificate.pem\nprivate_key = key.pem\n"

static int create_files(void **state)
{
    char *arguments[] = {"certificate", "--host", "localhost", "--out", ".", NULL};
    char *other[] = {"certificate", "--host", "localhost", "--out", "other", NULL};

    if (enter_directory(state) < 0 || mkdir("other", 0700) < 0 || command_certificate(5, arguments) != 0 ||
        command_certificate(5, other) != 0)
        return -1;
    write_text("token", "old\nnew\n");
    write_text("empty", "");
    return 0;
}

static int read_settings(const char *text, const struct settings *predecessor, struct settings **ret_settings)
{
    write_text(CONFIG_PATH, text);
    *ret_settings = NULL;
    error.text[0] = '\0';
    return settings_read(CONFIG_PATH, predecessor, ret_settings, &error);
}

static struct settings *read_valid_settings(const char *text)
{
    struct settings *settings;

    if (read_settings(text, NULL, &settings) < 0)
        fail_msg("%s", error.text);
    return settings;
}

TEST(takes_over_the_configuration_and_the_tokens)
{
    struct settings *settings =
        read_valid_settings(TLS "[app 1]\ntoken_file = token\nrequest_time_window = 90s\n[app 2]\n"
                                "[listen]\ntrusted_proxies = 10.0.0.8, 10.0.0.9, fd00::/8\n"
                                "[callback]\nother_commands = acknowledge\nallow_from = ::1, 192.0.2.0/24\n"
                                "[store]\nkeep_body = yes\nretention = 2d\n"
                                "[limits]\nbody = 64K\nconnections = 10\nconnections_per_address = 5\n"
                                "idle_timeout = 30s\nrequest_timeout = 6s\nstore_wait = 3s\n");

    assert_int_equal(settings->rules.app_count, 2);
    assert_int_equal(settings->rules.apps[0].sdk_appid, 1);
    assert_int_equal(settings->rules.apps[0].token_count, 2);
    assert_string_equal(settings->rules.apps[0].tokens[0], "old");
    assert_string_equal(settings->rules.apps[0].tokens[1], "new");
    assert_int_equal(settings->rules.apps[0].request_time_window_s, 90);
    assert_int_equal(settings->rules.apps[1].sdk_appid, 2);
    assert_int_equal(settings->rules.apps[1].token_count, 0);
    assert_int_equal(settings->rules.apps[1].request_time_window_s, 60);
    assert_true(settings->rules.acknowledge_other_commands);
    assert_true(settings->rules.keep_body);
    assert_int_equal(settings->limits.allow_from_count, 2);
    assert_int_equal(settings->limits.trusted_proxy_count, 3);
    assert_int_equal(settings->limits.trusted_proxies[2].prefix, 8);
    assert_int_equal(settings->limits.body_bytes, 65536);
    assert_int_equal(settings->limits.connections, 10);
    assert_int_equal(settings->limits.connections_per_address, 5);
    assert_int_equal(settings->limits.idle_timeout_ms, 30000);
    assert_int_equal(settings->limits.request_timeout_ms, 6000);
    assert_int_equal(settings->store_wait_ms, 3000);
    assert_int_equal(settings->retention_ms, 2 * DAY_MS);
    assert_non_null(settings->credentials);
    settings_unref(settings);
}

TEST(has_no_optional_features_by_default)
{
    struct settings *settings = read_valid_settings(TLS "[app 1]\n");

    assert_false(settings->rules.acknowledge_other_commands);
    assert_false(settings->rules.keep_body);
    assert_int_equal(settings->limits.allow_from_count, 0);
    assert_int_equal(settings->limits.trusted_proxy_count, 0);
    assert_int_equal(settings->retention_ms, 0);
    settings_unref(settings);
    settings_unref(NULL);
}

static const struct {
    const char *text, *place;
} errors[] = {
    {TLS "[app 1]\n[server]\n", CONFIG_PATH ":5: "},
    {TLS "[app 1]\n[app 2]\ntoken_file = absent\n", CONFIG_PATH ":6: [app 2] token_file: absent: "},
    {TLS "[app 1]\ntoken_file = empty\n", CONFIG_PATH ":5: [app 1] token_file: empty: "},
    {"[tls]\ncertificate = absent\nprivate_key = key.pem\n[app 1]\n", CONFIG_PATH ":2: [tls] certificate: "},
    {"[tls]\ncertificate = token\nprivate_key = key.pem\n[app 1]\n", CONFIG_PATH ":2: [tls] certificate: "},
    {"[tls]\nprivate_key = absent\ncertificate = certificate.pem\n[app 1]\n", CONFIG_PATH ":2: [tls] private_key: "},
    {"[tls]\nprivate_key = token\ncertificate = certificate.pem\n[app 1]\n", CONFIG_PATH ":2: [tls] private_key: "},
    {"[tls]\nprivate_key = other/key.pem\ncertificate = certificate.pem\n[app 1]\n",
     CONFIG_PATH ":2: [tls] private_key: "},
    {TLS "client_ca = absent\n[app 1]\n", CONFIG_PATH ":4: [tls] client_ca: "},
    {TLS "client_ca = empty\n[app 1]\n", CONFIG_PATH ":4: [tls] client_ca: "},
};

TEST(names_the_place_of_each_error)
{
    for (size_t i = 0; i < COUNT(errors); i++) {
        struct settings *settings;

        if (read_settings(errors[i].text, NULL, &settings) >= 0)
            fail_msg("%s", errors[i].text);
        assert_null(settings);
        assert_starts_with(error.text, errors[i].place);
    }
}

TEST(reads_apps_without_the_certificate)
{
    struct settings *settings;

    write_text(CONFIG_PATH, MINIMAL "token_file = token\n");
    assert_int_equal(settings_read_apps(CONFIG_PATH, &settings, &error), 0);
    assert_int_equal(settings->rules.apps[0].token_count, 2);
    assert_null(settings->credentials);
    settings_unref(settings);
}

#define CLIENT_CA  "client_ca = certificate.pem\n"
#define ALLOW_FROM "[callback]\nallow_from = ::1\n"
#define TRUSTED    "[listen]\ntrusted_proxies = ::1\n"

static const struct {
    const char *running, *next;
    const char *missing; // the protection that the next settings lack; NULL: they are accepted
} reloads[] = {
    {"[app 1]\ntoken_file = token\n", "[app 1]\ntoken_file = token\n", NULL},
    {"[app 1]\ntoken_file = token\n", "[app 1]\n", "[app 1] token_file"},
    {"[app 1]\ntoken_file = token\n[app 2]\n", "[app 2]\n", NULL}, // an app is removed
    {"[app 1]\n", "[app 1]\n", NULL},
    {"[app 1]\n", "[app 1]\ntoken_file = token\n", NULL},
    {"[app 1]\n", "[app 1]\n[app 2]\n", "[app 2] token_file"}, // a new app needs a token
    {"[app 1]\n", "[app 1]\n[app 2]\ntoken_file = token\n", NULL},
    {"[app 1]\n" ALLOW_FROM, "[app 1]\n", "[callback] allow_from"},
    {"[app 1]\n" ALLOW_FROM, "[app 1]\n[callback]\nallow_from = ::/0\n", NULL},
    {"[app 1]\n", "[app 1]\n" ALLOW_FROM, NULL},
    {CLIENT_CA "[app 1]\n", "[app 1]\n", "[tls] client_ca"},
    {CLIENT_CA "[app 1]\n", CLIENT_CA "[app 1]\n", NULL},
    {"[app 1]\n", CLIENT_CA "[app 1]\n", NULL},
    {"[app 1]\n" TRUSTED, "[app 1]\n", NULL},
    {"[app 1]\n", "[app 1]\n" TRUSTED, NULL},
};

TEST(a_reload_keeps_each_protection)
{
    for (size_t i = 0; i < COUNT(reloads); i++) {
        struct settings *running, *next;
        char text[512];
        int r;

        (void)snprintf(text, sizeof text, TLS "%s", reloads[i].running);
        running = read_valid_settings(text);
        (void)snprintf(text, sizeof text, TLS "%s", reloads[i].next);
        r = read_settings(text, running, &next);
        if (r != (reloads[i].missing ? -EPERM : 0))
            fail_msg("row %zu: %d: %s", i, r, error.text);
        if (reloads[i].missing) {
            assert_starts_with(error.text, CONFIG_PATH ": ");
            assert_contains(error.text, reloads[i].missing);
        }
        settings_unref(running);
        settings_unref(next);
    }
}

static char warnings[1024];

static void collect_warning(const char *sentence)
{
    (void)snprintf(warnings + strlen(warnings), sizeof warnings - strlen(warnings), "%s\n", sentence);
}

static const char *warn(const struct settings *settings, int64_t now_ms)
{
    warnings[0] = '\0';
    settings_warn(settings, now_ms, collect_warning);
    return warnings;
}

TEST(warns_of_a_certificate_that_expires)
{
    struct settings *settings = read_valid_settings(TLS "[app 1]\ntoken_file = token\n");
    int64_t from_ms = http_credentials_valid_from_ms(settings->credentials);
    int64_t expires_ms = http_credentials_expires_ms(settings->credentials);
    const struct {
        int64_t now_ms;
        const char *part; // part of the warning; NULL: no warning
    } rows[] = {
        {from_ms - 1, "not valid yet"},       {from_ms, NULL},
        {expires_ms - 21 * DAY_MS - 1, NULL}, {expires_ms - 21 * DAY_MS, "expires on"},
        {expires_ms - 1, "expires on"},       {expires_ms, "expired on"},
    };

    assert_true(expires_ms > from_ms + 22 * DAY_MS);
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *text = warn(settings, rows[i].now_ms);

        if (!rows[i].part) {
            assert_string_equal(text, "");
            continue;
        }
        assert_starts_with(text, CONFIG_PATH ":2: [tls] certificate: ");
        assert_contains(text, rows[i].part);
    }
    settings_unref(settings);
}

TEST(warns_of_apps_without_a_secret_token)
{
    struct settings *settings;
    const char *text;

    assert_int_equal(chmod("token", 0604), 0);
    settings = read_valid_settings(TLS "[app 1]\n[app 2]\ntoken_file = token\n");
    assert_int_equal(chmod("token", 0600), 0);
    text = warn(settings, http_credentials_valid_from_ms(settings->credentials));
    assert_starts_with(text, CONFIG_PATH ":4: [app 1] token_file: ");
    assert_contains(text, "\n" CONFIG_PATH ":6: [app 2] token_file: token ");
    settings_unref(settings);
}

TEST(warns_of_trust_in_wide_blocks)
{
    static const struct {
        const char *proxies;
        bool warns;
    } rows[] = {
        {"0.0.0.0/0", true},       {"::/0", true},          {"10.0.0.8 ::/0, 0.0.0.0/0", true},
        {"10.0.0.0/8 ::1", false}, {"::ffff:0:0/96", true}, {"10.0.0.8 0.0.0.0/1", true},
        {"10.0.0.0/7", true},      {"::/1", true},          {"2000::/15", true},
        {"2001::/16", false},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct settings *settings;
        const char *text;
        char file[512];

        (void)snprintf(file, sizeof file, TLS "[app 1]\ntoken_file = token\n[listen]\ntrusted_proxies = %s\n",
                       rows[i].proxies);
        settings = read_valid_settings(file);
        text = warn(settings, http_credentials_valid_from_ms(settings->credentials));
        if (!rows[i].warns) {
            assert_string_equal(text, "");
        } else {
            assert_starts_with(text, CONFIG_PATH ":7: [listen] trusted_proxies: a block is wider than /8 ");
            assert_int_equal(strcspn(text, "\n"), strlen(text) - 1); // a single warning
        }
        settings_unref(settings);
    }
}

TEST(live_until_the_last_reference_is_released)
{
    struct settings *settings = read_valid_settings(TLS "[app 1]\n");

    assert_ptr_equal(settings_ref(settings), settings);
    settings_unref(settings);
    assert_int_equal(settings->rules.apps[0].sdk_appid, 1);
    settings_unref(settings);
}

TEST_MAIN(create_files, leave_directory)
