// Lists the names of the parameters of a query for the log, without their values, which can be secret.
#pragma once

#define PARAMETER_NAMES_BYTES 256 // maximum size of what parameter_names_print() writes, with its NUL

// Prints the names in their order: "Sign, RequestTime". Any byte but a letter, a digit, '-', '_' or '.' becomes '?'. A
// name is cut after 32 bytes and then ends with "...". A list that does not fit ends with "...", too.
void parameter_names_print(const char *query, char ret_names[PARAMETER_NAMES_BYTES]);
