// Tests that the signature of the example in the documentation matches, and that any change of the token, the time or
// the signature prevents the match.
#include <errno.h>

#include "callback_fixture.h"
#include "imcallbackd/callback/signature.h"

static bool matches(const char *token, const char *request_time, const char *sign)
{
    bool result;

    assert_int_equal(signature_matches(token, request_time, sign, &result), 0);
    return result;
}

TEST(matches_the_documented_example)
{
    char hex[SIGNATURE_HEX_LENGTH + 1];

    assert_int_equal(signature_compute(TOKEN, NOW, hex), 0);
    assert_string_equal(hex, SIGN);
    assert_true(matches(TOKEN, NOW, SIGN));
}

TEST(hashes_token_and_time_without_a_separator)
{
    static const char *const splits[][2] = {{"", "abc"}, {"a", "bc"}, {"abc", ""}};
    char hex[SIGNATURE_HEX_LENGTH + 1];

    for (size_t i = 0; i < COUNT(splits); i++) {
        assert_int_equal(signature_compute(splits[i][0], splits[i][1], hex), 0);
        assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}

TEST(compares_each_digit)
{
    char sign[] = SIGN;

    for (size_t i = 0; i < SIGNATURE_HEX_LENGTH; i++) {
        char right = sign[i];

        sign[i] = right == '0' ? '1' : '0';
        assert_false(matches(TOKEN, NOW, sign));
        sign[i] = right;
    }
    assert_true(matches(TOKEN, NOW, sign));
}

TEST(does_not_match_anything_else)
{
    static const struct {
        const char *token, *request_time, *sign;
    } rows[] = {
        {TOKEN, NOW, ""},
        {TOKEN, NOW, SIGN "0"},
        {TOKEN, NOW, "17773BC39A671D7B9AA835458704D2A6DB81360A5940292B587D6D760D484061"},
        {TOKEN, "1669872113", SIGN},
        {TOKEN, "01669872112", SIGN},
        {"xxxyyy", NOW, SIGN}, // the misprint in one edition of the documentation
        {TOKEN "1", NOW, SIGN},
        {"", NOW, SIGN},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        if (matches(rows[i].token, rows[i].request_time, rows[i].sign))
            fail_msg("row %zu fits", i);
    }
    assert_false(matches(TOKEN, NOW, "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d48406"));
}

TEST(limits_the_total_length)
{
    char token[SIGNATURE_MAX_BYTES + 2], hex[SIGNATURE_HEX_LENGTH + 1];
    bool unused;

    for (size_t length = SIGNATURE_MAX_BYTES - 1; length <= SIGNATURE_MAX_BYTES + 1; length++) {
        int expected = length <= SIGNATURE_MAX_BYTES ? 0 : -EINVAL;

        memset(token, 'x', length);
        token[length] = '\0';
        assert_int_equal(signature_compute(token, "", hex), expected);
        assert_int_equal(signature_compute("", token, hex), expected);
        assert_int_equal(signature_compute(token + 2, "12", hex), expected);
    }
    assert_int_equal(signature_matches(token, NOW, SIGN, &unused), -EINVAL);
}

TEST_MAIN(NULL, NULL)
