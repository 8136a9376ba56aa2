// Computes the identity of a recorded row outside this receiver: the primary key of the row in the destination of
// `forward`, and the webhook-id of an event that `deliver` sends.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/reader.h"

#define UID_BYTES 32

// Computes a hash of what identifies the row. The destination therefore needs no sequence, a distributed database
// spreads the rows evenly, and a row that is sent again is recognized. An event with a time has the same identity on
// every receiver. The hash of each kind of row is:
//   event with a time     SHA-256 of "COMMAND\nAPP\nTIME\nGROUP"
//   event without a time  SHA-256 of "COMMAND\nAPP\n\nRECEIVER\nID\nRECEIVED_AT\nGROUP"
//   rejected callback     SHA-256 of "rejected_callback\nRECEIVER\nID\nRECEIVED_AT"
// The hashed texts never change, because destinations already hold the hashes. Returns 0, -ENOMEM or -EIO.
int row_uid(enum stream stream, const struct recorded_row *row, const char *receiver,
            unsigned char uid[UID_BYTES]) MUST_CHECK;
