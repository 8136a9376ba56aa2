// Tests that the parsers accept exactly their format and their range.
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/parse.h"

struct row {
    const char *text;
    uint64_t max;
    int result;
    uint64_t value;
};

static const struct row decimals[] = {
    {"0", 0, 0, 0},
    {"1", 0, -ERANGE, 0},
    {"007", 9, 0, 7},
    {"8", 9, 0, 8},
    {"9", 9, 0, 9},
    {"10", 9, -ERANGE, 0},
    {"99", 100, 0, 99},
    {"100", 100, 0, 100},
    {"101", 100, -ERANGE, 0},
    {"9223372036854775807", INT64_MAX, 0, INT64_MAX},
    {"9223372036854775808", INT64_MAX, -ERANGE, 0},
    {"18446744073709551614", UINT64_MAX, 0, UINT64_MAX - 1},
    {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
    {"18446744073709551616", UINT64_MAX, -ERANGE, 0},
    {"184467440737095516150", UINT64_MAX, -ERANGE, 0},
    {"0000000000000000000000000000000000000000000001", 1, 0, 1},
    {"", 9, -EINVAL, 0},
    {" 1", 9, -EINVAL, 0},
    {"1 ", 9, -EINVAL, 0},
    {"+1", 9, -EINVAL, 0},
    {"-1", 9, -EINVAL, 0},
    {"1.0", 9, -EINVAL, 0},
    {"0x1", 9, -EINVAL, 0},
    {"1e1", 9, -EINVAL, 0},
    {"/", 9, -EINVAL, 0}, // the neighbours of '0' and '9' in ASCII
    {":", 9, -EINVAL, 0},
    {"\xd9\xa1", 9, -EINVAL, 0},     // a digit of another script
    {"99999999999x", 9, -EINVAL, 0}, // the format is checked before the range
};

static const struct row durations[] = {
    {"0ms", 100, 0, 0},
    {"99ms", 100, 0, 99},
    {"100ms", 100, 0, 100},
    {"101ms", 100, -ERANGE, 0},
    {"60s", UINT64_MAX, 0, 60000},
    {"5m", UINT64_MAX, 0, 300000},
    {"2h", UINT64_MAX, 0, 7200000},
    {"400d", UINT64_MAX, 0, UINT64_C(34560000000)},
    {"1s", 999, -ERANGE, 0},
    {"1s", 1000, 0, 1000},
    {"2s", 2999, 0, 2000},
    {"3s", 2999, -ERANGE, 0},
    {"213503982334d", UINT64_MAX, 0, UINT64_C(213503982334) * 86400000},
    {"213503982335d", UINT64_MAX, -ERANGE, 0},
    {"99999999999999999999s", UINT64_MAX, -ERANGE, 0},
    {"60", UINT64_MAX, -EINVAL, 0},
    {"s", UINT64_MAX, -EINVAL, 0},
    {"", UINT64_MAX, -EINVAL, 0},
    {"60 s", UINT64_MAX, -EINVAL, 0},
    {"60S", UINT64_MAX, -EINVAL, 0},
    {"60sec", UINT64_MAX, -EINVAL, 0},
    {"60w", UINT64_MAX, -EINVAL, 0},
    {"1m30s", UINT64_MAX, -EINVAL, 0},
    {"-1s", UINT64_MAX, -EINVAL, 0},
    {"1.5s", UINT64_MAX, -EINVAL, 0},
};

static const struct row sizes[] = {
    {"0", 100, 0, 0},
    {"99", 100, 0, 99},
    {"100", 100, 0, 100},
    {"101", 100, -ERANGE, 0},
    {"64K", UINT64_MAX, 0, 65536},
    {"4M", UINT64_MAX, 0, 4194304},
    {"1G", UINT64_MAX, 0, 1073741824},
    {"4M", 4194303, -ERANGE, 0},
    {"4M", 4194304, 0, 4194304},
    {"17179869183G", UINT64_MAX, 0, UINT64_C(17179869183) << 30},
    {"17179869184G", UINT64_MAX, -ERANGE, 0},
    {"", UINT64_MAX, -EINVAL, 0},
    {"K", UINT64_MAX, -EINVAL, 0},
    {"4k", UINT64_MAX, -EINVAL, 0},
    {"4MB", UINT64_MAX, -EINVAL, 0},
    {"4MiB", UINT64_MAX, -EINVAL, 0},
    {"4 M", UINT64_MAX, -EINVAL, 0},
    {"1T", UINT64_MAX, -EINVAL, 0},
    {"-1", UINT64_MAX, -EINVAL, 0},
};

static int parse_whole_decimal(const char *text, uint64_t max, uint64_t *ret_value)
{
    return parse_decimal(text, strlen(text), max, ret_value);
}

static void check_rows(const struct row *rows, size_t count, int (*parse)(const char *, uint64_t, uint64_t *))
{
    const uint64_t untouched = 4711;

    for (size_t i = 0; i < count; i++) {
        uint64_t value = untouched;
        int r = parse(rows[i].text, rows[i].max, &value);

        if (r != rows[i].result || value != (r == 0 ? rows[i].value : untouched))
            fail_msg("'%s' up to %ju: %d, %ju", rows[i].text, (uintmax_t)rows[i].max, r, (uintmax_t)value);
    }
}

TEST(reads_decimals)
{
    check_rows(decimals, COUNT(decimals), parse_whole_decimal);
}

TEST(reads_only_the_given_length)
{
    uint64_t value = 0;

    assert_int_equal(parse_decimal("123x", 3, 1000, &value), 0);
    assert_int_equal(value, 123);
    assert_int_equal(parse_decimal("1\0002", 3, 1000, &value), -EINVAL);
}

TEST(reads_durations)
{
    check_rows(durations, COUNT(durations), parse_duration_ms);
}

TEST(reads_sizes)
{
    check_rows(sizes, COUNT(sizes), parse_size_bytes);
}

TEST(reads_booleans)
{
    static const char *const yes[] = {"yes", "true", "on"}, *const no[] = {"no", "false", "off"},
                             *const neither[] = {"", "y", "n", "1", "0", "Yes", "yes ", " no", "yesno"};
    bool value;

    for (size_t i = 0; i < COUNT(yes); i++) {
        value = false;
        assert_int_equal(parse_boolean(yes[i], &value), 0);
        assert_true(value);
    }
    for (size_t i = 0; i < COUNT(no); i++) {
        value = true;
        assert_int_equal(parse_boolean(no[i], &value), 0);
        assert_false(value);
    }
    for (size_t i = 0; i < COUNT(neither); i++)
        assert_int_equal(parse_boolean(neither[i], &value), -EINVAL);
}

TEST(reads_hex_digits)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";

    for (int c = CHAR_MIN; c <= CHAR_MAX; c++) {
        const char *found = c == 0 ? NULL : strchr(digits, c);

        assert_int_equal(parse_hex_digit((char)c), found ? (found - digits) % 16 : -1);
    }
}

TEST_MAIN(NULL, NULL)
