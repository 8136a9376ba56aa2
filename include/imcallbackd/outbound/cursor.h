// Checks a cursor, the position in a stream of the store up to which an outbound service has taken every row.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/reader.h"

// A database that was restored from a backup assigns some ids for a second time. Sets *ret_matches to false if that may
// have happened: the id of the cursor was never assigned in this database, or its row has another time. A row that
// retention has deleted matches. Rows of an earlier read stay valid.
//
// A database can be restored into the open file, and its new ids can pass the cursor soon afterwards. A service
// therefore takes over rows only if this check of the position before them has succeeded after they were read.
int cursor_check(struct store_reader *reader, enum stream stream, const struct cursor *cursor, bool *ret_matches,
                 struct error *error) MUST_CHECK;
