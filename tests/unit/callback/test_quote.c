#include "../../../src/callback/quote.h"
#include "callback_fixture.h"

static void shows_each_byte(void **state)
{
    (void)state;
    for (int byte = 1; byte <= 0xff; byte++) {
        static const char digits[] = "0123456789abcdef";
        const char text[] = {(char)byte, '\0'};
        const char plain[] = {'\'', (char)byte, '\'', '\0'};
        const char escaped[] = {'\'', '\\', 'x', digits[byte >> 4], digits[byte & 15], '\'', '\0'};
        bool is_plain = byte >= 0x20 && byte <= 0x7e && byte != '\'' && byte != '\\';
        char quoted[QUOTE_BYTES];

        quote_text(text, quoted);
        assert_string_equal(quoted, is_plain ? plain : escaped);
    }
}

// Plain text, or plain text and one escape behind it: whole as long as it fits, and never beyond the room.
static void cuts_what_is_too_long(void **state)
{
    (void)state;
    for (size_t plain = 120; plain <= 130; plain++) {
        for (size_t escapes = 0; escapes <= 1; escapes++) {
            const char *end = escapes > 0 ? "\\xff'" : "'";
            bool is_whole = plain + escapes <= 123;
            char text[136], quoted[QUOTE_BYTES];

            memset(text, 'a', plain);
            text[plain] = escapes > 0 ? '\xff' : '\0';
            text[plain + 1] = '\0';
            quote_text(text, quoted);
            assert_in_range(strlen(quoted), plain < 123 ? plain : 123, QUOTE_BYTES - 1);
            assert_memory_equal(quoted + 1, text, plain < 123 ? plain : 123);
            assert_string_equal(quoted + 1 + (is_whole ? plain : 123), is_whole ? end : "...'");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_each_byte),
        cmocka_unit_test(cuts_what_is_too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
