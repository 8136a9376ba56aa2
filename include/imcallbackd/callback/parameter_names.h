// Lists the names of the parameters of a query for the log, without their values, which can be secret.
#pragma once

#define PARAMETER_NAMES_BYTES 256 // size of what parameter_names_print() writes, with its NUL

// Prints the names in their order: "Sign, RequestTime". A character other than letters, digits, '-', '_' and '.'
// becomes '?', and a long name or list ends with "...".
void parameter_names_print(const char *query, char ret_names[PARAMETER_NAMES_BYTES]);
