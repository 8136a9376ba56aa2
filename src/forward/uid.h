// The keys in the destination. They are derived from what they name, so that no sequence is needed, writes are spread
// over the nodes, and the same event is the same row whoever ships it and however often.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/reader.h"

#define UID_BYTES 32

// SHA-256 of "COMMAND\nAPP\nTIME\nGROUP". An event without a time is told apart by where it was recorded:
// "COMMAND\nAPP\n\nRECEIVER\nID\nRECEIVED_AT\nGROUP". -ENOMEM or -EIO.
int uid_of_group(const struct recorded_row *group, const char *receiver, unsigned char uid[UID_BYTES]) MUST_CHECK;

// SHA-256 of "rejected_callback\nRECEIVER\nID\nRECEIVED_AT".
int uid_of_rejection(const struct recorded_row *rejection, const char *receiver,
                     unsigned char uid[UID_BYTES]) MUST_CHECK;
