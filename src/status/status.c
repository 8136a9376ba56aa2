// The rules are a table in the order of their importance. The first rule that applies writes the sentence.
#include "imcallbackd/status/status.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "units.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS   (60 * MINUTE_MS)
#define DAY_MS    (24 * HOUR_MS)

// A refused request after an accepted one is usual, for example from a scanner. So many in a row are not.
#define REFUSALS_WORTH_A_WARNING 3
#define STALLED_MS               (5 * MINUTE_MS) // as in the alerts
#define SENDING_MS               (10 * SECOND_MS)
#define CERTIFICATE_WARNING_MS   (21 * DAY_MS)

#define SAY(text, ...) (void)snprintf(text, sizeof(text), __VA_ARGS__)

const char *status_level_name(enum status_level level)
{
    static const char *const names[] = {[STATUS_OK] = "ok", [STATUS_WARNING] = "warning", [STATUS_ERROR] = "error"};

    return names[level];
}

void status_print_url(const struct status_endpoint *endpoint, char url[STATUS_URL_BYTES])
{
    char port[16] = "";

    if (endpoint->port > 0 && endpoint->port != 443)
        (void)snprintf(port, sizeof port, ":%u", endpoint->port);
    (void)snprintf(url, STATUS_URL_BYTES, "https://%s%s%s", endpoint->host ? endpoint->host : "HOST", port,
                   endpoint->path);
}

int64_t status_answer_count(const struct history_counts *sums)
{
    int64_t count = 0;

    for (size_t i = 0; i < HISTORY_BUCKETS; i++)
        count += sums->values[HISTORY_ANSWERS + i];
    return count;
}

static bool judge_readiness(const struct status *status, struct status_judgement *judgement)
{
    static const char same[] = "callbacks cannot be recorded: "; // the reasons of the store have these words, too
    const char *reason;

    if (status->ready)
        return false;
    reason = strstr(status->why_not_ready, same);
    judgement->level = STATUS_ERROR;
    SAY(judgement->sentence, "Callbacks cannot be recorded: %s.",
        reason ? reason + strlen(same) : status->why_not_ready);
    SAY(judgement->remedy,
        "As long as this lasts, callbacks are held for [limits] store_wait and then refused; the service may not "
        "send them again.");
    return true;
}

static bool judge_certificate(const struct status *status, struct status_judgement *judgement)
{
    const struct status_certificate *certificate = &status->certificate;
    char age[UNITS_BYTES];

    if (status->now_ms >= certificate->expires_ms) {
        units_print_duration(status->now_ms - certificate->expires_ms, age);
        SAY(judgement->sentence, "The certificate expired %s ago.", age);
    } else if (status->now_ms < certificate->valid_from_ms) {
        units_print_duration(certificate->valid_from_ms - status->now_ms, age);
        SAY(judgement->sentence, "The certificate is not valid yet: its validity starts in %s.", age);
    } else {
        return false;
    }
    judgement->level = STATUS_ERROR;
    SAY(judgement->remedy, "The service may refuse to connect. Renew the file of [tls] certificate (with certbot: sudo "
                           "certbot renew), or correct this machine's clock, and reload the daemon.");
    return true;
}

// Returns the Unix time of the last refusal for this cause, or 0 if none of the last refusals had it.
static int64_t last_refusal_ms(const struct refusals_view *refusals, enum answer_code code)
{
    for (size_t i = 0; i < refusals->count; i++) {
        if (refusals->entries[i].code == code)
            return refusals->entries[i].last_ms;
    }
    return 0;
}

// A single call with an old RequestTime, after others were accepted, is more likely to be a call that was sent again
// than the sign of a wrong clock.
static bool is_single_old_call(const struct status *status)
{
    return status->refusals.accepted_ms > 0 && status->clock_skew_s > 0 &&
           status->refusals.in_a_row[ANSWER_REQUEST_TIME_STALE] < 2;
}

static bool judge_clock(const struct status *status, struct status_judgement *judgement)
{
    int64_t skew_s = status->clock_skew_s < 0 ? -status->clock_skew_s : status->clock_skew_s;
    char skew[UNITS_BYTES];

    if (!status->clock_skew_known || skew_s <= status->clock_window_s)
        return false;
    units_print_duration(skew_s * 1000, skew);
    if (is_single_old_call(status)) {
        if (status->now_ms - last_refusal_ms(&status->refusals, ANSWER_REQUEST_TIME_STALE) > HOUR_MS)
            return false;
        judgement->level = STATUS_WARNING;
        SAY(judgement->sentence, "The last signed call was refused, because its RequestTime is %s old.", skew);
        SAY(judgement->remedy, "If you sent the call yourself, sign it again. Otherwise synchronize the clock of this "
                               "machine (see timedatectl).");
        return true;
    }
    judgement->level = STATUS_ERROR;
    SAY(judgement->sentence,
        "This machine's clock is %s %s RequestTime of the last call with a valid signature, so the call was refused.",
        skew, status->clock_skew_s > 0 ? "ahead of" : "behind");
    SAY(judgement->remedy,
        "Synchronize the clock of this machine (see timedatectl), unless the call was an old one that "
        "was sent again.");
    return true;
}

// The daemon cannot know whether the operator has sent the events again, so the sentence stays for a day.
static bool judge_failures(const struct status *status, struct status_judgement *judgement)
{
    int64_t count = status->totals.failed, age_ms;
    char age[UNITS_BYTES];

    age_ms = status->now_ms - last_refusal_ms(&status->refusals, ANSWER_STORE_UNAVAILABLE);
    if (count == 0 || age_ms > DAY_MS)
        return false;
    units_print_duration(age_ms, age);
    judgement->level = STATUS_WARNING;
    SAY(judgement->sentence, "%" PRId64 " %s could not be recorded, the last one %s ago.", count,
        count == 1 ? "callback" : "callbacks", age);
    SAY(judgement->remedy,
        "The journal has each of them with its body. Send them again: see man imcallbackd-operations, "
        "RECOVERING A REFUSED EVENT.");
    return true;
}

// Once a callback has been accepted, the URL and the connection are known to be right, and these causes are those of
// scanners and health checks.
static bool is_noise(enum answer_code code)
{
    return code == ANSWER_BAD_FRAMING || code == ANSWER_PATH_UNKNOWN || code == ANSWER_METHOD_NOT_ALLOWED ||
           code == ANSWER_PEER_NOT_ALLOWED || code == ANSWER_SDK_APPID_MISSING;
}

// Returns the number of refusals in a row that count, and the most frequent cause.
static uint64_t count_refusals(const struct refusals_view *refusals, enum answer_code *ret_most_often)
{
    uint64_t count = 0, most = 0;

    for (enum answer_code code = ANSWER_OK + 1; code < ANSWER_CODE_COUNT; code++) {
        uint64_t of_code = refusals->in_a_row[code];

        if (refusals->accepted_ms > 0 && is_noise(code))
            continue;
        count += of_code;
        if (of_code > most) {
            most = of_code;
            *ret_most_often = code;
        }
    }
    return count;
}

static bool judge_refusals(const struct status *status, struct status_judgement *judgement)
{
    const struct refusals_view *refusals = &status->refusals;
    enum answer_code code = ANSWER_OK;
    uint64_t count = count_refusals(refusals, &code);

    if (count < (refusals->accepted_ms > 0 ? REFUSALS_WORTH_A_WARNING : 1) || refusals->count == 0)
        return false;
    if (refusals->accepted_ms > 0 && status->now_ms - refusals->entries[0].last_ms > HOUR_MS)
        return false;
    judgement->level = refusals->accepted_ms > 0 || (is_noise(code) && code != ANSWER_SDK_APPID_MISSING)
                           ? STATUS_WARNING
                           : STATUS_ERROR;
    if (count == 1)
        SAY(judgement->sentence, "The %s request was refused: %s.", refusals->accepted_ms > 0 ? "last" : "only",
            answer_name(code));
    else
        SAY(judgement->sentence, "The last %" PRIu64 " requests were refused, %s of them: %s.", count,
            refusals->in_a_row[code] == count ? "all" : "most", answer_name(code));
    SAY(judgement->remedy, "%s", answer_sentence(code));
    return true;
}

static void print_times(int64_t count, char text[UNITS_BYTES])
{
    if (count == 1)
        (void)snprintf(text, UNITS_BYTES, "once");
    else
        (void)snprintf(text, UNITS_BYTES, "%" PRId64 " times", count);
}

static bool judge_connections(const struct status *status, struct status_judgement *judgement)
{
    const struct status_totals *totals = &status->totals;
    char text[UNITS_BYTES];

    if (status->refusals.accepted_ms > 0 || (totals->open_connections > 0 && totals->failed_handshakes == 0))
        return false;
    judgement->level = STATUS_WARNING;
    if (totals->handshakes > 0) {
        print_times(totals->handshakes, text);
        SAY(judgement->sentence, "Clients have connected %s, but no request has arrived.", text);
        SAY(judgement->remedy, "These may be health checks. Check the URL in the console, and that a proxy in between "
                               "forwards requests.");
    } else if (totals->failed_handshakes > 0) {
        print_times(totals->failed_handshakes, text);
        SAY(judgement->sentence, "Clients have connected %s, but no TLS handshake was completed.", text);
        SAY(judgement->remedy,
            "The certificate must come from a public authority, contain the host name of the URL and "
            "include the whole chain; and the URL must start with https://.");
    } else if (status->newest_event_id > 0) {
        units_print_duration(status->now_ms - status->started_ms, text);
        judgement->level = STATUS_OK;
        SAY(judgement->sentence, "Ready: nothing has connected since the start %s ago.", text);
        SAY(judgement->remedy, "Events were recorded before the start, so the URL and the firewall are right.");
    } else {
        units_print_duration(status->now_ms - status->started_ms, text);
        SAY(judgement->sentence, "Nothing has connected since the start %s ago.", text);
        SAY(judgement->remedy, "Check the URL in the console, the DNS entry of its host name, and the firewall or the "
                               "security group in front of this machine.");
    }
    return true;
}

static bool judge_expiry(const struct status *status, struct status_judgement *judgement)
{
    int64_t left_ms = status->certificate.expires_ms - status->now_ms;
    char left[UNITS_BYTES];

    if (left_ms > CERTIFICATE_WARNING_MS)
        return false;
    units_print_duration(left_ms, left);
    judgement->level = STATUS_WARNING;
    SAY(judgement->sentence, "The certificate expires in %s.", left);
    SAY(judgement->remedy, "Renew the file of [tls] certificate (with certbot: sudo certbot renew), and reload the "
                           "daemon.");
    return true;
}

// A note that is missing or old means nothing as long as no event waits. An event that was recorded a moment ago may
// not have been sent yet.
static bool is_stalled(const struct status *status, const struct status_outbound *outbound)
{
    if (!outbound->name || status->newest_event_id == 0)
        return false;
    if (!outbound->has_reported)
        return status->now_ms - status->started_ms > STALLED_MS;
    return outbound->waiting_events > 0 && status->now_ms - outbound->reported_ms > STALLED_MS &&
           status->now_ms - status->recorded_ms > SENDING_MS;
}

static bool judge_outbound(const struct status *status, struct status_judgement *judgement)
{
    const struct status_outbound *outbound = status->outbound;

    while (outbound < status->outbound + STATUS_OUTBOUNDS && !is_stalled(status, outbound))
        outbound++;
    if (outbound == status->outbound + STATUS_OUTBOUNDS)
        return false;
    judgement->level = STATUS_WARNING;
    SAY(judgement->sentence, "Callbacks are recorded, but imcallbackd-%s does not send them on.", outbound->name);
    SAY(judgement->remedy,
        "Run sudo systemctl enable --now imcallbackd-%s, or read in sudo journalctl -u "
        "imcallbackd-%s what fails.",
        outbound->name, outbound->name);
    return true;
}

static bool judge_tokens(const struct status *status, struct status_judgement *judgement)
{
    const struct status_endpoint *endpoint = &status->endpoint;

    if (endpoint->has_allow_from || endpoint->has_client_ca)
        return false;
    for (size_t i = 0; i < endpoint->app_count; i++) {
        if (endpoint->apps[i].token_count > 0)
            continue;
        judgement->level = STATUS_WARNING;
        SAY(judgement->sentence, "App %" PRId64 " has no token, so any client can send events for it.",
            endpoint->apps[i].sdk_appid);
        SAY(judgement->remedy,
            "Switch on token authentication in the console, and set token_file in [app %" PRId64 "].",
            endpoint->apps[i].sdk_appid);
        return true;
    }
    return false;
}

static bool judge_success(const struct status *status, struct status_judgement *judgement)
{
    char age[UNITS_BYTES];

    judgement->level = STATUS_OK;
    if (status->recorded_ms > 0) {
        units_print_duration(status->now_ms - status->recorded_ms, age);
        SAY(judgement->sentence, "Ready: the last callback was recorded %s ago.", age);
    } else if (status->totals.url_checks > 0) {
        SAY(judgement->sentence,
            "Ready: the console has checked the URL, but no callback has been recorded since the start.");
        SAY(judgement->remedy, "Switch on the callback after a group is disbanded in the console, and disband a test "
                               "group.");
    } else {
        SAY(judgement->sentence, "Ready: no callback has been recorded since the start.");
        SAY(judgement->remedy, "%s",
            status->refusals.accepted_ms > 0
                ? "Requests arrive and are answered OK; disband a test group to see one recorded."
                : "Switch on the callback after a group is disbanded in the console, and disband a test group.");
    }
    return true;
}

void status_judge(const struct status *status, struct status_judgement *ret_judgement)
{
    static bool (*const rules[])(const struct status *, struct status_judgement *) = {
        judge_readiness,   judge_certificate, judge_clock,    judge_failures, judge_refusals,
        judge_connections, judge_expiry,      judge_outbound, judge_tokens,   judge_success,
    };

    *ret_judgement = (struct status_judgement){0};
    for (size_t i = 0; !rules[i](status, ret_judgement); i++)
        assert(i + 1 < sizeof rules / sizeof rules[0]); // the last rule always applies
}
