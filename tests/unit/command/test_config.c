// Tests that the table of all keys is consistent, and that config_value_set() accepts exactly the form and the range of
// each key.
#include <errno.h>
#include <inttypes.h>

#include "command_fixture.h"

static bool is_word(const char *text)
{
    return *text && strspn(text, "abcdefghijklmnopqrstuvwxyz_") == strlen(text);
}

static bool has_number(enum config_type type)
{
    return type == CONFIG_NUMBER || type == CONFIG_DURATION || type == CONFIG_RETENTION || type == CONFIG_PATIENCE ||
           type == CONFIG_SIZE;
}

TEST(names_are_lower_case_words_and_unique)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        if (!is_word(option->section) || !is_word(option->key))
            fail_msg("[%s] %s", option->section, option->key);
        for (const struct config_option *other = config_options; other < option; other++) {
            if (strcmp(option->section, other->section) == 0 && strcmp(option->key, other->key) == 0)
                fail_msg("[%s] %s appears twice", option->section, option->key);
        }
    }
}

// config_print() prints all keys of a section when it reaches the section's first row. If rows of another section were
// in between, it would print all keys of the section again.
TEST(the_keys_of_a_section_are_consecutive)
{
    for (const struct config_option *option = config_options + 1; option->section; option++) {
        if (strcmp(option->section, option[-1].section) == 0)
            continue;
        for (const struct config_option *other = config_options; other < option; other++)
            assert_string_not_equal(option->section, other->section);
    }
}

TEST(each_value_belongs_to_one_key)
{
    const size_t value = sizeof(struct config_value), path = sizeof(char *);
    const size_t apps = sizeof(struct config) - offsetof(struct config, apps);
    size_t count = 0, app_count = 0;

    for (const struct config_option *option = config_options; option->section; option++) {
        bool per_app = config_option_is_per_app(option);

        for (const struct config_option *other = config_options; other < option; other++)
            assert_true(per_app != config_option_is_per_app(other) || option->offset != other->offset);
        count += !per_app;
        app_count += per_app;
    }
    assert_int_equal(path + count * value + apps, sizeof(struct config));
    assert_int_equal(offsetof(struct config_app, token_file) + app_count * value, sizeof(struct config_app));
}

TEST(the_properties_of_each_key_fit_its_type)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        bool ok = !option->choices == (option->type != CONFIG_CHOICE) && !(option->required && option->default_text) &&
                  (has_number(option->type) ? option->min < option->max : option->max == 0) &&
                  (!option->needs_restart || (option->default_text && !config_option_is_per_app(option)));

        if (!ok)
            fail_msg("[%s] %s", option->section, option->key);
    }
}

static int set_value(const struct config_option *option, const char *text, struct config_value *value)
{
    error.text[0] = '\0';
    return config_value_set(option, text, 7, value, &error);
}

TEST(each_default_is_valid)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        struct config_value value = {0};

        if (!option->default_text)
            continue;
        if (set_value(option, option->default_text, &value) < 0)
            fail_msg("[%s] %s = %s: %s", option->section, option->key, option->default_text, error.text);
        assert_string_equal(value.text, option->default_text);
        free(value.text);
    }
}

static void assert_set(const struct config_option *option, uint64_t number, int expected)
{
    bool is_time =
        option->type == CONFIG_DURATION || option->type == CONFIG_RETENTION || option->type == CONFIG_PATIENCE;
    const uint64_t unchanged = 4711;
    struct config_value value = {.number = unchanged};
    char text[32];
    int r;

    (void)snprintf(text, sizeof text, "%" PRIu64 "%s", number, is_time ? "ms" : "");
    r = set_value(option, text, &value);
    if (r != expected || value.number != (r == 0 ? number : unchanged) || value.line != (r == 0 ? 7 : 0))
        fail_msg("[%s] %s = %s: %d: %s", option->section, option->key, text, r, error.text);
    assert_true(!*error.text == (r == 0));
    free(value.text);
}

TEST(each_range_includes_its_limits_only)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        if (!has_number(option->type))
            continue;
        if (option->min > 0)
            assert_set(option, option->min - 1, -ERANGE);
        assert_set(option, option->min, 0);
        assert_set(option, option->min + 1, 0);
        assert_set(option, option->max - 1, 0);
        assert_set(option, option->max, 0);
        assert_set(option, option->max + 1, -ERANGE);
        assert_set(option, UINT64_MAX, -ERANGE);
    }
}

#define NAME_64 "0123456789abcdef0123456789ABCDEF0123456789.......-______________"
#define HOSTS_255                                                                                                      \
    NAME_64 NAME_64 " " NAME_64 ","                                                                                    \
                    "0123456789abcdef0123456789ABCDEF0123456789.......-___________"

static const struct {
    const char *section, *key, *text;
    uint64_t number;
} valid[] = {
    {"listen", "address", "192.0.2.1", 0},
    {"listen", "address", "::", 0},
    {"listen", "path", "/a/b%20c", 0},
    {"listen", "trusted_proxies", "10.0.0.8, fd00::/8", 0},
    {"callback", "allow_from", "192.0.2.0/24, 2001:db8::/32 ::1", 0},
    {"callback", "other_commands", "reject", CONFIG_REJECT},
    {"callback", "other_commands", "acknowledge", CONFIG_ACKNOWLEDGE},
    {"store", "keep_body", "on", 1},
    {"store", "keep_body", "no", 0},
    {"store", "retention", "forever", 0},
    {"store", "retention", "400d", UINT64_C(34560000000)},
    {"limits", "body", "64K", 65536},
    {"limits", "idle_timeout", "2m", 120000},
    {"log", "level", "debug", 3},
    {"forward", "url", "postgresql://user@host:5432/database?sslmode=verify-full", 0},
    {"deliver", "url", "https://app.example.com/cb?tenant=a", 0},
    {"deliver", "url", "HTTPS://[2001:db8::1]:8443", 0},
    {"deliver", "url", "http://localhost:8080/", 0},
    {"deliver", "url", "http://127.0.0.1", 0},
    {"deliver", "url", "http://127.255.255.254:1/cb?a@b", 0},
    {"deliver", "url", "http://[::1]:8080/cb", 0},
    {"deliver", "url", "https://app.example.com:1?a=b:c", 0},
    {"deliver", "url", "https://app.example.com:65535", 0},
    {"deliver", "url", "https://app.example.com/a:b", 0},
    {"deliver", "url", "https://app.example.com/~a!b", 0},
    {"deliver", "give_up_after", "never", 0},
    {"deliver", "give_up_after", "3d", 3 * UINT64_C(86400000)},
    {"deliver", "in_flight", "256", 256},
    {"forward", "url", "postgres://host:5432/", 0},
    {"forward", "receiver", NAME_64, 0},
    {"admin", "host", "prometheus.example.org", 0},
    {"admin", "host", "a, b\tc. D-1", 0},
    {"admin", "host", HOSTS_255, 0},
    {"forward", "password_file", "$CREDENTIALS_DIRECTORY/password", 0}, // the forwarder expands the variable
};

TEST(accepts_valid_values)
{
    for (size_t i = 0; i < COUNT(valid); i++) {
        struct config_value value = {0};

        if (set_value(find_option(valid[i].section, valid[i].key), valid[i].text, &value) < 0)
            fail_msg("%s: %s", valid[i].text, error.text);
        assert_string_equal(value.text, valid[i].text);
        assert_int_equal(value.number, valid[i].number);
        free(value.text);
    }
}

static const struct {
    const char *section, *key, *text;
} invalid[] = {
    {"listen", "address", ""},
    {"listen", "address", "localhost"},
    {"listen", "address", "1.2.3"},
    {"listen", "address", "192.0.2.0/24"},
    {"listen", "address", "[::1]"},
    {"listen", "port", "https"},
    {"listen", "port", "-1"},
    {"listen", "path", "im"},
    {"listen", "path", "/a b"},
    {"listen", "path", "/a?b"},
    {"listen", "path", "/#"},
    {"listen", "trusted_proxies", "proxy.example.org"},
    {"callback", "allow_from", "192.0.2.1/24"},
    {"callback", "allow_from", "any"},
    {"callback", "allow_from", ","},
    {"callback", "other_commands", "Reject"},
    {"store", "keep_body", "1"},
    {"store", "retention", "400"},
    {"store", "retention", "Forever"},
    {"limits", "body", "4MB"},
    {"limits", "idle_timeout", "60"},
    {"limits", "idle_timeout", "forever"},
    {"log", "level", "crit"},
    {"forward", "url", "mysql://host/"},
    {"forward", "url", "host:5432"},
    {"forward", "url", "postgresql://user:secret@host/"},
    {"forward", "url", "postgresql://host/?password=secret"},
    {"deliver", "url", "app.example.com/cb"},
    {"deliver", "url", "ftp://app.example.com/"},
    {"deliver", "url", "https:///cb"},
    {"deliver", "url", "https://:443/"},
    {"deliver", "url", "https://user:secret@host/"},
    {"deliver", "url", "https://host/#a"},
    {"deliver", "url", "https://host/a b"},
    {"deliver", "url", "https://host/a\x7f"},
    {"deliver", "url", "https://host\\@other/"},
    {"deliver", "url", "https://h\xc3\xb6st/"},
    {"deliver", "url", "http://app.example.com/"},
    {"deliver", "url", "http://localhost.example.com/"},
    {"deliver", "url", "http://localhost@app.example.com/"},
    {"deliver", "url", "http://localhost:80@app.example.com/"},
    {"deliver", "url", "http://127.0.0.1.example.com/"},
    {"deliver", "url", "http://127.1/"},
    {"deliver", "url", "http://128.0.0.1/"},
    {"deliver", "url", "http://[::2]/"},
    {"deliver", "url", "http://[::1"},
    {"deliver", "url", "https://host:99999/"},
    {"deliver", "url", "https://host:65536/"},
    {"deliver", "url", "https://host:0/"},
    {"deliver", "url", "https://host:abc"},
    {"deliver", "url", "https://host:/"},
    {"deliver", "url", "https://host:1:2/"},
    {"deliver", "url", "https://[2001:db8::1]:70000/"},
    {"deliver", "give_up_after", "forever"},
    {"deliver", "give_up_after", "3"},
    {"forward", "receiver", "a b"},
    {"admin", "host", "localhost:9463"},
    {"admin", "host", "*.example.org"},
    {"admin", "host", "http://a/"},
    {"admin", "host", "[::1]"},
    {"admin", "host", HOSTS_255 "x"},
    {"forward", "receiver", NAME_64 "x"},
};

static const struct {
    const char *section, *key, *text;
    const char *message; // the end of the message
} messages[] = {
    {"callback", "other_commands", "Reject", "'Reject' is not one of: reject, acknowledge"},
    {"log", "format", "xml", "'xml' is not one of: text, json"},
    {"admin", "host", HOSTS_255 "x", "with at most 255 characters"},
    {"listen", "port", "65536", "65536 is out of range; choose 0 to 65535"},
    {"limits", "idle_timeout", "2d", "2d is out of range; choose 1s to 86400s"},
};

TEST(messages_name_the_valid_values)
{
    for (size_t i = 0; i < COUNT(messages); i++) {
        struct config_value value = {0};
        size_t length = strlen(messages[i].message);

        assert_true(set_value(find_option(messages[i].section, messages[i].key), messages[i].text, &value) < 0);
        if (strlen(error.text) < length || strcmp(error.text + strlen(error.text) - length, messages[i].message) != 0)
            fail_msg("%s", error.text);
    }
}

TEST(rejects_invalid_values)
{
    for (size_t i = 0; i < COUNT(invalid); i++) {
        struct config_value value = {0};

        if (set_value(find_option(invalid[i].section, invalid[i].key), invalid[i].text, &value) != -EINVAL)
            fail_msg("[%s] %s = %s is accepted", invalid[i].section, invalid[i].key, invalid[i].text);
        assert_string_not_equal(error.text, "");
        assert_null(strstr(error.text, "secret"));
        assert_null(value.text);
    }
}

TEST(expands_the_credentials_directory_in_file_names)
{
    const struct config_option *option = find_option("app", "token_file");
    struct config_value value = {0};

    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", "/run/c", 1), 0);
    assert_int_equal(set_value(option, "$CREDENTIALS_DIRECTORY/token", &value), 0);
    assert_string_equal(value.text, "/run/c/token");
    free(value.text);
    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    assert_int_equal(set_value(option, "$CREDENTIALS_DIRECTORY/token", &value), -ENOENT);
}

TEST_MAIN(NULL, NULL)
