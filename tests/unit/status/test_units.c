// Tests how numbers are printed for people.
#include "../unit.h"
#include "status/units.h"

static char text[UNITS_BYTES];

TEST(durations_have_one_unit)
{
    static const struct {
        int64_t ms;
        const char *expected;
    } rows[] = {{-5, "0 s"},
                {0, "0 s"},
                {999, "0 s"},
                {1000, "1 s"},
                {119999, "119 s"},
                {120000, "2 minutes"},
                {7199999, "119 minutes"},
                {7200000, "2 hours"},
                {172799999, "47 hours"},
                {172800000, "2 days"}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        units_print_duration(rows[i].ms, text);
        assert_string_equal(text, rows[i].expected);
    }
}

TEST(sizes_have_binary_units)
{
    static const struct {
        int64_t bytes;
        const char *expected;
    } rows[] = {{-1, "unknown"},       {0, "0 bytes"},          {1023, "1023 bytes"}, {1024, "1.0 KiB"},
                {28672, "28 KiB"},     {1023 << 10, "1.0 MiB"}, {5 << 20, "5.0 MiB"}, {INT64_C(73) << 30, "73 GiB"},
                {INT64_MAX, "8.0 EiB"}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        units_print_size(rows[i].bytes, text);
        assert_string_equal(text, rows[i].expected);
    }
}

TEST(answer_times_have_two_or_three_digits)
{
    static const struct {
        int64_t us;
        const char *expected;
    } rows[] = {{-1, "\xe2\x80\x93"}, {0, "0.00 ms"},   {123, "0.12 ms"},   {996, "1.0 ms"},
                {1500, "1.5 ms"},     {25000, "25 ms"}, {999499, "999 ms"}, {10000000, "10.0 s"}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        units_print_microseconds(rows[i].us, text);
        assert_string_equal(text, rows[i].expected);
    }
}

TEST(counts_have_groups_of_three_digits)
{
    units_print_count(0, text);
    assert_string_equal(text, "0");
    units_print_count(999, text);
    assert_string_equal(text, "999");
    units_print_count(1000, text);
    assert_string_equal(text, "1\xe2\x80\xaf"
                              "000");
    units_print_count(INT64_MAX, text);
    assert_string_equal(text, "9\xe2\x80\xaf"
                              "223\xe2\x80\xaf"
                              "372\xe2\x80\xaf"
                              "036\xe2\x80\xaf"
                              "854\xe2\x80\xaf"
                              "775\xe2\x80\xaf"
                              "807");
}

TEST(times_are_in_utc)
{
    units_print_time(INT64_C(1669872112000), text);
    assert_string_equal(text, "2022-12-01 05:21:52");
    units_print_iso_time(INT64_C(1669872112999), text);
    assert_string_equal(text, "2022-12-01T05:21:52Z");
    units_print_time(-1, text);
    assert_string_equal(text, "?");
    units_print_time(INT64_MAX, text);
    assert_string_equal(text, "?");
}

TEST_MAIN(NULL, NULL)
