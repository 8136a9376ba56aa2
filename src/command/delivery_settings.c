// Fills in the settings of the deliver module, and checks the files that they name. The note for retention is next to
// the state file, so that the configuration needs no key for the note.
#include "delivery_settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

char *delivery_shipped_file(const struct config *config)
{
    char *path;

    return asprintf(&path, "%s.shipped", config->deliver_state_file.text) < 0 ? NULL : path;
}

static void set(struct delivery_settings *delivery, const struct settings *settings)
{
    const struct config *config = &settings->config;

    for (size_t i = 0; i < config->app_count; i++) {
        const struct callback_app *app = &settings->apps[i];

        // During a rotation, the first line of the file is the old token, which the endpoint already knows.
        delivery->apps[i] = (struct deliver_app){app->sdk_appid, app->token_count > 0 ? app->tokens[0] : NULL};
    }
    delivery->deliver = (struct deliver_settings){
        .database = config->store_database.text,
        .receiver = config->forward_receiver.text ? config->forward_receiver.text : delivery->host_name,
        .url = config->deliver_url.text,
        .secret_file = config->deliver_secret_file.text,
        .ca_file = config->deliver_ca_file.text,
        .client_certificate = config->deliver_client_certificate.text,
        .client_key = config->deliver_client_key.text,
        .timeout_ms = (int64_t)config->deliver_timeout.number,
        .in_flight = config->deliver_in_flight.number,
        .give_up_after_ms = (int64_t)config->deliver_give_up_after.number,
        .state_file = config->deliver_state_file.text,
        .shipped_file = delivery->shipped_file,
        .apps = delivery->apps,
        .app_count = config->app_count,
    };
}

static int check_values(const struct config *config, deliver_report *report, struct error *error)
{
    const struct {
        const struct config_value *value;
        int (*check)(const char *text, struct error *error);
    } values[] = {
        {&config->deliver_url, deliver_check_url},
        {&config->deliver_ca_file, deliver_check_ca_file},
        {&config->deliver_client_certificate, deliver_check_file},
        {&config->deliver_client_key, deliver_check_file},
    };
    const struct config_value *checked = NULL;
    int r = 0;

    for (size_t i = 0; i < sizeof values / sizeof values[0] && r == 0; i++) {
        checked = values[i].value;
        r = values[i].check(checked->text, error);
    }
    if (r == 0) { // last, because the daemon's user may not read the secrets
        checked = &config->deliver_secret_file;
        r = deliver_check_secrets(checked->text, report, error);
    }
    if (r == 0 && config->deliver_client_key.text && !config->deliver_client_certificate.text) {
        checked = &config->deliver_client_key;
        r = error_set(error, EINVAL, "the key has no effect without client_certificate; set both");
    }
    return r == -ENOSYS ? r : config_wrap_result(config, checked, r, error);
}

int delivery_settings_init(struct delivery_settings *delivery, const struct settings *settings, deliver_report *report,
                           struct error *error)
{
    const struct config *config = &settings->config;

    *delivery = (struct delivery_settings){0};
    if (!config->deliver_url.text)
        return error_set(error, EINVAL,
                         "%s: [deliver] url is missing; set it to the endpoint of the application, such as "
                         "https://app.example.com/callback",
                         config->path);
    if (!config->forward_receiver.text &&
        (gethostname(delivery->host_name, HOST_NAME_BYTES - 1) < 0 || *delivery->host_name == '\0'))
        return error_set(
            error, EINVAL,
            "%s: [forward] receiver is missing: the default is the host name, and this host has none; set it",
            config->path);
    delivery->apps = calloc(config->app_count, sizeof *delivery->apps);
    delivery->shipped_file = delivery_shipped_file(config);
    if (!delivery->apps || !delivery->shipped_file)
        return error_set(error, ENOMEM, "out of memory");
    set(delivery, settings);
    return check_values(config, report, error);
}

void delivery_settings_finish(struct delivery_settings *delivery)
{
    free(delivery->apps);
    free(delivery->shipped_file);
}
