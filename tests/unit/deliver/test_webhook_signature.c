// Tests the parser of secrets, and the signature against the test vector that the libraries of the Standard Webhooks
// project share.
#include <errno.h>
#include <string.h>

#include "../unit.h"
#include "deliver/webhook_signature.h"

#define SECRET    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID        "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define TIMESTAMP "1614265330"
#define BODY      "{\"test\": 2432232314}"
#define SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static struct webhook_secret parsed(const char *text)
{
    struct webhook_secret secret;

    assert_int_equal(webhook_secret_parse(text, strlen(text), &secret), 0);
    return secret;
}

static void assert_signed(const struct webhook_secrets *secrets, const char *expected)
{
    struct buffer signature = {0};

    assert_int_equal(webhook_sign(secrets, ID, TIMESTAMP, BODY, strlen(BODY), &signature), 0);
    assert_string_equal(buffer_text(&signature), expected);
    buffer_finish(&signature);
}

TEST(signs_the_published_test_vector)
{
    assert_signed(&(struct webhook_secrets){.secrets = {parsed(SECRET)}, .count = 1}, SIGNATURE);
}

TEST(signs_with_both_secrets_during_a_rotation)
{
    const char *other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    struct buffer one = {0}, both = {0};
    struct webhook_secrets secrets = {.secrets = {parsed(other)}, .count = 1};

    assert_int_equal(webhook_sign(&secrets, ID, TIMESTAMP, BODY, strlen(BODY), &one), 0);
    assert_int_equal(buffer_print(&both, SIGNATURE " %s", buffer_text(&one)), 0);
    secrets = (struct webhook_secrets){.secrets = {parsed(SECRET), parsed(other)}, .count = 2};
    assert_signed(&secrets, buffer_text(&both));
    buffer_finish(&one);
    buffer_finish(&both);
}

TEST(signs_nothing_without_a_secret)
{
    assert_signed(&(struct webhook_secrets){0}, "");
}

TEST(accepts_secrets_of_16_to_64_bytes_with_or_without_padding)
{
    static const struct {
        const char *text;
        size_t length;
    } secrets[] = {
        {"whsec_AAAAAAAAAAAAAAAAAAAAAA==", 16},
        {"whsec_AAAAAAAAAAAAAAAAAAAAAA", 16},
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAA=", 17},
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAA", 17},
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAAA", 18},
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", 64},
    };

    for (size_t i = 0; i < COUNT(secrets); i++)
        assert_int_equal(parsed(secrets[i].text).length, secrets[i].length);
}

TEST(rejects_every_other_text_as_a_secret)
{
    static const char *const texts[] = {
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_AAAAAAAAAAAAAAAAAAAA",             // 15 bytes
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS ", // white space
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaL",    // a single digit follows the last group of four
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=",
        "whsec_AAAAAAAAAAAAAAAAAAAAAA=",
        "whsec_AAAAAAAAAAAAAAAAAAAAAA===",
        "whsec_AAAAAAAAAAAAAAAA=AAAAA==",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", // the digits of base64url
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", // 65 bytes
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    };
    struct webhook_secret secret;

    for (size_t i = 0; i < COUNT(texts); i++) {
        if (webhook_secret_parse(texts[i], strlen(texts[i]), &secret) == 0)
            fail_msg("accepted: %s", texts[i]);
    }
}

TEST(never_reads_after_the_end_of_the_text)
{
    struct webhook_secret secret;

    assert_int_equal(webhook_secret_parse(SECRET "garbage", strlen(SECRET), &secret), 0);
    assert_int_equal(secret.length, 24);
}

TEST_MAIN(NULL, NULL)
