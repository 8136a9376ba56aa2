// Defines the settings of the forwarder, and the callback through which the module reports sentences. This header
// includes no other header of the module, so that every file of the module can include it.
#pragma once

// Receives one sentence without a line end, such as a warning. The sentence is valid during the call only.
typedef void forward_report(const char *sentence);

// The caller owns all strings and keeps them until the call that takes the settings returns.
struct forward_settings {
    const char *database;      // path of the SQLite database
    const char *url;           // libpq URI of the destination, without a password
    const char *password_file; // NULL: no password; may start with $CREDENTIALS_DIRECTORY
    const char *receiver;      // name of this receiver in the destination
    const char *shipped_file;  // path of the note for retention; see store/shipped.h
};
