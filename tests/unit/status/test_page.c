// Tests both forms of the status: what they contain, that text from outside stays text, and the plot.
#include <stdio.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/status/page.h"
#include "status/plot.h"
#include "status/writer.h"
#include "status_fixture.h"

static struct status status;
static struct buffer text;

static int setup(void **state)
{
    (void)state;
    status = fixture_status();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buffer_finish(&text);
    return 0;
}

static void expect_in_page(const char *expected)
{
    buffer_finish(&text);
    assert_int_equal(page_print(&status, &text), 0);
    if (!strstr(buffer_text(&text), expected))
        fail_msg("the page does not contain '%s'", expected);
}

static void expect_not_in_page(const char *unexpected)
{
    buffer_finish(&text);
    assert_int_equal(page_print(&status, &text), 0);
    if (strstr(buffer_text(&text), unexpected))
        fail_msg("the page contains '%s'", unexpected);
}

static void expect_in_json(const char *expected)
{
    buffer_finish(&text);
    assert_int_equal(status_json_print(&status, &text), 0);
    if (!strstr(buffer_text(&text), expected))
        fail_msg("the JSON does not contain '%s': %s", expected, buffer_text(&text));
}

TEST_WITH(names_the_url_and_the_apps, setup, teardown)
{
    expect_in_page("<code class=\"url\">https://im.example.org:8443/cb</code>");
    expect_in_page("1400000001</th><td>token set</td>");
    expect_in_page("1400000002</th><td>two tokens set, both valid</td>");
    expect_in_page("no token: anyone may call");
    expect_in_json("\"url\":\"https://im.example.org:8443/cb\"");
    expect_in_json("{\"sdk_appid\":1400000002,\"token_count\":2,\"request_time_window_seconds\":90}");
}

TEST_WITH(says_what_to_do_without_a_host_name, setup, teardown)
{
    status.endpoint.host = NULL;
    expect_in_page("Replace HOST by the public name");
    status.endpoint.host = "*.example.org";
    expect_in_page("Replace the asterisk");
    expect_not_in_page("Replace HOST");
}

TEST_WITH(asks_for_no_public_certificate_behind_a_proxy, setup, teardown)
{
    status.endpoint.host = "localhost";
    expect_in_page("Enter this URL in the console");
    expect_in_page("cannot reach localhost");
    status.endpoint.has_trusted_proxies = true;
    expect_not_in_page("Enter this URL in the console");
    expect_not_in_page("cannot reach localhost");
    expect_in_page("enter the name and port of the proxy");
}

TEST_WITH(names_restrictions_on_callers, setup, teardown)
{
    expect_not_in_page("allow_from");
    status.endpoint.has_allow_from = status.endpoint.has_client_ca = status.endpoint.has_trusted_proxies = true;
    expect_in_page("[callback] allow_from");
    expect_in_page("[tls] client_ca");
    expect_in_page("[listen] trusted_proxies");
}

TEST_WITH(shows_each_cause_with_its_remedy, setup, teardown)
{
    fixture_refuse(&status, ANSWER_SIGN_WRONG, 1234);
    expect_in_page(answer_sentence(ANSWER_SIGN_WRONG));
    expect_in_page("1\xe2\x80\xaf"
                   "234</td>");
    expect_not_in_page(answer_sentence(ANSWER_PATH_UNKNOWN));
    expect_in_json("\"cause\":\"sign_wrong\",\"error_code\":120114,\"http_status\":403,\"count\":1234,");
    expect_in_json("\"address\":\"192.0.2.1\",\"count\":1234");
}

TEST_WITH(says_that_nothing_was_refused, setup, teardown)
{
    expect_in_page("Nothing has been rejected since the start.");
    expect_in_page("No request has been refused since the start.");
    expect_in_json("\"rejected_since_start\":[],\"last_refusals\":[],");
}

TEST_WITH(shows_services_that_send_events_on, setup, teardown)
{
    expect_not_in_page("wait to be sent");
    expect_in_json("\"outbound\":{},");
    status.outbound[0] = (struct status_outbound){.name = "forward"};
    status.outbound[1] = (struct status_outbound){
        .name = "deliver", .has_reported = true, .waiting_events = 17, .reported_ms = NOW_MS - 5000};
    expect_in_page("<dt>forward</dt><dd>not started</dd><dd class=\"note\">the service has not reported yet");
    expect_in_page("<dt>deliver</dt><dd>17</dd><dd class=\"note\">last progress 5 s ago");
    expect_in_json("\"forward\":{\"has_reported\":false},\"deliver\":{\"has_reported\":true,\"waiting_events\":17,");
}

TEST_WITH(omits_only_the_usual_port, setup, teardown)
{
    status.endpoint.port = 443;
    expect_in_json("\"url\":\"https://im.example.org/cb\",\"host\":\"im.example.org\",\"port\":443,");
    status.endpoint.port = 1;
    expect_in_json("\"url\":\"https://im.example.org:1/cb\",\"host\":\"im.example.org\",\"port\":1,");
    status.endpoint.port = 0; // a Unix socket
    expect_in_json("\"url\":\"https://im.example.org/cb\",\"host\":\"im.example.org\",\"port\":null,");
}

TEST_WITH(writes_times_in_utc, setup, teardown)
{
    status.recorded_ms = NOW_MS - 1000;
    expect_in_json("\"now\":\"2027-01-15T08:00:00Z\",\"started_at\":\"2027-01-15T07:00:00Z\",");
    expect_in_json("\"last_recorded_at\":\"2027-01-15T07:59:59Z\",\"last_accepted_at\":null}");
}

TEST_WITH(a_time_that_has_no_date_is_unknown, setup, teardown)
{
    status.certificate.valid_from_ms = -DAY_MS;
    expect_in_json("\"valid_from\":null,");
}

TEST_WITH(shows_every_metric, setup, teardown)
{
    metric_set(&fixture_counter, 1, 7);
    metric_set(&fixture_gauge, 0, -1500);
    expect_in_page("<code>fixture_total</code><span class=\"detail\">A counter with a label.</span>");
    expect_in_page("bad 7<br>");
    expect_in_json("\"metrics\":{\"fixture_total\":{\"good\":0,\"bad\":7},\"fixture_seconds\":-1.5,"
                   "\"fixture_histogram\":{\"count\":0,\"sum\":0}}}\n");
}

TEST_WITH(marks_time_without_figures, setup, teardown)
{
    expect_in_page("<rect class=\"unmeasured\" x=\"0\" y=\"0\" width=\"900\" height=\"1000\"/>");
    expect_in_page("Gray: no figures");
    expect_in_json("\"recorded\":null,");
    for (size_t i = 0; i < STATUS_DAY_BARS; i++)
        status.day[i].measured = true;
    expect_not_in_page("<rect class=\"unmeasured\"");
    expect_not_in_page("Gray: no figures");
}

TEST_WITH(stacks_the_bars, setup, teardown)
{
    struct history_bar *bar = &status.hour[59];

    bar->values[HISTORY_RECORDED] = 10;
    bar->values[HISTORY_REPEATED] = 3;
    bar->values[HISTORY_REJECTED] = 5;
    expect_in_page("<rect class=\"recorded\" x=\"591\" y=\"500\" width=\"8\" height=\"500\"/>"
                   "<rect class=\"repeated\" x=\"591\" y=\"350\" width=\"8\" height=\"150\"/>"
                   "<rect class=\"rejected\" x=\"591\" y=\"100\" width=\"8\" height=\"250\"/>");
    expect_in_page("recorded 10, repeated 3, rejected 5; at most 18 in one bar</desc>");
    expect_in_page("<span>20</span><span>10</span><span>0</span>");
}

TEST_WITH(one_rejected_callback_shows_next_to_a_million, setup, teardown)
{
    status.hour[59].values[HISTORY_RECORDED] = 999999;
    status.hour[59].values[HISTORY_REJECTED] = 1;
    expect_in_page("<rect class=\"rejected\" x=\"591\" y=\"-14\" width=\"8\" height=\"15\"/>");
}

TEST(the_scale_is_a_round_even_number)
{
    static const int64_t rows[][2] = {{0, 2},   {1, 2},    {2, 2},     {3, 4},       {10, 10},         {11, 20},
                                      {61, 80}, {99, 100}, {101, 200}, {1001, 2000}, {999999, 1000000}};

    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(plot_scale(rows[i][0]), rows[i][1]);
}

static const char hostile[] = "</title><script>alert(1)</script>\"'&amp;\x01\x7f\xff\xe2\x82 end";

TEST(markup_becomes_text)
{
    struct writer writer = {.text = &text};

    write_html(&writer, hostile);
    assert_false(writer.failed);
    assert_string_equal(buffer_text(&text), "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;amp;"
                                            "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd end");
    buffer_finish(&text);
}

TEST_WITH(text_from_outside_stays_text, setup, teardown)
{
    status.ready = false;
    status.why_not_ready = status.endpoint.host = status.endpoint.path = status.certificate.names = hostile;
    fixture_refuse(&status, ANSWER_COMMAND_NOT_HANDLED, 1);
    (void)snprintf(status.refusals.entries[0].detail, sizeof status.refusals.entries[0].detail, "%s", hostile);
    (void)snprintf(status.refusals.entries[0].address, sizeof status.refusals.entries[0].address, "%s", "<b>");
    expect_not_in_page("alert(1)</script>");
    expect_not_in_page("<b>");
    expect_in_page("&lt;script&gt;alert(1)&lt;/script&gt;");
    expect_in_json(
        "\"dns_names\":\"</title><script>alert(1)</script>\\\"'&amp;\\u0001\x7f\xef\xbf\xbd\xef\xbf\xbd end\"");
}

TEST_WITH(the_policy_allows_nothing_from_elsewhere, setup, teardown)
{
    assert_non_null(strstr(page_security_policy, "default-src 'none'"));
    assert_non_null(strstr(page_security_policy, "frame-ancestors 'none'"));
    assert_null(strstr(page_security_policy, "unsafe"));
    expect_not_in_page("http://");
    expect_not_in_page(" style=\"");
    expect_not_in_page(" onclick");
}

TEST_MAIN(NULL, NULL)
