// The note for retention is a file next to the state file, so that it needs no key of its own.
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

        // The first line of the file is the token that the endpoint knows longest.
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

int delivery_settings_init(struct delivery_settings *delivery, const struct settings *settings, deliver_report *report,
                           struct error *error)
{
    const struct config *config = &settings->config;
    int r;

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
    r = deliver_check_files(&delivery->deliver, report, error);
    if (r < 0 && r != -ENOSYS)
        error_wrap(error, "%s", config->path);
    return r;
}

void delivery_settings_finish(struct delivery_settings *delivery)
{
    free(delivery->apps);
    free(delivery->shipped_file);
}
