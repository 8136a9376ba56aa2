// Tests what each failure of a request counts as, and which remedy its message names.
#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "../unit.h"
#include "deliver/failure.h"

#define WITH(field, value) .text = "a text", .uses_tls = true, .was_sent = true, .field = (value)

static const struct {
    struct transfer transfer;
    enum outcome outcome;
    const char *says;
} failures[] = {
    {{WITH(code, CURLE_COULDNT_RESOLVE_HOST)}, OUTCOME_CONNECT, "a text; correct the host in [deliver] url"},
    {{.code = CURLE_COULDNT_CONNECT, .text = "Failed to connect ", .cause = ECONNREFUSED, .uses_tls = true},
     OUTCOME_CONNECT,
     "Failed to connect (Connection refused); start the endpoint"},
    {{.code = CURLE_COULDNT_CONNECT, .text = "Connection reset", .uses_tls = true}, // of an earlier connection
     OUTCOME_CONNECT,
     " connect to server; start the endpoint"},
    {{WITH(code, CURLE_SSL_CONNECT_ERROR)}, OUTCOME_TLS, "; check that the endpoint speaks TLS 1.2 or newer"},
    {{WITH(code, CURLE_SSL_CIPHER)}, OUTCOME_TLS, "; check that the endpoint speaks TLS 1.2 or newer"},
    {{WITH(code, CURLE_PEER_FAILED_VERIFICATION)}, OUTCOME_TLS, "; correct the endpoint's certificate, or name its CA"},
    {{WITH(code, CURLE_SSL_ISSUER_ERROR)}, OUTCOME_TLS, "; correct the endpoint's certificate, or name its CA"},
    {{WITH(code, CURLE_SSL_CACERT_BADFILE)},
     OUTCOME_TLS,
     "; write CA certificates in PEM format into [deliver] ca_file"},
    {{WITH(code, CURLE_SSL_CERTPROBLEM)}, OUTCOME_TLS, "; correct [deliver] client_certificate and client_key"},
    {{WITH(code, CURLE_OPERATION_TIMEDOUT)}, OUTCOME_TIMEOUT, "a text; find out why the endpoint is slow"},
    {{.code = CURLE_OPERATION_TIMEDOUT, .text = "Failed to resolve host app after 0 ms", .uses_tls = true},
     OUTCOME_CONNECT,
     "no connection was established in time; start the endpoint"},
    {{.code = CURLE_OUT_OF_MEMORY, .text = "", .uses_tls = true}, OUTCOME_BROKEN, "; allow the service more memory"},
    {{WITH(code, CURLE_RECV_ERROR)}, OUTCOME_BROKEN, "a text; the log of the endpoint should say why"},
    {{.code = CURLE_PARTIAL_FILE, .text = "a text", .status = 200, .was_sent = true},
     OUTCOME_BROKEN,
     "the answer with status 200 is incomplete: a text; the log of the endpoint should say why"},
    {{.code = CURLE_RECV_ERROR, .text = "Connection reset by peer", .was_sent = true},
     OUTCOME_BROKEN,
     "should say why; if the endpoint speaks TLS, write https in [deliver] url"},
};

TEST(names_a_remedy_for_each_failure)
{
    for (size_t i = 0; i < COUNT(failures); i++) {
        struct error why;

        assert_int_equal(failure_judge(&failures[i].transfer, &why), failures[i].outcome);
        if (!strstr(why.text, failures[i].says))
            fail_msg("%zu: %s", i, why.text);
    }
}

TEST(proposes_https_only_if_the_endpoint_may_speak_tls)
{
    for (size_t i = 0; i < COUNT(failures); i++) {
        const struct transfer *transfer = &failures[i].transfer;
        bool is_proposed;
        struct error why;

        (void)failure_judge(transfer, &why);
        is_proposed = strstr(why.text, "write https");
        assert_int_equal(is_proposed, transfer->code == CURLE_RECV_ERROR && !transfer->uses_tls);
    }
}

TEST(names_a_remedy_for_each_status)
{
    static const struct {
        int status;
        const char *remedy;
    } answers[] = {
        {0, "the log of the endpoint should say why"},
        {200, "the log of the endpoint should say why"},
        {300, "redirects are not followed; set [deliver] url to the final address"},
        {399, "redirects are not followed; set [deliver] url to the final address"},
        {400, "the log of the endpoint should say why"},
        {401, "compare [deliver] secret_file or the token with those of the endpoint"},
        {402, "the log of the endpoint should say why"},
        {403, "compare [deliver] secret_file or the token with those of the endpoint"},
        {404, "correct the path in [deliver] url"},
        {405, "correct the path in [deliver] url"},
        {406, "the log of the endpoint should say why"},
        {429, "decrease [deliver] in_flight"},
        {500, "the log of the endpoint should say why"},
        {999, "the log of the endpoint should say why"},
    };

    for (size_t i = 0; i < COUNT(answers); i++) {
        struct error why, expected;

        failure_explain_answer(answers[i].status, OUTCOME_REFUSED, &why);
        (void)error_set(&expected, 0, "the endpoint answered with status %d; %s", answers[i].status, answers[i].remedy);
        assert_string_equal(why.text, expected.text);
    }
}

TEST(says_that_the_body_reports_a_failure)
{
    struct error why;

    failure_explain_answer(200, OUTCOME_FAIL, &why);
    assert_string_equal(why.text, "the endpoint answered with status 200 and ActionStatus FAIL; the log of the "
                                  "endpoint should say why");
}

TEST_MAIN(NULL, NULL)
