// Tests the binary form of parameters, and the replacement of text that the destination would reject.

#include "../unit.h"
#include "forward/parameters.h"

#define HEADER "\0\0\0\1\0\0\0\1"

static void assert_parameter(const struct parameters *parameters, int index, unsigned int type, const char *bytes,
                             size_t length)
{
    assert_int_equal(parameters->types[index], type);
    assert_int_equal(parameters->formats[index], 1);
    assert_int_equal(parameters->lengths[index], length);
    assert_memory_equal(parameters->values[index], bytes, length);
}

TEST(encodes_arrays_of_all_types)
{
    static const char bytes_array[] = HEADER "\0\0\0\x11\0\0\0\3\0\0\0\1"
                                             "\0\0\0\2a\0"
                                             "\0\0\0\0"
                                             "\xff\xff\xff\xff";
    static const char integers[] = HEADER "\0\0\0\x14\0\0\0\2\0\0\0\1"
                                          "\0\0\0\x8\0\0\0\0\0\0\1\2"
                                          "\0\0\0\x8\xff\xff\xff\xff\xff\xff\xff\xff";
    static const char texts[] = HEADER "\0\0\0\x19\0\0\0\2\0\0\0\1"
                                       "\0\0\0\0"
                                       "\0\0\0\5a\xef\xbf\xbd"
                                       "b";
    static const char none[] = HEADER "\0\0\0\x19\0\0\0\0\0\0\0\1";
    struct array arrays[4] = {{0}};
    struct parameters parameters = {0};

    for (int round = 0; round < 2; round++) { // the second round reuses the memory
        parameters = (struct parameters){0};
        array_start(&arrays[0], ARRAY_OF_BYTES);
        array_add_bytes(&arrays[0], "a\0", 2);
        array_add_bytes(&arrays[0], "", 0);
        array_add_null(&arrays[0]);
        array_start(&arrays[1], ARRAY_OF_INTEGERS);
        array_add_integer(&arrays[1], 258);
        array_add_integer(&arrays[1], -1);
        array_start(&arrays[2], ARRAY_OF_TEXT);
        array_add_text(&arrays[2], "");
        array_add_text(&arrays[2], "a\xff"
                                   "b");
        array_start(&arrays[3], ARRAY_OF_TEXT);
        for (size_t i = 0; i < 4; i++)
            parameters_add_array(&parameters, &arrays[i]);
    }
    assert_int_equal(parameters.code, 0);
    assert_parameter(&parameters, 0, 1001, bytes_array, sizeof bytes_array - 1);
    assert_parameter(&parameters, 1, 1016, integers, sizeof integers - 1);
    assert_parameter(&parameters, 2, 1009, texts, sizeof texts - 1);
    assert_parameter(&parameters, 3, 1009, none, sizeof none - 1);
    for (size_t i = 0; i < 4; i++)
        array_finish(&arrays[i]);
}

TEST(encodes_single_values)
{
    struct parameters parameters = {0};

    parameters_add_text(&parameters, "receiver");
    parameters_add_integer(&parameters, INT64_MIN);
    assert_parameter(&parameters, 0, 25, "receiver", 8);
    assert_parameter(&parameters, 1, 20, "\x80\0\0\0\0\0\0", 8);
}

TEST(replaces_invalid_utf8)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"", ""},
        {"plain", "plain"},
        {"张三 😀", "张三 😀"},
        {"\xff", "\xef\xbf\xbd"},
        {"a\xe5\xbc", "a\xef\xbf\xbd"},
        {"\xed\xa0\x80"
         "b",
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
         "b"},
        {"\xc3\xa9\xc3(", "\xc3\xa9\xef\xbf\xbd("},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer buffer = {0};

        assert_int_equal(text_append(&buffer, rows[i].text), 0);
        assert_string_equal(buffer_text(&buffer), rows[i].expected);
        buffer_finish(&buffer);
    }
}

TEST_MAIN(NULL, NULL)
