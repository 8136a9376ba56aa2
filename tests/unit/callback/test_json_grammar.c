// Tests which JSON is accepted as the value of an unknown field: what RFC 8259 allows, comments, invalid UTF-8, and
// escapes of lone surrogates and of NUL.
#include "callback_fixture.h"

struct row {
    const char *value;
    size_t length;
};

static const struct row valid[] = {
    // Numbers.
    {TEXT("0")},
    {TEXT("-0")},
    {TEXT("7")},
    {TEXT("-10")},
    {TEXT("1234567890")},
    {TEXT("0.0")},
    {TEXT("-0.50")},
    {TEXT("10.01")},
    {TEXT("0e0")},
    {TEXT("3E7")},
    {TEXT("3e+07")},
    {TEXT("3E-007")},
    {TEXT("-0.0e-0")},
    {TEXT("20.5E+1")},
    {TEXT("1e400")},
    {TEXT("-1e400")},
    {TEXT("1e-400")},
    {TEXT("9007199254740993")},
    {TEXT("123456789012345678901234567890")},
    {TEXT("[1,-2 ,3\t]")},

    // Strings.
    {TEXT("\"\"")},
    {TEXT("\" \"")},
    {TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")},
    {TEXT("\"\\u0041\\u00fC\\uFfFf\\u2028\"")},
    {TEXT("\"\\ud801\\udc37\"")},
    {TEXT("\"\\\\u0041\"")},
    {TEXT("\"\x7f\xc2\xa0\xe2\x80\xa8\xf4\x8f\xbf\xbf\"")},
    {TEXT("\"/* no comment */ // neither\"")},
    {TEXT("\"01 -.5 1.e1 [1,]\"")},

    // Lists, objects and literals.
    {TEXT("[]")},
    {TEXT("[[],[[]],{}]")},
    {TEXT("[null,true,false,\"\",0]")},
    {TEXT("{}")},
    {TEXT("{\"\":0}")},
    {TEXT("{\"a\":1,\"a\":1}")},
    {TEXT("{\"a\":{\"b\":[{\"c\":null}]}}")},
    {TEXT("{\"\\u006b\\n\":\"v\"}")},
    {TEXT("true")},
    {TEXT(" \t\r\n[ \t\r\n] \t\r\n")},
    {TEXT("\n{ \"a\" : [ 1 , 2 ] }\n")},

    // Comments, as in the sample of the documentation.
    {TEXT("/* a */ 1 // b\n")},
    {TEXT("[1,/**/2]")},

    // Invalid UTF-8, a lone surrogate, and the escape of a NUL.
    {TEXT("\"\xff\"")},
    {TEXT("\"\\udc37\"")},
    {TEXT("{\"\xe7\xa4\":1}")},
    {TEXT("\"\\u0000\"")},
    {TEXT("{\"a\\u0000b\":\"\\u0000\"}")},
};

static const struct row invalid[] = {
    // Numbers.
    {TEXT("-")},
    {TEXT("+1")},
    {TEXT("--1")},
    {TEXT("00")},
    {TEXT("-00")},
    {TEXT("07")},
    {TEXT("-07")},
    {TEXT("-012.5")},
    {TEXT(".5")},
    {TEXT("-.5")},
    {TEXT("5.")},
    {TEXT("-5.")},
    {TEXT("0.e2")},
    {TEXT("5.e2")},
    {TEXT("5.e+2")},
    {TEXT("5.E-2")},
    {TEXT("5.-2")},
    {TEXT("5..2")},
    {TEXT("5.2.1")},
    {TEXT("5e")},
    {TEXT("5e+")},
    {TEXT("5E-")},
    {TEXT("5e2.5")},
    {TEXT("5e2e2")},
    {TEXT("5e+-2")},
    {TEXT("0e")},
    {TEXT("e5")},
    {TEXT("1 2")},
    {TEXT("1-2")},
    {TEXT("1+2")},
    {TEXT("- 1")},
    {TEXT("0x1f")},
    {TEXT("1_000")},
    {TEXT("1f")},
    {TEXT("Infinity")},
    {TEXT("-Infinity")},
    {TEXT("NaN")},
    {TEXT("\xef\xbc\x91")},
    {TEXT("[1,02]")},
    {TEXT("[-]")},
    {TEXT("{\"a\":3.}")},
    {TEXT("1/**/2")},

    // Strings.
    {TEXT("'a'")},
    {TEXT("\"a")},
    {TEXT("a\"")},
    {TEXT("\"a\"b\"")},
    {TEXT("\"\t\"")},
    {TEXT("\"\n\"")},
    {TEXT("\"\0\"")},
    {TEXT("\"\\a\"")},
    {TEXT("\"\\x41\"")},
    {TEXT("\"\\U0041\"")},
    {TEXT("\"\\'\"")},
    {TEXT("\"\\0\"")},
    {TEXT("\"\\\"")},
    {TEXT("\"\\u004\"")},
    {TEXT("\"\\u004g\"")},
    {TEXT("\"\\ud801\\udc3\"")},
    {TEXT("\"\\\xe7\xa4\xbe\"")},
    {TEXT("\\u0022a\\u0022")},

    // Lists.
    {TEXT("[")},
    {TEXT("]")},
    {TEXT("[1")},
    {TEXT("[1,")},
    {TEXT("[1,]")},
    {TEXT("[,]")},
    {TEXT("[,1]")},
    {TEXT("[1,,2]")},
    {TEXT("[1 2]")},
    {TEXT("[1:2]")},
    {TEXT("[1]]")},
    {TEXT("[[1]")},
    {TEXT("[1}")},
    {TEXT("[\"a\":1]")},
    {TEXT("[a]")},
    {TEXT("[*]")},

    // Objects.
    {TEXT("{")},
    {TEXT("{]")},
    {TEXT("{\"a\"}")},
    {TEXT("{\"a\":}")},
    {TEXT("{\"a\":1,}")},
    {TEXT("{,\"a\":1}")},
    {TEXT("{\"a\":1,,\"b\":2}")},
    {TEXT("{\"a\":1 \"b\":2}")},
    {TEXT("{\"a\"::1}")},
    {TEXT("{\"a\",1}")},
    {TEXT("{:1}")},
    {TEXT("{a:1}")},
    {TEXT("{1:1}")},
    {TEXT("{null:1}")},
    {TEXT("{[\"a\"]:1}")},
    {TEXT("{\"a\":1}{\"b\":2}")},
    {TEXT("{\"a\":1}}")},

    // Literals and everything else.
    {TEXT("")},
    {TEXT(" ")},
    {TEXT("nul")},
    {TEXT("nulll")},
    {TEXT("Null")},
    {TEXT("tru")},
    {TEXT("TRUE")},
    {TEXT("true false")},
    {TEXT("undefined")},
    {TEXT("# a\n1")},
    {TEXT("<!-- a -->1")},
    {TEXT("1/* a")},
    {TEXT("1 / 2")},
    {TEXT("1\v")},
    {TEXT("1\f")},
    {TEXT("1\xc2\xa0")},
    {TEXT("1\xe2\x81\xa0")},
    {TEXT("1\0")},
    {TEXT("\xef\xbb\xbf")},
    {TEXT("\xef\xbb\xbf{}")},
    {TEXT("\xff\xfe\"\0a\0\"\0")},
    {TEXT("1,2")},
    {TEXT("1;")},
};

// Reads an event that has this value in an unknown field.
static enum callback_verdict read_value(const struct row *row)
{
    quote(G ",'EventTime':7,'New':");
    assert_int_equal(buffer_append(&body, row->value, row->length), 0);
    PRINT("}");
    return read_body(&fixture_rules, ARENA_BYTES);
}

TEST(accepts_what_the_rfc_allows)
{
    for (size_t i = 0; i < COUNT(valid); i++) {
        if (read_value(&valid[i]) != CALLBACK_RECORD)
            fail_msg("%s: %s", valid[i].value, fixture.callback.detail);
    }
}

TEST(rejects_what_the_rfc_does_not_allow)
{
    for (size_t i = 0; i < COUNT(invalid); i++) {
        enum callback_verdict verdict = read_value(&invalid[i]);

        if (verdict != CALLBACK_RECORD_REJECTION)
            fail_msg("%s: verdict %d", invalid[i].value, (int)verdict);
        if (fixture.callback.answer != ANSWER_BODY_NOT_JSON && fixture.callback.answer != ANSWER_BODY_NUL)
            fail_msg("%s: %s", invalid[i].value, answer_name(fixture.callback.answer));
        assert_non_null(strstr(fixture.callback.detail, "byte "));
    }
}

TEST_MAIN(NULL, finish_fixture)
