// Tests which fact the sentence on the state names.
#include <string.h>

#include "../unit.h"
#include "imcallbackd/status/status.h"
#include "status_fixture.h"

static struct status status;

static int setup(void **state)
{
    (void)state;
    status = fixture_status();
    status.endpoint.app_count = 2; // the third app has no token
    return 0;
}

static void accept_one(void)
{
    status.totals.handshakes = 1;
    status.totals.recorded = 1;
    status.recorded_ms = status.refusals.accepted_ms = NOW_MS - 42000;
}

static void expect(enum status_level level, const char *sentence, const char *remedy)
{
    struct status_judgement judgement;

    status_judge(&status, &judgement);
    if (!strstr(judgement.sentence, sentence) || !strstr(judgement.remedy, remedy))
        fail_msg("'%s' '%s'", judgement.sentence, judgement.remedy);
    assert_int_equal(judgement.level, level);
}

TEST_WITH(nothing_has_connected, setup, NULL)
{
    expect(STATUS_WARNING, "Nothing has connected since the start 60 minutes ago.", "firewall");
}

TEST_WITH(handshakes_fail, setup, NULL)
{
    status.totals.failed_handshakes = 5;
    expect(STATUS_WARNING, "connected 5 times, but no TLS handshake was completed", "whole chain");
}

TEST_WITH(a_handshake_without_a_request, setup, NULL)
{
    status.totals.handshakes = 1;
    expect(STATUS_WARNING, "connected once, but no request has arrived", "proxy");
    status.totals.handshakes = 2;
    expect(STATUS_WARNING, "connected 2 times, but no request has arrived", "proxy");
}

TEST_WITH(an_open_connection_is_no_reason_for_a_warning, setup, NULL)
{
    status.totals.open_connections = 1;
    expect(STATUS_OK, "Ready: no callback has been recorded since the start", "test group");
}

TEST_WITH(all_requests_are_refused, setup, NULL)
{
    status.totals.handshakes = 14;
    fixture_refuse(&status, ANSWER_SIGN_WRONG, 14);
    expect(STATUS_ERROR, "The last 14 requests were refused, all of them: sign_wrong.", "token_file");
}

TEST_WITH(names_the_most_frequent_cause, setup, NULL)
{
    fixture_refuse(&status, ANSWER_PATH_UNKNOWN, 2);
    fixture_refuse(&status, ANSWER_SDK_APPID_UNKNOWN, 3);
    expect(STATUS_ERROR, "The last 5 requests were refused, most of them: sdk_appid_unknown.", "[app SDKAPPID]");
}

TEST_WITH(the_only_request_was_refused, setup, NULL)
{
    fixture_refuse(&status, ANSWER_SIGN_MISSING, 1);
    expect(STATUS_ERROR, "The only request was refused: sign_missing.", "console");
}

// An operator who tests the URL with a browser has reached the daemon.
TEST_WITH(the_only_request_may_be_a_test_or_a_scan, setup, NULL)
{
    fixture_refuse(&status, ANSWER_METHOD_NOT_ALLOWED, 1);
    expect(STATUS_WARNING, "The only request was refused: method_not_allowed.", "POST");
    fixture_refuse(&status, ANSWER_SDK_APPID_MISSING, 2);
    expect(STATUS_ERROR, "most of them: sdk_appid_missing.", "token authentication");
}

TEST_WITH(a_few_refusals_after_a_callback_are_usual, setup, NULL)
{
    accept_one();
    fixture_refuse(&status, ANSWER_SIGN_WRONG, 2);
    expect(STATUS_OK, "Ready: the last callback was recorded 42 s ago.", "");
}

TEST_WITH(many_refusals_after_a_callback_are_a_warning, setup, NULL)
{
    accept_one();
    fixture_refuse(&status, ANSWER_SIGN_WRONG, 3);
    expect(STATUS_WARNING, "The last 3 requests were refused", "token_file");
}

TEST_WITH(old_refusals_are_no_news, setup, NULL)
{
    accept_one();
    fixture_refuse(&status, ANSWER_SIGN_WRONG, 30);
    status.refusals.entries[0].last_ms = NOW_MS - INT64_C(7200000);
    expect(STATUS_OK, "Ready", "");
}

TEST_WITH(scanners_do_not_worry_a_working_receiver, setup, NULL)
{
    accept_one();
    fixture_refuse(&status, ANSWER_PATH_UNKNOWN, 100);
    fixture_refuse(&status, ANSWER_BAD_FRAMING, 100);
    expect(STATUS_OK, "Ready", "");
}

TEST_WITH(a_wrong_clock_comes_before_its_refusals, setup, NULL)
{
    fixture_refuse(&status, ANSWER_REQUEST_TIME_STALE, 9);
    status.clock_skew_known = true;
    status.clock_skew_s = -1000;
    status.clock_window_s = 60;
    expect(STATUS_ERROR, "This machine's clock is 16 minutes behind RequestTime", "timedatectl");
    status.clock_skew_s = 61;
    expect(STATUS_ERROR, "This machine's clock is 61 s ahead of RequestTime", "timedatectl");
    status.clock_skew_s = 60;
    expect(STATUS_ERROR, "The last 9 requests were refused", "");
}

TEST_WITH(a_single_old_call_may_have_been_sent_again, setup, NULL)
{
    accept_one();
    fixture_refuse(&status, ANSWER_REQUEST_TIME_STALE, 1);
    status.clock_skew_known = true;
    status.clock_skew_s = 3600;
    status.clock_window_s = 60;
    expect(STATUS_WARNING, "its RequestTime is 60 minutes old", "sign it again");
    status.refusals.entries[0].last_ms = NOW_MS - INT64_C(7200000);
    expect(STATUS_OK, "Ready", "");
    status.clock_skew_s = -3600;
    expect(STATUS_ERROR, "behind RequestTime", "timedatectl");
    fixture_refuse(&status, ANSWER_REQUEST_TIME_STALE, 2);
    status.clock_skew_s = 3600;
    expect(STATUS_ERROR, "ahead of RequestTime", "timedatectl");
}

TEST_WITH(an_event_that_was_not_recorded_is_a_warning_for_a_day, setup, NULL)
{
    accept_one();
    status.totals.failed = 1;
    fixture_refuse(&status, ANSWER_STORE_UNAVAILABLE, 1);
    status.refusals.entries[0].last_ms = NOW_MS - INT64_C(180000);
    expect(STATUS_WARNING, "1 callback could not be recorded, the last one 3 minutes ago.",
           "RECOVERING A REFUSED EVENT");
    status.totals.failed = 2;
    expect(STATUS_WARNING, "2 callbacks could not be recorded", "journal");
    status.refusals.entries[0].last_ms = NOW_MS - DAY_MS - 1;
    expect(STATUS_OK, "Ready", "");
}

TEST_WITH(silence_after_a_restart_is_usual, setup, NULL)
{
    status.newest_event_id = 1;
    expect(STATUS_OK, "Ready: nothing has connected since the start 60 minutes ago.", "before the start");
}

TEST_WITH(a_service_that_sends_nothing_on_is_a_warning, setup, NULL)
{
    struct status_outbound *deliver = &status.outbound[1];

    accept_one();
    status.outbound[0] = (struct status_outbound){0};
    *deliver = (struct status_outbound){.name = "deliver"};
    expect(STATUS_OK, "Ready", "");
    status.newest_event_id = 1;
    expect(STATUS_WARNING, "imcallbackd-deliver does not send them on", "systemctl enable --now imcallbackd-deliver");
    *deliver = (struct status_outbound){.name = "deliver", .has_reported = true, .reported_ms = NOW_MS - DAY_MS};
    expect(STATUS_OK, "Ready", "");
    deliver->waiting_events = 1;
    expect(STATUS_WARNING, "imcallbackd-deliver does not send them on", "journalctl");
    status.recorded_ms = NOW_MS - 1000;
    expect(STATUS_OK, "Ready", "");
    status.recorded_ms = NOW_MS - 42000;
    deliver->reported_ms = NOW_MS - 1000;
    expect(STATUS_OK, "Ready", "");
}

TEST_WITH(an_app_without_a_token_is_a_warning, setup, NULL)
{
    accept_one();
    status.endpoint.app_count = 3;
    expect(STATUS_WARNING, "App 1400000003 has no token", "[app 1400000003]");
    status.endpoint.has_allow_from = true;
    expect(STATUS_OK, "Ready", "");
}

TEST_WITH(a_reason_of_the_store_is_not_repeated, setup, NULL)
{
    status.ready = false;
    status.why_not_ready = "/x/callbacks.db: callbacks cannot be recorded: database is locked";
    expect(STATUS_ERROR, "Callbacks cannot be recorded: database is locked.", "store_wait");
}

TEST_WITH(an_expired_certificate_comes_before_the_clock, setup, NULL)
{
    status.clock_skew_known = true;
    status.clock_skew_s = -1000;
    status.certificate.expires_ms = NOW_MS;
    expect(STATUS_ERROR, "The certificate expired 0 s ago.", "[tls] certificate");
    status.certificate.expires_ms = NOW_MS - 3 * DAY_MS;
    expect(STATUS_ERROR, "The certificate expired 3 days ago.", "reload");
}

TEST_WITH(a_certificate_of_the_future_is_an_error, setup, NULL)
{
    status.certificate.valid_from_ms = NOW_MS + 3 * DAY_MS;
    expect(STATUS_ERROR, "The certificate is not valid yet: its validity starts in 3 days.", "clock");
}

TEST_WITH(a_certificate_that_expires_soon_is_a_warning, setup, NULL)
{
    status.certificate.expires_ms = NOW_MS + 20 * DAY_MS;
    expect(STATUS_WARNING, "Nothing has connected", "");
    accept_one();
    expect(STATUS_WARNING, "The certificate expires in 20 days.", "Renew");
    status.certificate.expires_ms = NOW_MS + 22 * DAY_MS;
    expect(STATUS_OK, "Ready", "");
}

TEST_WITH(not_ready_comes_first, setup, NULL)
{
    status.ready = false;
    status.why_not_ready = "/var/lib/x.db: the disk is full: 0 bytes are left; free disk space";
    status.certificate.expires_ms = NOW_MS - 1;
    expect(STATUS_ERROR, "Callbacks cannot be recorded: /var/lib/x.db: the disk is full", "store_wait");
}

TEST_WITH(a_check_of_the_url_is_progress, setup, NULL)
{
    status.totals.url_checks = 1;
    status.refusals.accepted_ms = NOW_MS - 1000;
    expect(STATUS_OK, "the console has checked the URL, but no callback has been recorded", "test group");
}

TEST_WITH(acknowledged_commands_are_requests, setup, NULL)
{
    status.totals.acknowledged = 1;
    status.refusals.accepted_ms = NOW_MS - 1000;
    expect(STATUS_OK, "no callback has been recorded since the start", "answered OK");
}

TEST_WITH(prints_the_url_for_the_console, setup, NULL)
{
    char url[STATUS_URL_BYTES];

    status_print_url(&status.endpoint, url);
    assert_string_equal(url, "https://im.example.org:8443/cb");
    status.endpoint.port = 443;
    status_print_url(&status.endpoint, url);
    assert_string_equal(url, "https://im.example.org/cb");
    status.endpoint.host = NULL;
    status_print_url(&status.endpoint, url);
    assert_string_equal(url, "https://HOST/cb");
}

TEST_MAIN(NULL, NULL)
