// Defines the settings of the sender, and the callback through which the module reports sentences. This header includes
// no other header of the module, so that every file of the module can include it.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Receives one sentence without a line end, such as a warning. The sentence is valid during the call only.
typedef void deliver_report(const char *sentence);

struct deliver_app {
    int64_t sdk_appid;
    const char *token; // signs the requests for events of this app; NULL: they have no Sign
};

// The caller owns all strings and keeps them until the call that takes the settings returns. The names of the secret
// file, the CA file, the certificate and the key may start with $CREDENTIALS_DIRECTORY.
struct deliver_settings {
    const char *database;           // path of the SQLite database
    const char *receiver;           // name of this receiver, part of the identity of events without a time
    const char *url;                // of the endpoint
    const char *secret_file;        // NULL: the requests have no webhook-signature
    const char *ca_file;            // NULL: the certificates of the system
    const char *client_certificate; // NULL: none
    const char *client_key;         // NULL: the key is in the file with the certificate
    int64_t timeout_ms;             // for one request
    size_t in_flight;               // maximum number of requests at the same time, 1 to 256
    int64_t give_up_after_ms;       // 0: never
    const char *state_file;
    const char *shipped_file; // path of the note for retention; see store/shipped.h
    const struct deliver_app *apps;
    size_t app_count;
};
