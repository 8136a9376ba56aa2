// Text of a caller in a detail: short, and without a byte that could do harm in a log, on a terminal or in an answer.
#pragma once

#define QUOTE_BYTES 132 // room for what quote_text writes, with its NUL

// 'text' with every byte but printable ASCII as \xXX, and quotes and backslashes too; what is too long ends in "...".
void quote_text(const char *text, char ret_quoted[QUOTE_BYTES]);
